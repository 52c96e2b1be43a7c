package resourceserver_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// Every way in which a token is not valid, always with the right certificate.
func TestToken(t *testing.T) {
	p := certs()
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) { cfg.Audiences = []string{"urn:example:old-name"} })
	now := time.Now()
	bound := cnf(p.l1)
	good := w.is.token(t, bound)
	payload := func(changed map[string]any) string {
		data, err := json.Marshal(w.is.claims(with(bound, "jti", t.Name())))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	duplicate := strings.TrimSuffix(payload(nil), "}") + `,"cnf":{"x5t#S256":"` + certbound.Thumbprint(p.l1.Cert) + `"}}`
	folded := strings.TrimSuffix(payload(nil), "}") + `,"CNF":{"x5t#S256":"` + certbound.Thumbprint(p.l1.Cert) + `"}}`
	stranger := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: pkitest.MustKey(pkitest.P256), KeyID: "k1"}}
	parts := strings.Split(good, ".")
	forged := w.is.token(t, cnf(p.l2))
	none := "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + parts[1] + "."
	hmac := signWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte("0123456789abcdef0123456789abcdef")}, "at+jwt", payload(nil))

	rows := []struct {
		name  string
		token string
		want  decision.Reason
		ids   string
	}{
		{"good", good, "", "A-4-1"},
		{"full type", w.is.sign(t, "application/at+jwt", payload(nil)), "", "A-2.1-1"},
		{"audience in a list", w.is.token(t, with(bound, "aud", []string{"https://other.test", resource})), "", "A-4-1"},
		{"further audience", w.is.token(t, with(bound, "aud", "urn:example:old-name")), "", ""},
		{"fraction of a second", w.is.token(t, with(bound, "exp", float64(now.Unix()+60)+0.5)), "", ""},
		{"nbf within leeway", w.is.token(t, with(bound, "nbf", now.Add(10*time.Second).Unix())), "", "K-7519-1"},

		{"expired", w.is.token(t, with(bound, "exp", now.Add(-time.Second).Unix())), decision.TokenExpired, "K-7519-1 A-4-1"},
		{"not yet valid", w.is.token(t, with(bound, "nbf", now.Add(5*time.Minute).Unix())), decision.TokenNotYetValid, "K-7519-1"},
		{"no exp", w.is.token(t, with(bound, "exp", nil)), decision.TokenMalformed, "A-4-1"},
		{"exp is a string", w.is.token(t, with(bound, "exp", "9999999999")), decision.TokenMalformed, ""},
		{"exp is negative", w.is.token(t, with(bound, "exp", -1)), decision.TokenMalformed, ""},
		{"exp beyond time", w.is.token(t, with(bound, "exp", 1e300)), decision.TokenMalformed, ""},
		{"another issuer", w.is.token(t, with(bound, "iss", "https://evil.test")), decision.IssuerMismatch, "A-4-1"},
		{"no issuer", w.is.token(t, with(bound, "iss", nil)), decision.IssuerMismatch, "A-4-1"},
		{"issuer with a slash", w.is.token(t, with(bound, "iss", w.is.URL+"/")), decision.IssuerMismatch, "A-4-1"},
		{"another audience", w.is.token(t, with(bound, "aud", "https://rs.test/other")), decision.AudienceMismatch, "A-4-1 K-3.1-5 U-2-3"},
		{"audience begins alike", w.is.token(t, with(bound, "aud", resource+"/v2")), decision.AudienceMismatch, "U-2-3"},
		{"no audience", w.is.token(t, with(bound, "aud", nil)), decision.AudienceMismatch, "A-4-1"},
		{"empty list of audiences", w.is.token(t, with(bound, "aud", []string{})), decision.AudienceMismatch, ""},
		{"audience is a number", w.is.token(t, with(bound, "aud", 1)), decision.TokenMalformed, ""},
		{"audience holds null", w.is.token(t, with(bound, "aud", []any{nil})), decision.TokenMalformed, ""},
		{"scope is a list", w.is.token(t, with(bound, "scope", []string{"read"})), decision.TokenMalformed, ""},
		{"an ID token", w.is.sign(t, "JWT", payload(nil)), decision.TokenType, "A-2.1-1 A-4-1"},
		{"no type", w.is.sign(t, "", payload(nil)), decision.TokenType, "A-2.1-1"},
		{"signed by another key", signWith(t, stranger, "at+jwt", payload(nil)), decision.TokenSignature, "A-4-1 K-7519-3"},
		{"payload of another token", parts[0] + "." + strings.Split(forged, ".")[1] + "." + parts[2], decision.TokenSignature, "K-7519-3"},
		{"alg none", none, decision.TokenMalformed, "K-7519-3 A-2.1-1"},
		{"HMAC", hmac, decision.TokenMalformed, "K-7519-3"},
		{"two cnf", w.is.sign(t, "at+jwt", duplicate), decision.TokenMalformed, "K-7519-2"},
		{"cnf and CNF", w.is.sign(t, "at+jwt", folded), decision.TokenMalformed, "K-7519-2"},
		{"not a JWT", "opaque", decision.TokenMalformed, ""},
		{"line break inside", good[:20] + "%0a" + good[20:], decision.TokenMalformed, ""},
		{"too long", strings.Repeat("a", 17<<10), decision.TokenMalformed, ""},
	}
	c := client(p.l1, nil)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.ids)
			a := w.do(c, "GET", "/", row.token)
			if row.want == "" {
				w.wantOK(t, a)
				return
			}
			w.wantIT(t, a, row.want)
		})
	}
	if text := w.log.text(); strings.Contains(text, parts[2]) || strings.Contains(text, parts[1]) {
		t.Error("the log has a part of a token")
	}
}

// A token that was good stays in the cache, but not beyond its end.
func TestCacheEndsWithToken(t *testing.T) {
	t.Attr("requirement", "K-7519-1 N-4-4")
	p := certs()
	for _, introspect := range []bool{false, true} {
		var clock clock
		clock.set(time.Now())
		w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
			cfg.Now = clock.now
			if introspect {
				cfg.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(p.l2, nil), CacheFor: time.Hour}
			}
		})
		token := w.is.token(t, with(cnf(p.l1), "exp", clock.now().Unix()+10))
		answer, _ := json.Marshal(w.is.claims(with(cnf(p.l1), "active", true, "exp", clock.now().Unix()+10)))
		w.is.set(func() { w.is.answers[token] = string(answer) })
		w.wantOK(t, w.get(p.l1, token))
		clock.set(clock.now().Add(11 * time.Second))
		w.wantIT(t, w.get(p.l1, token), decision.TokenExpired)
	}
}

// Two sets of checks meet in one request: who has not the certificate learns nothing of
// scopes; a broken token nothing of the binding.
func TestOrder(t *testing.T) {
	p := certs()
	w := newWorld(t, nil, "admin")
	token := w.is.token(t, cnf(p.l1))
	t.Run("certificate before scope", func(t *testing.T) {
		t.Attr("requirement", "B-3.1-3")
		w.wantIT(t, w.get(p.l2, token), decision.BindingMismatch)
		w.wantIT(t, w.get(nil, token), decision.NoCertificate)
	})
	t.Run("scope", func(t *testing.T) {
		t.Attr("requirement", "B-3.1-1")
		a := w.get(p.l1, token)
		if a.status != 403 || !strings.Contains(a.challenge, `error="insufficient_scope"`) || !strings.Contains(a.challenge, `scope="admin"`) {
			t.Errorf("status %d, %s; want 403 insufficient_scope with the scope", a.status, a.challenge)
		}
		if w.reason() != decision.ScopeInsufficient {
			t.Errorf("reason %q", w.reason())
		}
		w.wantOK(t, w.get(p.l1, w.is.token(t, with(cnf(p.l1), "scope", "read admin"))))
	})
	t.Run("token and audience before certificate", func(t *testing.T) {
		t.Attr("requirement", "A-4-2")
		w.wantIT(t, w.get(p.l2, w.is.token(t, with(cnf(p.l1), "exp", 1))), decision.TokenExpired)
		w.wantIT(t, w.get(p.l2, w.is.token(t, with(cnf(p.l1), "aud", "https://other.test"))), decision.AudienceMismatch)
	})
	t.Run("one description for every fault of the certificate", func(t *testing.T) {
		a, b := w.get(p.l2, token), w.get(nil, token)
		if a.challenge != b.challenge || a.body != b.body {
			t.Errorf("answers differ: %q and %q", a.challenge, b.challenge)
		}
		if strings.Contains(a.challenge+a.body, certbound.Thumbprint(p.l1.Cert)) {
			t.Error("the answer names the thumbprint")
		}
	})
}

// Every algorithm of RFC 9068 deployments, RS256 among them.
func TestAlgorithms(t *testing.T) {
	t.Attr("requirement", "A-2.1-1")
	p := certs()
	w := newWorld(t, func(is *issuer, _ *resourceserver.Config) {})
	keys := map[jose.SignatureAlgorithm]pkitest.KeyType{
		jose.ES256: pkitest.P256, jose.EdDSA: pkitest.Ed25519, jose.PS256: pkitest.RSA2048, jose.RS256: pkitest.RSA2048,
	}
	var tokens []string
	for alg, kind := range keys {
		w.is.rotate(string(alg), alg, pkitest.MustKey(kind))
		tokens = append(tokens, w.is.token(t, cnf(p.l1)))
	}
	c := client(p.l1, nil)
	for _, token := range tokens {
		w.wantOK(t, w.do(c, "GET", "/", token))
	}
}

func TestAlgorithmNotAllowed(t *testing.T) {
	p := certs()
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) { cfg.Keys.Algorithms = []string{"EdDSA"} })
	w.wantIT(t, w.get(p.l1, w.is.token(t, cnf(p.l1))), decision.TokenSignature)
}

func TestAnyTokenType(t *testing.T) {
	p := certs()
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) { cfg.Keys.InsecureAnyTokenType = true })
	data, _ := json.Marshal(w.is.claims(cnf(p.l1)))
	w.wantOK(t, w.get(p.l1, w.is.sign(t, "JWT", string(data))))
}

func TestPresentation(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	token := w.is.token(t, cnf(p.l1))
	c := client(p.l1, nil)
	header := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["Authorization"] = values }
	}
	form := func(body string) func(*http.Request) {
		return func(r *http.Request) {
			fresh, _ := http.NewRequest("POST", r.URL.String(), strings.NewReader(body))
			*r = *fresh
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
		}
	}
	t.Run("scheme in any case", func(t *testing.T) {
		t.Attr("requirement", "B-2.1-1 M-3-12")
		for _, scheme := range []string{"Bearer", "bearer", "BEARER", "bEaReR"} {
			w.wantOK(t, w.do(c, "GET", "/", "", header(scheme+" "+token)))
		}
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Attr("requirement", "B-3-1 B-3.1-2 M-6.2-3 T-9110-2")
		w.wantCH(t, w.do(c, "GET", "/", ""))
		w.wantCH(t, w.do(client(nil, nil), "GET", "/", ""))
		w.wantCH(t, w.do(c, "GET", "/", "", header("Basic Y2xpZW50OnNlY3JldA==")))
	})
	t.Run("in the query", func(t *testing.T) {
		t.Attr("requirement", "B-2.3-1 B-3.1-2")
		w.wantCH(t, w.do(c, "GET", "/?access_token="+token, ""))
	})
	t.Run("in the form", func(t *testing.T) {
		w.wantCH(t, w.do(c, "POST", "/", "", form("access_token="+token)))
	})
	invalid := func(t *testing.T, a answer, reason decision.Reason) {
		t.Helper()
		if a.status != 400 || strings.Count(a.challenge, `error="invalid_request"`) != 1 || w.reason() != reason {
			t.Errorf("status %d, %s, reason %s; want 400 invalid_request, %s", a.status, a.challenge, w.reason(), reason)
		}
	}
	t.Run("in two places", func(t *testing.T) {
		t.Attr("requirement", "B-2-1 B-3.1-1")
		for _, body := range []string{"access_token=" + token, "a=b&access%5Ftoken=x", "%zz&access_token="} {
			invalid(t, w.do(c, "POST", "/", "", form(body), header("Bearer "+token)), decision.TokenTwice)
		}
		invalid(t, w.do(c, "GET", "/?access_token=x", token), decision.TokenTwice)
		invalid(t, w.do(c, "GET", "/?access%5ftoken=x", token), decision.TokenTwice)
		invalid(t, w.do(c, "GET", "/", "", header("Bearer "+token, "Bearer "+token)), decision.TokenTwice)
	})
	t.Run("a form without token stays readable", func(t *testing.T) {
		body := "x=1&not_access_token=2&pad=" + strings.Repeat("y", 100<<10)
		a := w.do(c, "POST", "/", "", form(body), header("Bearer "+token))
		w.wantOK(t, a)
		if !strings.Contains(a.body, body) {
			t.Errorf("the handler read %d bytes, want the body of %d bytes", len(a.body), len(body))
		}
	})
	t.Run("empty", func(t *testing.T) {
		t.Attr("requirement", "B-3.1-1")
		for _, value := range []string{"Bearer", "Bearer ", "bearer  "} {
			invalid(t, w.do(c, "GET", "/", "", header(value)), decision.RequestMalformed)
		}
	})
	t.Run("not a token", func(t *testing.T) {
		for _, value := range []string{"Bearer a b", "Bearer " + token + ", Bearer " + token, `Bearer "x"`, "Bearer ==="} {
			w.wantIT(t, w.do(c, "GET", "/", "", header(value)), decision.TokenMalformed)
		}
	})
	t.Run("DPoP scheme", func(t *testing.T) {
		t.Attr("requirement", "DP-6")
		w.wantIT(t, w.do(c, "GET", "/", "", header("DPoP "+token)), decision.BindingUncheckable)
		w.wantIT(t, w.do(client(nil, nil), "GET", "/", "", header("DPoP "+token)), decision.BindingUncheckable)
	})
}

func TestErrorHandler(t *testing.T) {
	p := certs()
	var got *resourceserver.Error
	w := newWorld(t, func(_ *issuer, cfg *resourceserver.Config) {
		cfg.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err *resourceserver.Error) {
			got = err
			w.Header().Set("X-Mine", "1")
			resourceserver.WriteError(w, r, err)
		}
	})
	a := w.get(p.l2, w.is.token(t, cnf(p.l1)))
	w.wantIT(t, a, decision.BindingMismatch)
	if a.header.Get("X-Mine") != "1" || got.Decision == nil || got.Reason() != decision.BindingMismatch || !errors.Is(got, certbound.ErrMismatch) {
		t.Errorf("handler got %+v", got)
	}
	check, _ := got.Decision.Failure()
	if check.Expected != certbound.Thumbprint(p.l1.Cert) || check.Found != certbound.Thumbprint(p.l2.Cert) || got.Decision.Peer == "" {
		t.Errorf("decision %+v does not say what was expected, found and by whom", got.Decision)
	}
}

// Whoever was refused reports the id of the answer; the operator finds the record.
func TestRefusalLeadsToLog(t *testing.T) {
	w := newWorld(t, nil)
	a := w.do(client(certs().l1, nil), http.MethodGet, "/", "")
	id := a.header.Get(resourceserver.RequestIDHeader)
	if a.status != http.StatusUnauthorized || len(id) != 16 {
		t.Fatalf("status %d, id %q", a.status, id)
	}
	if log := w.log.text(); strings.Count(log, "request_id="+id) != 1 || !strings.Contains(log, "reason=no_token") {
		t.Errorf("the log has no record with this id:\n%s", log)
	}
	if other := w.do(client(certs().l1, nil), http.MethodGet, "/", "").header.Get(resourceserver.RequestIDHeader); other == id {
		t.Error("two refusals with one id")
	}
}
