package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// A suite is a server with the clients of the requirements, and what they need.
type suite struct {
	dir       string
	secret    string        // of c-sec and c-sec-bound
	assertion *pkitest.Leaf // the key of c-pkj
	keys      *keyServer
}

// A keyServer is where jwks_uri points: over TLS, with a certificate for 127.0.0.1.
type keyServer struct {
	*httptest.Server
	mu   sync.Mutex
	docs map[string]http.HandlerFunc
	hits map[string]int
}

func startKeyServer(t *testing.T) *keyServer {
	t.Helper()
	k := &keyServer{docs: map[string]http.HandlerFunc{}, hits: map[string]int{}}
	k.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		h := k.docs[r.URL.Path]
		k.hits[r.URL.Path]++
		k.mu.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}))
	leaf := fixture.Certs().ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=keys", IP: loopbackIP, Server: true})
	k.TLS = &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}}
	k.Config.ErrorLog = log.New(io.Discard, "", 0)
	k.StartTLS()
	t.Cleanup(func() {
		k.CloseClientConnections()
		k.Close()
	})
	return k
}

// put answers a path with a document.
func (k *keyServer) put(path string, doc []byte) {
	k.handle(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc)
	})
}

func (k *keyServer) handle(path string, h http.HandlerFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.docs[path] = h
}

func (k *keyServer) fetches(path string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hits[path]
}

// The documents that are no key set, by path.
var brokenSets = map[string]http.HandlerFunc{
	"status-500": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", http.StatusInternalServerError) },
	"not-json":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
	"no-keys":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
	"redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusFound)
	},
	"endless": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"keys":[`)
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat(" ", 32<<10))); err != nil {
				return
			}
		}
	},
}

// newSuite makes the folder. Each of the worlds has clients of its own behind jwks_uri,
// since key sets are fetched again only after a while.
func newSuite(t *testing.T, mtls string, worlds int) *suite {
	t.Helper()
	certs := fixture.Certs()
	s := &suite{keys: startKeyServer(t), assertion: pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=assertions"})}
	s.secret, _ = authserver.NewSecret()
	remember("a client secret", s.secret)
	rememberKey(s.assertion)
	host := strings.TrimPrefix(s.keys.URL, "https://")
	var clients strings.Builder
	add := func(id, method string, lines ...string) {
		fmt.Fprintf(&clients, "  - client_id: %s\n    token_endpoint_auth_method: %s\n", id, method)
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "scope:") }) {
			lines = append(lines, "scope: read write")
		}
		for _, l := range lines {
			clients.WriteString("    " + l + "\n")
		}
	}
	dn := "tls_client_auth_subject_dn: '" + fixture.SubjectDN + "'"
	const unbound = "tls_client_certificate_bound_access_tokens: false"
	pki := func(id string, lines ...string) { add(id, "tls_client_auth", lines...) }
	pki("c-dn", dn, "resources: [https://rs.test, https://rs2.test]")
	pki("c-dn-too", dn)
	pki("c-dn-plain", dn, unbound)
	pki("c-dn-opaque", dn, "token_format: opaque", "resources: [https://rs2.test]")
	pki("c-dn-plain-opaque", dn, unbound, "token_format: opaque", "resources: [https://rs2.test]")
	pki("c-dn-ca2", dn, "anchor_set: ca2")
	pki("c-dns", "tls_client_auth_san_dns: client-1.example")
	pki("c-uri", "tls_client_auth_san_uri: https://client-1.example/id")
	pki("c-ip4", "tls_client_auth_san_ip: 192.0.2.10")
	pki("c-ip6", "tls_client_auth_san_ip: '2001:db8::10'")
	pki("c-mail", "tls_client_auth_san_email: ops@client-1.example")
	pki("c-rs", "tls_client_auth_san_dns: client-2.example", "may_introspect: true", "introspects: [https://rs2.test, https://rs.test]")
	pki("c-rs-too", dn, "may_introspect: true", "introspects: [https://rs.test]")
	add("c-self", "self_signed_tls_client_auth", "certificates: [s1.pem]")
	add("c-self-two", "self_signed_tls_client_auth", "certificates: [s1.pem, s2.pem]")
	add("c-self-unknown-ca", "self_signed_tls_client_auth", "certificates: [l1cax.pem]")
	add("c-pub", "none")
	add("c-sec", "client_secret_basic", "client_secret: file:secret", unbound)
	add("c-sec-bound", "client_secret_basic", "client_secret: file:secret")
	add("c-pkj", "private_key_jwt", "jwks: '"+string(fixture.JWKSOf(t, s.assertion))+"'")
	for i := range worlds {
		for _, id := range slices.Sorted(maps.Keys(brokenSets)) {
			path := fmt.Sprintf("/%s/%d", id, i)
			s.keys.handle(path, brokenSets[id])
			add(fmt.Sprintf("c-%s-%d", id, i), "self_signed_tls_client_auth", "jwks_uri: "+s.keys.URL+path)
		}
		path := fmt.Sprintf("/rotates/%d", i)
		s.keys.put(path, fixture.JWKSOf(t, certs.S1))
		add(fmt.Sprintf("c-selfuri-%d", i), "self_signed_tls_client_auth", "jwks_uri: "+s.keys.URL+path)
		// The certificate of the key server is for 127.0.0.1.
		add(fmt.Sprintf("c-other-host-%d", i), "self_signed_tls_client_auth",
			"jwks_uri: "+strings.Replace(s.keys.URL, "127.0.0.1", "localhost", 1)+path)
		// As text of a jwks_uri that points into the machine, and is not allowed.
		add(fmt.Sprintf("c-inside-%d", i), "self_signed_tls_client_auth", fmt.Sprintf("jwks_uri: https://127.0.0.2:%s/inside/%d", port(host), i))
	}
	s.dir = folder(t, settings{
		mtls: mtls, clients: clients.String(),
		more: `jwks_uri: {allow_hosts: ["` + host + `", "localhost:` + port(host) + `"], root_cas: [servers.pem]}`,
	})
	write(t, s.dir, "s2.pem", certs.S2.CertPEM())
	write(t, s.dir, "l1cax.pem", certs.L1CAX.CertPEM())
	write(t, s.dir, "secret", []byte(s.secret+"\n"))
	return s
}

var (
	loopbackIP = []net.IP{{127, 0, 0, 1}}
	serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
)

// rsa1024 is a key that was good once.
var rsa1024 = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	return key
})

// notCA makes an issuer that is none: without basic constraints.
func notCA(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }

func port(address string) string { return fmt.Sprint(netip.MustParseAddrPort(address).Port()) }

// TestWire runs the whole of the wire with TLS 1.2 and 1.3, by HTTP/1.1 and HTTP/2, at a
// server that ends TLS itself.
func TestWire(t *testing.T) {
	s := newSuite(t, "", 4)
	native := newWorld(serve(t, s.dir))
	native.addresses[rsHost] = native.startAPI(t, rsHost, certsource.TLS{}, false)
	native.addresses[rs2Host] = native.startAPI(t, rs2Host, certsource.TLS{}, false)
	i := 0
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, http1 := range []bool{true, false} {
			w := native.with(version, http1)
			t.Run(w.name, func(t *testing.T) {
				t.Attr("requirement", "M-7.3-1")
				s.run(t, w, i, func(t *testing.T, ids string) { t.Attr("requirement", ids) })
			})
			i++
		}
	}
}

// TestWireBehindProxy repeats it with TLS ending at a proxy that sends RFC 9440 fields,
// in front of the authorization server and of both resource servers.
func TestWireBehindProxy(t *testing.T) {
	s := newSuite(t, `insecure_plain_http: true, source: rfc9440, proxy: {prefixes: [127.0.0.1]}`, 2)
	behind := newWorld(serve(t, s.dir))
	source, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: certsource.Hop{
		Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	behind.addresses[mtlsHost] = startProxy(t, mtlsHost, behind.mtls)
	behind.addresses[rsHost] = startProxy(t, rsHost, behind.startAPI(t, rsHost, source, true))
	behind.addresses[rs2Host] = startProxy(t, rs2Host, behind.startAPI(t, rs2Host, source, true))
	for i, w := range []*world{behind.with(tls.VersionTLS12, true), behind.with(tls.VersionTLS13, false)} {
		t.Run(w.name, func(t *testing.T) {
			s.run(t, w, i, func(t *testing.T, ids string) {
				if strings.HasPrefix(ids, "M-2") || strings.HasPrefix(ids, "M-3") {
					t.Attr("requirement", "M-6.5-1")
				}
			})
		})
	}
}

// refused wants an answer with an error code of RFC 6749, Section 5.2.
func refused(t *testing.T, a *fixture.Answer, code string) {
	t.Helper()
	status := a.Status == http.StatusBadRequest || code == "invalid_client" && a.Status == http.StatusUnauthorized
	if !status || a.Error() != code || a.AccessToken() != "" {
		t.Fatalf("got %d %s, want the error %s", a.Status, a.Text, code)
	}
	if a.Status == http.StatusUnauthorized && a.Header.Get("WWW-Authenticate") == "" {
		t.Error("401 without a challenge")
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %q, want no-store", got)
	}
	if a.Header.Get("Location") != "" {
		t.Error("an error that redirects")
	}
}

// issued wants a token, bound to leaf, or unbound if that is nil.
func issued(t *testing.T, a *fixture.Answer, leaf *pkitest.Leaf) string {
	t.Helper()
	if a.Status != http.StatusOK || a.AccessToken() == "" || !strings.EqualFold(fmt.Sprint(a.JSON["token_type"]), "Bearer") ||
		a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %s, want a token", a.Status, a.Text)
	}
	if claims := fixture.Claims(a.AccessToken()); claims != nil {
		want := ""
		if leaf != nil {
			want = certbound.Thumbprint(leaf.Cert)
		}
		if _, has := claims["cnf"]; a.Cnf() != want || has != (leaf != nil) {
			t.Fatalf("cnf %v, want x5t#S256 %q", claims["cnf"], want)
		}
		if claims["iss"] != fixture.Issuer {
			t.Errorf("iss %v, want %s", claims["iss"], fixture.Issuer)
		}
	}
	return a.AccessToken()
}

// invalidToken wants IT: 401, invalid_token, and nothing of the resource.
func invalidToken(t *testing.T, a *fixture.Answer) {
	t.Helper()
	challenge := a.Header.Get("WWW-Authenticate")
	if a.Status != http.StatusUnauthorized || !strings.HasPrefix(challenge, "Bearer ") ||
		!strings.Contains(challenge, `error="invalid_token"`) || strings.Contains(a.Text, apiText) {
		t.Fatalf("got %d %q %q, want 401 with invalid_token", a.Status, challenge, a.Text)
	}
}

func served(t *testing.T, a *fixture.Answer) {
	t.Helper()
	if a.Status != http.StatusOK || a.Text != apiText {
		t.Fatalf("got %d %q %s, want the resource", a.Status, a.Header.Get("WWW-Authenticate"), a.Text)
	}
}

// fails wants the TLS connection to fail.
func fails(t *testing.T, c *http.Client, url string) {
	t.Helper()
	resp, err := c.PostForm(url, map[string][]string{"grant_type": {"client_credentials"}, "client_id": {"c-dn"}})
	if err == nil {
		resp.Body.Close()
		t.Fatalf("status %d, want a failed connection", resp.StatusCode)
	}
}

// without returns the headers that do not differ by nature.
func without(h http.Header, names ...string) http.Header {
	h = h.Clone()
	for _, n := range append(names, "Date", "Certbound-Request-Id") {
		h.Del(n)
	}
	return h
}

var thumbprintForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// run is the suite: every case is a subtest, which claims its rows through attr.
func (s *suite) run(t *testing.T, w *world, n int, attr func(*testing.T, string)) {
	run := func(ids, name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			attr(t, ids)
			f(t)
		})
	}
	l1, l2, s1, s2, none := w.as(t, w.L1), w.as(t, w.L2), w.as(t, w.S1), w.as(t, w.S2), w.as(t, nil)
	leafOf := func(change func(*pkitest.LeafOptions)) *http.Client {
		o := fixture.L1Options()
		change(&o)
		return w.as(t, w.CA1i.MustLeaf(o))
	}
	basic := func(id string) []string { return []string{"Authorization", fixture.Basic(id, s.secret)} }
	withSecret := func(t *testing.T, c *http.Client, id string) *fixture.Answer {
		t.Helper()
		return w.post(t, c, "/token", append(basic(id), "grant_type", "client_credentials")...)
	}
	introspect := func(t *testing.T, token string) *fixture.Answer {
		t.Helper()
		return w.post(t, l2, "/introspect", "client_id", "c-rs", "token", token)
	}

	// Client authentication.
	run("M-1-1 R-2-2 F1-B-5.2.2-1", "at each endpoint", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn"), w.L1)
		for _, e := range []struct {
			path, id    string
			own, others *http.Client
		}{{"/introspect", "c-rs", l2, l1}, {"/revoke", "c-dn", l1, l2}} {
			refused(t, w.post(t, none, e.path, "client_id", e.id, "token", token), "invalid_client")
			refused(t, w.post(t, e.others, e.path, "client_id", e.id, "token", token), "invalid_client")
			if a := w.post(t, e.own, e.path, "client_id", e.id, "token", token); a.Status != http.StatusOK {
				t.Errorf("%s: %d %s", e.path, a.Status, a.Text)
			}
		}
	})
	run("M-1-2", "authentication and binding are independent", func(t *testing.T) {
		issued(t, w.token(t, l1, "c-dn-plain"), nil)
		issued(t, withSecret(t, s1, "c-sec-bound"), w.S1)
		issued(t, withSecret(t, none, "c-sec"), nil)
		issued(t, w.token(t, l1, "c-dn"), w.L1)
	})
	run("M-1.2-1 M-6.1-5", "a certificate that is not presented in TLS", func(t *testing.T) {
		text := string(w.L1.CertPEM())
		for _, to := range []string{fixture.Issuer + "/token", fixture.MTLSBase + "/token"} {
			a := fixture.Post(t, none, to, "grant_type", "client_credentials", "client_id", "c-dn", "client_certificate", text)
			refused(t, a, "invalid_client")
		}
		for name, value := range map[string]string{
			"Client-Cert": ":" + pemBase64(w.L1) + ":", "X-Forwarded-Client-Cert": `Cert="` + urlPEM(w.L1) + `"`,
			"Ssl-Client-Cert": urlPEM(w.L1), "X-Ssl-Client-Cert": pemBase64(w.L1),
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fixture.Issuer+"/token",
				strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set(name, value)
			refused(t, fixture.Do(t, none, req), "invalid_client")
		}
		fails(t, w.http(t, wrongKey(w.clientTLS(nil), w.L1, w.L2)), fixture.MTLSBase+"/token")
	})
	run("M-2-2", "a connection proves for itself alone", func(t *testing.T) {
		issued(t, w.token(t, l1, "c-dn"), w.L1)
		refused(t, w.token(t, w.as(t, nil), "c-dn"), "invalid_client")
	})
	run("M-2-4", "no client_id", func(t *testing.T) {
		known := w.post(t, l1, "/token", "grant_type", "client_credentials")
		unknown := w.post(t, w.as(t, w.L1CAX), "/token", "grant_type", "client_credentials")
		if known.AccessToken() != "" || known.Status != unknown.Status || known.Text != unknown.Text || known.Status/100 != 4 {
			t.Errorf("%d %s, and with a certificate that is registered nowhere %d %s; want the same refusal", known.Status, known.Text, unknown.Status, unknown.Text)
		}
	})
	run("M-2-5", "client_id from the form, once", func(t *testing.T) {
		a := fixture.Post(t, l1, fixture.MTLSBase+"/token?client_id=c-dn", "grant_type", "client_credentials")
		if a.Status/100 != 4 || a.AccessToken() != "" {
			t.Errorf("in the query: %d %s", a.Status, a.Text)
		}
		refused(t, w.token(t, l1, "c-dn", "client_id", "c-dn"), "invalid_request")
	})
	run("M-2-6", "client_id decides, not the certificate", func(t *testing.T) {
		for _, id := range []string{"c-dn", "c-dn-too"} {
			if got := fixture.Claims(issued(t, w.token(t, l1, id), w.L1))["client_id"]; got != id {
				t.Errorf("client_id %v, want %s", got, id)
			}
		}
	})
	run("M-2-7 M-2-9 M-2-10", "the certificate of another", func(t *testing.T) {
		for id, list := range map[string][]*http.Client{"c-dn": {l2, s1}, "c-self": {l1, s2}} {
			for _, c := range list {
				a := w.token(t, c, id)
				refused(t, a, "invalid_client")
				if strings.Contains(a.Text, "client-1") || strings.Contains(a.Text, "Example") || strings.Contains(a.Text, certbound.Thumbprint(w.S1.Cert)) {
					t.Errorf("the answer tells what is expected: %s", a.Text)
				}
			}
		}
	})
	run("M-2-8 M-2-10 T-8446-2", "no certificate", func(t *testing.T) {
		refused(t, w.token(t, none, "c-dn"), "invalid_client")
		refused(t, w.token(t, none, "c-self"), "invalid_client")
	})
	run("M-2-11", "no downgrade", func(t *testing.T) {
		for _, path := range []string{"/token", "/revoke", "/introspect"} {
			refused(t, w.post(t, none, path, "grant_type", "client_credentials", "client_id", "c-dn", "token", "x"), "invalid_client")
			a := w.post(t, none, path, append(basic("c-dn"), "grant_type", "client_credentials", "token", "x")...)
			if a.Status/100 != 4 || a.Error() != "invalid_client" && a.Error() != "invalid_request" {
				t.Errorf("%s with a secret: %d %s", path, a.Status, a.Text)
			}
		}
	})
	run("M-2-12 M-6.1-2", "a certificate on the connection is no attempt", func(t *testing.T) {
		issued(t, withSecret(t, l2, "c-sec"), nil)
		issued(t, withSecret(t, none, "c-sec"), nil)
	})
	run("M-2-13", "unknown client and wrong certificate look alike", func(t *testing.T) {
		a, b := w.token(t, l1, "c-nobody"), w.token(t, l2, "c-dn")
		refused(t, a, "invalid_client")
		if a.Status != b.Status || a.Text != b.Text || fmt.Sprint(without(a.Header)) != fmt.Sprint(without(b.Header)) {
			t.Errorf("unknown client: %d %v %s\nwrong certificate: %d %v %s", a.Status, a.Header, a.Text, b.Status, b.Header, b.Text)
		}
	})
	run("M-2.1-1 M-7.4-1", "the chain leads to an anchor", func(t *testing.T) {
		issued(t, w.token(t, l1, "c-dn"), w.L1)
		refused(t, w.token(t, w.as(t, w.L1CAX), "c-dn"), "invalid_client")
		refused(t, w.token(t, w.http(t, leafAlone(w.clientTLS(nil), w.L1)), "c-dn"), "invalid_client")
	})
	run("M-2.1-3", "the key is proven", func(t *testing.T) {
		fails(t, w.http(t, wrongKey(w.clientTLS(nil), w.L1, w.L2)), fixture.MTLSBase+"/token")
		fails(t, w.http(t, wrongKey(w.clientTLS(nil), w.S1, w.S2)), fixture.MTLSBase+"/token")
	})
	run("M-2.1-4 M-2.1.2-4 M-2.1.2-5 M-2.1.2-6 M-2.1.2-8", "the five kinds", func(t *testing.T) {
		for _, id := range []string{"c-dn", "c-dns", "c-uri", "c-ip4", "c-ip6", "c-mail"} {
			issued(t, w.token(t, l1, id), w.L1)
			refused(t, w.token(t, l2, id), "invalid_client")
		}
		refused(t, w.token(t, leafOf(func(o *pkitest.LeafOptions) { o.DNS = []string{"other.example"} }), "c-dns"), "invalid_client")
		refused(t, w.token(t, leafOf(func(o *pkitest.LeafOptions) { o.URI = []string{"https://client-1.example/ID"} }), "c-uri"), "invalid_client")
		refused(t, w.token(t, leafOf(func(o *pkitest.LeafOptions) { o.Email = []string{"OPS@client-1.example"} }), "c-mail"), "invalid_client")
		upper := w.CA1i.MustLeaf(pkitest.LeafOptions{DNS: []string{"CLIENT-1.Example"}, Email: []string{"ops@CLIENT-1.example"}})
		issued(t, w.token(t, w.as(t, upper), "c-dns"), upper)
		issued(t, w.token(t, w.as(t, upper), "c-mail"), upper)
	})
	run("M-2.1-7", "renewed with the same subject", func(t *testing.T) {
		issued(t, w.token(t, w.as(t, w.L1r), "c-dn"), w.L1r)
	})
	run("M-2.1-8", "names of an intermediate do not count", func(t *testing.T) {
		named := w.CA1.MustIntermediate(pkitest.CAOptions{Subject: fixture.SubjectDN})
		c := w.as(t, named.MustLeaf(pkitest.LeafOptions{Subject: "CN=mallory"}))
		refused(t, w.token(t, c, "c-dn"), "invalid_client")
		refused(t, w.token(t, c, "c-dns"), "invalid_client")
	})
	run("M-2.1-9", "kinds are not mixed", func(t *testing.T) {
		mixed := w.as(t, w.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-1.example", DNS: []string{"ops@client-1.example", "192.0.2.10"}}))
		for _, id := range []string{"c-dns", "c-mail", "c-ip4"} {
			refused(t, w.token(t, mixed, id), "invalid_client")
		}
	})
	run("M-2.1.2-9", "one of several entries is enough", func(t *testing.T) {
		three := w.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=x", DNS: []string{"a.example", "b.example", "client-1.example"}})
		issued(t, w.token(t, w.as(t, three), "c-dns"), three)
	})
	run("M-2.1.2-12 M-7.5-9", "no wildcards", func(t *testing.T) {
		refused(t, w.token(t, leafOf(func(o *pkitest.LeafOptions) { o.DNS = []string{"*.example"} }), "c-dns"), "invalid_client")
	})
	run("M-2.2-2", "self-signed: the key is proven", func(t *testing.T) {
		fails(t, w.http(t, wrongKey(w.clientTLS(nil), w.S1, w.S2)), fixture.MTLSBase+"/token")
	})
	run("M-2.2-3 M-6.1-3", "self-signed: no CA is needed", func(t *testing.T) {
		issued(t, w.token(t, s1, "c-self"), w.S1)
		issued(t, w.token(t, w.as(t, w.L1CAX), "c-self-unknown-ca"), w.L1CAX)
	})
	run("M-2.2-4", "self-signed: the whole certificate", func(t *testing.T) {
		again := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1", Key: w.S1.Key})
		same := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1"})
		refused(t, w.token(t, w.as(t, again), "c-self"), "invalid_client")
		refused(t, w.token(t, w.as(t, same), "c-self"), "invalid_client")
	})
	run("M-2.2-5", "self-signed: several", func(t *testing.T) {
		issued(t, w.token(t, s1, "c-self-two"), w.S1)
		issued(t, w.token(t, s2, "c-self-two"), w.S2)
		refused(t, w.token(t, l1, "c-self-two"), "invalid_client")
	})
	run("M-2.2-6", "self-signed: rotation behind jwks_uri", func(t *testing.T) {
		id, path := fmt.Sprintf("c-selfuri-%d", n), fmt.Sprintf("/rotates/%d", n)
		issued(t, w.token(t, s1, id), w.S1)
		s.keys.put(path, fixture.JWKSOf(t, w.S2))
		issued(t, w.token(t, s2, id), w.S2)
		refused(t, w.token(t, s1, id), "invalid_client")
		before := s.keys.fetches(path)
		for range 20 {
			refused(t, w.token(t, w.as(t, pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=unknown"})), id), "invalid_client")
		}
		if more := s.keys.fetches(path) - before; more > 1 {
			t.Errorf("20 unknown certificates caused %d fetches", more)
		}
	})
	run("M-2.2-7 M-2.2-8", "self-signed: a broken jwks_uri", func(t *testing.T) {
		for _, id := range append(slices.Sorted(maps.Keys(brokenSets)), "other-host") {
			start := time.Now()
			refused(t, w.token(t, s1, fmt.Sprintf("c-%s-%d", id, n)), "invalid_client")
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("%s: answered after %v", id, took)
			}
		}
	})
	run("R-5-1", "self-signed: a jwks_uri that points inside", func(t *testing.T) {
		refused(t, w.token(t, s1, fmt.Sprintf("c-inside-%d", n)), "invalid_client")
		if got := s.keys.fetches(fmt.Sprintf("/inside/%d", n)); got != 0 {
			t.Errorf("%d requests came in", got)
		}
	})
	run("M-4-4", "a certificate does not authenticate a public client", func(t *testing.T) {
		refused(t, w.token(t, s1, "c-pub"), "unauthorized_client")
		refused(t, w.token(t, none, "c-pub"), "unauthorized_client")
	})
	run("M-6.1-4 M-4-2", "one listener for all methods", func(t *testing.T) {
		issued(t, w.token(t, l1, "c-dn"), w.L1)
		issued(t, w.token(t, s1, "c-self"), w.S1)
		refused(t, w.token(t, w.as(t, pkitest.MustSelfSigned(fixture.L1Options())), "c-dn"), "invalid_client")
		refused(t, w.token(t, w.as(t, w.L1CAX), "c-dn"), "invalid_client")
	})
	run("M-7.4-2", "the right names from another client's CA", func(t *testing.T) {
		ca2 := w.as(t, w.L1CA2)
		refused(t, w.token(t, ca2, "c-dn"), "invalid_client")
		issued(t, w.token(t, ca2, "c-dn-ca2"), w.L1CA2)
		refused(t, w.token(t, l1, "c-dn-ca2"), "invalid_client")
		namesake := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA1,O=Example"})
		refused(t, w.token(t, w.as(t, namesake.MustLeaf(fixture.L1Options())), "c-dn"), "invalid_client")
	})
	run("M-7.5-3", "a leaf cannot issue", func(t *testing.T) {
		o := pkitest.CAOptions{Subject: "CN=not a CA", Template: notCA}
		refused(t, w.token(t, w.as(t, w.CA1.MustIntermediate(o).MustLeaf(fixture.L1Options())), "c-dn"), "invalid_client")
	})
	run("M-7.5-4 M-7.5-5", "usage and validity", func(t *testing.T) {
		for name, change := range map[string]func(*pkitest.LeafOptions){
			"serverAuth only":      func(o *pkitest.LeafOptions) { o.ExtKeyUsage = serverAuth },
			"no digital signature": func(o *pkitest.LeafOptions) { o.KeyUsage = x509.KeyUsageKeyEncipherment },
			"expired":              func(o *pkitest.LeafOptions) { o.NotAfter = time.Now().Add(-time.Minute) },
			"not yet valid": func(o *pkitest.LeafOptions) {
				o.NotBefore, o.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
			},
		} {
			t.Run(name, func(t *testing.T) { refused(t, w.token(t, leafOf(change), "c-dn"), "invalid_client") })
		}
		t.Run("RSA with 1024 bits", func(t *testing.T) {
			t.Attr("requirement", "F2-5.4.1-2 F1-B-5.2.2-2")
			refused(t, w.token(t, leafOf(func(o *pkitest.LeafOptions) { o.Key = rsa1024() }), "c-dn"), "invalid_client")
		})
		old := w.CA1.MustIntermediate(pkitest.CAOptions{Subject: "CN=old", NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
		refused(t, w.token(t, w.as(t, old.MustLeaf(fixture.L1Options())), "c-dn"), "invalid_client")
	})

	// Binding, at the authorization server.
	run("M-3-1 M-3-4 M-3-12 M-3.1-1 M-3.1-4 M-3.1-5 M-3.1-6", "the certificate of this very request", func(t *testing.T) {
		for _, leaf := range []*pkitest.Leaf{w.L1, w.L1r, w.L1k, w.L1} {
			token := issued(t, w.token(t, w.as(t, leaf), "c-dn"), leaf)
			cnf, _ := fixture.Claims(token)["cnf"].(map[string]any)
			if got := fmt.Sprint(cnf["x5t#S256"]); len(cnf) != 1 || !thumbprintForm.MatchString(got) {
				t.Errorf("cnf %v", cnf)
			}
		}
	})
	run("M-3-2 M-3.2-1 M-3.2-3", "the same inside the token and through introspection", func(t *testing.T) {
		for _, id := range []string{"c-dn", "c-dn-opaque"} {
			token := issued(t, w.token(t, l1, id), w.L1)
			a := introspect(t, token)
			if a.JSON["active"] != true || a.Cnf() != certbound.Thumbprint(w.L1.Cert) {
				t.Errorf("%s: %s, want active with the thumbprint of L1", id, a.Text)
			}
		}
	})
	run("N-2.2-2 N-2.2-4", "two resource servers get the same cnf", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn"), w.L1)
		for id, c := range map[string]*http.Client{"c-rs": l2, "c-rs-too": w.as(t, w.L1r)} {
			a := w.post(t, c, "/introspect", "client_id", id, "token", token)
			if a.JSON["active"] != true || a.Cnf() != certbound.Thumbprint(w.L1.Cert) {
				t.Errorf("%s: %s", id, a.Text)
			}
		}
	})
	run("M-3.2-4", "an inactive token yields nothing", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn"), w.L1)
		if a := w.post(t, l1, "/revoke", "client_id", "c-dn", "token", token); a.Status != http.StatusOK {
			t.Fatalf("revocation: %d %s", a.Status, a.Text)
		}
		for _, dead := range []string{token, "nonsense"} {
			if a := introspect(t, dead); strings.TrimSpace(a.Text) != `{"active":false}` {
				t.Errorf("got %s", a.Text)
			}
		}
	})
	run("M-3.2-5", "an unbound token has no cnf", func(t *testing.T) {
		for _, id := range []string{"c-dn-plain", "c-dn-plain-opaque"} {
			a := introspect(t, issued(t, w.token(t, l1, id), nil))
			if _, has := a.JSON["cnf"]; has || a.JSON["active"] != true {
				t.Errorf("%s: %s", id, a.Text)
			}
		}
	})
	run("M-3-3 M-3.4-2", "whatever the method", func(t *testing.T) {
		issued(t, withSecret(t, s1, "c-sec-bound"), w.S1)
		issued(t, w.post(t, s1, "/token", "grant_type", "client_credentials", "client_id", "c-pkj",
			"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", s.assert(t)), w.S1)
	})
	run("M-3.4-3", "asked for, but no certificate", func(t *testing.T) {
		refused(t, withSecret(t, none, "c-sec-bound"), "invalid_request")
	})
	run("M-3.4-4", "not asked for", func(t *testing.T) {
		issued(t, w.token(t, l1, "c-dn-plain"), nil)
		issued(t, withSecret(t, l1, "c-sec"), nil)
	})
	run("G-2.4-1 F2-5.3.2.1-2", "the password grant", func(t *testing.T) {
		refused(t, w.post(t, l1, "/token", "client_id", "c-dn", "grant_type", "password", "username", "a", "password", "b"), "unsupported_grant_type")
	})
	run("F2-5.3.2.1-1", "both places of the metadata", func(t *testing.T) {
		a := fixture.Get(t, none, fixture.Issuer+"/.well-known/oauth-authorization-server")
		b := fixture.Get(t, none, fixture.Issuer+"/.well-known/openid-configuration")
		if a.Status != http.StatusOK || b.Status != http.StatusOK || fmt.Sprint(a.JSON["mtls_endpoint_aliases"]) != fmt.Sprint(b.JSON["mtls_endpoint_aliases"]) ||
			a.JSON["tls_client_certificate_bound_access_tokens"] != b.JSON["tls_client_certificate_bound_access_tokens"] {
			t.Errorf("%s\n%s", a.Text, b.Text)
		}
	})
	run("M-3.3-1 M-5-2 M-5-3 M-5-4 M-5-9 M-2.1.1-1 M-2.2.1-1", "metadata", func(t *testing.T) {
		a := fixture.Get(t, none, fixture.Issuer+"/.well-known/oauth-authorization-server")
		aliases, _ := a.JSON["mtls_endpoint_aliases"].(map[string]any)
		if a.JSON["tls_client_certificate_bound_access_tokens"] != true || a.JSON["issuer"] != fixture.Issuer || len(aliases) == 0 {
			t.Fatalf("metadata: %s", a.Text)
		}
		for name, value := range aliases {
			if !strings.HasSuffix(name, "_endpoint") || a.JSON[name] == nil || name == "authorization_endpoint" ||
				!strings.HasPrefix(fmt.Sprint(value), fixture.MTLSBase+"/") {
				t.Errorf("alias %s: %v", name, value)
			}
		}
		methods := fmt.Sprint(a.JSON["token_endpoint_auth_methods_supported"])
		for _, m := range []string{"tls_client_auth", "self_signed_tls_client_auth"} {
			if !strings.Contains(methods, m) {
				t.Errorf("methods %s have no %s", methods, m)
			}
		}
	})

	// Binding, at the resource server.
	type party struct {
		name string
		leaf *pkitest.Leaf
	}
	others := []party{{"renewed", w.L1r}, {"issued again for its key", w.L1k}, {"of another", w.L2}, {"self-signed", w.S1}, {"none", nil}}
	for host, resource := range map[string]string{rsHost: fixture.Resource, rs2Host: fixture.Resource2} {
		run("M-3-9 M-3-10 M-3-11 M-1-4 M-6.3-1 G-2.2.1-1 OA-1 F2-5.3.4-1 F2-5.3.4-5 F1-A-6.2.1-2", "the token with other certificates at "+host, func(t *testing.T) {
			id := "c-dn"
			if host == rs2Host {
				id = "c-dn-opaque"
			}
			token := issued(t, w.token(t, l1, id, "resource", resource), w.L1)
			served(t, w.api(t, l1, host, token))
			for _, p := range others {
				t.Run(p.name, func(t *testing.T) { invalidToken(t, w.api(t, w.as(t, p.leaf), host, token)) })
			}
			served(t, w.api(t, l1, host, token))
		})
		run("M-3-13 F2-5.3.4-5 F1-A-8.2-1", "a token that is not bound at "+host, func(t *testing.T) {
			id := "c-dn-plain"
			if host == rs2Host {
				id = "c-dn-plain-opaque"
			}
			token := issued(t, w.token(t, l1, id, "resource", resource), nil)
			invalidToken(t, w.api(t, l1, host, token))
			invalidToken(t, w.api(t, none, host, token))
		})
	}
	run("M-3-10", "a refusal by every method", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn"), w.L1)
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead, http.MethodDelete} {
			req, err := http.NewRequestWithContext(t.Context(), method, fixture.Resource+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			invalidToken(t, fixture.Do(t, l2, req))
		}
	})
	run("M-3-8", "a certificate in a header", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn"), w.L1)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fixture.Resource+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Ssl-Client-Cert", urlPEM(w.L1))
		invalidToken(t, fixture.Do(t, none, req))
	})
	run("B-2.3-1 F2-5.3.4-2 F1-B-6.2.1-1", "the token in the query", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn"), w.L1)
		a := w.api(t, l1, rsHost+"/?access_token="+token, "")
		if challenge := a.Header.Get("WWW-Authenticate"); a.Status != http.StatusUnauthorized || strings.Contains(challenge, "error") || strings.Contains(a.Text, apiText) {
			t.Errorf("%d %q, want a bare challenge", a.Status, challenge)
		}
	})
	run("F2-5.3.4-4 F1-B-6.2.1-1", "a scope that is not enough", func(t *testing.T) {
		served(t, w.api(t, l1, rsHost+"/write", issued(t, w.token(t, l1, "c-dn", "scope", "write"), w.L1)))
		a := w.api(t, l1, rsHost+"/write", issued(t, w.token(t, l1, "c-dn", "scope", "read"), w.L1))
		if challenge := a.Header.Get("WWW-Authenticate"); a.Status != http.StatusForbidden || !strings.Contains(challenge, `error="insufficient_scope"`) {
			t.Errorf("%d %q, want 403 with insufficient_scope", a.Status, challenge)
		}
	})
	run("F2-5.3.4-3 F1-B-6.2.1-1", "a revoked token", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn", "resource", fixture.Resource2), w.L1)
		served(t, w.api(t, l1, rs2Host, token))
		damaged := token[:len(token)-8] + "AAAAAAAA"
		invalidToken(t, w.api(t, l1, rs2Host, damaged))
		if a := w.post(t, l1, "/revoke", "client_id", "c-dn", "token", token); a.Status != http.StatusOK {
			t.Fatalf("revocation: %d %s", a.Status, a.Text)
		}
		invalidToken(t, w.api(t, l1, rs2Host, token))
	})
	run("M-3-16 G-4.10-1", "every request is judged", func(t *testing.T) {
		token := issued(t, w.token(t, l1, "c-dn"), w.L1)
		for range 3 {
			served(t, w.api(t, l1, rsHost, token))
			invalidToken(t, w.api(t, l2, rsHost, token))
		}
		token = issued(t, w.token(t, l1, "c-dn"), w.L1)
		for range 3 {
			invalidToken(t, w.api(t, l2, rsHost, token))
			served(t, w.api(t, l1, rsHost, token))
		}
	})
	run("M-6.2-1 M-6.2-2", "certificates that the resource server does not know", func(t *testing.T) {
		served(t, w.api(t, s1, rsHost, issued(t, w.token(t, s1, "c-self"), w.S1)))
		cax := w.as(t, w.L1CAX)
		served(t, w.api(t, cax, rsHost, issued(t, w.token(t, cax, "c-self-unknown-ca"), w.L1CAX)))
	})
	run("M-6.2-3", "a certificate alone opens nothing", func(t *testing.T) {
		a := w.api(t, l1, rsHost, "")
		if challenge := a.Header.Get("WWW-Authenticate"); a.Status != http.StatusUnauthorized || !strings.HasPrefix(challenge, "Bearer") || strings.Contains(challenge, "error") {
			t.Errorf("%d %q, want a bare challenge", a.Status, challenge)
		}
	})
	run("U-2-3 F2-5.3.2.1-14", "a token for another resource", func(t *testing.T) {
		invalidToken(t, w.api(t, l1, rs2Host, issued(t, w.token(t, l1, "c-dn", "resource", fixture.Resource), w.L1)))
	})
}

// assert returns a client assertion of c-pkj.
func (s *suite) assert(t *testing.T) string {
	t.Helper()
	now := time.Now()
	return remember("a client assertion", fixture.Sign(t, jose.ES256, s.assertion.Key, map[string]any{
		"iss": "c-pkj", "sub": "c-pkj", "aud": fixture.Issuer, "jti": fmt.Sprint(t.Name(), now.UnixNano()),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}))
}

// wrongKey sends the certificate of one leaf with the key of another.
func wrongKey(cfg *tls.Config, leaf, key *pkitest.Leaf) *tls.Config {
	cert := leaf.TLS()
	cert.PrivateKey = key.Key
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return cfg
}

// leafAlone sends a certificate without its intermediates.
func leafAlone(cfg *tls.Config, leaf *pkitest.Leaf) *tls.Config {
	cert := leaf.TLS()
	cert.Certificate = cert.Certificate[:1]
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return cfg
}

func pemBase64(leaf *pkitest.Leaf) string {
	text, _ := json.Marshal(leaf.Cert.Raw) // base64, in quotes
	return strings.Trim(string(text), `"`)
}

func urlPEM(leaf *pkitest.Leaf) string {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Cert.Raw}))
	return strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(text)
}
