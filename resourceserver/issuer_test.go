package resourceserver_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

type clock struct{ nanos atomic.Int64 }

func (c *clock) set(t time.Time) { c.nanos.Store(t.UnixNano()) }
func (c *clock) now() time.Time  { return time.Unix(0, c.nanos.Load()) }

// The issuer rotates: the first token with the new kid causes one fetch.
func TestRotation(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	w.wantOK(t, w.get(p.l1, w.is.token(t, cnf(p.l1))))
	w.is.rotate("k2", jose.ES256, pkitest.MustKey(pkitest.P256))
	w.wantOK(t, w.get(p.l1, w.is.token(t, cnf(p.l1))))
	w.wantOK(t, w.get(p.l1, w.is.token(t, with(cnf(p.l1), "jti", "again"))))
	if n := w.is.keyFetches.Load(); n != 2 {
		t.Errorf("%d fetches of the key set, want 2", n)
	}
}

// A stranger invents kids. The issuer sees one fetch in RefetchEvery, and good tokens work
// all the while.
func TestForgedKids(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	good := w.is.token(t, cnf(p.l1))
	w.wantOK(t, w.get(p.l1, good))
	evil := pkitest.MustKey(pkitest.P256)
	payload, _ := json.Marshal(w.is.claims(cnf(p.l2)))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: evil, KeyID: fmt.Sprintf("forged-%d", i)}}
			_, d, err := w.v.Verify(t.Context(), resourceserver.Request{
				Token:     signWith(t, key, "at+jwt", string(payload)),
				Presented: certsource.NewPresented("tls", p.l2.Cert, nil),
			})
			if err == nil || d.Reason() != decision.TokenKeyUnknown {
				t.Errorf("reason %q, want %q", d.Reason(), decision.TokenKeyUnknown)
			}
		})
	}
	wg.Wait()
	w.wantOK(t, w.get(p.l1, good))
	if n := w.is.keyFetches.Load(); n > 2 {
		t.Errorf("%d fetches of the key set, want at most 2", n)
	}
}

// A key that the issuer takes back counts no more, also for a token in the cache.
func TestWithdrawnKey(t *testing.T) {
	p := certs()
	var clock clock
	clock.set(time.Now())
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		cfg.Now = clock.now
		cfg.Keys.RefreshEvery = time.Minute
	})
	old := w.is.token(t, cnf(p.l1))
	w.wantOK(t, w.get(p.l1, old))
	w.is.rotate("k2", jose.ES256, pkitest.MustKey(pkitest.P256))
	w.is.set(func() { w.is.keys = w.is.keys[1:] })
	clock.set(clock.now().Add(10 * time.Minute))
	// The renewal runs in the background; the request that starts it still passes.
	deadline := time.Now().Add(10 * time.Second)
	for w.get(p.l1, old).status == 200 {
		if time.Now().After(deadline) {
			t.Fatal("the withdrawn key still counts")
		}
	}
	w.wantIT(t, w.get(p.l1, old), decision.TokenKeyUnknown)
}

func TestIssuerDown(t *testing.T) {
	p := certs()
	var clock clock
	clock.set(time.Now())
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) { cfg.Now = clock.now })
	claims := with(cnf(p.l1), "exp", clock.now().Add(100*time.Hour).Unix())
	w.wantOK(t, w.get(p.l1, w.is.token(t, claims)))
	w.is.set(func() { w.is.down = true })

	clock.set(clock.now().Add(6 * time.Hour))
	for i := range 3 {
		w.wantOK(t, w.get(p.l1, w.is.token(t, with(claims, "jti", fmt.Sprint(i)))))
	}
	// Whoever could sign a day ago is not believed for ever.
	clock.set(clock.now().Add(30 * time.Hour))
	a := w.get(p.l1, w.is.token(t, claims))
	if a.status != 503 || a.challenge != "" || w.reason() != decision.IssuerUnavailable || strings.Contains(a.body, "secret content") {
		t.Errorf("status %d, reason %s; want 503, %s", a.status, w.reason(), decision.IssuerUnavailable)
	}
	w.is.set(func() { w.is.down = false })
	clock.set(clock.now().Add(time.Minute))
	w.wantOK(t, w.get(p.l1, w.is.token(t, claims)))
}

func TestWarm(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.v.Warm(t.Context()); err != nil || w.is.keyFetches.Load() != 1 {
		t.Errorf("Warm: %v, %d fetches", err, w.is.keyFetches.Load())
	}
	w = newWorld(t, nil)
	w.is.set(func() { w.is.down = true })
	if err := w.v.Warm(t.Context()); err == nil {
		t.Error("Warm: no error for an issuer that is down")
	}
}

// The metadata of another issuer is not used, nor that behind an unverified connection.
func TestDiscovery(t *testing.T) {
	p := certs()
	lie := startTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":"https://as.test","jwks_uri":"https://%s/jwks"}`, r.Host)
	}), serverTLS(tls.NoClientCert))
	redirect := startTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, lie.URL+r.URL.Path, http.StatusFound)
	}), serverTLS(tls.NoClientCert))
	stranger := startTLS(t, http.NotFoundHandler(), &tls.Config{Certificates: []tls.Certificate{pkitest.MustSelfSigned(pkitest.LeafOptions{Server: true}).TLS()}})
	for name, at := range map[string]string{"another issuer": lie.URL, "redirect": redirect.URL, "unknown CA": stranger.URL} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "N-4-3")
			w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) { cfg.Issuer = at })
			a := w.get(p.l1, w.is.token(t, with(cnf(p.l1), "iss", at)))
			if a.status != 503 || w.reason() != decision.IssuerUnavailable {
				t.Errorf("status %d, reason %s; want 503", a.status, w.reason())
			}
		})
	}
}

// The token is not sent to an introspection endpoint that cannot prove its name.
func TestIntrospectionServerCertificate(t *testing.T) {
	t.Attr("requirement", "N-4-3")
	p := certs()
	var asked atomic.Int32
	count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"active":false}`)
	})
	own := func(leaf *pkitest.Leaf) *tls.Config {
		return &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{leaf.TLS()}}
	}
	old := serverTLS(tls.RequestClientCert)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for name, conf := range map[string]*tls.Config{
		"unknown CA":   own(pkitest.MustCA(pkitest.CAOptions{}).MustLeaf(pkitest.LeafOptions{Server: true})),
		"another name": own(p.servers.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{"other.test"}})),
		"expired":      own(p.servers.MustLeaf(pkitest.LeafOptions{Server: true, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})),
		"TLS 1.1":      old,
	} {
		t.Run(name, func(t *testing.T) {
			s := startTLS(t, count, conf)
			w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
				cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil), Endpoint: s.URL + "/introspect"}
			})
			if a := w.get(p.l1, "tok"); a.status != 503 || w.reason() != decision.IssuerUnavailable || asked.Load() != 0 {
				t.Errorf("status %d, reason %s, %d questions; want 503 and none", a.status, w.reason(), asked.Load())
			}
		})
	}
}

func TestGivenKeys(t *testing.T) {
	p := certs()
	t.Run("by value", func(t *testing.T) {
		w := newWorld(t, func(is *issuer, cfg *resourceserver.Config) {
			data, _ := json.Marshal(jose.JSONWebKeySet{Keys: is.keys})
			set, err := jwks.Parse(data, jwks.Strict)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Keys.Set = set
		})
		w.is.set(func() { w.is.down = true })
		w.wantOK(t, w.get(p.l1, w.is.token(t, cnf(p.l1))))
		w.is.rotate("k2", jose.ES256, pkitest.MustKey(pkitest.P256))
		w.wantIT(t, w.get(p.l1, w.is.token(t, cnf(p.l1))), decision.TokenKeyUnknown)
	})
	t.Run("by address", func(t *testing.T) {
		w := newWorld(t, func(is *issuer, cfg *resourceserver.Config) { cfg.Keys.URI = is.URL + "/jwks" })
		w.wantOK(t, w.get(p.l1, w.is.token(t, cnf(p.l1))))
		if w.is.metadata.Load() != 0 {
			t.Error("metadata was fetched")
		}
	})
	t.Run("token without kid", func(t *testing.T) {
		w := newWorld(t, nil)
		data, _ := json.Marshal(w.is.claims(cnf(p.l1)))
		bare := w.is.signer
		bare.Key = bare.Key.(jose.JSONWebKey).Key
		token := signWith(t, bare, "at+jwt", string(data))
		w.wantOK(t, w.get(p.l1, token))
		w2 := newWorld(t, nil)
		w2.is.rotate("k2", jose.ES256, pkitest.MustKey(pkitest.P256)) // now kid is needed
		w2.wantIT(t, w2.get(p.l1, token), decision.TokenKeyUnknown)
	})
}

func TestIntrospectionCaller(t *testing.T) {
	p := certs()
	rows := []struct {
		name    string
		cfg     func(*issuer) *resourceserver.Introspection
		noAlias bool
		alias   bool // called there
		cert    bool // showed L2
		form    url.Values
		ids     string
	}{
		{
			name: "mutual TLS goes to the alias",
			cfg: func(*issuer) *resourceserver.Introspection {
				return &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil)}
			},
			alias: true, cert: true,
			form: url.Values{"client_id": {"rs"}, "token": {"tok"}, "token_type_hint": {"access_token"}},
			ids:  "N-2.1-3 TV-4a",
		},
		{
			name: "no alias",
			cfg: func(*issuer) *resourceserver.Introspection {
				return &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil)}
			},
			noAlias: true,
			form:    url.Values{"client_id": {"rs"}, "token": {"tok"}, "token_type_hint": {"access_token"}},
		},
		{
			name: "Basic goes to the conventional endpoint",
			cfg: func(*issuer) *resourceserver.Introspection {
				return &resourceserver.Introspection{ClientID: "rs", ClientSecret: "s3cret+/"}
			},
			form: url.Values{"token": {"tok"}, "token_type_hint": {"access_token"}},
		},
		{
			name: "given endpoint",
			cfg: func(is *issuer) *resourceserver.Introspection {
				return &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil), Endpoint: is.alias.URL + "/introspect"}
			},
			alias: true, cert: true,
			form: url.Values{"client_id": {"rs"}, "token": {"tok"}, "token_type_hint": {"access_token"}},
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.ids)
			w := newWorld(t, func(is *issuer, cfg *resourceserver.Config) {
				is.noAlias = row.noAlias
				cfg.Introspection = row.cfg(is)
			})
			answer, _ := json.Marshal(w.is.claims(with(cnf(p.l1), "active", true)))
			w.is.set(func() { w.is.answers["tok"] = string(answer) })
			w.wantOK(t, w.get(p.l1, "tok"))
			w.wantIT(t, w.get(p.l1, "unknown"), decision.TokenInactive)
			w.is.mu.Lock()
			defer w.is.mu.Unlock()
			if got := w.is.atAlias.Load() > 0; got != row.alias {
				t.Errorf("called at the alias: %v, want %v", got, row.alias)
			}
			if got := w.is.forms[0]; got != row.form.Encode() {
				t.Errorf("form %q, want %q", got, row.form.Encode())
			}
			got := len(w.is.callers[0].PeerCertificates) > 0 && certbound.Thumbprint(w.is.callers[0].PeerCertificates[0]) == certbound.Thumbprint(p.l2.Cert)
			if got != row.cert {
				t.Errorf("caller showed its certificate: %v, want %v", got, row.cert)
			}
		})
	}
}

func TestIntrospectionAnswer(t *testing.T) {
	p := certs()
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil)}
	})
	claims := func(kv ...any) string {
		data, _ := json.Marshal(w.is.claims(with(with(cnf(p.l1), "active", true), kv...)))
		return string(data)
	}
	rows := []struct {
		name, answer string
		status       int
		want         decision.Reason
	}{
		{"no iss", claims("iss", nil), 200, ""},
		{"no exp", claims("exp", nil), 200, ""},
		{"another iss", claims("iss", "https://evil.test"), 401, decision.IssuerMismatch},
		{"no aud", claims("aud", nil), 401, decision.AudienceMismatch},
		{"another aud", claims("aud", "https://other.test"), 401, decision.AudienceMismatch},
		{"expired", claims("exp", 1), 401, decision.TokenExpired},
		{"not yet", claims("nbf", time.Now().Add(time.Hour).Unix()), 401, decision.TokenNotYetValid},
		{"inactive, with more", claims("active", false), 401, decision.TokenInactive},
		{"active is a string", claims("active", "true"), 503, decision.IssuerUnavailable},
		{"no active", claims("active", nil), 503, decision.IssuerUnavailable},
		{"not JSON", `<html>`, 503, decision.IssuerUnavailable},
		{"active twice", `{"active":false,"active":true}`, 503, decision.IssuerUnavailable},
		{"endless", `{"active":true,"x":"` + strings.Repeat("x", 100<<10) + `"}`, 503, decision.IssuerUnavailable},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			token := "tok-" + strings.Map(func(r rune) rune {
				if 'a' <= r && r <= 'z' {
					return r
				}
				return '-'
			}, row.name)
			w.is.set(func() { w.is.answers[token] = row.answer })
			a := w.get(p.l1, token)
			if a.status != row.status || w.reason() != row.want {
				t.Errorf("status %d, reason %q; want %d, %q", a.status, w.reason(), row.status, row.want)
			}
		})
	}
}

// What the issuer says is kept for CacheFor; a revoked token ends then. Many requests with
// one new token ask once.
func TestIntrospectionCache(t *testing.T) {
	t.Attr("requirement", "N-4-4")
	p := certs()
	var clock clock
	clock.set(time.Now())
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		cfg.Now = clock.now
		cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil)}
	})
	answer, _ := json.Marshal(w.is.claims(with(cnf(p.l1), "active", true)))
	w.is.set(func() { w.is.answers["tok"] = string(answer) })
	presented := certsource.NewPresented("tls", p.l1.Cert, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, _, err := w.v.Verify(t.Context(), resourceserver.Request{Token: "tok", Presented: presented}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := w.is.questions.Load(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
	w.is.set(func() { delete(w.is.answers, "tok") })
	w.wantOK(t, w.get(p.l1, "tok"))
	clock.set(clock.now().Add(31 * time.Second))
	w.wantIT(t, w.get(p.l1, "tok"), decision.TokenInactive)

	// The issuer is down: what is known goes on until CacheFor ends, new tokens get 503.
	w.is.set(func() { w.is.answers["tok2"] = string(answer) })
	w.wantOK(t, w.get(p.l1, "tok2"))
	w.is.set(func() { w.is.down = true })
	w.wantOK(t, w.get(p.l1, "tok2"))
	if a := w.get(p.l1, "tok3"); a.status != 503 {
		t.Errorf("status %d, want 503", a.status)
	}
}

func TestOpaqueOnly(t *testing.T) {
	p := certs()
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil), OpaqueOnly: true}
	})
	answer, _ := json.Marshal(w.is.claims(with(cnf(p.l1), "active", true)))
	w.is.set(func() { w.is.answers["tok"] = string(answer) })
	w.wantOK(t, w.get(p.l1, w.is.token(t, cnf(p.l1))))
	if w.is.questions.Load() != 0 {
		t.Error("a JWT was introspected")
	}
	w.wantOK(t, w.get(p.l1, "tok"))
	if w.is.questions.Load() != 1 {
		t.Error("an opaque token was not introspected")
	}
}

func TestResourceMetadata(t *testing.T) {
	p := certs()
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		cfg.AdvertiseMetadata = true
		cfg.ScopesSupported = []string{"read", "write"}
	})
	const path = "/.well-known/oauth-protected-resource/api"
	t.Run("document", func(t *testing.T) {
		t.Attr("requirement", "PR-2-1 PR-2-2 PR-2-3 PR-3-1 PR-3-2")
		a := w.do(client(nil, nil), "GET", path, "")
		if a.status != 200 || a.header.Get("Content-Type") != "application/json" {
			t.Fatalf("status %d, %q", a.status, a.header.Get("Content-Type"))
		}
		want := `{"resource":"` + resource + `","authorization_servers":["` + w.is.URL + `"],"scopes_supported":["read","write"],"bearer_methods_supported":["header"],"tls_client_certificate_bound_access_tokens":true}`
		if a.body != want {
			t.Errorf("document\n%s\nwant\n%s", a.body, want)
		}
		if a := w.do(client(nil, nil), "POST", path, ""); a.status != 405 {
			t.Errorf("POST: status %d, want 405", a.status)
		}
	})
	t.Run("at the root", func(t *testing.T) {
		t.Attr("requirement", "PR-3-1")
		root := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) { cfg.Resource = "https://rs.test" })
		if a := root.do(client(nil, nil), "GET", "/.well-known/oauth-protected-resource", ""); a.status != 200 {
			t.Errorf("status %d, want 200", a.status)
		}
	})
	t.Run("challenge", func(t *testing.T) {
		t.Attr("requirement", "PR-5-1")
		const want = `resource_metadata="https://rs.test/.well-known/oauth-protected-resource/api"`
		token := w.is.token(t, cnf(p.l1))
		for _, a := range []answer{w.get(nil, ""), w.get(p.l2, token)} {
			if a.status != 401 || !strings.Contains(a.challenge, want) {
				t.Errorf("challenge %q, want %s in it", a.challenge, want)
			}
		}
	})
}

func TestNew(t *testing.T) {
	good := resourceserver.Config{Resource: resource, Issuer: "https://as.test", Source: certsource.TLS{}}
	if _, err := resourceserver.New(good); err != nil {
		t.Fatal(err)
	}
	rows := map[string]func(*resourceserver.Config){
		"nothing":                  func(c *resourceserver.Config) { *c = resourceserver.Config{} },
		"resource by http":         func(c *resourceserver.Config) { c.Resource = "http://rs.test" },
		"resource with fragment":   func(c *resourceserver.Config) { c.Resource += "#x" },
		"issuer by http":           func(c *resourceserver.Config) { c.Issuer = "http://as.test" },
		"issuer with query":        func(c *resourceserver.Config) { c.Issuer += "?x" },
		"no source":                func(c *resourceserver.Config) { c.Source = nil },
		"a source of nothing":      func(c *resourceserver.Config) { c.Source = certsource.None{} },
		"unknown policy":           func(c *resourceserver.Config) { c.Binding = 7 },
		"ignoring what must be":    func(c *resourceserver.Config) { c.IgnoreUnknownConfirmation = true },
		"two sources of keys":      func(c *resourceserver.Config) { c.Keys.Set, c.Keys.URI = new(jwks.Set), "https://as.test/jwks" },
		"keys by http":             func(c *resourceserver.Config) { c.Keys.URI = "http://as.test/jwks" },
		"no keys":                  func(c *resourceserver.Config) { c.Keys.Set = new(jwks.Set) },
		"alg none":                 func(c *resourceserver.Config) { c.Keys.Algorithms = []string{"none"} },
		"introspection, no id":     func(c *resourceserver.Config) { c.Introspection = &resourceserver.Introspection{ClientSecret: "x"} },
		"introspection, no method": func(c *resourceserver.Config) { c.Introspection = &resourceserver.Introspection{ClientID: "x"} },
		"stale, but no cache": func(c *resourceserver.Config) {
			c.Introspection = &resourceserver.Introspection{ClientID: "x", ClientSecret: "x", CacheFor: -1, StaleFor: 1}
		},
		"negative stale time": func(c *resourceserver.Config) {
			c.Introspection = &resourceserver.Introspection{ClientID: "x", ClientSecret: "x", StaleFor: -1}
		},
		"negative time":        func(c *resourceserver.Config) { c.Keys.Timeout = -1 },
		"a scope with a space": func(c *resourceserver.Config) { c.ScopesSupported = []string{"a b"} },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			if v, err := resourceserver.New(cfg); err == nil || v != nil {
				t.Errorf("New = %v, %v; want an error", v, err)
			}
		})
	}
}
