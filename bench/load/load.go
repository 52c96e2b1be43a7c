// Package load makes requests against a server on this machine and says what they cost
// the server: the CPU time of its process and of those that this one has started, read
// from the kernel, so that the cost of the client and of other processes does not count.
// It is bounded in requests and in time, and dials loopback addresses only.
package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Mode says how requests use connections.
type Mode string

// The modes.
const (
	KeepAlive Mode = "kept-alive connection"
	NewConn   Mode = "new connection" // a full handshake each time, never resumed
)

// A Target is a server.
type Target struct {
	URL string
	PID int
	TLS *tls.Config
	// Form returns the body of request number i, which is a token request.
	Form func(i int) string
	// Token, if set, returns the access token of request number i, which is then a GET.
	Token func(i int) string
}

// Options bound a run.
type Options struct {
	Mode     Mode
	Requests int           // at most 1,000,000
	Time     time.Duration // at most a minute
	Workers  int           // at most 64
}

// A Result is what a run has cost.
type Result struct {
	Requests  int
	CPU, Wall time.Duration
	Latencies []time.Duration // sorted
}

// PerRequest is the server's CPU time for one request.
func (r Result) PerRequest() time.Duration { return r.CPU / time.Duration(max(r.Requests, 1)) }

// Percentile returns a latency.
func (r Result) Percentile(p float64) time.Duration {
	if len(r.Latencies) == 0 {
		return 0
	}
	return r.Latencies[min(int(p*float64(len(r.Latencies))), len(r.Latencies)-1)]
}

// Run makes requests until the number or the time is reached. Any answer but 200 ends
// it with an error.
func Run(ctx context.Context, t Target, o Options) (Result, error) {
	if o.Requests < 1 || o.Requests > 1_000_000 || o.Time <= 0 || o.Time > time.Minute || o.Workers < 1 || o.Workers > 64 {
		return Result{}, fmt.Errorf("load: bounds out of range: %+v", o)
	}
	config := t.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	config.ClientSessionCache = nil
	transport := &http.Transport{
		DialContext:         dialLoopback,
		TLSClientConfig:     config,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		DisableKeepAlives:   o.Mode == NewConn,
		DisableCompression:  true,
		MaxIdleConnsPerHost: o.Workers,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	if o.Mode == KeepAlive { // the handshakes are not what is measured
		if err := each(o.Workers, o.Workers, func(i int) error { return request(ctx, client, t, i) }); err != nil {
			return Result{}, err
		}
	}

	latencies := make([]time.Duration, o.Requests)
	var done atomic.Int64
	before, err := treeCPU(t.PID)
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	err = each(o.Workers, o.Requests, func(i int) error {
		begin := time.Now()
		if begin.Sub(start) > o.Time {
			return errTime
		}
		if err := request(ctx, client, t, i); err != nil {
			return err
		}
		latencies[done.Add(1)-1] = time.Since(begin)
		return nil
	})
	wall := time.Since(start)
	if err != nil && !errors.Is(err, errTime) {
		return Result{}, err
	}
	after, err := treeCPU(t.PID)
	if err != nil {
		return Result{}, err
	}
	n := int(done.Load())
	slices.Sort(latencies[:n])
	return Result{Requests: n, CPU: after - before, Wall: wall, Latencies: latencies[:n]}, nil
}

var errTime = errors.New("load: time is over")

// Calls makes n calls by several workers and returns the CPU time of the server's process
// for each.
func Calls(pid, workers, n int, do func(i int) error) (time.Duration, error) {
	if workers < 1 || workers > 64 || n < 1 || n > 1_000_000 {
		return 0, fmt.Errorf("load: bounds out of range: %d workers, %d calls", workers, n)
	}
	before, err := treeCPU(pid)
	if err != nil {
		return 0, err
	}
	if err := each(workers, n, do); err != nil {
		return 0, err
	}
	after, err := treeCPU(pid)
	return (after - before) / time.Duration(n), err
}

// each calls do for 0 to n-1 by several workers and returns the first error.
func each(workers, n int, do func(int) error) error {
	var next atomic.Int64
	var once sync.Once
	var first error
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for !stop.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					once.Do(func() { first = err })
					stop.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return first
}

func request(ctx context.Context, client *http.Client, t Target, i int) error {
	if t.Token != nil {
		status, body, err := Ask(ctx, client, t.URL, t.Token(i))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("load: %s answered %d: %.300s", t.URL, status, body)
		}
		return err
	}
	_, err := Post(ctx, client, t.URL, t.Form(i))
	return err
}

// Ask makes one request for a resource, with a token unless that is empty.
func Ask(ctx context.Context, client *http.Client, url, token string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, body, err
}

// Post makes one token request and returns the body. Any answer but 200 is an error.
func Post(ctx context.Context, client *http.Client, url, form string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("load: %s answered %d: %.300s", url, resp.StatusCode, body)
	}
	return body, nil
}

func dialLoopback(ctx context.Context, network, addr string) (net.Conn, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil || !a.Addr().IsLoopback() {
		return nil, fmt.Errorf("load: %s is not a loopback address", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// treeCPU returns the CPU time of a process and of all below it, such as the workers of
// nginx.
func treeCPU(pid int) (time.Duration, error) {
	total, err := CPU(pid)
	for _, child := range Children(pid) {
		d, _ := treeCPU(child) // one that has ended counts no more
		total += d
	}
	return total, err
}

// Children returns the processes that a process has started.
func Children(pid int) []int {
	list, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, name := range list {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		if fields := statFields(data); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			if child, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// statFields returns the fields of /proc/PID/stat from the third on. The second is the
// name of the program in parentheses and may hold spaces.
func statFields(data []byte) []string {
	return strings.Fields(string(data)[bytes.LastIndexByte(data, ')')+1:])
}

// CPU returns the time that the threads of a process have run, in user and kernel
// mode. The scheduler's own account is exact to the nanosecond; where the kernel does
// not keep it, the ticks of 10 ms have to do.
func CPU(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return ticks(pid)
	}
	var total time.Duration
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("load: %s: %w", task, err)
		}
		total += time.Duration(ns)
	}
	return total, nil
}

func ticks(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := statFields(data)
	if len(fields) < 13 {
		return 0, errors.New("load: /proc/PID/stat is too short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}
