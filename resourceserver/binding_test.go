package resourceserver_test

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// The same tokens with every certificate, through both versions of TLS and HTTP, and
// with both ways to judge a token.
func TestBinding(t *testing.T) {
	p := certs()
	modes := []struct {
		name       string
		introspect bool
		change     func(*tls.Config)
		ids        string
	}{
		{"JWT, TLS 1.3", false, nil, "M-7.3-1"},
		{"JWT, TLS 1.2", false, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "M-7.3-1"},
		{"introspection", true, nil, "M-3.2-2"},
	}
	rows := []struct {
		name    string
		bound   *pkitest.Leaf
		present *pkitest.Leaf
		want    decision.Reason // empty: 200
		ids     string
	}{
		{"the certificate", p.l1, p.l1, "", "M-3-9 B-2.1-1 M-6.2-1 M-6.2-2"},
		{"self-signed", p.s1, p.s1, "", "M-6.2-1 M-6.2-2 M-4-5"},
		{"of a CA that nobody knows", p.cx, p.cx, "", "M-6.2-1 M-6.2-2"},
		{"rotated, same names", p.l1, p.l1r, decision.BindingMismatch, "M-3-9 M-6.3-1 M-1-4 M-3-10 B-3-2 A-4-2"},
		{"issued again for the same key", p.l1, p.l1k, decision.BindingMismatch, "M-3-9 M-6.3-1"},
		{"of another client", p.l1, p.l2, decision.BindingMismatch, "M-3-9 M-1-4 M-3-10"},
		{"self-signed for PKI", p.l1, p.s1, decision.BindingMismatch, "M-3-9 M-1-4"},
		{"another self-signed", p.s1, p.s2, decision.BindingMismatch, "M-4-5"},
		{"none", p.l1, nil, decision.NoCertificate, "M-3-11 M-1-4 DP-6"},
		{"not bound, with a certificate", nil, p.l1, decision.NotBound, "M-3-13 M-3-18"},
		{"not bound, without", nil, nil, decision.NotBound, "M-3-13 M-3-18"},
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Attr("requirement", mode.ids)
			w := newWorld(t, func(is *issuer, cfg *resourceserver.Config) {
				if mode.introspect {
					cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil)}
				}
			})
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) {
					t.Attr("requirement", row.ids)
					var changed map[string]any
					if row.bound != nil {
						changed = cnf(row.bound)
					}
					token := w.is.token(t, with(changed, "jti", row.name))
					answer, _ := json.Marshal(w.is.claims(with(changed, "active", true)))
					w.is.set(func() { w.is.answers[token] = string(answer) })
					c := client(row.present, mode.change)
					defer c.CloseIdleConnections()
					a := w.do(c, "GET", "/", token)
					if row.want == "" {
						w.wantOK(t, a)
						return
					}
					w.wantIT(t, a, row.want)
				})
			}
		})
	}
}

func TestMethodsAndProtocols(t *testing.T) {
	t.Attr("requirement", "M-3-10 T-9110-2")
	p := certs()
	w := newWorld(t, nil)
	token := w.is.token(t, cnf(p.l1))
	for _, method := range []string{"GET", "POST", "HEAD", "PUT", "DELETE"} {
		for _, h2 := range []bool{true, false} {
			c := client(p.l2, func(conf *tls.Config) {
				if !h2 {
					conf.NextProtos = []string{"http/1.1"}
				}
			})
			if !h2 {
				c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
			}
			a := w.do(c, method, "/", token)
			w.wantIT(t, a, decision.BindingMismatch)
			if want := map[bool]int{true: 2, false: 1}[h2]; a.proto != want {
				t.Errorf("HTTP/%d, want HTTP/%d", a.proto, want)
			}
			if method == "HEAD" && a.body != "" {
				t.Errorf("HEAD has a body: %q", a.body)
			}
			c.CloseIdleConnections()
		}
	}
}

// The listener asks for a certificate before there is any HTTP, without saying of whom.
func TestListenerAsks(t *testing.T) {
	t.Attr("requirement", "M-3-5")
	w := newWorld(t, nil)
	var asked *tls.CertificateRequestInfo
	c := client(nil, func(conf *tls.Config) {
		conf.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = info
			return new(tls.Certificate), nil
		}
	})
	w.wantCH(t, w.do(c, "GET", "/", ""))
	if asked == nil || len(asked.AcceptableCAs) != 0 {
		t.Errorf("certificate request %v, want one without CAs", asked)
	}
	asked = nil
	resp, err := c.Get(w.is.URL + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if asked != nil {
		t.Error("the issuer's conventional listener asks for a certificate")
	}
}

// TestAttack22 (Authlete's cache test, MSAL #6123): somebody with a stolen token comes
// right after its owner, when everything about the token is in the cache, and the other
// way round. The comparison is made anew for each request, so each gets its own answer.
func TestAttack22_SameTokenThreeCertificatesWarmCache(t *testing.T) {
	t.Attr("attack", "22")
	t.Attr("requirement", "M-3-16 N-4-4 T-P-2")
	p := certs()
	for _, introspect := range []bool{false, true} {
		w := newWorld(t, func(is *issuer, cfg *resourceserver.Config) {
			if introspect {
				cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil)}
			}
		})
		token := w.is.token(t, cnf(p.l1))
		answer, _ := json.Marshal(w.is.claims(with(cnf(p.l1), "active", true)))
		w.is.set(func() { w.is.answers[token] = string(answer) })
		owner, thief, nobody := client(p.l1, nil), client(p.l2, nil), client(nil, nil)
		for range 3 { // both orders, and warm from the first round on
			w.wantOK(t, w.do(owner, "GET", "/", token))
			w.wantIT(t, w.do(thief, "GET", "/", token), decision.BindingMismatch)
			w.wantOK(t, w.do(owner, "GET", "/", token))
			w.wantIT(t, w.do(nobody, "GET", "/", token), decision.NoCertificate)
			w.wantIT(t, w.do(thief, "GET", "/", token), decision.BindingMismatch)
		}
		if n := w.is.questions.Load(); introspect && n != 1 {
			t.Errorf("%d introspection requests for one token, want 1", n)
		}
	}
}

// A thief is first: nothing of his refusal stays for the owner.
func TestThiefFirst(t *testing.T) {
	t.Attr("requirement", "M-3-16")
	p := certs()
	w := newWorld(t, nil)
	token := w.is.token(t, cnf(p.l1))
	w.wantIT(t, w.get(p.l2, token), decision.BindingMismatch)
	w.wantOK(t, w.get(p.l1, token))
	w.wantIT(t, w.get(p.l2, token), decision.BindingMismatch)
}

// A resumed session has the certificate of the session that it resumes.
func TestResumption(t *testing.T) {
	t.Attr("requirement", "T-8446-4")
	p := certs()
	w := newWorld(t, nil)
	mine, other := w.is.token(t, cnf(p.l1)), w.is.token(t, cnf(p.l2))
	cache := tls.NewLRUClientSessionCache(8)
	resumed := 0
	for i := range 3 {
		// After the first handshake the client has no certificate any more; what it
		// resumes has one.
		leaf := p.l1
		if i > 0 {
			leaf = nil
		}
		c := client(leaf, func(conf *tls.Config) { conf.ClientSessionCache = cache })
		a := w.do(c, "GET", "/", mine)
		w.wantOK(t, a)
		w.wantIT(t, w.do(c, "GET", "/", other), decision.BindingMismatch)
		if a.tls.DidResume {
			resumed++
		}
		c.CloseIdleConnections()
	}
	if resumed != 2 {
		t.Errorf("%d sessions resumed, want 2", resumed)
	}
}

// wrongThumbprints are ways to write a thumbprint that others have accepted.
func wrongThumbprints(cert *x509.Certificate) map[string]string {
	sum := sha256.Sum256(cert.Raw)
	b64 := base64.RawURLEncoding.EncodeToString
	right := b64(sum[:])
	h := hex.EncodeToString(sum[:])
	old := sha1.Sum(cert.Raw)
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	tbs := sha256.Sum256(cert.RawTBSCertificate)
	text := sha256.Sum256([]byte(base64.StdEncoding.EncodeToString(cert.Raw)))
	pem := sha256.Sum256(pkitest.PEM(cert))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, right[42])
	return map[string]string{
		"padding":             right + "=",
		"hex":                 h,
		"upper hex":           strings.ToUpper(h),
		"base64url of hex":    b64([]byte(h)),
		"SHA-1":               b64(old[:]),
		"of base64":           b64(text[:]),
		"of PEM":              b64(pem[:]),
		"of the key":          b64(spki[:]),
		"of TBSCertificate":   b64(tbs[:]),
		"spare bits":          right[:42] + string(alphabet[last|1]),
		"a space after it":    right + " ",
		"a newline after it":  right + "\n",
		"standard alphabet":   base64.StdEncoding.EncodeToString(sum[:]),
		"upper case":          strings.ToUpper(right),
		"one letter's case":   flipCase(right),
		"cut":                 right[:42],
		"one character twice": right + right[42:],
	}
}

func flipCase(s string) string {
	for i := range len(s) {
		if c := s[i]; 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			return s[:i] + string(c^0x20) + s[i+1:]
		}
	}
	return s + "?"
}

// TestAttack23 (Duende's sample, Gravitee's x5t): the thumbprint is compared without regard
// to case, or by SHA-1. Here only the 43 characters of the SHA-256 are equal to themselves.
func TestAttack23_OtherSpellingsOfTheThumbprint(t *testing.T) {
	t.Attr("attack", "23")
	t.Attr("requirement", "M-3.1-2 M-3.1-7")
	p := certs()
	w := newWorld(t, nil)
	c := client(p.l1, nil)
	for name, value := range wrongThumbprints(p.l1.Cert) {
		t.Run(name, func(t *testing.T) {
			w.wantIT(t, w.do(c, "GET", "/", w.is.token(t, map[string]any{"cnf": map[string]any{"x5t#S256": value}})), decision.BindingMismatch)
		})
	}
	t.Run("x5t of SHA-1", func(t *testing.T) {
		sum := sha1.Sum(p.l1.Cert.Raw)
		token := w.is.token(t, map[string]any{"cnf": map[string]any{"x5t": base64.RawURLEncoding.EncodeToString(sum[:])}})
		w.wantIT(t, w.do(c, "GET", "/", token), decision.BindingUncheckable)
	})
}

// The certificate of RFC 8705, Appendix A, with its thumbprint and the typical mistakes.
func TestAppendixA(t *testing.T) {
	t.Attr("requirement", "M-3.1-2 M-3.1-7")
	data, err := os.ReadFile("../testdata/rfc8705/appendix-a.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Certificate []byte
		Thumbprint  struct{ Value string }
		Wrong       []struct{ ID, Value string }
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(vectors.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	presented := certsource.NewPresented("tls", cert, nil)
	judge := func(value string) decision.Reason {
		token := w.is.token(t, map[string]any{"cnf": map[string]any{"x5t#S256": value}})
		tok, d, err := w.v.Verify(t.Context(), resourceserver.Request{Token: token, Presented: presented})
		if (err == nil) != (tok != nil) || d.Allowed != (err == nil) {
			t.Errorf("token %v, decision %v, error %v", tok, d.Allowed, err)
		}
		return d.Reason()
	}
	if r := judge(vectors.Thumbprint.Value); r != "" {
		t.Errorf("the right value is refused: %s", r)
	}
	if len(vectors.Wrong) == 0 {
		t.Fatal("no wrong values")
	}
	for _, v := range vectors.Wrong {
		if r := judge(v.Value); r != decision.BindingMismatch {
			t.Errorf("%s: reason %q, want %q", v.ID, r, decision.BindingMismatch)
		}
	}
}

func TestConfirmation(t *testing.T) {
	p := certs()
	right := certbound.Thumbprint(p.l1.Cert)
	rows := []struct {
		name string
		cnf  string
		want decision.Reason // with L1; empty: 200
		ids  string
	}{
		{"example of the RFC, not canonical", `{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}`, decision.BindingMismatch, "M-3.1-8 TV-2b"},
		{"a string", `"` + right + `"`, decision.BindingMalformed, "M-3.1-9 K-3.1-1"},
		{"an array", `[]`, decision.BindingMalformed, "M-3.1-9 K-3.1-1"},
		{"null", `null`, decision.BindingMalformed, "M-3.1-9 K-3.1-1"},
		{"an empty object", `{}`, decision.BindingMalformed, "M-3.1-9"},
		{"a number inside", `{"x5t#S256":1}`, decision.BindingMalformed, "M-3.1-9"},
		{"an empty string inside", `{"x5t#S256":""}`, decision.BindingMalformed, "M-3.1-9"},
		{"null inside", `{"x5t#S256":null}`, decision.BindingMalformed, "M-3.1-9"},
		{"a further unknown member", `{"x5t#S256":"` + right + `","foo":1}`, "", "K-3.1-3"},
		{"only an unknown member", `{"foo":1}`, decision.BindingUncheckable, "K-3.1-3"},
		{"Token Binding", `{"tbh":"` + right + `"}`, decision.BindingUncheckable, "M-B-1"},
		{"another hash", `{"x5t#S384":"` + right + `"}`, decision.BindingUncheckable, "M-7.2-1"},
		{"jkt only", `{"jkt":"` + right + `"}`, decision.BindingUncheckable, "DP-5 DP-6"},
		{"jkt beside it", `{"x5t#S256":"` + right + `","jkt":"Fvi_j8Immo6AlgIwpZKqaXnNP_9b09pLKkQHObRebQY"}`, decision.BindingUncheckable, "DP-7"},
		{"the intermediate", `{"x5t#S256":"` + certbound.Thumbprint(p.ca1i.Cert) + `"}`, decision.BindingMismatch, "M-3-14"},
	}
	for _, introspect := range []bool{false, true} {
		w := newWorld(t, func(is *issuer, cfg *resourceserver.Config) {
			if introspect {
				cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil)}
			}
		})
		c := client(p.l1, nil)
		for _, row := range rows {
			name := row.name
			if introspect {
				name += ", introspection"
			}
			t.Run(name, func(t *testing.T) {
				t.Attr("requirement", row.ids)
				if introspect && row.want == decision.BindingMalformed {
					t.Attr("requirement", "N-4-5")
				}
				claims := with(nil, "cnf", json.RawMessage(row.cnf), "jti", row.name)
				token := w.is.token(t, claims)
				answer, _ := json.Marshal(w.is.claims(with(claims, "active", true)))
				w.is.set(func() { w.is.answers[token] = string(answer) })
				a := w.do(c, "GET", "/", token)
				if row.want == "" {
					w.wantOK(t, a)
				} else {
					w.wantIT(t, a, row.want)
				}
			})
		}
	}
}

func TestWhenPresent(t *testing.T) {
	p := certs()
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) { cfg.Binding = resourceserver.WhenPresent })
	strict := w.is.token(t, cnf(p.l1))
	plain := w.is.token(t, map[string]any{"client_id": "c-other"})
	odd := w.is.token(t, map[string]any{"cnf": map[string]any{"foo": 1}})
	dpop := w.is.token(t, map[string]any{"cnf": map[string]any{"jkt": "Fvi_j8Immo6AlgIwpZKqaXnNP_9b09pLKkQHObRebQY"}})

	t.Run("a token that is not bound is judged alone", func(t *testing.T) {
		t.Attr("requirement", "M-6.2-3 M-3-18")
		w.wantOK(t, w.get(nil, plain))
		w.wantOK(t, w.get(p.l1, plain))
		w.wantCH(t, w.get(p.l1, ""))
	})
	t.Run("a bound token still needs its certificate", func(t *testing.T) {
		t.Attr("requirement", "DP-6")
		w.wantOK(t, w.get(p.l1, strict))
		w.wantIT(t, w.get(p.l2, strict), decision.BindingMismatch)
		w.wantIT(t, w.get(nil, strict), decision.NoCertificate)
	})
	t.Run("a cnf that cannot be checked is no bearer token", func(t *testing.T) {
		t.Attr("requirement", "K-3.1-3")
		w.wantIT(t, w.get(nil, odd), decision.BindingUncheckable)
		w.wantIT(t, w.get(nil, dpop), decision.BindingUncheckable)
	})
	t.Run("unless that is set", func(t *testing.T) {
		t.Attr("requirement", "K-3.1-3")
		lax := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
			cfg.Binding = resourceserver.WhenPresent
			cfg.IgnoreUnknownConfirmation = true
		})
		lax.wantOK(t, lax.get(nil, lax.is.token(t, map[string]any{"cnf": map[string]any{"foo": 1}})))
		lax.wantIT(t, lax.get(nil, lax.is.token(t, map[string]any{"cnf": map[string]any{"jkt": "x"}})), decision.BindingUncheckable)
		lax.wantIT(t, lax.get(nil, lax.is.token(t, map[string]any{"cnf": map[string]any{}})), decision.BindingMalformed)
	})
}

// TestAttack24 (Abblix #159): a bound token is accepted without certificate at one of the
// protected endpoints. Each endpoint here with each kind of request.
func TestAttack24_EveryEndpointNeedsTheCertificate(t *testing.T) {
	t.Attr("attack", "24")
	p := certs()
	w := newWorld(t, nil)
	bound, plain := w.is.token(t, cnf(p.l1)), w.is.token(t, nil)
	for _, path := range []string{"/", "/userinfo", "/api/v1/accounts?x=1", "/.well-known/oauth-protected-resource/other"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			right, wrong, none := client(p.l1, nil), client(p.l2, nil), client(nil, nil)
			w.wantOK(t, w.do(right, method, path, bound))
			w.wantIT(t, w.do(wrong, method, path, bound), decision.BindingMismatch)
			w.wantIT(t, w.do(none, method, path, bound), decision.NoCertificate)
			w.wantIT(t, w.do(right, method, path, plain), decision.NotBound)
		}
	}
}

// A deployment may ask for a trusted chain too.
func TestCheckCertificate(t *testing.T) {
	t.Attr("requirement", "M-6.2-4")
	p := certs()
	refused := errors.New("no path to the company's CA")
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		cfg.CheckCertificate = func(_ context.Context, c *certsource.Presented) error {
			inter := x509.NewCertPool()
			for _, i := range c.Chain() {
				inter.AddCert(i)
			}
			if _, err := c.Leaf().Verify(x509.VerifyOptions{Roots: p.ca1.Pool(), Intermediates: inter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				return refused
			}
			return nil
		}
	})
	w.wantOK(t, w.get(p.l1, w.is.token(t, cnf(p.l1))))
	w.wantIT(t, w.get(p.s1, w.is.token(t, cnf(p.s1))), decision.HookRefused)
}

// headers are fields in which hops forward certificates.
func forwarded(leaf *pkitest.Leaf, names ...string) func(*http.Request) {
	return func(r *http.Request) {
		for _, n := range names {
			r.Header.Add(n, ":"+base64.StdEncoding.EncodeToString(leaf.Cert.Raw)+":")
		}
	}
}

func TestHeaderWithoutTrust(t *testing.T) {
	t.Attr("requirement", "M-3-8")
	p := certs()
	w := newWorld(t, nil)
	token := w.is.token(t, cnf(p.l1))
	for _, name := range []string{"Client-Cert", "X-Forwarded-Client-Cert", "Ssl-Client-Cert", "X-SSL-Client-Cert", "X-Client-Cert"} {
		c := client(nil, nil)
		w.wantIT(t, w.do(c, "GET", "/", token, forwarded(p.l1, name)), decision.NoCertificate)
		thief := client(p.l2, nil)
		w.wantIT(t, w.do(thief, "GET", "/", token, forwarded(p.l1, name)), decision.BindingMismatch)
	}
}

// TestAttack26 (authlete-java-jaxrs): several header sources are tried in turn, so that one
// that the proxy does not set is open to the client. Here one source is configured; all
// other fields are ignored and reported.
func TestAttack26_UnsetHeadersAreOpenToTheClient(t *testing.T) {
	t.Attr("attack", "26")
	p := certs()
	w := behindProxy(t)
	token := w.is.token(t, cnf(p.l1))
	c := client(nil, nil)
	names := []string{"X-Forwarded-Client-Cert", "Ssl-Client-Cert", "X-Ssl-Client-Cert", "X-Client-Cert", "X-Amzn-Mtls-Clientcert"}
	a := w.do(c, "GET", "/", token, forwarded(p.l1, names...), forwarded(p.l2, "Client-Cert"))
	w.wantIT(t, a, decision.BindingMismatch)
	a = w.do(c, "GET", "/", token, forwarded(p.l1, names...))
	w.wantIT(t, a, decision.NoCertificate)
	w.mu.Lock()
	d := w.decisions[len(w.decisions)-1]
	w.mu.Unlock()
	if len(d.Warnings) != len(names) {
		t.Errorf("%d warnings for %d fields: %+v", len(d.Warnings), len(names), d.Warnings)
	}
	for _, c := range d.Warnings {
		if c.Reason != decision.SourceForeignHeader {
			t.Errorf("warning %q", c.Reason)
		}
	}
}

// behindProxy is a world whose peers on loopback are the trusted proxy.
func behindProxy(t *testing.T) *world {
	return newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Source = src
	})
}

func TestBehindProxy(t *testing.T) {
	p := certs()
	w := behindProxy(t)
	token := w.is.token(t, cnf(p.l1))
	proxy := client(p.s2, nil) // its own certificate is not the client's
	t.Run("the field counts", func(t *testing.T) {
		t.Attr("requirement", "H-2.4-8 H-2.4-9 H-2.4-11")
		w.wantOK(t, w.do(proxy, "GET", "/", token, forwarded(p.l1, "Client-Cert")))
		w.wantIT(t, w.do(proxy, "GET", "/", token, forwarded(p.l2, "Client-Cert")), decision.BindingMismatch)
		w.wantIT(t, w.do(proxy, "GET", "/", token), decision.NoCertificate)
	})
	t.Run("the proxy's own certificate does not", func(t *testing.T) {
		w.wantIT(t, w.do(proxy, "GET", "/", w.is.token(t, cnf(p.s2))), decision.NoCertificate)
	})
	t.Run("malformed", func(t *testing.T) {
		for want, change := range map[decision.Reason]func(*http.Request){
			decision.SourceMalformed: func(r *http.Request) { r.Header.Set("Client-Cert", "garbage") },
			decision.SourceRepeated:  forwarded(p.l1, "Client-Cert", "Client-Cert"),
			decision.SourceProxyOwn:  forwarded(p.s2, "Client-Cert"),
		} {
			a := w.do(proxy, "GET", "/", token, change)
			if a.status != 400 || !strings.Contains(a.challenge, `error="invalid_request"`) || w.reason() != want {
				t.Errorf("status %d, %s, reason %s; want 400 invalid_request, %s", a.status, a.challenge, w.reason(), want)
			}
		}
	})
	t.Run("where no proxy is trusted", func(t *testing.T) {
		t.Attr("requirement", "M-3-8 H-4-2")
		w := newWorld(t, nil)
		token := w.is.token(t, cnf(p.l1))
		w.wantIT(t, w.do(client(nil, nil), "GET", "/", token, forwarded(p.l1, "Client-Cert")), decision.NoCertificate)
		w.mu.Lock()
		defer w.mu.Unlock()
		if d := w.decisions[0]; len(d.Warnings) != 1 || d.Warnings[0].Reason != decision.SourceForeignHeader {
			t.Errorf("warnings %+v, want one of %s", d.Warnings, decision.SourceForeignHeader)
		}
	})
	t.Run("from somebody else", func(t *testing.T) {
		t.Attr("requirement", "H-4-3")
		w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
			src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Source = src
		})
		token := w.is.token(t, cnf(p.l1))
		// Attack: a forged field is answered as one, and the TLS certificate of its sender
		// is not used either, although it is the right one.
		a := w.do(client(p.l1, nil), "GET", "/", token, forwarded(p.l1, "Client-Cert"))
		if a.status != 400 || !strings.Contains(a.challenge, `error="invalid_request"`) || w.reason() != decision.SourceUntrusted {
			t.Errorf("status %d, %s, reason %s; want 400 invalid_request", a.status, a.challenge, w.reason())
		}
		w.wantIT(t, w.do(client(p.l1, nil), "GET", "/", token), decision.NoCertificate)
	})
}

// What a hop tells is enough for a binding from a fingerprint on.
func TestKinds(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	token := w.is.token(t, cnf(p.l1))
	rows := []struct {
		name      string
		presented *certsource.Presented
		want      decision.Reason
	}{
		{"certificate", certsource.NewPresented("x", p.l1.Cert, nil), ""},
		{"fingerprint", certsource.NewFingerprint("x", sha256.Sum256(p.l1.Cert.Raw)), ""},
		{"another fingerprint", certsource.NewFingerprint("x", sha256.Sum256(p.l2.Cert.Raw)), decision.BindingMismatch},
		{"attributes", certsource.NewAttributes("x", certsource.Attributes{SANDNS: []string{"client-1.example"}}), decision.NotEnough},
		{"none", nil, decision.NoCertificate},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			tok, d, err := w.v.Verify(t.Context(), resourceserver.Request{Token: token, Presented: row.presented})
			if d.Reason() != row.want || (err == nil) != (row.want == "") || (tok != nil) != (err == nil) {
				t.Errorf("token %v, reason %q, error %v; want %q", tok != nil, d.Reason(), err, row.want)
			}
		})
	}
}

// A caller without an http.Request of its own, such as a front that a proxy asks, gets the
// same judgement from the parts of the request.
func TestVerifyCall(t *testing.T) {
	w := newWorld(t, nil)
	bound, unbound := w.is.token(t, cnf(certs().l1)), w.is.token(t, nil)
	present := func(l *pkitest.Leaf) *certsource.Presented { return certsource.NewPresented("tls", l.Cert, nil) }
	tests := []struct {
		name string
		call resourceserver.Call
		want decision.Reason
	}{
		{"right certificate", resourceserver.Call{Authorization: []string{"Bearer " + bound}, Presented: present(certs().l1)}, ""},
		{"another certificate", resourceserver.Call{Authorization: []string{"Bearer " + bound}, Presented: present(certs().l2)}, decision.BindingMismatch},
		{"none", resourceserver.Call{Authorization: []string{"Bearer " + bound}, SourceError: certsource.ErrNoCertificate}, decision.NoCertificate},
		{"malformed field", resourceserver.Call{Authorization: []string{"Bearer " + bound}, SourceError: &certsource.ParseError{Field: "Client-Cert"}}, decision.SourceMalformed},
		{"a certificate beside an error", resourceserver.Call{Authorization: []string{"Bearer " + bound}, Presented: present(certs().l1), SourceError: certsource.ErrNoCertificate}, decision.NoCertificate},
		{"not bound", resourceserver.Call{Authorization: []string{"Bearer " + unbound}, Presented: present(certs().l1)}, decision.NotBound},
		{"no token", resourceserver.Call{Presented: present(certs().l1)}, decision.NoToken},
		{"two lines", resourceserver.Call{Authorization: []string{"Bearer " + bound, "Bearer " + bound}, Presented: present(certs().l1)}, decision.TokenTwice},
		{"in the query, too", resourceserver.Call{Authorization: []string{"Bearer " + bound}, RawQuery: "access_token=x", Presented: present(certs().l1)}, decision.TokenTwice},
		{"scope", resourceserver.Call{Authorization: []string{"Bearer " + bound}, Presented: present(certs().l1), Scopes: []string{"admin"}}, decision.ScopeInsufficient},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			access, err := w.v.VerifyCall(t.Context(), tt.call)
			if tt.want == "" {
				if err != nil || access.Token.ClientID != "client-1" {
					t.Errorf("got %v, %v", access, err)
				}
				return
			}
			e, ok := errors.AsType[*resourceserver.Error](err)
			if access != nil || !ok || e.Reason() != tt.want {
				t.Errorf("got %v, %v, want reason %q", access, err, tt.want)
			}
		})
	}
}

// The setting says in its name what it gives up; everything else is still judged.
func TestInsecureIgnoreBinding(t *testing.T) {
	w := newWorld(t, func(_ *issuer, c *resourceserver.Config) { c.Binding = resourceserver.InsecureIgnoreBinding })
	bound := w.is.token(t, cnf(certs().l1))
	w.wantOK(t, w.get(nil, bound))
	w.wantOK(t, w.get(certs().l2, bound))
	w.wantOK(t, w.get(nil, w.is.token(t, nil)))
	w.wantIT(t, w.get(certs().l1, w.is.token(t, with(cnf(certs().l1), "aud", "https://other.test"))), decision.AudienceMismatch)
	w.wantCH(t, w.get(certs().l1, ""))
}
