// Command gateway compares what a request costs that is checked on its way to an API: a
// floor of a few lines on net/http/httputil, certbound gateway with everything on, and
// programs that can do the same check. Run it in this folder:
//
//	go run .
//	go run . -only 'floor;certbound' -rounds 15
//
// What counts is the ratio within one run: rounds are interleaved, and the cost in a round
// is divided by the floor's in the same round. It is the CPU time of the server's
// processes. Each server has to refuse what a thief would send before it is measured.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/certbound/certbound/bench/load"
	"github.com/certbound/certbound/bench/material"
)

// The targets of the project, as ratios to the floor.
var targets = map[mode]float64{warm: 1.1, cold: 1.1, newConn: 1.1}

var (
	rounds = flag.Int("rounds", 9, "interleaved rounds, at most 100")
	only   = flag.String("only", "", "servers to run, separated by semicolons; all if empty")
	kinds  = flag.String("modes", "", "what is measured: warm, cold, new, separated by semicolons; all if empty")
	authz  = flag.Bool("authz", true, "measure ext_authz over gRPC")
	idle   = flag.Int("idle", 2000, "idle connections whose memory is measured; 0 for none")
	check  = flag.Bool("check", false, "exit with 1 if a target is missed")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	missed, err := run(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
	if missed > 0 && *check {
		os.Exit(1)
	}
}

// A mode says what is new in each request.
type mode string

const (
	warm    mode = "kept-alive, token known"
	cold    mode = "kept-alive, new token"
	newConn mode = "new connection, token known"
)

var modes = []mode{warm, cold, newConn}

// requests is how many a round has.
var requests = map[mode]int{warm: 2000, cold: 1000, newConn: 300}

func run(ctx context.Context, out io.Writer) (missed int, err error) {
	if *rounds < 1 || *rounds > 100 || *idle < 0 || *idle > 9000 {
		return 0, errors.New("rounds or idle out of range")
	}
	if *kinds != "" {
		names := map[mode]string{warm: "warm", cold: "cold", newConn: "new"}
		modes = slices.DeleteFunc(modes, func(m mode) bool { return !slices.Contains(strings.Split(*kinds, ";"), names[m]) })
	}
	w, err := newWorld()
	if err != nil {
		return 0, err
	}
	defer w.close()
	fmt.Fprintf(out, "%s, %s/%s, %d CPUs, load %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), loadAverage())
	list := slices.DeleteFunc(servers(), func(s *server) bool {
		return *only != "" && !slices.Contains(strings.Split(*only, ";"), s.name)
	})
	if len(list) == 0 || list[0].name != "floor" {
		return 0, fmt.Errorf("expected servers with the floor among them, found %q", *only)
	}
	for _, s := range list {
		if s.gone != nil {
			if why := s.gone(); why != "" {
				fmt.Fprintf(out, "without %s: %s\n", s.name, why)
				s.command = nil
			}
		}
	}
	list = slices.DeleteFunc(list, func(s *server) bool { return s.command == nil })
	for _, s := range list {
		err := s.start(ctx, w)
		defer s.stop()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		if err := s.control(ctx, w); err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for round := -1; round < *rounds; round++ { // round -1 warms up
		for i := range list {
			s := list[(i+max(round, 0))%len(list)]
			for _, m := range modes {
				result, err := s.load(ctx, w, m)
				if err != nil {
					return 0, fmt.Errorf("%s: %s: %w", s.name, m, err)
				}
				if round >= 0 {
					s.results[m] = append(s.results[m], result.PerRequest())
				}
			}
		}
	}
	missed = report(out, list)
	if *idle > 0 {
		if err := reportIdle(ctx, out, w, list); err != nil {
			return missed, err
		}
	}
	for _, s := range list {
		s.stop()
	}
	if *authz {
		over, err := reportAuthz(ctx, out, w)
		missed += over
		if err != nil {
			return missed, err
		}
	}
	return missed, nil
}

// A server is what is measured.
type server struct {
	name string
	// gone returns why the server cannot run here, or "".
	gone func() string
	// command returns how to start it and where it will be. It writes a line of
	// [material.Ready] if the address is not known before.
	command func(ctx context.Context, w *world) (cmd *exec.Cmd, address string, err error)

	process *exec.Cmd
	url     string
	results map[mode][]time.Duration
}

func (s *server) start(ctx context.Context, w *world) error {
	s.results = make(map[mode][]time.Duration)
	cmd, address, err := s.command(ctx, w)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(w.dir, strings.ReplaceAll(s.name, " ", "-")+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	var stdout io.Reader
	if address == "" {
		if stdout, err = cmd.StdoutPipe(); err != nil {
			return err
		}
	} else {
		cmd.Stdout = log
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process = cmd
	if address == "" {
		ready, err := material.ReadReady(bufio.NewReader(stdout))
		if err != nil {
			return fmt.Errorf("did not start: %w\n%s", err, tail(log.Name()))
		}
		s.url = ready.TokenURL
		return nil
	}
	s.url = "https://" + address + "/orders"
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		// A process that has ended is a zombie until it is waited for.
		if strings.Contains(string(stat), ") Z ") || ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("did not start: %w\n%s", err, tail(log.Name()))
		}
	}
}

func tail(name string) []byte {
	text, _ := os.ReadFile(name)
	return text[max(0, len(text)-4000):]
}

func (s *server) stop() {
	if s.process == nil {
		return
	}
	s.process.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(5*time.Second, func() { s.process.Process.Kill() })
	defer timer.Stop()
	s.process.Wait() // told to stop, so its exit status says nothing
	s.process = nil
}

// control makes sure that the server does the check, with nothing remembered and after the
// good token was seen: it lets the API answer the client, and nobody else.
func (s *server) control(ctx context.Context, w *world) error {
	good, another := w.token(), w.token()
	cases := []struct {
		name, token string
		client      *tls.Config
		want        int
	}{
		{"another's certificate, token not seen yet", good, w.another, http.StatusUnauthorized},
		{"its own certificate", good, w.client, http.StatusOK},
		{"another's certificate, token seen", good, w.another, http.StatusUnauthorized},
		{"no certificate", good, w.nobody, http.StatusUnauthorized},
		{"no token", "", w.client, http.StatusUnauthorized},
		{"signed by another key", w.forged(), w.client, http.StatusUnauthorized},
		{"another token's signature", good[:strings.LastIndexByte(good, '.')] + another[strings.LastIndexByte(another, '.'):], w.client, http.StatusUnauthorized},
		{"ended", w.ended(), w.client, http.StatusUnauthorized},
		{"for another resource", w.elsewhere(), w.client, http.StatusUnauthorized},
		{"not bound", w.unbound(), w.client, http.StatusUnauthorized},
		{"its own certificate again", good, w.client, http.StatusOK},
	}
	for _, c := range cases {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.client, DisableKeepAlives: true}, Timeout: 10 * time.Second}
		status, body, err := load.Ask(ctx, client, s.url, c.token)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if status != c.want || status == http.StatusOK && string(body) != w.body {
			return fmt.Errorf("%s: expected status %d, found %d with %d bytes: the check is not done", c.name, c.want, status, len(body))
		}
	}
	return nil
}

func (s *server) load(ctx context.Context, w *world, m mode) (load.Result, error) {
	t := load.Target{URL: s.url, PID: s.process.Process.Pid, TLS: w.client}
	o := load.Options{Mode: load.KeepAlive, Requests: requests[m], Time: 5 * time.Second, Workers: 4}
	if m == newConn {
		o.Mode = load.NewConn
	}
	if m == cold {
		t.Token = func(int) string { return w.token() }
	} else {
		known := w.token()
		t.Token = func(int) string { return known }
	}
	return load.Run(ctx, t, o)
}

func median[T ~int64 | ~float64](list []T) T {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func ratios(own, base []time.Duration) []float64 {
	out := make([]float64, len(own))
	for i := range own {
		out[i] = float64(own[i]) / float64(base[i])
	}
	return out
}

func report(out io.Writer, list []*server) (missed int) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "\nCPU of the server's processes per request of 1 KB, median of %d rounds\n", *rounds)
	fmt.Fprintf(w, "\t\tµs\tratio\ttarget\t\n")
	for _, m := range modes {
		for _, s := range list {
			own, verdict := s.results[m], ""
			r := median(ratios(own, list[0].results[m]))
			if s.name == "certbound" {
				verdict = fmt.Sprintf("≤ %.2f", targets[m])
				if r > targets[m] {
					verdict += " missed"
					missed++
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%.1f\t%.2f\t%s\t\n", m, s.name, float64(median(own))/1e3, r, verdict)
		}
	}
	w.Flush()
	return missed
}

// reportIdle prints what a connection holds that has made a request and waits.
func reportIdle(ctx context.Context, out io.Writer, w *world, list []*server) error {
	fmt.Fprintf(out, "\nMemory of the server's processes for %d idle connections, each after one request\n", *idle)
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tab, "\tMB before\tMB with them\tkB each\t\n")
	for _, s := range list {
		before := resident(s.process.Process.Pid)
		if err := w.hold(ctx, s, *idle, func() {
			after := resident(s.process.Process.Pid)
			fmt.Fprintf(tab, "%s\t%d\t%d\t%.1f\t\n", s.name, before>>20, after>>20, float64(after-before)/1024/float64(*idle))
		}); err != nil {
			fmt.Fprintf(tab, "%s\t%d\t\t%v\t\n", s.name, before>>20, err)
		}
	}
	return tab.Flush()
}

// resident is the memory of a process and of those below it, in bytes, what they share
// counted once.
func resident(pid int) (n int64) {
	for line := range strings.Lines(string(read(fmt.Sprintf("/proc/%d/smaps_rollup", pid)))) {
		if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
			var k int64
			fmt.Sscan(kb, &k)
			n += k << 10
		}
	}
	for _, child := range load.Children(pid) {
		n += resident(child)
	}
	return n
}

func read(name string) []byte {
	data, _ := os.ReadFile(name)
	return data
}

func loadAverage() string {
	return strings.Join(strings.Fields(string(read("/proc/loadavg")) + " ? ? ?")[:3], " ")
}
