package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// startFollower runs a resource server at rs.test that verifies JWTs itself, renews the
// issuer's keys often, and follows its revocations.
func (w *world) startFollower(t *testing.T) {
	t.Helper()
	logged := &lockedBuffer{}
	t.Cleanup(func() { checkLog(t, logged.String()) })
	v, err := resourceserver.New(resourceserver.Config{
		Resource: "https://" + rsHost, Issuer: fixture.Issuer, Source: certsource.TLS{}, HTTPClient: w.as(t, nil),
		Keys:        resourceserver.Keys{RefreshEvery: 300 * time.Millisecond, RefetchEvery: time.Second},
		Revocations: &resourceserver.RevocationFeed{ClientID: "c-rs", HTTPClient: w.as(t, w.L2), Every: 300 * time.Millisecond, StaleAfter: time.Minute},
		Logger:      slog.New(slog.NewTextHandler(logged, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	hello := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, apiText) })
	w.addresses[rsHost] = serveHandler(t, rsHost, v.Middleware()(hello), false)
}

// A load asks for tokens and uses them, again and again, and counts what goes wrong.
type load struct {
	w        *world
	stop     chan struct{}
	tasks    sync.WaitGroup
	requests atomic.Int64
	kids     sync.Map
	mu       sync.Mutex
	faults   []string
}

func (l *load) failed(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) < 10 {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// client goes on until the load is stopped. as returns the HTTP client for each turn.
func (l *load) client(id string, as func() *http.Client) {
	l.tasks.Go(func() {
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			l.turn(id, as())
			l.requests.Add(1)
		}
	})
}

func (l *load) turn(id string, c *http.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}}
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, fixture.MTLSBase+"/token", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, body, err := answer(c, req)
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &token) != nil {
		l.failed("token for %s: status %d %s %v", id, status, body, err)
		return
	}
	remember("an access token", token.AccessToken)
	head, _, _ := strings.Cut(token.AccessToken, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(head)
	var header struct{ Kid string }
	_ = json.Unmarshal(raw, &header)
	l.kids.Store(header.Kid, true)
	req, _ = http.NewRequestWithContext(ctx, http.MethodGet, "https://"+rsHost+"/", nil)
	req.Header.Set("Authorization", "Bearer "+token.AccessToken)
	if status, body, err := answer(c, req); err != nil || status != http.StatusOK || string(body) != apiText {
		l.failed("API for %s: status %d %s %v", id, status, body, err)
	}
}

func answer(c *http.Client, req *http.Request) (int, []byte, error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func (l *load) signedWith() (n int) {
	l.kids.Range(func(_, _ any) bool { n++; return true })
	return n
}

// rotatingFolder has c-dn and c-rs (L1, L2) and c-self (S1), registered by command.
func rotatingFolder(t *testing.T) string {
	t.Helper()
	certs := fixture.Certs()
	dir := folder(t, settings{
		more: "signing_keys: {prepublish: 2s}\n", level: "info",
		files: map[string][]byte{"l1.pem": certs.L1.ChainPEM(), "s2.pem": certs.S2.ChainPEM()},
	})
	for _, args := range [][]string{
		{"c-dn", "--dn", fixture.SubjectDN},
		{"c-rs", "--san-dns", "client-2.example", "--may-introspect", "--introspects", "https://" + rsHost},
		{"c-self", "--cert", "s1.pem"},
	} {
		if r := command(t, dir, append([]string{"client", "add", "--config", "certbound.yaml"}, args...)...); r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	return dir
}

// Everything that can be rotated is, one after the other, while clients get tokens and
// use them over connections that stay open and over new ones. No request fails.
func TestRotateEverythingUnderLoad(t *testing.T) {
	t.Attr("requirement", "M-2.1-7 F2-6.8-1")
	dir := rotatingFolder(t)
	w := newWorld(serve(t, dir))
	w.startFollower(t)
	l := &load{w: w, stop: make(chan struct{})}
	self := new(atomic.Pointer[http.Client])
	self.Store(w.as(t, w.S1))
	dn := new(atomic.Pointer[http.Client])
	dn.Store(w.as(t, w.L1))
	for range 2 {
		l.client("c-dn", dn.Load)
		l.client("c-self", self.Load)
	}
	l.client("c-dn", func() *http.Client { // each time a new connection
		c := w.as(t, w.L1)
		c.Transport.(recorder).next.(*http.Transport).DisableKeepAlives = true
		time.Sleep(50 * time.Millisecond)
		return c
	})
	// more waits until the load has gone on for a while.
	more := func() {
		t.Helper()
		n := l.requests.Load()
		w.eventually(t, "the load goes on", func() bool { return l.requests.Load() > n+20 })
	}
	done := func(what string, args ...string) {
		t.Helper()
		if r := command(t, dir, append(args, "--config", "certbound.yaml")...); r.code != 0 {
			t.Fatalf("%s: %s", what, r.stderr)
		}
	}
	more()

	// The server's certificate.
	renewed := w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=renewed", DNS: []string{publicHost, mtlsHost}, Server: true})
	rememberKey(renewed)
	write(t, dir, "server.pem", renewed.ChainPEM())
	write(t, dir, "server.key", renewed.KeyPEM())
	w.eventually(t, "the new server certificate", func() bool {
		conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: w.ServerCA.Pool(), ServerName: mtlsHost}}).DialContext(t.Context(), "tcp", w.mtls)
		if err != nil {
			return false // between the two files
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Equal(renewed.Cert)
	})
	more()

	// The trust bundle: another CA joins, and the client renews from it.
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA1 of next year,O=Example"})
	write(t, dir, "ca1.pem", slices.Concat(w.CA1.CertPEM(), ca.CertPEM()))
	moved := ca.MustLeaf(fixture.L1Options())
	mover := w.as(t, moved)
	w.eventually(t, "the new CA counts", func() bool { return fixture.Token(t, mover, "c-dn").Status == 200 })
	dn.Store(mover)
	more()
	w.logged(t, `"client now uses new certificate"`, `"c-dn"`)

	// The signing key.
	before := l.signedWith()
	done("keys rotate", "keys", "rotate")
	w.eventually(t, "tokens of the new key", func() bool { return l.signedWith() > before })
	more()

	// A self-signed certificate: registered beside the current one, used, and the old one closed.
	done("client rotate", "client", "rotate", "c-self", "--cert", "s2.pem")
	next := w.as(t, w.S2)
	w.eventually(t, "the next certificate is accepted", func() bool { return fixture.Token(t, next, "c-self").Status == 200 })
	more() // both
	self.Store(next)
	more()
	w.logged(t, `"client now uses new certificate"`, `"c-self"`)
	done("client rotate", "client", "rotate", "c-self", "--close-old", "now")
	old := w.as(t, w.S1)
	w.eventually(t, "the old certificate is refused", func() bool { return fixture.Token(t, old, "c-self").Status == 401 })
	more()

	close(l.stop)
	l.tasks.Wait()
	for _, fault := range l.faults {
		t.Error(fault)
	}
	t.Logf("%d requests for tokens, and as many with them, %d signing keys", l.requests.Load(), l.signedWith())
	if got := w.metrics(t)["certbound_client_renewals_total"]; got < 2 {
		t.Errorf("%v renewals were counted, want 2 or more", got)
	}
}

// A certificate is stolen with its key and a token. The operator revokes it by command
// while the server runs; the server restarts; and it turns out to be a mistake.
func TestRevokeAtRunningServer(t *testing.T) {
	t.Attr("requirement", "F2-5.3.4-3")
	dir := rotatingFolder(t)
	w := newWorld(serve(t, dir))
	w.startFollower(t)
	l1, rs := w.as(t, w.L1), w.as(t, w.L2)
	token := w.token(t, l1, "c-dn").AccessToken()
	active := func() bool {
		t.Helper()
		r := w.post(t, rs, "/introspect", "client_id", "c-rs", "token", token)
		if r.Status != 200 {
			t.Fatalf("introspection: %d %s", r.Status, r.Text)
		}
		return r.JSON["active"] == true
	}
	if r := w.api(t, l1, rsHost, token); r.Status != 200 || !active() {
		t.Fatalf("before: %d %s", r.Status, r.Text)
	}
	r := command(t, dir, "trust", "revoke", "--cert", "l1.pem", "--note", "stolen", "--config", "certbound.yaml")
	if r.code != 0 || !strings.Contains(r.stdout, "c-dn") {
		t.Fatalf("trust revoke: %d %s %s", r.code, r.stdout, r.stderr)
	}
	if active() {
		t.Error("introspection calls the token active right after the command")
	}
	refused := func(when string) {
		t.Helper()
		w.eventually(t, when+": the API refuses the token", func() bool {
			a := w.api(t, l1, rsHost, token)
			return a.Status == 401 && strings.Contains(a.Header.Get("WWW-Authenticate"), `error="invalid_token"`)
		})
		w.eventually(t, when+": the token endpoint refuses the certificate", func() bool {
			a := fixture.Token(t, l1, "c-dn")
			return a.Status == 401 && a.Error() == "invalid_client"
		})
	}
	refused("at once")
	w.logged(t, `"revoked"`)
	if r := w.token(t, w.as(t, w.L1r), "c-dn"); r.Status != 200 {
		t.Errorf("the renewed certificate: %d %s", r.Status, r.Text)
	}

	w.program.stop(t)
	w.program = serve(t, dir)
	w.addresses[publicHost], w.addresses[mtlsHost] = w.public, w.mtls
	if active() {
		t.Error("after a restart introspection calls the token active")
	}
	refused("after a restart")

	if r := command(t, dir, "trust", "revoke", "--cert", "l1.pem", "--undo", "--config", "certbound.yaml"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	if !active() {
		t.Error("the token stays inactive after --undo")
	}
	w.eventually(t, "the API accepts the token again", func() bool { return w.api(t, l1, rsHost, token).Status == 200 })
	w.eventually(t, "the token endpoint accepts the certificate again", func() bool { return w.token(t, l1, "c-dn").Status == 200 })
}
