package gateway_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/gateway"
)

func item(der []byte) string { return ":" + base64.StdEncoding.EncodeToString(der) + ":" }

var assertionKey = pkitest.MustKey(pkitest.P256)

// everything sends all there is to send.
func everything() gateway.IdentityConfig {
	return gateway.IdentityConfig{
		ClientCert: true, ClientCertChain: true,
		Claims: []gateway.ClaimField{{Claim: "sub", Field: "X-Auth-Sub"}, {Claim: "client_id", Field: "X-Auth-Client"}, {Claim: "roles", Field: "X-Auth-Roles"}},
		Assertion: &gateway.AssertionConfig{
			Field: "X-Auth-Assertion", Issuer: "https://gateway.test", Audience: "apis", Key: assertionKey, Algorithm: jws.ES256, KeyID: "g1",
		},
	}
}

// RFC 9440: the certificate of each request's own connection, as one Byte Sequence, and
// its chain in the order of TLS without the leaf.
func TestClientCertField(t *testing.T) {
	for _, chain := range []bool{false, true} {
		for _, proto := range []string{"h2", "http/1.1"} {
			w := newWorld(t, setup{identity: gateway.IdentityConfig{ClientCert: true, ClientCertChain: chain}})
			c := w.client(w.L1, func(cfg *tls.Config) { cfg.NextProtos = []string{proto} })
			t.Run(proto, func(t *testing.T) {
				t.Attr("requirement", "H-1.2-4 H-2.1-1 H-2.1-2 H-2.1-3 H-2.2-1 H-2.2-2 H-2.3-1 H-2.3-2 H-2.3-3 H-2.3-4 H-2.3-6 H-2.4-3 H-2.4-4 H-4-1 H-B3-1")
				for range 3 { // on one connection
					if a := w.do(c, "GET", "/", w.Token(t, w.L1, nil)); a.status != 200 {
						t.Fatalf("status %d", a.status)
					}
					h := w.last().Header
					if got := h["Client-Cert"]; !slices.Equal(got, []string{item(w.L1.Cert.Raw)}) {
						t.Errorf("Client-Cert: %q", got)
					}
					want := []string(nil)
					if chain {
						want = []string{item(w.CA1i.Cert.Raw)}
					}
					if got := h["Client-Cert-Chain"]; !slices.Equal(got, want) {
						t.Errorf("Client-Cert-Chain: %q", got)
					}
					der, err := base64.StdEncoding.DecodeString(strings.Trim(h.Get("Client-Cert"), ":"))
					if err != nil || certbound.Thumbprint(w.L1.Cert) == "" || string(der) != string(w.L1.Cert.Raw) {
						t.Errorf("it does not decode to the certificate: %v", err)
					}
				}
			})
		}
	}
}

// By default nothing is sent.
func TestIdentityIsOffByDefault(t *testing.T) {
	t.Attr("requirement", "H-4-2")
	w := newWorld(t, setup{})
	w.do(w.client(w.L1, nil), "GET", "/", w.Token(t, w.L1, nil))
	h := w.last().Header
	for name := range h {
		if strings.HasPrefix(name, "Client-Cert") || strings.HasPrefix(name, "X-Auth") {
			t.Errorf("%s: %q", name, h[name])
		}
	}
	if h["Authorization"] != nil {
		t.Error("the token was sent on")
	}
}

func TestClaimsAndAssertion(t *testing.T) {
	w := newWorld(t, setup{identity: everything(), target: gateway.Target{PassToken: true}})
	token := w.Token(t, w.L1, map[string]any{"sub": "müller\r\nX-Evil: 1 100%", "roles": []string{"a b", "c"}})
	if a := w.do(w.client(w.L1, nil), "GET", "/", token); a.status != 200 {
		t.Fatalf("status %d", a.status)
	}
	h := w.last().Header
	for name, want := range map[string]string{
		"X-Auth-Sub": "m%C3%BCller%0D%0AX-Evil: 1 100%25", "X-Auth-Client": "client-1", "X-Auth-Roles": "a%20b c", "X-Evil": "", "Authorization": "Bearer " + token,
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	parsed, err := jws.Parse(h.Get("X-Auth-Assertion"), 4096)
	if err != nil || parsed.Verify(assertionKey.Public()) != nil || parsed.Typ == "at+jwt" {
		t.Fatalf("assertion: %v, typ %q", err, parsed.Typ)
	}
	var claims struct {
		Iss, Aud, Client_id, Scope string
		Exp, Iat                   int64
		Cnf                        map[string]string
	}
	if err := json.Unmarshal(parsed.Payload, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Iss != "https://gateway.test" || claims.Aud != "apis" || claims.Client_id != "client-1" || claims.Scope != "read write" ||
		claims.Cnf["x5t#S256"] != certbound.Thumbprint(w.L1.Cert) || claims.Exp-claims.Iat != 60 {
		t.Errorf("claims %+v", claims)
	}
	// A token that ends before the assertion would.
	w.do(w.client(w.L1, nil), "GET", "/", w.Token(t, w.L1, map[string]any{"exp": time.Now().Add(20 * time.Second).Unix()}))
	if parsed, err = jws.Parse(w.last().Header.Get("X-Auth-Assertion"), 4096); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(parsed.Payload, &claims); err != nil || claims.Exp > time.Now().Add(21*time.Second).Unix() {
		t.Errorf("the assertion outlives the token: %+v", claims)
	}
}

// spell returns a name in the spellings that some program takes for the same.
func spell(name string) []string {
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
		strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1),
	}
}

// CVE-2025-64484 (oauth2-proxy): a client sent X_Forwarded_Email, which the list of names
// to strip did not have, and the API behind took underscores for hyphens. Here a client
// with a good token and certificate sends every field that the gateway sets, and every
// field that means something to programs behind proxies, in each spelling, twice, named in
// Connection, and in the trailer. Nothing of it arrives.
func TestAttackForgedIdentity(t *testing.T) {
	names := []string{
		"Client-Cert", "Client-Cert-Chain", "X-Auth-Sub", "X-Auth-Client", "X-Auth-Roles", "X-Auth-Assertion",
		"X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "X-Client-Cert", "SSL-Client-Cert", "X-Amzn-Mtls-Clientcert", "Cf-Client-Cert-Der-Base64",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-User", "Forwarded", "X-Real-IP",
		"X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "Proxy",
	}
	w := newWorld(t, setup{identity: everything(), routes: []*gateway.Route{{Name: "api"}, {Name: "open", Path: "/open", Anonymous: true}}})
	token := w.Token(t, w.L1, map[string]any{"sub": "real"})
	check := func(t *testing.T, r *http.Request, withCertificate bool) {
		t.Helper()
		if r == nil {
			t.Fatal("the API has seen nothing")
		}
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, ","), "forged") {
				t.Errorf("arrived: %s: %q", name, values)
			}
		}
		for name, values := range r.Trailer {
			t.Errorf("arrived in the trailer: %s: %q", name, values)
		}
		if got, want := r.Header["Client-Cert"] != nil, withCertificate; got != want {
			t.Errorf("Client-Cert there: %v, want %v", got, want)
		}
		if len(r.Header["Client-Cert"]) > 1 {
			t.Errorf("Client-Cert more than once")
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Attr("attack", "19")
			t.Attr("requirement", "H-2.2-5 H-2.4-5 H-2.4-7 H-4-4 H-4-5 H-O-5")
			for _, spelled := range spell(name) {
				for _, how := range []string{"once", "twice", "in Connection", "trailer"} {
					for _, leaf := range []*pkitest.Leaf{w.L1, nil} {
						path, auth := "/", "Authorization: Bearer "+token+"\n"
						if leaf == nil {
							path, auth = "/open", ""
						}
						head := "POST " + path + " HTTP/1.1\nHost: rs.test\n" + auth
						switch how {
						case "once":
							head += spelled + ": forged\nContent-Length: 0\n\n"
						case "twice":
							head += spelled + ": forged1\n" + spelled + ": forged2\nContent-Length: 0\n\n"
						case "in Connection":
							head += spelled + ": forged\nConnection: close, " + name + "\nContent-Length: 0\n\n"
						case "trailer":
							head += "Trailer: " + spelled + "\nTransfer-Encoding: chunked\n\n1\nx\n0\n" + spelled + ": forged\n\n"
						}
						w.last()
						c := w.raw(leaf, head)
						line := make([]byte, 12)
						if _, err := io.ReadFull(c, line); err != nil {
							t.Fatalf("%s, %s: %v", spelled, how, err)
						}
						c.Close()
						if string(line) == "HTTP/1.1 400" { // refused in the first place, as Go does with some trailers
							continue
						}
						check(t, w.last(), leaf != nil)
					}
				}
			}
		})
	}
	t.Run("over HTTP/2", func(t *testing.T) {
		t.Attr("requirement", "H-5.1-1")
		t.Attr("attack", "19")
		a := w.do(w.client(w.L1, nil), "GET", "/", token, func(r *http.Request) {
			for _, name := range names {
				for _, spelled := range spell(name) {
					if strings.EqualFold(name, "Proxy") && spelled != "Proxy" {
						continue
					}
					r.Header[strings.ToLower(spelled)] = []string{"forged"}
				}
			}
		})
		if a.status != 200 {
			t.Fatalf("status %d", a.status)
		}
		r := w.last()
		check(t, r, true)
		if got := r.Header.Get("X-Auth-Sub"); got != "real" {
			t.Errorf("X-Auth-Sub: %q", got)
		}
	})
}

// CVE-2018-16886 (etcd): a gateway's own certificate counted as that of the caller, so
// that everybody was the gateway. Here the gateway authenticates to the API with a
// certificate of its own, and what it says about the caller is the caller's, or nothing.
func TestAttackGatewaysOwnCertificate(t *testing.T) {
	t.Attr("attack", "18")
	t.Attr("requirement", "H-1.2-4")
	w := newMutualWorld(t, setup{identity: everything(), routes: []*gateway.Route{{Name: "api"}, {Name: "open", Path: "/open", Anonymous: true}}})
	w.do(w.client(w.L1, nil), "GET", "/", w.Token(t, w.L1, nil))
	r := w.last()
	if r == nil || len(r.TLS.PeerCertificates) == 0 || !r.TLS.PeerCertificates[0].Equal(fixture.Certs().L2.Cert) {
		t.Fatal("the gateway has not authenticated with its own certificate")
	}
	if got := r.Header.Get("Client-Cert"); got != item(w.L1.Cert.Raw) {
		t.Errorf("Client-Cert is not the caller's: %q", got)
	}
	w.do(w.client(nil, nil), "GET", "/open", "")
	if r := w.last(); r == nil || r.Header["Client-Cert"] != nil {
		t.Error("a caller without a certificate has got one")
	}
}

// The field speaks of a key that was proven: on this connection, or on the session that it
// resumes, under both versions of TLS.
func TestProvenKey(t *testing.T) {
	w := newWorld(t, setup{identity: gateway.IdentityConfig{ClientCert: true}})
	token := w.Token(t, w.L1, nil)
	t.Run("another's key", func(t *testing.T) {
		t.Attr("requirement", "H-1.2-1")
		c := w.client(nil, func(cfg *tls.Config) {
			cert := w.L1.TLS()
			cert.PrivateKey = w.L2.Key
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		})
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://rs.test/", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		if resp, err := c.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("status %d", resp.StatusCode)
		}
		if w.last() != nil {
			t.Error("the API was reached")
		}
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run("resumed "+tls.VersionName(version), func(t *testing.T) {
			t.Attr("requirement", "H-3.3-1 H-1.2-2")
			cache := tls.NewLRUClientSessionCache(1)
			for i := range 2 {
				resumed := false
				c := w.client(w.L1, func(cfg *tls.Config) {
					cfg.MinVersion, cfg.MaxVersion, cfg.ClientSessionCache = version, version, cache
					cfg.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
				})
				a := w.do(c, "GET", "/", token)
				c.CloseIdleConnections()
				if a.status != 200 || resumed != (i == 1) {
					t.Fatalf("request %d: status %d, resumed %v", i, a.status, resumed)
				}
				if r := w.last(); r == nil || r.Header.Get("Client-Cert") != item(w.L1.Cert.Raw) {
					t.Errorf("request %d: the field is not there", i)
				}
			}
		})
	}
}

// Authlete's cache test: a cache that knows the token answers for the certificate, too.
// The same token, warm, with three certificates and with none: each has its own answer, in
// every order.
func TestAttackWarmCache(t *testing.T) {
	t.Attr("attack", "22")
	t.Attr("requirement", "M-3-16 M-3-9 M-3-11")
	w := newWorld(t, setup{})
	token := w.Token(t, w.L1, nil)
	clients := map[*pkitest.Leaf]*http.Client{}
	for _, leaf := range []*pkitest.Leaf{w.L1, w.L2, nil, w.L1, w.L1k, w.L1, nil, w.L2, w.L1} {
		if clients[leaf] == nil {
			clients[leaf] = w.client(leaf, nil)
		}
		want := 401
		if leaf == w.L1 {
			want = 200
		}
		if a := w.do(clients[leaf], "GET", "/", token); a.status != want {
			t.Errorf("status %d, want %d", a.status, want)
		}
	}
}
