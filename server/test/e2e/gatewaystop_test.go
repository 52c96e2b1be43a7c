package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/server/probe"
)

// ready returns status and body of /readyz.
func (g *gatewayProcess) ready(t *testing.T) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + g.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// SIGTERM under load: readiness says no at once while new connections are still served, a
// load balancer that heeds it takes the load away, long answers are finished, and no request
// fails. Each answer has its record, once and whole, although records wait for each other.
func TestGatewayStopsUnderLoad(t *testing.T) {
	w, api := gatewayWorld(t)
	begun, finish := make(chan struct{}, 1), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, "first half, ")
		_ = http.NewResponseController(rw).Flush()
		begun <- struct{}{}
		<-finish
		_, _ = io.WriteString(rw, "second half")
	}))
	t.Cleanup(slow.Close)
	drains := func(g *gatewayProcess) {
		g.config = strings.Replace(g.config, "listen: {", "listen: {drain_for: 10s, shutdown_grace: 30s, ", 1) +
			`  - {name: slow, path: /slow, resource: "https://rs.test", upstream: {url: "` + slow.URL + `"}}` + "\n"
	}
	first := startGateway(t, w, api, drains)
	second := startGateway(t, w, api, drains)
	token := w.token(t, w.as(t, w.L1), "c-dn").AccessToken()
	first.eventually(t, "both are ready", func() bool {
		one, _ := first.ready(t)
		two, _ := second.ready(t)
		return one == 200 && two == 200
	})

	// The load balancer: new connections go where readiness said yes.
	var target atomic.Value
	target.Store(first.address)
	client := func(http1 bool) *http.Client {
		c := w.with(tls.VersionTLS13, http1).as(t, w.L1)
		c.Timeout = time.Minute
		c.Transport.(recorder).next.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, target.Load().(string))
		}
		return c
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answered atomic.Int64
	var load sync.WaitGroup
	ids := make([][]string, 4)
	for i := range ids {
		c := client(i%2 == 0)
		load.Go(func() {
			last := ""
			for ctx.Err() == nil {
				if at := target.Load().(string); at != last {
					c.CloseIdleConnections()
					last = at
				}
				status, id, err := getRecorded(t.Context(), c, token)
				if err != nil || status != http.StatusOK {
					t.Errorf("a request failed: %d, %v", status, err)
					return
				}
				ids[i] = append(ids[i], id)
				answered.Add(1)
			}
		})
	}
	long := make(chan *fixture.Answer, 1)
	longClient := client(true)
	load.Go(func() {
		long <- w.api(t, longClient, rsHost+"/slow", token)
	})
	<-begun
	first.eventually(t, "load", func() bool { return answered.Load() > 50 })
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	first.eventually(t, "readiness says no", func() bool {
		status, body := first.ready(t)
		return status == http.StatusServiceUnavailable && strings.Contains(body, `"stopping":true`)
	})
	// Still served over a new connection.
	late := client(true)
	if status, err := get(t.Context(), late, token); err != nil || status != http.StatusOK {
		t.Errorf("a new connection while draining: %d, %v", status, err)
	}
	late.CloseIdleConnections()
	target.Store(second.address)
	before := answered.Load()
	second.eventually(t, "the load is at the second gateway", func() bool { return answered.Load() > before+50 })
	first.eventually(t, "the listener of the first one is closed", func() bool {
		c, err := net.DialTimeout("tcp", first.address, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(finish)
	if a := <-long; a.Status != http.StatusOK || a.Text != "first half, second half" {
		t.Errorf("the long answer: %d %q", a.Status, a.Text)
	}
	cancel()
	load.Wait()
	if err := first.wait(); err != nil {
		t.Errorf("the gateway came to no good end: %v\n%s", err, tail(first.log.String()))
	}
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.wait(); err != nil {
		t.Errorf("the second gateway came to no good end: %v\n%s", err, tail(second.log.String()))
	}
	records := map[string]int{}
	for line := range strings.Lines(first.log.String() + second.log.String()) {
		var r struct {
			ID      string `json:"request_id"`
			Outcome string `json:"outcome"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("not a record: %v: %q", err, line)
		}
		if r.Outcome == "allowed" {
			records[r.ID]++
		}
	}
	for _, id := range slices.Concat(ids...) {
		if records[id] != 1 {
			t.Errorf("the answer %q has %d records, want 1", id, records[id])
		}
	}
	t.Logf("%d requests", answered.Load())
}

// An operator asks what the gateway believes of a request: the credential comes from the
// admin listener. Without one the path is as any other.
func TestGatewayProbe(t *testing.T) {
	w, api := gatewayWorld(t)
	g := startGateway(t, w, api)
	resp, err := http.Post("http://"+g.admin+"/probe", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	credential := remember("a probe credential", string(bytes.TrimSpace(text)))
	if err != nil || resp.StatusCode != http.StatusOK || !probe.WellFormed(credential) {
		t.Fatalf("POST /probe: %d %v", resp.StatusCode, err)
	}
	a := w.api(t, w.as(t, w.L1), rsHost+probe.Path, credential)
	var got probe.Answer
	if err := json.Unmarshal([]byte(a.Text), &got); err != nil || a.Status != http.StatusOK {
		t.Fatalf("%d %s: %v", a.Status, a.Text, err)
	}
	if got.Listener != "gateway" || got.Source != "tls" || got.Thumbprint != certbound.Thumbprint(w.L1.Cert) {
		t.Errorf("the answer is %+v", got)
	}
	if a := w.api(t, w.as(t, w.L1), rsHost+probe.Path, "cbp_"+strings.Repeat("A", 43)); a.Status != http.StatusUnauthorized {
		t.Errorf("a made-up credential: %d, want 401", a.Status)
	}
}
