package doctor

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/probe"
)

// A deployment of ours has nothing to find, and every look was taken. Among them: a
// certificate header of every known proxy, in lower case, in capitals, with underscores,
// twice and named in Connection, with and without a certificate beside it; and the Host
// of the other listener, in capitals, with a dot, with a port, and a name below it.
func TestHealthy(t *testing.T) {
	t.Attr("attack", "9 19")
	r := newWorld(t).examine()
	checks := map[string]bool{}
	for _, f := range r.Findings {
		checks[f.Check] = true
		if f.Outcome != OK {
			t.Errorf("%+v", f)
		}
	}
	for _, c := range order {
		if !checks[c] && c != CheckStripped { // no header is read there
			t.Errorf("%s was not looked at", c)
		}
	}
}

// Without a credential nobody is told what the server believed; the rest is looked at.
func TestWithoutCredential(t *testing.T) {
	r := newWorld(t).examine(func(c *Config) { c.Credential = "" })
	if r.Problems != 0 || r.Skipped != 4 {
		t.Errorf("%d problems, %d skipped: %+v", r.Problems, r.Skipped, r.Findings)
	}
	for _, f := range r.Findings {
		if f.Outcome == Skipped && !strings.Contains(f.Found, "certbound probe create") {
			t.Errorf("%+v", f)
		}
	}
}

// One broken deployment for each finding. expect is all that is found.
func TestFindings(t *testing.T) {
	// A handler of a host that sees the requests first.
	before := func(h *host, f func(w http.ResponseWriter, r *http.Request) bool) {
		h.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !f(w, r) {
					next.ServeHTTP(w, r)
				}
			})
		}
	}
	metadataOf := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/.well-known/o") }
	edit := func(h *host, on func(*http.Request) bool, change func(map[string]any)) {
		h.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !on(r) {
					next.ServeHTTP(w, r)
					return
				}
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, r)
				doc := map[string]any{}
				if json.Unmarshal(rec.Body.Bytes(), &doc) == nil {
					change(doc)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(rec.Code)
				json.NewEncoder(w).Encode(doc)
			})
		}
	}
	weak := func(c *tls.Config) {
		c.CipherSuites = nil
		for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
			c.CipherSuites = append(c.CipherSuites, s.ID)
		}
	}
	tests := []struct {
		name   string
		broken func(w *world)
		expect string // the checks with a problem
		where  string
		says   string // in what was found, or in a detail
	}{
		{"another issuer", func(w *world) {
			edit(&w.public, metadataOf, func(m map[string]any) { m["issuer"] = "https://other.test" })
		},
			CheckMetadata, issuer, `found "https://other.test"`},
		{"metadata are missing", func(w *world) {
			before(&w.public, func(rw http.ResponseWriter, r *http.Request) bool {
				if metadataOf(r) {
					http.NotFound(rw, r)
				}
				return metadataOf(r)
			})
		}, CheckMetadata, issuer, "status 404"},
		{"metadata are HTML", func(w *world) {
			before(&w.public, func(rw http.ResponseWriter, r *http.Request) bool {
				if metadataOf(r) {
					fmt.Fprint(rw, "<html>welcome</html>")
				}
				return metadataOf(r)
			})
		}, CheckMetadata, issuer, "Content-Type"},
		{"two documents", func(w *world) {
			edit(&w.public, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "openid-configuration") }, func(m map[string]any) { m["token_endpoint"] = "https://old.test/token" })
		}, CheckMetadata, "openid-configuration", "another document"},
		{"an alias without its endpoint", func(w *world) {
			edit(&w.public, metadataOf, func(m map[string]any) { delete(m, "revocation_endpoint") })
			edit(&w.mtls, metadataOf, func(m map[string]any) { delete(m, "revocation_endpoint") })
		}, CheckAliases, issuer, "revocation_endpoint has an alias and no conventional URL"},
		{"no alias of the token endpoint", func(w *world) {
			change := func(m map[string]any) { delete(m["mtls_endpoint_aliases"].(map[string]any), "token_endpoint") }
			edit(&w.public, metadataOf, change)
			edit(&w.mtls, metadataOf, change)
		}, CheckAliases, issuer, "token_endpoint has no alias"},
		{"aliases that nobody needs", func(w *world) {
			change := func(m map[string]any) {
				m["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
				delete(m, "tls_client_certificate_bound_access_tokens")
			}
			edit(&w.public, metadataOf, change)
			edit(&w.mtls, metadataOf, change)
		}, CheckAliases, issuer, "nobody needs an alias"},
		{"another server behind the aliases", func(w *world) {
			edit(&w.mtls, metadataOf, func(m map[string]any) { m["jwks_uri"] = "https://old.test/jwks" })
		}, CheckAliases, issuer, "differ from those of the issuer"},
		{"an endpoint that is not routed", func(w *world) {
			before(&w.mtls, func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/token" {
					http.Error(rw, "<h1>Not Found</h1>", http.StatusNotFound)
				}
				return r.URL.Path == "/token"
			})
		}, CheckEndpoints, mtlsURL + "/token", "status 404, no OAuth error"},
		{"an endpoint that breaks", func(w *world) {
			before(&w.public, func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/introspect" {
					panic(http.ErrAbortHandler)
				}
				return false
			})
		}, CheckEndpoints, issuer + "/introspect", "introspection_endpoint: "},
		{"no keys", func(w *world) {
			edit(&w.public, func(r *http.Request) bool { return r.URL.Path == "/jwks" }, func(m map[string]any) { m["keys"] = []any{} })
		}, CheckKeys, issuer + "/jwks", "no keys"},
		{"keys are not there", func(w *world) {
			before(&w.public, func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/jwks" {
					http.NotFound(rw, r)
				}
				return r.URL.Path == "/jwks"
			})
		}, CheckKeys, issuer + "/jwks", "status 404"},
		{"a private key", func(w *world) {
			edit(&w.public, func(r *http.Request) bool { return r.URL.Path == "/jwks" }, func(m map[string]any) { m["keys"].([]any)[0].(map[string]any)["d"] = "c2VjcmV0" })
		}, CheckKeys, issuer + "/jwks", "private part (d)"},
		{"the certificate ends soon", func(w *world) {
			w.public.cert = w.ca.MustLeaf(pkitest.LeafOptions{DNS: []string{publicName}, Server: true, NotAfter: time.Now().Add(5*24*time.Hour + time.Hour)})
		}, CheckServerCertificate, publicName, "ends in 5 days"},
		{"the certificate has another name", func(w *world) {
			cert := w.leaf("old.test")
			w.mtls.cert = cert
			w.bare(&w.mtls, func(*tls.Config) {})
			w.mtls.wrap = certsource.RequireAuthority
		}, CheckEndpoints + " " + CheckServerCertificate, mtlsName, "old.test"},
		{"the certificate of a CA that nobody knows", func(w *world) {
			w.mtls.cert = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Other"}).MustLeaf(pkitest.LeafOptions{DNS: []string{mtlsName}, Server: true})
		}, CheckEndpoints + " " + CheckServerCertificate, mtlsName, "unknown authority"},
		{"the certificate has expired", func(w *world) {
			w.mtls.cert = w.ca.MustLeaf(pkitest.LeafOptions{DNS: []string{mtlsName}, Server: true, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)})
		}, CheckEndpoints + " " + CheckServerCertificate, mtlsName, "expired"},
		{"nobody listens", func(w *world) { w.mtls.address = "127.0.0.1:1" },
			CheckEndpoints + " " + CheckServerCertificate, mtlsName, "nobody listens"},
		{"old versions of TLS", func(w *world) {
			w.bare(&w.public, func(c *tls.Config) { c.MinVersion = tls.VersionTLS10; weak(c); c.MaxVersion = tls.VersionTLS13 })
			w.public.wrap = certsource.RequireAuthority
		}, CheckVersions + " " + CheckSuites, publicName, "TLS 1.0, TLS 1.1"},
		{"no TLS 1.3", func(w *world) {
			w.bare(&w.public, func(c *tls.Config) {
				c.MaxVersion = tls.VersionTLS12
			})
			w.public.wrap = certsource.RequireAuthority
		}, CheckVersions, publicName, "TLS 1.2"},
		{"weak suites", func(w *world) {
			w.public.cert = w.ca.MustLeaf(pkitest.LeafOptions{DNS: []string{publicName}, Server: true, KeyType: pkitest.RSA2048})
			w.bare(&w.public, weak)
			w.public.wrap = certsource.RequireAuthority
		}, CheckSuites, publicName, "TLS_RSA_WITH_AES_128_CBC_SHA"},
		{"browsers are asked", func(w *world) { w.public.asks = true },
			CheckAsks, publicName, "asks for a certificate under TLS 1.2, TLS 1.3"},
		{"clients are not asked", func(w *world) { w.mtls.asks = false },
			CheckAsks + " " + CheckArrives, mtlsName, "does not ask for a certificate"},
		{"one host for both", func(w *world) { w.noAliases, w.public.asks = true, true },
			CheckAsks, publicName, "browsers see a dialogue"},
		{"a list of CAs", func(w *world) {
			w.bare(&w.mtls, func(c *tls.Config) { c.ClientCAs = w.ca.Pool() })
			w.mtls.wrap = certsource.RequireAuthority
		}, CheckAsks, mtlsName, "CN=Server CA"},
		{"TLS verifies", func(w *world) {
			w.bare(&w.mtls, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool() })
			w.mtls.wrap = certsource.RequireAuthority
		}, CheckDemands + " " + CheckArrives, mtlsName, "a self-signed certificate under TLS 1.3"},
		{"TLS demands", func(w *world) {
			w.bare(&w.mtls, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
			w.mtls.wrap = certsource.RequireAuthority
		}, CheckEndpoints + " " + CheckDemands + " " + CheckProbe, mtlsName, "no certificate under TLS 1.2"},
		{"the Host does not matter", func(w *world) {
			both := w.leaf(publicName, mtlsName)
			w.public.cert, w.mtls.cert = both, both
			w.bare(&w.mtls, func(*tls.Config) {})
		}, CheckAuthority, mtlsName, "Host AS.TEST (the other host in capitals)"},
		{"sessions cross", func(w *world) {
			// One certificate and one ticket key, as with a shared cache.
			both := w.leaf(publicName, mtlsName)
			w.public.cert, w.mtls.cert = both, both
			for _, h := range []*host{&w.public, &w.mtls} {
				w.bare(h, func(c *tls.Config) { c.SetSessionTicketKeys([][32]byte{{1}}) })
				h.wrap = certsource.RequireAuthority
			}
		}, CheckTickets, mtlsName, "a session of as.test:443 goes on at mtls.as.test:443"},
		{"the credential does not arrive", func(w *world) {
			before(&w.mtls, func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Authorization"); return false })
		}, CheckProbe, mtlsName, "status 404"},
		{"the clock", func(w *world) { w.now = func() time.Time { return time.Now().Add(3 * time.Minute) } },
			CheckClock, issuer, "differ by 3m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.broken(w)
			r := w.examine(func(c *Config) {
				// Hundreds of forged requests only where they can find something.
				if !strings.Contains(tt.expect, CheckProbe) && !strings.Contains(tt.expect, CheckArrives) {
					c.Credential = ""
				}
			})
			if got := said(r); got != tt.expect {
				t.Errorf("found %q, expected %q", got, tt.expect)
			}
			if harmless := tt.expect == CheckTickets; harmless != (r.Problems == 0) || harmless != (r.Notes == 1) {
				t.Errorf("%d problems, %d notes", r.Problems, r.Notes)
			}
			said := false
			for _, f := range r.Findings {
				if f.Outcome != Problem && f.Outcome != Note {
					continue
				}
				if f.Fix == "" || f.Expected == "" || f.Found == "" {
					t.Errorf("a finding that does not help: %+v", f)
				}
				said = said || strings.Contains(f.Where, tt.where) && strings.Contains(f.Found+"\n"+strings.Join(f.Details, "\n"), tt.says)
			}
			if !said {
				t.Errorf("nothing says %q at %s:\n%+v", tt.says, tt.where, r.Findings)
			}
		})
	}
}

// A hop is a proxy in front of the mutual-TLS listener that ends TLS and forwards the
// certificate as nginx does. What it lets through is for the test to say.
type hop struct {
	w *world
	// clean changes the header that a client has sent, before the hop sets its own.
	clean func(http.Header)
	// identity returns the certificate that the hop takes a request for.
	identity func(r *http.Request) *x509.Certificate
	add      bool // the hop adds its header, and does not replace the client's
}

// strip is what a careful proxy does: nothing that looks like a certificate field gets
// through.
func strip(h http.Header) {
	for name := range h {
		lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if strings.Contains(lower, "cert") || strings.Contains(lower, "ssl") || strings.Contains(lower, "tls") {
			delete(h, name)
		}
	}
	h.Del("Connection")
}

func ownCertificate(r *http.Request) *x509.Certificate {
	if len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// newHopWorld is a world whose mutual-TLS host is a hop before a server that reads source.
func newHopWorld(t *testing.T, preset string, h *hop) *world {
	t.Helper()
	w := newWorld(t)
	h.w = w
	src, err := certsource.NewPreset(preset, certsource.PresetConfig{Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	w.newServer(src)
	origin := httptest.NewUnstartedServer(w.mtls.handler)
	origin.Config.ConnContext = certsource.ConnContext
	origin.Start()
	t.Cleanup(origin.Close)
	if h.identity == nil {
		h.identity = ownCertificate
	}
	preset1 := certsource.Presets()[slices.IndexFunc(certsource.Presets(), func(p certsource.Preset) bool { return p.Name == preset })]
	w.mtls.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, origin.URL+r.URL.Path, r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		out.Host, out.Header = r.Host, r.Header.Clone()
		out.ContentLength = r.ContentLength
		h.clean(out.Header)
		if leaf := h.identity(r); leaf != nil {
			for name, values := range preset1.Forward(leaf) {
				if h.add {
					out.Header[name] = append(out.Header[name], values...)
				} else {
					out.Header[name] = values
				}
			}
		}
		res, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(rw, "bad gateway", http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		for name, values := range res.Header {
			rw.Header()[name] = values
		}
		rw.WriteHeader(res.StatusCode)
		io.Copy(rw, res.Body)
	})
	w.mtls.wrap = certsource.RequireAuthority
	return w
}

// Attack 19: a stranger sends the header of the proxy. What the proxy makes of that
// differs; the doctor tells a deployment in which it is believed from one in which it
// arrives and is refused, and from one in which it does not arrive.
func TestForgery(t *testing.T) {
	t.Attr("attack", "19")
	canonical := func(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }
	tests := []struct {
		name   string
		hop    *hop
		expect string
		says   string
	}{
		{"a careful proxy", &hop{clean: strip}, "", ""},
		{"a proxy that removes nothing where there is no certificate", &hop{clean: func(http.Header) {}}, CheckForged + " " + CheckStripped, "X-SSL-Client-Cert (nginx)"},
		{"a proxy that removes the usual spelling only, before a server that maps underscores", &hop{clean: func(h http.Header) {
			h.Del("X-SSL-Client-Cert")
			h.Del("X-SSL-Client-Verify")
			for name, values := range h {
				if strings.Contains(name, "_") {
					delete(h, name)
					h[canonical(strings.ReplaceAll(name, "_", "-"))] = values
				}
			}
		}}, CheckForged + " " + CheckStripped, "underscores"},
		{"a proxy that leaves underscores alone", &hop{clean: func(h http.Header) {
			h.Del("X-SSL-Client-Cert")
			h.Del("X-SSL-Client-Verify")
			h.Del("Connection")
		}}, CheckStripped, "refused as source_field_lookalike"},
		{"a proxy that adds its header", &hop{clean: func(h http.Header) {
			if h.Get("X-SSL-Client-Cert") == "" || len(h["X-Ssl-Client-Cert"]) > 1 {
				return
			}
		}, add: true}, CheckForged + " " + CheckStripped, "X-SSL-Client-Cert"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newHopWorld(t, "nginx", tt.hop).examine()
			if got := said(r); got != tt.expect {
				t.Errorf("found %q, expected %q: %+v", got, tt.expect, r.Findings)
			}
			if believed := strings.Contains(tt.expect, CheckForged); believed != (r.Problems > 0) {
				t.Errorf("%d problems: only what is believed is one", r.Problems)
			}
			var details []string
			for _, check := range []string{CheckForged, CheckStripped} {
				if f := find(r, check); f != nil {
					details = append(details, f.Details...)
				}
			}
			if !slices.ContainsFunc(details, func(d string) bool { return strings.Contains(d, tt.says) }) && tt.says != "" {
				t.Errorf("no %q in %q", tt.says, details)
			}
		})
	}
}

// A hop that knows clients by something else than the connection of the request.
func TestIdentity(t *testing.T) {
	t.Run("by address", func(t *testing.T) {
		var last *x509.Certificate
		r := newHopWorld(t, "caddy", &hop{clean: strip, identity: func(r *http.Request) *x509.Certificate {
			if c := ownCertificate(r); c != nil && last == nil {
				last = c
			}
			return last
		}}).examine()
		if f := find(r, CheckIdentities); f == nil || !strings.Contains(strings.Join(f.Details, "\n"), "taken for the first client") {
			t.Errorf("%+v", r.Findings)
		}
	})
	t.Run("lost on resumption", func(t *testing.T) {
		w := newHopWorld(t, "caddy", &hop{clean: strip, identity: func(r *http.Request) *x509.Certificate {
			if r.TLS.DidResume {
				return nil
			}
			return ownCertificate(r)
		}})
		r := w.examine()
		if f := find(r, CheckResumption); f == nil || !strings.Contains(f.Details[0], "TLS 1.2, resumed: no certificate") || problems(r) != CheckResumption {
			t.Errorf("%s: %+v", problems(r), r.Findings)
		}
	})
	t.Run("the proxy sends nothing", func(t *testing.T) {
		r := newHopWorld(t, "caddy", &hop{clean: strip, identity: func(*http.Request) *x509.Certificate { return nil }}).examine()
		if f := find(r, CheckArrives); f == nil || !strings.Contains(f.Details[0], "no certificate") {
			t.Errorf("%+v", r.Findings)
		}
	})
}

// The server's own look sees the same, with nothing but the addresses.
func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name   string
		clean  func(http.Header)
		expect string
	}{{"careful", strip, ""}, {"careless", func(http.Header) {}, CheckForged + " " + CheckStripped}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newHopWorld(t, "nginx", &hop{clean: tt.clean})
			w.start()
			r, err := Probe(t.Context(), Config{Issuer: issuer, RootCAs: w.ca.Pool(), Credential: w.credential, Dial: w.dial}, mtlsURL, "")
			if err != nil || said(r) != tt.expect || len(r.MTLS) != 1 {
				t.Errorf("%s %v: %+v", said(r), err, r.Findings)
			}
		})
	}
}

// The credential goes to nobody whose certificate is not valid.
func TestCredentialStaysAtHome(t *testing.T) {
	w := newWorld(t)
	w.newServer(certsource.TLS{})
	w.mtls.cert = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Other"}).MustLeaf(pkitest.LeafOptions{DNS: []string{mtlsName}, Server: true})
	leaked := false
	next := w.mtls.handler
	w.mtls.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		leaked = leaked || r.Header.Get("Authorization") != ""
		next.ServeHTTP(rw, r)
	})
	r := w.examine()
	if leaked {
		t.Error("the credential was sent to a server that nobody vouches for")
	}
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Check == CheckProbe && f.Outcome == Skipped && strings.Contains(f.Where, mtlsName)
	}) {
		t.Errorf("%+v", r.Findings)
	}
}

// The issuer of the command line.
func TestIssuer(t *testing.T) {
	for _, issuer := range []string{"", "as.test", "http://as.test", "https://as.test?x", "https://as.test#x", "https://u@as.test"} {
		if _, err := Run(t.Context(), Config{Issuer: issuer}); !errors.Is(err, ErrIssuer) {
			t.Errorf("%q: %v", issuer, err)
		}
	}
}

// FuzzAnswer reads what a server says to a probe.
func FuzzAnswer(f *testing.F) {
	good, err := json.Marshal(probe.Answer{Listener: "mtls", Kind: "none"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(200, good)
	f.Add(200, []byte(`{"listener":1}`))
	f.Add(404, []byte("not found"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a, err := parseAnswer(&reply{status: status, body: body})
		if a != nil && (err != nil || status != 200 || a.Listener == "" || a.Kind == "") {
			t.Errorf("%+v beside %v, status %d", a, err, status)
		}
		if err == nil && a == nil && status == 200 {
			t.Error("neither an answer nor an error")
		}
	})
}

// What goes over the wire is what was asked for, in the spelling that was asked for.
func TestRequestBytes(t *testing.T) {
	fields := header{{"X-A", "1"}, {"X-B-C", "2"}}
	want := map[string]string{
		"": "X-A: 1\r\nX-B-C: 2", "lower case": "x-a: 1\r\nx-b-c: 2", "capitals": "X-A: 1\r\nX-B-C: 2",
		"underscores": "X_A: 1\r\nX_B_C: 2", "one underscore": "X_A: 1\r\nX-B_C: 2", "twice": "X-A: 1\r\nX-B-C: 2\r\nX-A: 1\r\nX-B-C: 2",
		"named in Connection": "Connection: keep-alive, X-A, X-B-C\r\nX-A: 1\r\nX-B-C: 2",
	}
	if len(want) != len(spellings) {
		t.Errorf("%d spellings", len(spellings))
	}
	for _, s := range spellings {
		got := get("/p", "h", s.apply(fields))
		if !bytes.Contains(got, []byte("\r\n"+want[s.name]+"\r\n\r\n")) {
			t.Errorf("%s: %q", s.name, got)
		}
	}
	if fields[0][0] != "X-A" {
		t.Error("a spelling has changed the fields")
	}
}
