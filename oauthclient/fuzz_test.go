package oauthclient

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/metadata"
)

func TestChallenges(t *testing.T) {
	rows := []struct {
		name  string
		lines []string
		want  bool
	}{
		{"alone", []string{`Bearer error="invalid_token"`}, true},
		{"without quotes", []string{`Bearer error=invalid_token`}, true},
		{"any case", []string{`bEARER Error="invalid_token"`}, true},
		{"spaces", []string{`Bearer realm = "x" , error = "invalid_token"`}, true},
		{"among others", []string{`Basic realm="a, Bearer b", Bearer realm="c", error="invalid_token", DPoP algs="ES256"`}, true},
		{"second line", []string{`Basic realm="a"`, `Bearer scope="x", error="invalid_token"`}, true},
		{"after token68", []string{`Negotiate YWJj==, Bearer error="invalid_token"`}, true},
		{"escapes", []string{`Bearer error="invalid\_token"`}, true},
		{"bare", []string{`Bearer`}, false},
		{"of another scheme", []string{`DPoP error="invalid_token"`}, false},
		{"another error", []string{`Bearer error="insufficient_scope"`}, false},
		{"inside a description", []string{`Bearer error="x", error_description="error=\"invalid_token\""`}, false},
		{"no scheme", []string{`error="invalid_token"`}, false},
		{"the first counts", []string{`Bearer error="x", error="invalid_token"`}, false},
		{"not closed", []string{`Bearer error="invalid_token`}, false},
		{"none", nil, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			resp := &http.Response{StatusCode: 401, Header: http.Header{"Www-Authenticate": row.lines}}
			if got := invalidToken(resp); got != row.want {
				t.Errorf("invalidToken = %v, want %v (%+v)", got, row.want, parseChallenges(row.lines))
			}
		})
	}
}

// FuzzChallenges: no panic, bounded, and every name and value stands in the field.
func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Bearer error="invalid_token"`, `Basic realm="a, b", Bearer x=y`, `Negotiate YWJj==,`, `, ,=`, `Bearer =`, `a b="\`, `A/=b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := parseChallenges([]string{line})
		if len(got) > maxChallenges {
			t.Errorf("%d challenges", len(got))
		}
		plain := strings.ReplaceAll(line, `\`, "")
		for _, c := range got {
			if c.scheme == "" || !strings.Contains(line, c.scheme) {
				t.Errorf("scheme %q is not in %q", c.scheme, line)
			}
			for name, value := range c.params {
				if name != strings.ToLower(name) || !strings.Contains(plain, strings.ReplaceAll(value, `\`, "")) {
					t.Errorf("%q=%q is not in %q", name, value, line)
				}
			}
		}
	})
}

// FuzzTokenAnswer: a token or a declared error, and a token that fits into a header.
func FuzzTokenAnswer(f *testing.F) {
	for _, s := range []string{`{"access_token":"t","token_type":"Bearer","expires_in":60}`, `{"access_token":"t","token_type":"bearer","expires_in":"60"}`, `{"access_token":"","token_type":"Bearer"}`, `[]`, `null`, `{"access_token":"a b","token_type":"Bearer"}`, `{"access_token":"t","token_type":"Bearer","expires_in":1e99}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		tok, err := parseToken(body, time.Unix(0, 0))
		if (tok != nil) == (err != nil) || err != nil && !errors.Is(err, ErrTokenAnswer) {
			t.Fatalf("token %v, error %v", tok, err)
		}
		if tok == nil {
			return
		}
		if strings.ContainsAny(tok.AccessToken, " \r\n\x00") || tok.AccessToken == "" || !json.Valid(body) || tok.ExpiresIn < 0 {
			t.Errorf("accepted %q", body)
		}
	})
}

// FuzzIntrospection: an inactive token tells nothing, an error comes alone.
func FuzzIntrospection(f *testing.F) {
	for _, s := range []string{`{"active":true,"cnf":{"x5t#S256":"a"},"scope":"a b","exp":1}`, `{"active":false,"scope":"x"}`, `{"active":1}`, `{"active":true,"cnf":null}`, `{}`, `{"active":true,"exp":-1e300}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		i, err := parseIntrospection(body)
		if (i != nil) == (err != nil) {
			t.Fatalf("%v, %v", i, err)
		}
		if i != nil && !i.Active && (i.Scopes != nil || i.ClientID != "" || !i.Confirmation.IsZero() || i.Raw != nil) {
			t.Errorf("inactive, but %+v", i)
		}
	})
}

// FuzzMetadata: nothing of a refused document, declared errors, https only, and what was
// accepted is accepted again from what it says.
func FuzzMetadata(f *testing.F) {
	const issuer = "https://server.example.com"
	for _, s := range []string{
		`{"issuer":"https://server.example.com","token_endpoint":"https://server.example.com/token","mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example.com/token"}}`,
		`{"issuer":"https://server.example.com","mtls_endpoint_aliases":{"token_endpoint":"http://x"}}`,
		`{"issuer":"https://evil.example"}`, `[]`, `{"issuer":"https://server.example.com","mtls_endpoint_aliases":[]}`,
		`{"issuer":"https://server.example.com","token_endpoint":7}`, `{"issuer":"https://server.example.com","jwks_uri":"https://[::1]/"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMetadata(data, issuer)
		if (m != nil) == (err != nil) {
			t.Fatalf("%v, %v", m, err)
		}
		if err != nil {
			if _, ok := errors.AsType[*metadata.Error](err); !ok {
				t.Errorf("undeclared error type %T", err)
			}
			return
		}
		if m.Issuer != issuer {
			t.Errorf("issuer %q", m.Issuer)
		}
		for name := range m.Aliases() {
			at, err := m.Endpoint(name, true)
			if err != nil || !strings.HasPrefix(strings.ToLower(at), "https://") || !metadata.IsDirect(name) {
				t.Errorf("alias %q: %q, %v", name, at, err)
			}
		}
		if again, err := ParseMetadata(m.Raw, issuer); err != nil || len(again.Aliases()) != len(m.Aliases()) {
			t.Errorf("read again: %v", err)
		}
	})
}
