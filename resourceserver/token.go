package resourceserver

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/jws"
)

// A Token is an access token that was accepted. It may be shared by requests, so it
// must not be changed.
type Token struct {
	// Issuer is empty if an introspection answer has no iss.
	Issuer   string
	Subject  string
	ClientID string
	ID       string // jti
	Audience []string
	Scopes   []string
	// Issued, NotBefore and Expires are zero if the token does not say.
	Issued, NotBefore, Expires time.Time
	// Confirmation is what the token is bound to. It is zero for a token that is
	// not bound.
	Confirmation certbound.Confirmation
	// Claims is the whole payload or introspection answer, as received.
	Claims json.RawMessage

	hasIssuer, hasExpiry bool
	introspected         bool
	confirmationFault    error // cnf is there, but is none
}

// HasScope reports whether the token has a scope.
func (t *Token) HasScope(scope string) bool { return slices.Contains(t.Scopes, scope) }

// A claimError says what is wrong with a payload or an introspection answer.
type claimError struct{ fault string }

func (e *claimError) Error() string { return "resourceserver: claims: " + e.fault }

const (
	maxScopes    = 200
	maxAudiences = 100
)

// parseClaims reads a payload or an introspection answer by the exact names of the
// claims. A fault of cnf is kept, not returned, so that the binding is judged in its
// turn; every other fault makes the token malformed. active is the value of "active", nil
// if absent.
func parseClaims(data []byte) (t *Token, active *bool, err error) {
	t = &Token{Claims: data}
	fault := ""
	fail := func(text string) {
		if fault == "" {
			fault = text
		}
	}
	str := func(name string, value []byte) string {
		s, ok := jws.Text(value)
		if !ok {
			fail(name + " is not a string")
		}
		return s
	}
	date := func(name string, value []byte) time.Time {
		d, ok := numericDate(value)
		if !ok {
			fail(name + " is not a date in seconds")
		}
		return d
	}
	err = jws.Members(data, func(name, value []byte) {
		switch string(name) {
		case "active":
			switch string(value) {
			case "true", "false":
				active = new(string(value) == "true")
			default:
				fail("active is neither true nor false")
			}
		case "iss":
			t.Issuer, t.hasIssuer = str("iss", value), true
		case "sub":
			t.Subject = str("sub", value)
		case "client_id":
			t.ClientID = str("client_id", value)
		case "jti":
			t.ID = str("jti", value)
		case "aud":
			if t.Audience = audience(value); t.Audience == nil {
				fail("aud is neither a string nor an array of strings")
			}
		case "scope":
			t.Scopes = strings.Fields(str("scope", value))
			if len(t.Scopes) > maxScopes {
				fail("scope has too many values")
			}
		case "exp":
			t.Expires, t.hasExpiry = date("exp", value), true
		case "nbf":
			t.NotBefore = date("nbf", value)
		case "iat":
			t.Issued = date("iat", value)
		case "cnf":
			t.Confirmation, t.confirmationFault = certbound.ParseConfirmation(value)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if fault != "" {
		return nil, nil, &claimError{fault}
	}
	return t, active, nil
}

func audience(value []byte) []string {
	if s, ok := jws.Text(value); ok {
		return []string{s}
	}
	var list []*string
	if json.Unmarshal(value, &list) != nil || len(list) > maxAudiences {
		return nil
	}
	out := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return nil
		}
		out[i] = *s
	}
	return out
}

// numericDate reads a NumericDate (RFC 7519, Section 2). A fraction is cut off. The
// range is that of years with four digits.
func numericDate(value []byte) (time.Time, bool) {
	const last = 253402300799
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return time.Unix(n, 0), 0 <= n && n <= last
	}
	if len(value) == 0 || value[0] == '"' || len(value) > 40 {
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !(0 <= f && f <= last) {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// dates judges exp and nbf. Clocks may differ by leeway where the token begins; the end
// has none, so that nothing here ever outlives exp (RFC 7662, Section 4).
func (t *Token) dates(now time.Time, leeway time.Duration) (decision.Check, bool) {
	c := decision.Check{Name: decision.CheckToken, Rule: "RFC 7519, Sections 4.1.4 and 4.1.5"}
	switch {
	case t.hasExpiry && !now.Before(t.Expires):
		c.Reason = decision.TokenExpired
		c.Expected = "a time before exp " + t.Expires.UTC().Format(time.RFC3339)
	case t.NotBefore.After(now.Add(leeway)):
		c.Reason = decision.TokenNotYetValid
		c.Expected = "a time after nbf " + t.NotBefore.UTC().Format(time.RFC3339)
	default:
		return c, true
	}
	c.Found = now.UTC().Format(time.RFC3339)
	return c, false
}
