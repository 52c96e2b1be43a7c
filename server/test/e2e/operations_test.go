package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// A registration that is added, changed or removed by command counts at the running
// server within a second.
func TestClientCommandsAtRunningServer(t *testing.T) {
	dir := folder(t, settings{})
	w := newWorld(serve(t, dir))
	write(t, dir, "l1.pem", w.L1.ChainPEM())
	c := w.as(t, w.L1)
	steps := []struct {
		args []string
		ok   bool
	}{
		{[]string{"client", "add", "billing", "--cert", "l1.pem"}, true},
		{[]string{"client", "update", "billing", "--disabled"}, false},
		{[]string{"client", "update", "billing", "--enable"}, true},
		{[]string{"client", "update", "billing", "--dn", "CN=another"}, false},
		{[]string{"client", "update", "billing", "--dn", fixture.SubjectDN}, true},
		{[]string{"client", "remove", "billing"}, false},
		{[]string{"client", "add", "billing", "--dn", fixture.SubjectDN}, true},
	}
	refused(t, w.token(t, c, "billing"), "invalid_client")
	for _, s := range steps {
		t.Run(strings.Join(s.args, " "), func(t *testing.T) {
			must(t, dir, append(s.args, "--config", "certbound.yaml")...)
			// What a loaded machine takes for two requests comes on top.
			end := time.Now().Add(time.Second + 500*time.Millisecond)
			for {
				a := w.token(t, c, "billing")
				if got := a.AccessToken() != ""; got == s.ok {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("a second later: %d %s", a.Status, a.Text)
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	t.Run("a new secret", func(t *testing.T) {
		must(t, dir, "client", "add", "batch", "--method", "client_secret_basic", "--unbound", "--config", "certbound.yaml")
		var added struct {
			Secret string `json:"client_secret"`
		}
		out := must(t, dir, "client", "update", "batch", "--new-secret", "--json", "--config", "certbound.yaml")
		if err := json.Unmarshal([]byte(out), &added); err != nil || added.Secret == "" {
			t.Fatalf("%v: no client_secret in %s", err, out)
		}
		remember("a client secret", added.Secret)
		w.eventually(t, "the secret counts", func() bool {
			return w.post(t, w.as(t, nil), "/token", "Authorization", fixture.Basic("batch", added.Secret), "grant_type", "client_credentials").AccessToken() != ""
		})
	})
}

// countDials returns a client and the number of connections that it made.
func (w *world) countDials(t *testing.T, cfg *tls.Config) (*http.Client, *atomic.Int32) {
	t.Helper()
	n := new(atomic.Int32)
	c := w.http(t, cfg)
	c.Transport.(recorder).next.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		n.Add(1)
		return w.dial(ctx, network, address)
	}
	return c, n
}

// The file of a set changes, and is noticed by itself or on SIGHUP. The next request
// counts, over the connection that is there and over a resumed session, too. A broken
// file changes nothing, loudly.
func TestReloadTrust(t *testing.T) {
	for _, how := range []string{"by itself", "SIGHUP"} {
		t.Run(how, func(t *testing.T) {
			w := small(t, func(s *settings) {
				if how == "SIGHUP" {
					s.trust = "{default: ca1, poll_interval: 1h, sets: [{name: ca1, anchors: [ca1.pem]}, {name: ca2, anchors: [ca2.pem]}]}"
				}
			})
			change := func(content []byte) {
				t.Helper()
				write(t, w.dir, "next", content)
				if err := os.Rename(filepath.Join(w.dir, "next"), filepath.Join(w.dir, "ca1.pem")); err != nil {
					t.Fatal(err)
				}
				if how == "SIGHUP" {
					w.signal(t, syscall.SIGHUP)
				}
			}
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				v := w.with(version, false)
				t.Run(v.name, func(t *testing.T) {
					t.Attr("requirement", "T-8446-5 T-P-4")
					c, dials := v.countDials(t, v.clientTLS(w.L1))
					resuming := v.clientTLS(w.L1)
					resuming.ClientSessionCache = tls.NewLRUClientSessionCache(4)
					var resumed atomic.Bool
					resuming.VerifyConnection = func(s tls.ConnectionState) error { resumed.Store(s.DidResume); return nil }
					again := func() string {
						r := v.http(t, resuming)
						defer r.CloseIdleConnections()
						defer r.Transport.(recorder).next.(*http.Transport).CloseIdleConnections()
						return v.token(t, r, "c-dn").Error()
					}
					issued(t, v.token(t, c, "c-dn"), w.L1)
					again()
					if got := again(); got != "" || !resumed.Load() {
						t.Fatalf("error %q, resumed %t", got, resumed.Load())
					}

					// Broken: as it was.
					change([]byte("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n"))
					w.eventually(t, "the metric of a broken file", func() bool { return w.metrics(t)[`certbound_reload_broken{name="trust"}`] == 1 })
					w.logged(t, `"level":"ERROR"`, "ca1.pem")
					issued(t, v.token(t, c, "c-dn"), w.L1)

					// Another CA.
					change(w.CA2.CertPEM())
					w.eventually(t, "the new set counts", func() bool { return v.token(t, c, "c-dn").Error() == "invalid_client" })
					if got := again(); got != "invalid_client" || !resumed.Load() {
						t.Errorf("over a resumed session: error %q, resumed %t", got, resumed.Load())
					}
					refused(t, v.token(t, v.as(t, w.L1), "c-dn"), "invalid_client")
					issued(t, v.token(t, v.as(t, w.L1CA2), "c-dn"), w.L1CA2)
					if w.metrics(t)[`certbound_reload_broken{name="trust"}`] != 0 {
						t.Error("the file is good, and the metric says that it is broken")
					}

					change(w.CA1.CertPEM())
					w.eventually(t, "the old set counts again", func() bool { return v.token(t, c, "c-dn").Error() == "" })
					if n := dials.Load(); n != 1 {
						t.Errorf("%d connections, want the first one to have lasted", n)
					}
				})
			}
		})
	}
}

// The server's own certificate is renewed: new connections get the new one, those that
// are there stay. With a broken file, the old one stays in use, loudly.
func TestReloadServerCertificate(t *testing.T) {
	w := small(t)
	c, dials := w.countDials(t, w.clientTLS(w.L1))
	issued(t, w.token(t, c, "c-dn"), w.L1)
	serial := func() string {
		conn, err := tls.Dial("tcp", w.mtls, &tls.Config{RootCAs: w.ServerCA.Pool(), ServerName: mtlsHost})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	renewed := func() *pkitest.Leaf {
		return w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=renewed", DNS: []string{publicHost, mtlsHost}, Server: true})
	}
	first := serial()

	broken := renewed()
	write(t, w.dir, "server.pem", broken.ChainPEM()) // and not its key
	w.signal(t, syscall.SIGHUP)
	w.logged(t, `"level":"ERROR"`, "server.pem", "server.key")
	w.eventually(t, "the metric of a broken file", func() bool { return w.metrics(t)[`certbound_reload_broken{name="listen.mtls"}`] == 1 })
	if got := serial(); got != first {
		t.Errorf("with a broken file, the certificate changed to %s", got)
	}

	// By SIGHUP, and by itself.
	for _, hup := range []bool{true, false} {
		next := renewed()
		write(t, w.dir, "server.pem", next.ChainPEM())
		write(t, w.dir, "server.key", next.KeyPEM())
		rememberKey(next)
		if hup {
			w.signal(t, syscall.SIGHUP)
		}
		w.eventually(t, "the new certificate is used", func() bool { return serial() == next.Cert.SerialNumber.String() })
		issued(t, w.token(t, c, "c-dn"), w.L1)
	}
	w.eventually(t, "the metric is good again", func() bool { return w.metrics(t)[`certbound_reload_broken{name="listen.mtls"}`] == 0 })
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections, want the first one to have lasted", n)
	}
}

// One of two servers is told to stop while clients keep asking, over HTTP/1.1 and
// HTTP/2; others have sent half of their request. Whoever cannot connect any more goes
// to the other server, as a load balancer has it: no request fails.
func TestStopUnderLoad(t *testing.T) {
	first, second := small(t), small(t)
	ctx, stop := context.WithCancel(t.Context())
	var answered, atSecond, failures atomic.Int64
	var clients sync.WaitGroup
	for i := range 8 {
		v := first.with(tls.VersionTLS13, i%2 == 0)
		c := v.as(t, first.L1)
		tr := c.Transport.(recorder).next.(*http.Transport)
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, first.mtls)
			if errors.Is(err, syscall.ECONNREFUSED) {
				atSecond.Add(1)
				return new(net.Dialer).DialContext(ctx, network, second.mtls)
			}
			return conn, err
		}
		clients.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequest(http.MethodPost, fixture.MTLSBase+"/token", strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				req.Header.Set("Idempotency-Key", "x") // it may be sent again if the connection is closed under it
				resp, err := c.Do(req)
				if err != nil {
					failures.Add(1)
					t.Errorf("a request failed: %v", err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("access_token")) {
					failures.Add(1)
					t.Errorf("status %d, %v: %s", resp.StatusCode, err, body)
				}
				answered.Add(1)
			}
		})
	}

	// Requests that are under way.
	halves := make([]*tls.Conn, 10)
	form := "grant_type=client_credentials&client_id=c-dn"
	for i := range halves {
		cfg := first.clientTLS(first.L1)
		cfg.ServerName = mtlsHost
		conn, err := tls.Dial("tcp", first.mtls, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		halves[i] = conn
		fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: mtls.as.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(form), form[:10])
	}
	first.eventually(t, "load, and all halves under way", func() bool {
		return answered.Load() > 200 && first.metrics(t)[`certbound_requests_in_flight{listener="mtls"}`] >= float64(len(halves))
	})
	first.signal(t, syscall.SIGTERM)
	first.logged(t, "listen: stopping")
	second.eventually(t, "the load is at the second server", func() bool { return atSecond.Load() >= 8 })
	for i, conn := range halves {
		if _, err := io.WriteString(conn, form[10:]); err != nil {
			t.Errorf("half %d: %v", i, err)
			continue
		}
		answer, err := io.ReadAll(conn) // the server closes when it has answered
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.Contains(answer, []byte("access_token")) {
			t.Errorf("half %d: %v %.60q", i, err, answer)
		}
	}
	select {
	case <-first.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the server has not stopped")
	}
	if code := first.cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(first.text(), `"msg":"stopped"`) {
		t.Errorf("exit code %d\n%s", code, tail(first.text()))
	}
	before := answered.Load()
	second.eventually(t, "requests at the second server", func() bool { return answered.Load() > before+50 })
	stop()
	clients.Wait()
	t.Logf("%d requests, %d failed", answered.Load(), failures.Load())
}

// kill -9 while tokens are issued to new certificates, revoked, and clients registered.
// What was acknowledged is there after the restart; tokens stay valid, since the keys are
// the same ones.
func TestKill(t *testing.T) {
	dir := folder(t, settings{clients: clientDN +
		"  - {client_id: c-rs, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: client-2.example, may_introspect: true, introspects: [https://rs.test]}\n"})
	first := serve(t, dir)
	w := newWorld(first)
	keysBefore := fixture.Get(t, w.as(t, nil), fixture.Issuer+"/jwks").Text
	kept := issued(t, w.token(t, w.as(t, w.L1), "c-dn"), w.L1)

	var mu sync.Mutex
	var revoked, registered []string
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		o := fixture.L1Options()
		c := w.as(t, w.CA1i.MustLeaf(o)) // a new certificate each, of the same client
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				token, ok := formPost(c, "/token", "grant_type=client_credentials&client_id=c-dn")
				if !ok {
					return // killed
				}
				access, _ := token["access_token"].(string)
				remember("an access token", access)
				if _, ok := formPost(c, "/revoke", "client_id=c-dn&token="+access); !ok {
					return
				}
				mu.Lock()
				revoked = append(revoked, access)
				mu.Unlock()
			}
		})
	}
	workers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			id := fmt.Sprintf("added-%d", i)
			if r := command(t, dir, "client", "add", id, "--dn", "CN="+id, "--config", "certbound.yaml"); r.code == 0 {
				mu.Lock()
				registered = append(registered, id)
				mu.Unlock()
			}
		}
	})
	first.eventually(t, "revocations and registrations", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(revoked) > 30 && len(registered) > 3
	})
	first.kill(t)
	close(stop)
	workers.Wait()

	w = newWorld(serve(t, dir))
	if got := fixture.Get(t, w.as(t, nil), fixture.Issuer+"/jwks").Text; got != keysBefore {
		t.Errorf("keys after the restart\n%s\nbefore\n%s", got, keysBefore)
	}
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	served(t, w.api(t, w.as(t, w.L1), rsHost, kept))
	issued(t, w.token(t, w.as(t, w.L1), "c-dn"), w.L1)
	rs := w.as(t, w.L2)
	if a := w.post(t, rs, "/introspect", "client_id", "c-rs", "token", kept); a.JSON["active"] != true {
		t.Errorf("a token of before: %s", a.Text)
	}
	for i, token := range revoked {
		if a := w.post(t, rs, "/introspect", "client_id", "c-rs", "token", token); strings.TrimSpace(a.Text) != `{"active":false}` {
			t.Errorf("revocation %d of %d was acknowledged and is lost: %s", i, len(revoked), a.Text)
		}
	}
	list := must(t, dir, "client", "list", "--json", "--config", "certbound.yaml")
	for _, id := range registered {
		if !strings.Contains(list, `"client_id": "`+id+`"`) {
			t.Errorf("the registration of %s was acknowledged and is lost", id)
		}
	}
	t.Logf("%d revocations and %d registrations before the kill", len(revoked), len(registered))
}

// formPost posts a form and returns the JSON of the answer, if the status is 200.
func formPost(c *http.Client, path, form string) (map[string]any, bool) {
	resp, err := c.Post(fixture.MTLSBase+path, "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		return nil, false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var doc map[string]any
	_ = json.Unmarshal(body, &doc) // a revocation has no body
	return doc, err == nil && resp.StatusCode == http.StatusOK
}

// Health needs no certificate and no TLS, and is nowhere but on the operator's listener.
func TestHealth(t *testing.T) {
	w := small(t)
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + w.admin + path)
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
	for path, want := range map[string]string{"/livez": `"alive":true`, "/readyz": `"ready":true`} {
		if status, body := get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
		for _, base := range []string{fixture.Issuer, fixture.MTLSBase} {
			if a := fixture.Get(t, w.as(t, nil), base+path); a.Status != http.StatusNotFound {
				t.Errorf("%s%s: %d, want 404", base, path, a.Status)
			}
		}
	}
	if status, _ := get("/token"); status != http.StatusNotFound {
		t.Errorf("/token on the operator's listener: %d", status)
	}
}

// Each refusal is counted under its reason, and logged with it.
func TestRefusalsByReason(t *testing.T) {
	w := small(t, func(s *settings) {
		s.clients += "  - {client_id: c-off, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: client-1.example, disabled: true}\n" +
			"  - {client_id: c-pub, token_endpoint_auth_method: none}\n"
	})
	l1 := w.as(t, w.L1)
	for reason, send := range map[string]func(t *testing.T) *fixture.Answer{
		"no_certificate":   func(t *testing.T) *fixture.Answer { return w.token(t, w.as(t, nil), "c-dn") },
		"subject_mismatch": func(t *testing.T) *fixture.Answer { return w.token(t, w.as(t, w.L2), "c-dn") },
		"chain_incomplete": func(t *testing.T) *fixture.Answer { return w.token(t, w.as(t, w.L1CAX), "c-dn") },
		"unknown_authority": func(t *testing.T) *fixture.Answer {
			return w.token(t, w.as(t, pkitest.MustSelfSigned(fixture.L1Options())), "c-dn")
		},
		"certificate_not_registered": func(t *testing.T) *fixture.Answer { return w.token(t, w.as(t, w.S2), "c-self") },
		"unknown_client":             func(t *testing.T) *fixture.Answer { return w.token(t, l1, "c-nobody") },
		"client_disabled":            func(t *testing.T) *fixture.Answer { return w.token(t, l1, "c-off") },
		"no_client_id":               func(t *testing.T) *fixture.Answer { return w.post(t, l1, "/token", "grant_type", "client_credentials") },
		"scope_not_allowed":          func(t *testing.T) *fixture.Answer { return w.token(t, l1, "c-dn", "scope", "admin") },
		"resource_not_allowed":       func(t *testing.T) *fixture.Answer { return w.token(t, l1, "c-dn", "resource", "https://else.test") },
		"grant_unsupported": func(t *testing.T) *fixture.Answer {
			return w.post(t, l1, "/token", "client_id", "c-dn", "grant_type", "password")
		},
		"grant_not_allowed": func(t *testing.T) *fixture.Answer { return w.token(t, l1, "c-pub") },
		"parameter_repeated": func(t *testing.T) *fixture.Answer {
			return w.token(t, l1, "c-dn", "client_id", "c-dn")
		},
	} {
		t.Run(reason, func(t *testing.T) {
			name := `certbound_decisions_total{endpoint="token",outcome="refused",reason="` + reason + `"}`
			before := w.metrics(t)[name]
			if a := send(t); a.Status/100 != 4 {
				t.Errorf("%d %s", a.Status, a.Text)
			}
			if got := w.metrics(t)[name]; got != before+1 {
				t.Errorf("%s: %v, want %v; there are %v", name, got, before+1, slices.Collect(names(w.metrics(t), "certbound_decisions_total")))
			}
			w.logged(t, "request refused", `"reason":"`+reason+`"`)
		})
	}
}

func names(metrics map[string]float64, prefix string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name, value := range metrics {
			if value > 0 && strings.HasPrefix(name, prefix) && !yield(name) {
				return
			}
		}
	}
}

// Secrets in every place where a client might put them, at the level debug. The log is
// searched at the end of this test, as of every other one.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	t.Attr("requirement", "G-4.9-1")
	w := small(t)
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	c := w.as(t, w.L1)
	token := issued(t, w.token(t, c, "c-dn"), w.L1)
	secret := remember("a client secret", "correct-horse-battery-staple-8705")
	key := string(w.L1.KeyPEM())
	for _, pairs := range [][]string{
		{"client_id", token}, {"client_secret", secret}, {"client_id", "c-dn", "client_secret", secret},
		{"client_id", "c-dn", "resource", "https://user:" + secret + "@rs.test"},
		{"client_id", "c-dn", "grant_type", token}, {token, "x"}, {"client_id", key}, {"client_id", "c-dn", "client_assertion", token},
		{"Authorization", fixture.Basic("c-dn", secret)}, {"Authorization", "Bearer " + token}, {"Authorization", secret}, {"Authorization", "Basic " + secret},
	} {
		for _, path := range []string{"/token", "/introspect", "/revoke", "/token?client_secret=" + secret, "/" + secret, "/introspect?token=" + token} {
			w.post(t, c, path, append([]string{"grant_type", "client_credentials", "token", token}, pairs...)...)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		for _, query := range []string{"?access_token=" + token, "?" + secret} {
			req, err := http.NewRequestWithContext(t.Context(), method, fixture.Resource+"/"+query, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token+"x")
			fixture.Do(t, w.as(t, w.L2), req)
		}
	}
	if !strings.Contains(w.text(), "request refused") {
		t.Error("nothing was logged")
	}
}

// With drain_for, /readyz says no at once and the listeners stay open for a while, so
// that load balancers notice before connections are refused.
func TestDrain(t *testing.T) {
	w := small(t, func(s *settings) { s.listen = "\n  drain_for: 1500ms" })
	w.signal(t, syscall.SIGTERM)
	w.eventually(t, "readiness says no", func() bool {
		resp, err := http.Get("http://" + w.admin + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable && bytes.Contains(body, []byte(`"stopping":true`))
	})
	issued(t, w.token(t, w.as(t, w.L1), "c-dn"), w.L1) // over a new connection
	select {
	case <-w.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the server has not stopped")
	}
	if code := w.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d\n%s", code, tail(w.text()))
	}
}
