package oauthclient_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound/oauthclient"
	"github.com/certbound/certbound/pkitest"
)

func clientCredentials(context.Context) (url.Values, error) {
	return url.Values{"grant_type": {"client_credentials"}}, nil
}

// Every request that authenticates by certificate has client_id once and no other
// credential.
func TestOneMethod(t *testing.T) {
	t.Attr("requirement", "M-2-3 O-2.3-2 V-2.1-1")
	w := newWorld(t)
	w.set(func() {
		w.token = func(rw http.ResponseWriter, r *http.Request) bool {
			io.WriteString(rw, `{"access_token":"t","token_type":"bearer","expires_in":0,"refresh_token":"r1"}`)
			return true
		}
	})
	c := w.client(func(cfg *oauthclient.Config) {
		cfg.Scopes, cfg.Resources = []string{"a", "b"}, []string{"https://rs.test/1", "https://rs.test/2"}
	})
	ctx := t.Context()
	for range 2 { // the second is a refresh
		if _, err := c.TokenSource(ctx).Token(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Introspect(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := c.Revoke(ctx, "x", "access_token"); err != nil {
		t.Fatal(err)
	}
	// A caller's own credentials do not become a second method.
	if _, err := c.Call(ctx, oauthclient.PushedAuthorizationRequestEndpoint, url.Values{"response_type": {"code"}, "client_id": {"x", "y"}, "client_secret": {"z"}}); err != nil {
		t.Fatal(err)
	}
	got := w.mtls.all()
	if len(got) != 5 || len(w.as.all()) != 1 {
		t.Fatalf("%d requests at the alias, %d elsewhere; want 5 and the metadata", len(got), len(w.as.all()))
	}
	for _, s := range got {
		if !slices.Equal(s.form["client_id"], []string{"client-1"}) {
			t.Errorf("%s: client_id %q", s.path, s.form["client_id"])
		}
		if s.form.Has("client_secret") || s.form.Has("client_assertion") || len(s.header["Authorization"]) > 0 {
			t.Errorf("%s: another credential: %v", s.path, s.form)
		}
		if s.cert != thumb(certs().l1) {
			t.Errorf("%s: certificate %q", s.path, s.cert)
		}
	}
	if f := got[0].form; f.Get("grant_type") != "client_credentials" || f.Get("scope") != "a b" || len(f["resource"]) != 2 {
		t.Errorf("token request %v", f)
	}
	if f := got[1].form; f.Get("grant_type") != "refresh_token" || f.Get("refresh_token") != "r1" {
		t.Errorf("refresh request %v", f)
	}
}

func TestOtherMethods(t *testing.T) {
	w := newWorld(t)
	t.Run("private_key_jwt at an alias", func(t *testing.T) {
		t.Attr("requirement", "GU-2 M-5-9 O-2.3-2")
		c := w.client(func(cfg *oauthclient.Config) {
			cfg.AuthMethod, cfg.AssertionAlg, cfg.AssertionKey = oauthclient.PrivateKeyJWT, "ES256", pkitest.MustKey(pkitest.P256)
		})
		if _, err := c.TokenSource(t.Context()).Token(); err != nil {
			t.Fatal(err)
		}
		got := w.mtls.at("/token")
		s := got[len(got)-1]
		if s.form.Has("client_id") || s.form.Has("client_secret") || len(s.header["Authorization"]) > 0 {
			t.Errorf("form %v", s.form)
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(s.form.Get("client_assertion"), ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatal(err)
		}
		if claims["aud"] != w.as.URL || claims["iss"] != "client-1" || claims["sub"] != "client-1" || claims["jti"] == "" {
			t.Errorf("claims %v; want the issuer as the only audience", claims)
		}
	})
	t.Run("client_secret_basic", func(t *testing.T) {
		t.Attr("requirement", "O-2.3-2")
		c := w.client(func(cfg *oauthclient.Config) {
			cfg.AuthMethod, cfg.ClientSecret, cfg.ClientID = oauthclient.ClientSecretBasic, "p+ß", "a:b"
		})
		if _, err := c.TokenSource(t.Context()).Token(); err != nil {
			t.Fatal(err)
		}
		got := w.mtls.at("/token")
		s := got[len(got)-1]
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("a%3Ab:p%2B%C3%9F"))
		if s.header.Get("Authorization") != want || s.form.Has("client_id") || s.cert != thumb(certs().l1) {
			t.Errorf("Authorization %q, form %v, certificate %q", s.header.Get("Authorization"), s.form, s.cert)
		}
		if _, err := c.Introspect(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if n := len(w.as.at("/introspection")); n != 1 {
			t.Errorf("%d introspection requests at the conventional endpoint, want 1", n)
		}
	})
}

// The certificate at the resource is the one at the token endpoint, over many connections.
func TestSameCertificate(t *testing.T) {
	t.Attr("requirement", "M-3-7 M-7.3-1")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t)
		conf := serverTLS(tls.RequestClientCert)
		conf.MaxVersion = version
		w.rs = newRecorder(t, conf, w.serveRS)
		c := w.client(nil)
		h := c.HTTPClient()
		for i := range 4 {
			if status, body := get(t, h, w.rs.URL+"/x"); status != 200 || !strings.HasPrefix(body, "hello") {
				t.Errorf("status %d", status)
			}
			if i%2 == 1 {
				c.CloseIdleConnections() // reconnect, which resumes
			}
		}
		if got := w.rs.all()[0].tls; got != version {
			t.Errorf("TLS version %x, want %x", got, version)
		}
		seen := append(w.rs.all(), w.mtls.all()...)
		remotes := make(map[string]bool)
		for _, s := range seen {
			if s.cert != thumb(certs().l1) {
				t.Errorf("%s: certificate %q", s.path, s.cert)
			}
			remotes[s.remote] = true
		}
		if len(w.mtls.at("/token")) != 1 || len(remotes) < 3 {
			t.Errorf("%d token requests, %d connections; want 1 and at least 3", len(w.mtls.at("/token")), len(remotes))
		}
	}
}

// The file changes: new connections, a new token, no failed request; the old connections
// go (user pains 44, 47, 48).
func TestRotation(t *testing.T) {
	t.Attr("requirement", "M-3-7 M-6.3-2")
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l1)
	c := w.client(f.use)
	h := c.HTTPClient()
	for range 2 {
		get(t, h, w.rs.URL+"/x")
	}
	f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
	for range 2 {
		if status, _ := get(t, h, w.rs.URL+"/x"); status != 200 {
			t.Errorf("status %d after the change", status)
		}
	}
	got := w.rs.all()
	for i, want := range []*pkitest.Leaf{p.l1, p.l1, p.l1r, p.l1r} {
		if got[i].cert != thumb(want) {
			t.Errorf("request %d with certificate %q, want %q", i, got[i].cert, thumb(want))
		}
	}
	if got[0].remote != got[1].remote || got[1].remote == got[2].remote || got[2].remote != got[3].remote {
		t.Error("connections do not belong to certificates")
	}
	tokens := w.mtls.at("/token")
	if len(tokens) != 2 || tokens[1].cert != thumb(p.l1r) || w.n(&w.rsRefusals) != 0 {
		t.Errorf("%d token requests, %d refusals; want 2 and 0", len(tokens), w.n(&w.rsRefusals))
	}
	if c.Thumbprint() != thumb(p.l1r) {
		t.Errorf("Thumbprint = %q", c.Thumbprint())
	}
}

// User pain 46 (MSAL #6123): a certificate was issued again for the same key, and the cache
// of tokens was keyed by the key, so that the old token went out with the new certificate.
func TestSameKeyNewCertificate(t *testing.T) {
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l1)
	h := w.client(f.use).HTTPClient()
	get(t, h, w.rs.URL+"/x")
	f.write(p.l1k.ChainPEM(), p.l1k.KeyPEM())
	if status, _ := get(t, h, w.rs.URL+"/x"); status != 200 || w.n(&w.rsRefusals) != 0 {
		t.Errorf("status %d, %d refusals", status, w.n(&w.rsRefusals))
	}
}

// A half-written pair and a broken file keep the certificate, the fitting pair counts.
func TestHalfWritten(t *testing.T) {
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l1)
	c := w.client(f.use)
	h := c.HTTPClient()
	get(t, h, w.rs.URL+"/x")
	steps := []struct {
		cert, key []byte
		want      *pkitest.Leaf
	}{
		{p.l1r.ChainPEM(), nil, p.l1},
		{[]byte("-----BEGIN CERT"), nil, p.l1},
		{[]byte{}, nil, p.l1},
		{p.l1r.ChainPEM(), p.l1r.KeyPEM(), p.l1r},
		{nil, p.l1.KeyPEM(), p.l1r},
		{p.l1.ChainPEM(), nil, p.l1},
	}
	for i, s := range steps {
		f.write(s.cert, s.key)
		if status, _ := get(t, h, w.rs.URL+"/x"); status != 200 || c.Thumbprint() != thumb(s.want) {
			t.Errorf("step %d: status %d with %s, want 200 with %s", i, status, c.Thumbprint(), thumb(s.want))
		}
	}
	if w.n(&w.rsRefusals) != 0 {
		t.Errorf("%d refusals", w.n(&w.rsRefusals))
	}
}

// The new certificate is there before the server takes it: the old one goes on with its
// token, and once the server takes the new one, that is used.
func TestServerNotReady(t *testing.T) {
	t.Attr("requirement", "H-2.4-10")
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l1)
	now := time.Now()
	c := w.client(func(cfg *oauthclient.Config) { f.use(cfg); cfg.Now = func() time.Time { return now } })
	h := c.HTTPClient()
	get(t, h, w.rs.URL+"/x")
	w.set(func() { w.refuse[thumb(p.l1r)] = true })
	f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
	now = now.Add(time.Second)
	for range 5 {
		if status, _ := get(t, h, w.rs.URL+"/x"); status != 200 {
			t.Errorf("status %d while the server does not take the new certificate", status)
		}
	}
	if w.n(&w.refusals) != 1 {
		t.Errorf("%d token requests refused, want 1 in a second", w.n(&w.refusals))
	}
	w.set(func() { clear(w.refuse) })
	now = now.Add(2 * time.Second)
	get(t, h, w.rs.URL+"/x")
	got := w.rs.all()
	if last := got[len(got)-1]; last.cert != thumb(p.l1r) {
		t.Errorf("the last request had certificate %q, want the new one", last.cert)
	}
}

// invalid_client names the certificate that was sent, and what is wrong with it if the
// client can see that.
func TestInvalidClient(t *testing.T) {
	t.Attr("requirement", "H-2.4-10")
	p := certs()
	w := newWorld(t)
	expired := p.clients.MustLeaf(pkitest.LeafOptions{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)})
	w.set(func() { w.refuse[thumb(expired)] = true; w.refuse[thumb(p.l2)] = true })
	for leaf, hint := range map[*pkitest.Leaf]string{expired: "expired", p.l2: "registration"} {
		_, err := w.client(func(cfg *oauthclient.Config) { cfg.Certificate = oauthclient.Static(leaf.TLS()) }).TokenSource(t.Context()).Token()
		e, ok := errors.AsType[*oauthclient.Error](err)
		if !ok || e.Code != "invalid_client" || e.Status != 401 || !strings.Contains(e.Hint, thumb(leaf)) || !strings.Contains(e.Hint, hint) {
			t.Errorf("error %v", err)
		}
		if r, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || r.ErrorCode != "invalid_client" {
			t.Errorf("error %v is no oauth2.RetrieveError", err)
		}
	}
	// invalid_client makes the client look at the file at once.
	f := newCertFiles(t, p.l2)
	c := w.client(func(cfg *oauthclient.Config) { f.use(cfg); cfg.ReloadEvery = time.Hour })
	f.write(p.l1.ChainPEM(), p.l1.KeyPEM())
	if _, err := c.TokenSource(t.Context()).Token(); err != nil {
		t.Errorf("no second attempt with the new certificate: %v", err)
	}
}

// The certificate is exchanged between two calls, and the client has not looked yet: it sees
// invalid_token once, gets a new token and tries once more. It does not loop.
func TestInvalidToken(t *testing.T) {
	t.Attr("requirement", "M-6.3-2 H-2.4-10")
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l1)
	c := w.client(func(cfg *oauthclient.Config) { f.use(cfg); cfg.ReloadEvery = time.Hour })
	h := c.HTTPClient()
	tok, err := c.TokenSource(t.Context()).Token()
	if err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.revoked[tok.AccessToken] = true })
	f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
	resp, err := h.Post(w.rs.URL+"/x", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || string(body) != "hello body" {
		t.Errorf("status %d, %q; want the second attempt with the body", resp.StatusCode, body)
	}
	got := w.rs.all()
	if len(got) != 2 || got[0].cert != thumb(p.l1) || got[1].cert != thumb(p.l1r) || got[1].body != "body" {
		t.Errorf("requests %+v", got)
	}

	t.Run("no loop", func(t *testing.T) {
		w := newWorld(t)
		w.rs.handle(func(rw http.ResponseWriter, r *http.Request) {
			w.set(func() { w.rsRefusals++ })
			rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			rw.WriteHeader(401)
		})
		if status, _ := get(t, w.client(nil).HTTPClient(), w.rs.URL+"/x"); status != 401 || w.n(&w.rsRefusals) != 2 || w.n(&w.issued) != 2 {
			t.Errorf("status %d after %d requests with %d tokens, want 401 after 2 with 2", status, w.n(&w.rsRefusals), w.n(&w.issued))
		}
	})
	t.Run("a body that cannot be sent again", func(t *testing.T) {
		w := newWorld(t)
		c := w.client(nil)
		tok, _ := c.TokenSource(t.Context()).Token()
		w.set(func() { w.revoked[tok.AccessToken] = true })
		req, _ := http.NewRequest("POST", w.rs.URL+"/x", io.NopCloser(strings.NewReader("once")))
		resp, err := c.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 || len(w.rs.all()) != 1 {
			t.Errorf("status %d after %d requests, want 401 after 1", resp.StatusCode, len(w.rs.all()))
		}
	})
	t.Run("another 401", func(t *testing.T) {
		w := newWorld(t)
		w.rs.handle(func(rw http.ResponseWriter, r *http.Request) {
			w.set(func() { w.rsRefusals++ })
			rw.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", x="error=\"invalid_token\""`)
			rw.WriteHeader(401)
		})
		if get(t, w.client(nil).HTTPClient(), w.rs.URL+"/x"); w.n(&w.rsRefusals) != 1 {
			t.Errorf("%d requests, want 1", w.n(&w.rsRefusals))
		}
	})
}

// User pain 46, the handshake: a resource that verifies certificates in TLS breaks off, and
// a new certificate is there.
func TestAlert(t *testing.T) {
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l2)
	strict := newRecorder(t, &tls.Config{
		ClientAuth:   tls.RequireAnyClientCert,
		Certificates: serverTLS(0).Certificates,
		VerifyConnection: func(s tls.ConnectionState) error {
			if !s.PeerCertificates[0].Equal(p.l1.Cert) {
				return errors.New("expired, say")
			}
			return nil
		},
	}, w.serveRS)
	h := w.client(func(cfg *oauthclient.Config) {
		f.use(cfg)
		cfg.ReloadEvery = time.Hour
		cfg.ResourceHosts = []string{host(strict.Server)}
	}).HTTPClient()
	if _, err := h.Get(strict.URL); err == nil {
		t.Fatal("no error for a certificate that the resource does not take")
	}
	f.write(p.l1.ChainPEM(), p.l1.KeyPEM())
	if status, _ := get(t, h, strict.URL); status != 200 {
		t.Errorf("status %d", status)
	}
}

// Tokens that the caller holds stay usable: over the certificate that they belong to.
func TestOAuth2Transport(t *testing.T) {
	t.Attr("requirement", "M-3-7")
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l1)
	c := w.client(f.use)
	source := oauth2.ReuseTokenSource(nil, c.TokenSource(t.Context()))
	h := &http.Client{Transport: &oauth2.Transport{Source: source, Base: c.HTTPClient().Transport}}
	get(t, h, w.rs.URL+"/x")
	f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
	get(t, c.HTTPClient(), w.rs.URL+"/y") // the client itself has moved on
	if status, _ := get(t, h, w.rs.URL+"/x"); status != 200 || w.n(&w.rsRefusals) != 0 {
		t.Errorf("status %d, %d refusals", status, w.n(&w.rsRefusals))
	}
	if got := w.rs.at("/x"); got[1].cert != thumb(p.l1) {
		t.Errorf("the old token went over certificate %q", got[1].cert)
	}
}

// A burst of requests at start and while the certificate changes.
func TestConcurrent(t *testing.T) {
	p := certs()
	w := newWorld(t)
	f := newCertFiles(t, p.l1)
	h := w.client(f.use).HTTPClient()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i == 20 {
				f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
			}
			resp, err := h.Get(w.rs.URL + "/x")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if w.n(&w.issued) > 2 {
		t.Errorf("%d tokens, want one for each certificate", w.n(&w.issued))
	}
}

// Old connections are closed, those that were busy too.
func TestOldConnectionsClose(t *testing.T) {
	p := certs()
	w := newWorld(t)
	var mu sync.Mutex
	open := make(map[string]bool)
	release := make(chan struct{})
	slow := newRecorder(t, nil, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			rw.(http.Flusher).Flush()
			<-release
		}
	}, func(srv *http.Server) {
		srv.ConnState = func(c net.Conn, s http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			if open[c.RemoteAddr().String()] = true; s == http.StateClosed {
				delete(open, c.RemoteAddr().String())
			}
		}
	})
	f := newCertFiles(t, p.l1)
	h := w.client(func(cfg *oauthclient.Config) { f.use(cfg); cfg.ResourceHosts = []string{host(slow.Server)} }).HTTPClient()
	busy, err := h.Get(slow.URL + "/slow")
	if err != nil {
		t.Fatal(err)
	}
	f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
	get(t, h, slow.URL+"/new")
	close(release)
	if _, err := io.Copy(io.Discard, busy.Body); err != nil {
		t.Errorf("the request under way failed: %v", err)
	}
	busy.Body.Close()
	newest := slow.at("/new")[0].remote
	deadline := time.Now().Add(10 * time.Second)
	for {
		mu.Lock()
		only := len(open) == 1 && open[newest]
		n := len(open)
		mu.Unlock()
		if only {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections open, want the new one only", n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHosts(t *testing.T) {
	p := certs()
	w := newWorld(t)
	other := newRecorder(t, nil, func(http.ResponseWriter, *http.Request) {})
	c := w.client(nil)
	t.Run("a host that is not configured", func(t *testing.T) {
		t.Attr("requirement", "T-P-3")
		if _, err := c.HTTPClient().Get(other.URL); !errors.Is(err, oauthclient.ErrHostNotAllowed) {
			t.Errorf("error %v, want ErrHostNotAllowed", err)
		}
	})
	t.Run("the resource redirects there", func(t *testing.T) {
		t.Attr("requirement", "T-P-3")
		for _, code := range []int{301, 302, 303, 307, 308} {
			w.rs.handle(http.RedirectHandler(other.URL+"/stolen", code).ServeHTTP)
			if _, err := c.HTTPClient().Post(w.rs.URL, "text/plain", strings.NewReader("x")); !errors.Is(err, oauthclient.ErrHostNotAllowed) {
				t.Errorf("%d: error %v, want ErrHostNotAllowed", code, err)
			}
		}
	})
	t.Run("the token endpoint redirects", func(t *testing.T) {
		t.Attr("requirement", "T-P-3")
		w.set(func() {
			w.token = func(rw http.ResponseWriter, r *http.Request) bool {
				http.Redirect(rw, r, other.URL+"/token", http.StatusTemporaryRedirect)
				return true
			}
		})
		_, err := w.client(nil).TokenSource(t.Context()).Token()
		if e, ok := errors.AsType[*oauthclient.Error](err); !ok || e.Status != 307 {
			t.Errorf("error %v, want one with status 307", err)
		}
		w.set(func() { w.token = nil })
	})
	if n := len(other.all()); n != 0 {
		t.Errorf("the other host has seen %d requests", n)
	}
	t.Run("http", func(t *testing.T) {
		if _, err := c.HTTPClient().Get("http://" + host(w.rs.Server)); !errors.Is(err, oauthclient.ErrNotHTTPS) {
			t.Errorf("error %v, want ErrNotHTTPS", err)
		}
	})
	t.Run("fields of proxies", func(t *testing.T) {
		t.Attr("requirement", "H-2.4-14")
		for _, name := range []string{"Client-Cert", "client-cert", "CLIENT-CERT-CHAIN", "Client_Cert"} {
			req, _ := http.NewRequest("GET", w.rs.URL, nil)
			req.Header[name] = []string{":YQ==:"}
			if _, err := c.HTTPClient().Do(req); !errors.Is(err, oauthclient.ErrForbiddenHeader) {
				t.Errorf("%s: error %v, want ErrForbiddenHeader", name, err)
			}
		}
		for _, s := range slices.Concat(w.as.all(), w.mtls.all(), w.rs.all()) {
			if len(s.header["Client-Cert"])+len(s.header["Client-Cert-Chain"]) > 0 {
				t.Errorf("%s has the fields", s.path)
			}
		}
	})
	t.Run("credentials of somebody else", func(t *testing.T) {
		for _, value := range []string{"Bearer stranger", "Basic eDp5"} {
			req, _ := http.NewRequest("GET", w.rs.URL, nil)
			req.Header.Set("Authorization", value)
			if _, err := c.HTTPClient().Do(req); !errors.Is(err, oauthclient.ErrForbiddenHeader) {
				t.Errorf("%s: error %v, want ErrForbiddenHeader", value, err)
			}
		}
	})
	t.Run("no certificate where none is asked for", func(t *testing.T) {
		t.Attr("requirement", "T-8446-1")
		for _, s := range w.as.all() {
			if s.cert != "" {
				t.Errorf("%s has a certificate", s.path)
			}
		}
	})
	t.Run("a list of other CAs", func(t *testing.T) {
		t.Attr("requirement", "T-8446-1")
		conf := serverTLS(tls.RequestClientCert)
		conf.ClientCAs = pool(pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Elsewhere"}).Cert)
		listing := newRecorder(t, conf, w.serveRS)
		c := w.client(func(cfg *oauthclient.Config) {
			cfg.Certificate = oauthclient.Static(p.s1.TLS())
			cfg.ResourceHosts = []string{host(listing.Server)}
		})
		if status, _ := get(t, c.HTTPClient(), listing.URL); status != 200 || listing.all()[0].cert != thumb(p.s1) {
			t.Errorf("status %d; want the configured certificate to be sent", status)
		}
	})
}

// The server's certificate is checked, also when the client shows one of its own.
func TestServerCertificate(t *testing.T) {
	ca := certs().servers
	stranger := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Stranger"})
	rows := []struct {
		name, host string
		leaf       *pkitest.Leaf
		ok         bool
		ids        string
	}{
		{"the name", "as.test", ca.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"as.test"}}), true, "B-5.2-1"},
		{"another name", "as.test", ca.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"other.test"}}), false, "B-5.2-1 E-4 E-5 D-6-1 F2-5.2.1-5 OA-5"},
		{"expired", "as.test", ca.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"as.test"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}), false, "B-5.2-1 E-4 D-6-1"},
		{"unknown CA", "as.test", stranger.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"as.test"}}), false, "B-5.2-1 E-4 E-5 D-6-1"},
		{"common name only", "as.test", ca.MustLeaf(pkitest.LeafOptions{Server: true, Subject: "CN=as.test", Template: func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }}), false, "E-1 F2-5.2.1-5"},
		{"wildcard for two labels", "mtls.as.test", ca.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"*.test"}}), false, "E-2 F2-5.2.1-5"},
		{"wildcard for one label", "mtls.as.test", ca.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"*.as.test"}}), true, "E-2"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.ids)
			doc := fmt.Sprintf(`{"issuer":"https://%s","token_endpoint":"https://%s/token"}`, row.host, row.host)
			s := newRecorder(t, &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{row.leaf.TLS()}}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.URL.Path == "/token" {
					io.WriteString(w, `{"access_token":"t","token_type":"Bearer","expires_in":60}`)
					return
				}
				io.WriteString(w, doc)
			})
			config := func(given *oauthclient.Metadata) oauthclient.Config {
				return newWorld(t).config(func(c *oauthclient.Config) {
					c.Issuer, c.Metadata = "https://"+row.host, given
					c.ResourceHosts = []string{row.host}
					c.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
						return new(net.Dialer).DialContext(ctx, network, host(s.Server))
					}
				})
			}
			given, err := oauthclient.ParseMetadata([]byte(doc), "https://"+row.host)
			if err != nil {
				t.Fatal(err)
			}
			// By discovery, and with given metadata straight to the token endpoint.
			for _, m := range []*oauthclient.Metadata{nil, given} {
				c, err := oauthclient.New(config(m))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.TokenSource(t.Context()).Token(); (err == nil) != row.ok {
					t.Errorf("error %v, want one: %v", err, !row.ok)
				}
				c.CloseIdleConnections()
			}
			if n := len(s.all()); !row.ok && n != 0 {
				t.Errorf("%d HTTP requests reached the server", n)
			}
		})
	}
	t.Run("the resource", func(t *testing.T) {
		t.Attr("requirement", "B-5.2-1")
		w := newWorld(t)
		evil := newRecorder(t, &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{stranger.MustLeaf(pkitest.LeafOptions{Server: true}).TLS()}}, w.serveRS)
		c := w.client(func(cfg *oauthclient.Config) { cfg.ResourceHosts = []string{host(evil.Server)} })
		if _, err := c.HTTPClient().Get(evil.URL); err == nil || len(evil.all()) != 0 {
			t.Errorf("error %v, %d requests: the token was sent to a server that nobody knows", err, len(evil.all()))
		}
	})
	t.Run("an alias under the name of the issuer", func(t *testing.T) {
		t.Attr("requirement", "E-3")
		s := newRecorder(t, &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{ca.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"as.test"}}).TLS()}}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"issuer":"https://as.test","token_endpoint":"https://as.test/token","mtls_endpoint_aliases":{"token_endpoint":"https://mtls.as.test/token"}}`)
		})
		c, err := oauthclient.New(newWorld(t).config(func(c *oauthclient.Config) {
			c.Issuer = "https://as.test"
			c.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, host(s.Server))
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.TokenSource(t.Context()).Token()
		if _, ok := errors.AsType[x509.HostnameError](err); !ok || len(s.at("/token")) != 0 {
			t.Errorf("error %v, want one about the name mtls.as.test", err)
		}
	})
}

func TestOnlyTLS13(t *testing.T) {
	t.Attr("requirement", "M-8-1")
	w := newWorld(t)
	get(t, w.client(nil).HTTPClient(), w.rs.URL)
	if v := w.rs.all()[0].tls; v != tls.VersionTLS13 {
		t.Errorf("TLS version %x, want 1.3 where it is offered", v)
	}
	conf := serverTLS(tls.RequestClientCert)
	conf.MaxVersion = tls.VersionTLS12
	asked := false
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		asked = asked || len(s.PeerCertificates) > 0
		return nil
	}
	old := newRecorder(t, conf, w.serveRS)
	change := func(cfg *oauthclient.Config) { cfg.ResourceHosts = []string{host(old.Server)} }
	c := w.client(func(cfg *oauthclient.Config) { change(cfg); cfg.CertificateOnlyTLS13 = true })
	if _, err := c.HTTPClient().Get(old.URL); err == nil || asked || len(old.all()) != 0 {
		t.Errorf("error %v, certificate sent %v", err, asked)
	}
	if status, _ := get(t, w.client(change).HTTPClient(), old.URL); status != 200 {
		t.Errorf("status %d without the setting", status)
	}
}

func TestGenerateSelfSigned(t *testing.T) {
	t.Run("no names", func(t *testing.T) {
		t.Attr("requirement", "M-8-2")
		a, err := oauthclient.GenerateSelfSigned(0)
		if err != nil {
			t.Fatal(err)
		}
		leaf := a.Leaf
		if len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.URIs)+len(leaf.IPAddresses) != 0 || len(leaf.Subject.Names) != 1 || len(leaf.Subject.CommonName) < 20 {
			t.Errorf("names in the certificate: %v", leaf.Subject)
		}
		if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
			t.Error(err)
		}
		b, _ := oauthclient.GenerateSelfSigned(time.Hour)
		if b.Leaf.Subject.CommonName == leaf.Subject.CommonName || b.Leaf.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
			t.Error("two certificates share a name or a serial number")
		}
		if _, err := oauthclient.GenerateSelfSigned(-1); err == nil {
			t.Error("no error for a negative time")
		}
	})
	t.Run("an instance has one certificate for both servers", func(t *testing.T) {
		t.Attr("requirement", "M-4-3")
		w := newWorld(t)
		prints := make(map[string]bool)
		for range 2 {
			cert, err := oauthclient.GenerateSelfSigned(0)
			if err != nil {
				t.Fatal(err)
			}
			c := w.client(func(cfg *oauthclient.Config) {
				cfg.AuthMethod, cfg.Grant = oauthclient.None, clientCredentials
				cfg.Certificate = oauthclient.Static(cert)
			})
			get(t, c.HTTPClient(), w.rs.URL)
			rs, as := w.rs.all(), w.mtls.at("/token")
			last := rs[len(rs)-1].cert
			if last != c.Thumbprint() || as[len(as)-1].cert != last {
				t.Errorf("certificate %q at the resource, %q at the server", last, as[len(as)-1].cert)
			}
			prints[last] = true
		}
		if len(prints) != 2 {
			t.Error("two instances share a certificate")
		}
	})
}

func TestRequireBoundTokens(t *testing.T) {
	t.Attr("requirement", "M-3.3-2")
	require := func(cfg *oauthclient.Config) { cfg.RequireBoundTokens = true }
	t.Run("bound", func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client(require).TokenSource(t.Context()).Token(); err != nil {
			t.Error(err)
		}
	})
	t.Run("not announced", func(t *testing.T) {
		w := newWorld(t)
		w.metadata = func(doc map[string]any) { delete(doc, "tls_client_certificate_bound_access_tokens") }
		_, err := w.client(require).TokenSource(t.Context()).Token()
		if !errors.Is(err, oauthclient.ErrNotBound) || len(w.mtls.all()) != 0 {
			t.Errorf("error %v after %d requests, want ErrNotBound before any", err, len(w.mtls.all()))
		}
	})
	for name, cnf := range map[string]string{"none": ``, "of another": `,"cnf":{"x5t#S256":"` + thumb(certs().l2) + `"}`, "no object": `,"cnf":"x"`} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.token = func(rw http.ResponseWriter, r *http.Request) bool {
				token, err := w.signer.Sign([]byte(`{"iss":"x"` + cnf + `}`))
				if err != nil {
					t.Error(err)
				}
				fmt.Fprintf(rw, `{"access_token":%q,"token_type":"Bearer","expires_in":60}`, token)
				return true
			}
			if _, err := w.client(require).TokenSource(t.Context()).Token(); !errors.Is(err, oauthclient.ErrNotBound) {
				t.Errorf("error %v, want ErrNotBound", err)
			}
		})
	}
}

func TestTokenAnswer(t *testing.T) {
	rows := map[string]struct {
		body string
		ok   bool
	}{
		"good":             {`{"access_token":"t","token_type":"bearer","expires_in":60,"scope":"a"}`, true},
		"no expiry":        {`{"access_token":"t","token_type":"BEARER"}`, true},
		"no token":         {`{"token_type":"Bearer"}`, false},
		"no type":          {`{"access_token":"t"}`, false},
		"another type":     {`{"access_token":"t","token_type":"DPoP"}`, false},
		"line break":       {`{"access_token":"t\r\nX: y","token_type":"Bearer"}`, false},
		"negative expiry":  {`{"access_token":"t","token_type":"Bearer","expires_in":-1}`, false},
		"expiry overflows": {`{"access_token":"t","token_type":"Bearer","expires_in":99999999999}`, false},
		"array":            {`[]`, false},
		"too much":         {`{"access_token":"t","token_type":"Bearer","x":"` + strings.Repeat("x", 1<<20) + `"}`, false},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			if name == "good" || name == "another type" {
				t.Attr("requirement", "M-3-12")
			}
			w := newWorld(t)
			w.token = func(rw http.ResponseWriter, r *http.Request) bool { io.WriteString(rw, row.body); return true }
			tok, err := w.client(nil).TokenSource(t.Context()).Token()
			if (err == nil) != row.ok || (tok != nil) != row.ok {
				t.Fatalf("token %v, error %v", tok, err)
			}
			if row.ok && (tok.AccessToken != "t" || tok.TokenType != "Bearer") {
				t.Errorf("token %+v", tok)
			}
			if name == "good" && tok.Extra("scope") != "a" {
				t.Error("the answer's further members are not in the token")
			}
		})
	}
}

// A token is renewed before it ends, and a refresh token that has ended gives way to the grant.
func TestRenewal(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	c := w.client(func(cfg *oauthclient.Config) { cfg.Now = func() time.Time { return now } })
	var tokens []string
	for _, step := range []time.Duration{0, 200 * time.Second, 95 * time.Second} { // of a life of 300 s
		now = now.Add(step)
		tok, err := c.TokenSource(t.Context()).Token()
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, tok.AccessToken)
	}
	if tokens[0] != tokens[1] || tokens[1] == tokens[2] {
		t.Error("the token was not renewed shortly before its end, and only then")
	}

	w = newWorld(t)
	grants := 0
	w.token = func(rw http.ResponseWriter, r *http.Request) bool {
		grants++
		if r.PostForm.Get("grant_type") == "refresh_token" {
			rw.WriteHeader(400)
			io.WriteString(rw, `{"error":"invalid_grant"}`)
			return true
		}
		io.WriteString(rw, `{"access_token":"t","token_type":"Bearer","expires_in":0,"refresh_token":"r"}`)
		return true
	}
	c = w.client(nil)
	for range 2 {
		if _, err := c.TokenSource(t.Context()).Token(); err != nil {
			t.Fatal(err)
		}
	}
	if grants != 3 {
		t.Errorf("%d token requests, want the grant, the refresh that fails, and the grant", grants)
	}
}

func TestIntrospectAndRevoke(t *testing.T) {
	w := newWorld(t)
	c := w.client(nil)
	i, err := c.Introspect(t.Context(), "x")
	if err != nil || !i.Active || i.Confirmation.X5TS256 != thumb(certs().l1) || !slices.Equal(i.Scopes, []string{"a", "b"}) {
		t.Errorf("%+v, %v", i, err)
	}
	tok, err := c.TokenSource(t.Context()).Token()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Revoke(t.Context(), tok.AccessToken, ""); err != nil {
		t.Fatal(err)
	}
	again, err := c.TokenSource(t.Context()).Token()
	if err != nil || again.AccessToken == tok.AccessToken {
		t.Error("the revoked token is still given out")
	}
}

func TestNew(t *testing.T) {
	good := newWorld(t).config(nil)
	f := newCertFiles(t, certs().l1)
	key := pkitest.MustKey(pkitest.P256)
	rows := map[string]func(*oauthclient.Config){
		"nothing":          func(c *oauthclient.Config) { *c = oauthclient.Config{} },
		"issuer by http":   func(c *oauthclient.Config) { c.Issuer = "http://as.test" },
		"no client_id":     func(c *oauthclient.Config) { c.ClientID = "" },
		"no method":        func(c *oauthclient.Config) { c.AuthMethod = "" },
		"unknown method":   func(c *oauthclient.Config) { c.AuthMethod = "client_secret_post" },
		"no certificate":   func(c *oauthclient.Config) { c.Certificate = nil },
		"half a pair":      func(c *oauthclient.Config) { c.Certificate, c.CertFile = nil, f.cert },
		"two certificates": func(c *oauthclient.Config) { c.CertFile, c.KeyFile = f.cert, f.key },
		"no file":          func(c *oauthclient.Config) { c.Certificate, c.CertFile, c.KeyFile = nil, f.cert, f.key+".none" },
		"key of another": func(c *oauthclient.Config) {
			c.Certificate, c.CertFile, c.KeyFile = nil, f.cert, newCertFiles(t, certs().l2).key
		},
		"two methods":      func(c *oauthclient.Config) { c.ClientSecret = "x" },
		"two methods, key": func(c *oauthclient.Config) { c.AssertionKey = key },
		"algorithm does not fit": func(c *oauthclient.Config) {
			c.AuthMethod, c.AssertionKey, c.AssertionAlg = "private_key_jwt", key, "RS256"
		},
		"public without grant": func(c *oauthclient.Config) { c.AuthMethod = oauthclient.None },
		"bound by nothing": func(c *oauthclient.Config) {
			c.AuthMethod, c.ClientSecret, c.Certificate, c.RequireBoundTokens = "client_secret_basic", "x", nil, true
		},
		"host with a path":  func(c *oauthclient.Config) { c.ResourceHosts = []string{"rs.test/x"} },
		"resource relative": func(c *oauthclient.Config) { c.Resources = []string{"/x"} },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "two methods") {
				t.Attr("requirement", "O-2.3-2")
			}
			cfg := good
			change(&cfg)
			if c, err := oauthclient.New(cfg); err == nil || c != nil {
				t.Errorf("New = %v, %v; want an error", c, err)
			}
		})
	}
}
