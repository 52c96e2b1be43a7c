package resourceserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
)

// FuzzIntrospection: an answer gives a token or an error, never both, and only declared
// errors; what is read from an answer is in it.
func FuzzIntrospection(f *testing.F) {
	for _, seed := range []string{
		`{"active":true,"iss":"https://as.test","sub":"a","exp":1493726400,"nbf":1493722800,"cnf":{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}}`,
		`{"active":false}`, `{"active":"true"}`, `{}`, `[]`, `null`, `{"active":true,"active":false}`,
		`{"active":true,"aud":["a",null],"exp":1e400}`, `{"active":true,"cnf":{"jkt":1}}`, `{"active":true,"scope":"a  b"}`,
		"{\"active\":true,\"cnf\":{\"x5t#S256\":\"\\u0041\"}}", `{"active":true,"cnf":{},"CNF":{"x5t#S256":"a"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := parseIntrospection(data)
		if err != nil {
			if tok != nil {
				t.Error("a token beside an error")
			}
			_, mine := errors.AsType[*claimError](err)
			_, theirs := errors.AsType[*jws.Error](err)
			if !mine && !theirs {
				t.Errorf("undeclared error type %T", err)
			}
			return
		}
		var generic map[string]json.RawMessage
		if json.Unmarshal(data, &generic) != nil {
			t.Fatal("accepted what is no JSON object")
		}
		if active := string(bytes.TrimSpace(generic["active"])); (tok != nil) != (active == "true") {
			t.Errorf("token %v, but active is %s", tok != nil, active)
		}
		if tok == nil {
			return
		}
		if _, bound := generic["cnf"]; bound == (tok.Confirmation.IsZero() && tok.confirmationFault == nil) {
			t.Errorf("cnf %s was read as %+v, %v", generic["cnf"], tok.Confirmation, tok.confirmationFault)
		}
		if tok.hasExpiry && (tok.Expires.Unix() < 0 || tok.Expires.Year() > 9999) {
			t.Errorf("exp %v", tok.Expires)
		}
	})
}

// FuzzRequest: whatever stands in the header, the query and the form, nothing but the good
// token with its certificate passes, and the body stays what it was.
func FuzzRequest(f *testing.F) {
	key := pkitest.MustKey(pkitest.P256)
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
	set, err := jwks.Parse(must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256"}}})), jwks.Strict)
	if err != nil {
		f.Fatal(err)
	}
	presented := certsource.NewPresented("tls", leaf.Cert, nil)
	v, err := New(Config{
		Resource: "https://rs.test", Issuer: "https://as.test", Keys: Keys{Set: set},
		Source: fixedSource{presented}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jws.NewSigner("ES256", "at+jwt", "k", key)
	if err != nil {
		f.Fatal(err)
	}
	sign := func(payload string) string { return string(must(signer.Sign([]byte(payload)))) }
	good := sign(`{"iss":"https://as.test","aud":"https://rs.test","exp":9999999999,"cnf":{"x5t#S256":"` + presented.Thumbprint() + `"}}`)
	unbound := sign(`{"iss":"https://as.test","aud":"https://rs.test","exp":9999999999}`)
	for _, header := range []string{"", "Bearer", "Bearer " + good, "bearer  " + good, "DPoP " + good, "Bearer " + unbound, "Basic x", "Bearer " + good[1:], "Bearer " + good + "="} {
		f.Add(header, "", "")
		f.Add(header, "access_token=x", "")
		f.Add(header, "a=%zz", "a=b&access_token=%41")
	}
	f.Fuzz(func(t *testing.T, header, query, form string) {
		r, err := http.NewRequest("POST", "https://rs.test/", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		r.Header["Authorization"] = []string{header}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		access, err := v.VerifyRequest(r)
		body, readErr := io.ReadAll(r.Body)
		if string(body) != form || readErr != nil {
			t.Errorf("the body became %q, %v", body, readErr)
		}
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok || access != nil || e.Decision.Allowed || e.Status < 400 || e.Status >= 500 {
				t.Errorf("access %v, error %#v", access, err)
			}
			fixed := &Error{}
			fixed.Status, fixed.Code, fixed.Description = wire(e.Reason())
			if e.Challenge() != fixed.Challenge() {
				t.Errorf("challenge %q, want what belongs to the reason and nothing of the request: %q", e.Challenge(), fixed.Challenge())
			}
			return
		}
		scheme, token, _ := strings.Cut(strings.TrimLeft(header, " "), " ")
		if !strings.EqualFold(scheme, "Bearer") || strings.Trim(token, " ") != good || !access.Decision.Allowed {
			t.Errorf("accepted %q", header)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type fixedSource struct{ p *certsource.Presented }

func (fixedSource) Name() string { return "fixed" }

func (s fixedSource) Certificate(*http.Request) (*certsource.Presented, error) {
	if s.p == nil {
		return nil, certsource.ErrNoCertificate
	}
	return s.p, nil
}

// The cache never holds more than its size, and gives up what is not used.
func TestCacheBounds(t *testing.T) {
	c := newCache[int](64)
	now := time.Now()
	var hot [32]byte
	c.put(hot, 42, now.Add(time.Hour))
	for i := range 10_000 {
		var key [32]byte
		key[0], key[1], key[2] = byte(i), byte(i>>8), 1
		c.put(key, i, now.Add(time.Hour))
		if v, ok := c.get(hot, now); !ok || v != 42 {
			t.Fatalf("an entry in use is gone after %d others", i)
		}
	}
	if n := c.len(); n > 64 {
		t.Errorf("%d entries, want at most 64", n)
	}
	if _, ok := c.get(hot, now.Add(time.Hour)); ok {
		t.Error("an expired entry was returned")
	}
	c.put(hot, 43, now.Add(2*time.Hour))
	if v, ok := c.get(hot, now.Add(time.Hour)); !ok || v != 43 {
		t.Errorf("the replaced entry is %d, %v", v, ok)
	}
}

// The answers to the closed set of reasons: none is a 5xx but that the issuer cannot be
// asked, and every 401 has a challenge.
func TestWire(t *testing.T) {
	t.Attr("requirement", "T-9110-2 B-3.1-1")
	codes := map[int]string{400: codeInvalidRequest, 401: codeInvalidToken, 403: codeInsufficientScope, 503: ""}
	for _, r := range decision.Reasons() {
		e := fail(decision.New(), decision.Check{Reason: r}, nil)
		if want, ok := codes[e.Status]; !ok || e.Code != want && r != decision.NoToken {
			t.Errorf("%s: status %d with %q", r, e.Status, e.Code)
		}
		if e.Status == 503 && r != decision.IssuerUnavailable {
			t.Errorf("%s: status 503", r)
		}
		if e.Status == 401 && !strings.HasPrefix(e.Challenge(), "Bearer") {
			t.Errorf("%s: no challenge", r)
		}
	}
}
