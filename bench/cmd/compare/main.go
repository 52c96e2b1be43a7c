// Compare runs the floor, Certbound and the peers in turn on this machine and prints
// what a token request costs each of them, in CPU time of the server's process and as
// a ratio to the floor. Then it varies the number of clients and of anchor sets, and
// measures the middleware. Run it in the folder bench:
//
//	go run ./cmd/compare
//	go run ./cmd/compare -only floor,certbound -growth=false -rounds 15
//
// What counts is the ratio within one run: rounds are interleaved, each round's cost is
// divided by the floor's cost in the same round, and the median is taken, so that a
// machine that is slow for a while is slow for all.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/certbound/certbound/bench/load"
	"github.com/certbound/certbound/bench/material"
	"github.com/certbound/certbound/bench/middleware"
	"github.com/certbound/certbound/internal/jws"
)

// The targets of the project.
const (
	targetKeepAlive = 1.2
	targetNewConn   = 1.1
	targetGrowth    = 1.1
	targetWarm      = 3 * time.Microsecond  // over an empty handler
	targetCold      = 15 * time.Microsecond // over one ES256 verification
)

var (
	rounds  = flag.Int("rounds", 9, "interleaved rounds, at most 100")
	only    = flag.String("only", "", "servers to run, separated by commas; all if empty")
	growth  = flag.Bool("growth", true, "vary the number of clients and of anchor sets")
	many    = flag.Int("clients", 1_000_000, "the large number of clients")
	library = flag.Bool("middleware", true, "measure the middleware")
	cache   = flag.String("cache", "", "folder for the npm packages; the user's cache folder if empty")
	check   = flag.Bool("check", false, "exit with 1 if a target is missed")
)

func main() {
	testing.Init()
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	missed, err := run(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
	if missed > 0 && *check {
		os.Exit(1)
	}
}

// A subject is a server that is measured.
type subject struct {
	name string
	// command returns how to start it; it may install or build something first.
	// The process writes a line of [material.Ready], unless TOKEN_URL stands in its
	// environment; then it is ready as soon as it accepts connections there.
	command func(ctx context.Context, b *builder) (*exec.Cmd, error)
	// newConns is how many connections a round makes; node is slow.
	requests, newConns int
	// clients says which client sends request i; nil for the one of material.
	clients func(i int) string

	process  *exec.Cmd
	target   load.Target
	results  map[load.Mode][]time.Duration
	last     map[load.Mode]load.Result
	resident string // memory after the last round
}

func run(ctx context.Context, out io.Writer) (missed int, err error) {
	if *rounds < 1 || *rounds > 100 || *many < 1000 || *many > 2_000_000 {
		return 0, errors.New("rounds or clients out of range")
	}
	dir, err := os.MkdirTemp("", "certbound-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := material.Make(dir); err != nil {
		return 0, err
	}
	b := &builder{dir: dir}
	fmt.Fprintf(out, "%s, %s/%s, %d CPUs, load %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), loadAverage())

	list := slices.DeleteFunc(subjects(), func(s *subject) bool {
		return *only != "" && !slices.Contains(strings.Split(*only, ","), s.name)
	})
	if len(list) == 0 {
		return 0, fmt.Errorf("no server is named %q", *only)
	}
	if err := measure(ctx, b, list, []load.Mode{load.KeepAlive, load.NewConn}); err != nil {
		return 0, err
	}
	missed += report(out, "Servers", list, map[string]map[load.Mode]float64{
		"certbound": {load.KeepAlive: targetKeepAlive, load.NewConn: targetNewConn},
		"embedded":  {load.KeepAlive: targetKeepAlive, load.NewConn: targetNewConn},
	})
	if *growth {
		list := growthSubjects()
		fmt.Fprintf(out, "\nregistering %d clients\n", *many)
		if err := measure(ctx, b, list, []load.Mode{load.KeepAlive}); err != nil {
			return 0, err
		}
		targets := make(map[string]map[load.Mode]float64)
		for _, s := range list[1:3] { // the last shows what a client costs that is not in memory
			targets[s.name] = map[load.Mode]float64{load.KeepAlive: targetGrowth}
		}
		missed += report(out, "Growth", list, targets)
	}
	if *library {
		missed += reportMiddleware(out)
	}
	return missed, nil
}

func subjects() []*subject {
	return []*subject{
		{name: "floor", command: goCommand(".", "./floor"), requests: 2000, newConns: 400},
		{name: "certbound", command: certboundCommand, requests: 2000, newConns: 400},
		{name: "embedded", command: goCommand("embedded", "."), requests: 2000, newConns: 400},
		{name: "fosite", command: goCommand("fosite", "."), requests: 2000, newConns: 400},
		{name: "oidc-provider", command: nodeCommand, requests: 1000, newConns: 200},
	}
}

// growthSubjects are servers on SQLite that differ in one number. The same thousand
// clients are active, far apart from each other in the database.
func growthSubjects() []*subject {
	spread := func(total int) func(int) string {
		return func(i int) string { return fmt.Sprintf("c%07d", 1+i%1000*((total-1)/1000)) }
	}
	// With each request of the whole run from another client, no cache helps.
	var n atomic.Uint64
	all := func(int) string { return fmt.Sprintf("c%07d", 1+n.Add(1)*2654435761%uint64(*many-1)) }
	few := func(name string, clients, sets int, who func(int) string) *subject {
		return &subject{
			name: name, requests: 2000, clients: who,
			command: func(ctx context.Context, b *builder) (*exec.Cmd, error) {
				cmd, err := goCommand("embedded", ".")(ctx, b)
				if err == nil {
					cmd.Args = append(cmd.Args, "-clients", fmt.Sprint(clients), "-sets", fmt.Sprint(sets),
						"-sqlite", filepath.Join(b.dir, fmt.Sprintf("clients-%d.db", clients)))
				}
				return cmd, err
			},
		}
	}
	return []*subject{
		few("1,000 clients", 1001, 1, spread(1001)),
		few("1,000 clients, 100 anchor sets", 1001, 100, spread(1001)),
		few(fmt.Sprintf("%d clients", *many), *many, 1, spread(*many)),
		few(fmt.Sprintf("%d clients, each once", *many), *many, 1, all),
	}
}

// A builder keeps what was built.
type builder struct {
	dir   string
	built map[string]string
}

func (b *builder) build(ctx context.Context, folder, pkg string) (string, error) {
	name := folder + " " + pkg
	if path, ok := b.built[name]; ok {
		return path, nil
	}
	path := filepath.Join(b.dir, fmt.Sprintf("server-%d", len(b.built)))
	cmd := exec.CommandContext(ctx, "go", "build", "-C", folder, "-o", path, pkg)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s in %s: %w\n%s", pkg, folder, err, out)
	}
	if b.built == nil {
		b.built = make(map[string]string)
	}
	b.built[name] = path
	return path, nil
}

func goCommand(folder, pkg string) func(context.Context, *builder) (*exec.Cmd, error) {
	return func(ctx context.Context, b *builder) (*exec.Cmd, error) {
		path, err := b.build(ctx, folder, pkg)
		if err != nil {
			return nil, err
		}
		return exec.CommandContext(ctx, path, "-dir", b.dir), nil
	}
}

// certboundCommand is the binary that people install, with a configuration as they
// write one; messages are JSON, since stderr is a file.
func certboundCommand(ctx context.Context, b *builder) (*exec.Cmd, error) {
	path, err := b.build(ctx, "../server", "./cmd/certbound")
	if err != nil {
		return nil, err
	}
	public, err1 := freePort()
	mtls, err2 := freePort()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "certbound.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `issuer: https://%[1]s
listen:
  public: {address: "%[1]s", certificate: %[3]s, key: %[4]s}
  mtls: {address: "%[2]s", url: https://%[2]s}
  admin: {address: ""}
store: {sqlite: certbound.db}
trust:
  sets:
    - {name: clients, anchors: [%[5]s]}
tokens:
  scopes: [%[6]s]
  resources: [%[7]s]
clients:
  - client_id: %[8]s
    token_endpoint_auth_method: tls_client_auth
    tls_client_auth_subject_dn: %[9]s
    scope: %[6]s
`, public, mtls, material.ServerFile, material.ServerKeyFile, material.CAFile, material.Scope, material.Resource,
		material.ClientID, material.SubjectDN), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, "serve", "--config", file)
	cmd.Env = append(os.Environ(), "TOKEN_URL=https://"+mtls+"/token")
	return cmd, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// nodeCommand installs node oidc-provider with npm, once for each version.
func nodeCommand(ctx context.Context, b *builder) (*exec.Cmd, error) {
	manifest, err := os.ReadFile("oidc-provider/package.json")
	if err != nil {
		return nil, fmt.Errorf("%w; run compare in the folder bench", err)
	}
	var p struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(manifest, &p); err != nil {
		return nil, err
	}
	base := *cache
	if base == "" {
		if base, err = os.UserCacheDir(); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(base, "certbound-bench", "oidc-provider-"+p.Dependencies["oidc-provider"])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	script, err := os.ReadFile("oidc-provider/server.mjs")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "package.json"), manifest, 0o644),
		os.WriteFile(filepath.Join(dir, "server.mjs"), script, 0o644)); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider")); err != nil {
		install := exec.CommandContext(ctx, "npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund")
		install.Dir = dir
		if out, err := install.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm install: %w\n%s", err, out)
		}
	}
	cmd := exec.CommandContext(ctx, "node", "server.mjs", b.dir)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NODE_ENV=production")
	return cmd, nil
}

func measure(ctx context.Context, b *builder, list []*subject, modes []load.Mode) error {
	for _, s := range list {
		err := s.start(ctx, b)
		defer s.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for round := -1; round < *rounds; round++ { // round -1 warms up
		for i := range list {
			s := list[(i+max(round, 0))%len(list)]
			for _, mode := range modes {
				n := s.requests
				if mode == load.NewConn {
					n = s.newConns
				}
				result, err := load.Run(ctx, s.target, load.Options{Mode: mode, Requests: n, Time: 5 * time.Second, Workers: 4})
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				if round >= 0 {
					s.results[mode] = append(s.results[mode], result.PerRequest())
					s.last[mode] = result
				}
			}
			s.resident = resident(s.target.PID)
		}
	}
	return nil
}

// start starts the process and waits until it issues a token that is what all servers
// have to issue, and until it has refused another certificate.
func (s *subject) start(ctx context.Context, b *builder) error {
	s.results, s.last = make(map[load.Mode][]time.Duration), make(map[load.Mode]load.Result)
	cmd, err := s.command(ctx, b)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.dir, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process = cmd
	ready, err := whenReady(ctx, cmd, stdout)
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("did not start: %w\n%s", err, text)
	}
	pool, err := material.Pool(b.dir)
	if err != nil {
		return err
	}
	pair, err1 := material.Pair(b.dir, material.ClientFile, material.ClientKeyFile)
	another, err2 := material.Pair(b.dir, material.AnotherFile, material.AnotherKeyFile)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	config := func(pair tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	}
	s.target = load.Target{URL: ready.TokenURL, PID: cmd.Process.Pid, TLS: config(pair), Form: func(i int) string {
		id := material.ClientID
		if s.clients != nil {
			id = s.clients(i)
		}
		return "grant_type=client_credentials&client_id=" + id + "&scope=" + material.Scope
	}}
	client := func(c *tls.Config) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	}
	body, err := load.Post(ctx, client(config(pair)), s.target.URL, s.target.Form(0))
	if err != nil {
		return err
	}
	thumbprint, err := material.Thumbprint(b.dir)
	if err != nil {
		return err
	}
	if err := checkToken(body, thumbprint); err != nil {
		return err
	}
	if body, err := load.Post(ctx, client(config(another)), s.target.URL, s.target.Form(0)); err == nil {
		return fmt.Errorf("gave a token to another certificate: %s", body)
	}
	return nil
}

func whenReady(ctx context.Context, cmd *exec.Cmd, stdout io.Reader) (material.Ready, error) {
	for _, v := range cmd.Env {
		address, ok := strings.CutPrefix(v, "TOKEN_URL=")
		if !ok {
			continue
		}
		u, err := url.Parse(address)
		if err != nil {
			return material.Ready{}, err
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			conn, err := net.Dial("tcp", u.Host)
			if err == nil {
				return material.Ready{TokenURL: address}, conn.Close()
			}
			// A process that has ended is a zombie until it is waited for.
			if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); strings.Contains(string(stat), ") Z ") ||
				ctx.Err() != nil || time.Now().After(deadline) {
				return material.Ready{}, err
			}
		}
	}
	return material.ReadReady(bufio.NewReader(stdout))
}

func checkToken(body []byte, thumbprint string) error {
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	token, err := jws.Parse(answer.Token, 16<<10)
	if err != nil {
		return err
	}
	var claims struct {
		Cnf struct {
			X5TS256 string `json:"x5t#S256"`
		} `json:"cnf"`
	}
	if err := json.Unmarshal(token.Payload, &claims); err != nil {
		return err
	}
	if token.Alg != jws.ES256 || claims.Cnf.X5TS256 != thumbprint {
		return fmt.Errorf("the token is not what was asked for: alg %s, payload %s", token.Alg, token.Payload)
	}
	return nil
}

func (s *subject) stop() {
	if s.process == nil {
		return
	}
	s.process.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(5*time.Second, func() { s.process.Process.Kill() })
	defer timer.Stop()
	s.process.Wait() // told to stop, so its exit status says nothing
}

func median[T ~int64 | ~float64](list []T) T {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// report prints a table; the first subject is what the others are compared with.
func report(out io.Writer, title string, list []*subject, targets map[string]map[load.Mode]float64) (missed int) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "\n%s: CPU of the server's process per token request, median of %d rounds\n", title, *rounds)
	fmt.Fprintf(w, "\t\tµs\tratio\ttarget\tp50 ms\tp99 ms\tresident MB\t\n")
	for _, mode := range []load.Mode{load.KeepAlive, load.NewConn} {
		for _, s := range list {
			own, base := s.results[mode], list[0].results[mode]
			if len(own) == 0 {
				continue
			}
			ratios := make([]float64, len(own))
			for i := range own {
				ratios[i] = float64(own[i]) / float64(base[i])
			}
			verdict := ""
			if t := targets[s.name][mode]; t > 0 {
				verdict = fmt.Sprintf("≤ %.2f", t)
				if median(ratios) > t {
					verdict += " missed"
					missed++
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%.1f\t%.2f\t%s\t%.2f\t%.2f\t%s\t\n", mode, s.name,
				float64(median(own))/1e3, median(ratios), verdict,
				s.last[mode].Percentile(0.5).Seconds()*1e3, s.last[mode].Percentile(0.99).Seconds()*1e3, s.resident)
		}
	}
	w.Flush()
	return missed
}

func reportMiddleware(out io.Writer) (missed int) {
	flag.Set("test.benchtime", "100ms")
	best := make([]time.Duration, len(middleware.Cases))
	allocs := make([]int64, len(middleware.Cases))
	for range *rounds {
		for i, c := range middleware.Cases {
			r := testing.Benchmark(c.Run)
			if r.N == 0 {
				fmt.Fprintf(out, "middleware: %s failed\n", c.Name)
				return 1
			}
			if d := time.Duration(r.Extra[middleware.CPU]); best[i] == 0 || d < best[i] {
				best[i], allocs[i] = d, r.AllocsPerOp()
			}
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "\nMiddleware: CPU time per request, lowest of %d rounds\n", *rounds)
	fmt.Fprintf(w, "\tµs\tallocations\tadded\ttarget\t\n")
	for i, c := range middleware.Cases {
		added, verdict := "", ""
		judge := func(d, target time.Duration, over string) {
			added = fmt.Sprintf("%.2f", float64(d)/1e3)
			verdict = fmt.Sprintf("≤ %d over %s", target.Microseconds(), over)
			if d > target {
				verdict += ", missed"
				missed++
			}
		}
		switch {
		case i == 2:
			judge(best[i]-best[1], targetWarm, "the empty handler")
		case i > 2:
			judge(best[i]-best[0], targetCold, "the verification")
		}
		fmt.Fprintf(w, "%s\t%.2f\t%d\t%s\t%s\t\n", c.Name, float64(best[i])/1e3, allocs[i], added, verdict)
	}
	w.Flush()
	return missed
}

// resident is the memory of a process at this moment.
func resident(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var n int
			fmt.Sscan(kb, &n)
			return fmt.Sprint(n / 1024)
		}
	}
	return ""
}

func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}
