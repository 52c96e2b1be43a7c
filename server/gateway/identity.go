package gateway

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/internal/memo"
	"github.com/certbound/certbound/resourceserver"
)

// IdentityConfig says what goes upstream about the caller. The zero value is nothing.
type IdentityConfig struct {
	// ClientCert sends the client's certificate in Client-Cert (RFC 9440, Section 2.2),
	// ClientCertChain the rest of its chain in Client-Cert-Chain, too.
	ClientCert, ClientCertChain bool
	// Claims sends claims of the token in fields of their own.
	Claims []ClaimField
	// Assertion, if set, sends a signed JWT.
	Assertion *AssertionConfig
}

// A ClaimField is a claim of the token and the field that it goes into. A text stands
// there as it is, but for bytes that are not printable ASCII and for percent signs, which
// are percent-encoded; a list of texts, and scope, is separated by single spaces;
// everything else is JSON.
type ClaimField struct{ Claim, Field string }

// AssertionConfig holds the settings of the signed JWT: iss, aud, iat, exp, and of the
// token sub, client_id, scope, jti (as token_id) and cnf.
type AssertionConfig struct {
	Field string
	// Issuer and Audience are the claims iss and aud. Required.
	Issuer, Audience string
	// Key signs, with Algorithm; KeyID names it. Required.
	Key       crypto.Signer
	Algorithm string // ES256, PS256, EdDSA or RS256
	KeyID     string
	// Lifetime is how long the assertion is valid, at most as long as the token. It is
	// used for several requests. If zero, one minute.
	Lifetime time.Duration
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// An Identity writes what goes upstream about the caller. A nil one writes nothing. It is
// safe for concurrent use.
type Identity struct {
	cfg    IdentityConfig
	fields []string
	known  bool // all claims are in knownClaims
	signer *jws.Signer
	signed *memo.Memo[signedAssertion]
	// encoded are certificates as they stand in the fields, by what a client presents.
	encoded *memo.Memo[[2]string]
}

type signedAssertion struct {
	text  string
	until time.Time
}

const (
	fieldClientCert      = "Client-Cert"
	fieldClientCertChain = "Client-Cert-Chain"
	assertionType        = "client-assertion+jwt"
	maxAssertions        = 16 << 20 // bytes that are remembered
	maxEncoded           = 8 << 20
)

// NewIdentity reports every wrong setting at once.
func NewIdentity(cfg IdentityConfig) (*Identity, error) {
	id := &Identity{cfg: cfg, encoded: memo.New[[2]string](maxEncoded)}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("gateway: identity: "+format, args...))
	}
	add := func(setting, name string) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !isFieldName(name):
			fault("%s: expected a header name of letters, digits and hyphens, found %q", setting, name)
		case slices.Contains(id.fields, canonical):
			fault("%s: another setting has the field %s, too", setting, name)
		case slices.Contains(reserved, canonical):
			fault("%s: %s has a meaning of its own", setting, name)
		}
		id.fields = append(id.fields, canonical)
	}
	if cfg.ClientCertChain && !cfg.ClientCert {
		fault("ClientCertChain: needs ClientCert (RFC 9440, Section 2.3)")
	}
	if cfg.ClientCert {
		id.fields = append(id.fields, fieldClientCert)
		if cfg.ClientCertChain {
			id.fields = append(id.fields, fieldClientCertChain)
		}
	}
	id.cfg.Claims = slices.Clone(cfg.Claims)
	id.known = true
	for i, c := range cfg.Claims {
		id.known = id.known && knownClaims[c.Claim] != nil
		if c.Claim == "" {
			fault("Claims: no claim for the field %s", c.Field)
		}
		add("Claims", c.Field)
		id.cfg.Claims[i].Field = http.CanonicalHeaderKey(c.Field)
	}
	if a := cfg.Assertion; a != nil {
		own := *a
		id.cfg.Assertion = &own
		add("Assertion", a.Field)
		own.Field = http.CanonicalHeaderKey(a.Field)
		if a.Issuer == "" || a.Audience == "" {
			fault("Assertion: Issuer or Audience is not set: an upstream could not tell it from another's")
		}
		if own.Lifetime == 0 {
			own.Lifetime = time.Minute
		}
		if own.Lifetime < time.Second || own.Lifetime > time.Hour {
			fault("Assertion: Lifetime: expected 1 s to 1 h, found %v", own.Lifetime)
		}
		if own.Now == nil {
			own.Now = time.Now
		}
		var err error
		if id.signer, err = jws.NewSigner(a.Algorithm, assertionType, a.KeyID, a.Key); err != nil {
			fault("Assertion: Key: %w", err)
		}
		id.signed = memo.New[signedAssertion](maxAssertions)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return id, nil
}

// reserved are fields that claims must not overwrite.
var reserved = []string{
	"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", fieldClientCert, fieldClientCertChain,
	resourceserver.RequestIDHeader,
}

func isFieldName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxFieldName
}

// Fields returns the names of the fields that it may set, canonical.
func (id *Identity) Fields() []string {
	if id == nil {
		return nil
	}
	return id.fields
}

// set sets the fields that there is something to say in.
func (id *Identity) set(h http.Header, v *Verdict) error {
	if id == nil {
		return nil
	}
	if id.cfg.ClientCert && v.Presented.Leaf() != nil {
		leaf, chain := id.certificate(v.Presented)
		h[fieldClientCert] = []string{leaf}
		if chain != "" {
			h[fieldClientCertChain] = []string{chain}
		}
	}
	if v.Token == nil {
		return nil
	}
	if len(id.cfg.Claims) > 0 {
		id.setClaims(h, v.Token)
	}
	if a := id.cfg.Assertion; a != nil {
		text, err := id.assertion(a, v)
		if err != nil {
			return fmt.Errorf("gateway: identity: %w", err)
		}
		h[a.Field] = []string{text}
	}
	return nil
}

// certificate returns the values of the two fields. They are encoded once for a chain that
// a client sends.
func (id *Identity) certificate(p *certsource.Presented) (leaf, chain string) {
	digest := p.Digest()
	key := string(digest[:])
	if e, ok := id.encoded.Get(key); ok {
		return e[0], e[1]
	}
	leaf = byteSequence(p.Leaf().Raw)
	if id.cfg.ClientCertChain && len(p.Chain()) > 0 {
		items := make([]string, len(p.Chain()))
		for i, c := range p.Chain() {
			items[i] = byteSequence(c.Raw)
		}
		chain = strings.Join(items, ", ")
	}
	id.encoded.Put(key, [2]string{leaf, chain}, len(key)+len(leaf)+len(chain))
	return leaf, chain
}

// byteSequence returns a Byte Sequence of structured fields (RFC 8941, Section 3.3.5).
func byteSequence(b []byte) string {
	out := make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+2)
	out = append(out, ':')
	out = base64.StdEncoding.AppendEncode(out, b)
	return string(append(out, ':'))
}

// knownClaims are those that are read once for a token, and not for each request.
var knownClaims = map[string]func(*resourceserver.Token) string{
	"iss": func(t *resourceserver.Token) string { return t.Issuer }, "sub": func(t *resourceserver.Token) string { return t.Subject },
	"client_id": func(t *resourceserver.Token) string { return t.ClientID }, "jti": func(t *resourceserver.Token) string { return t.ID },
	"scope": func(t *resourceserver.Token) string { return strings.Join(t.Scopes, " ") },
}

func (id *Identity) setClaims(h http.Header, t *resourceserver.Token) {
	if id.known {
		for _, c := range id.cfg.Claims {
			if text := encodeField(knownClaims[c.Claim](t)); text != "" {
				h[c.Field] = []string{text}
			}
		}
		return
	}
	// The payload was read as strictly before, so there is no error.
	_ = jws.Members(t.Claims, func(name, value []byte) {
		for _, c := range id.cfg.Claims {
			if c.Claim == string(name) {
				if text := claimText(value); text != "" {
					h[c.Field] = []string{text}
				}
			}
		}
	})
}

// claimText returns the value of a claim as it stands in a header field.
func claimText(value []byte) string {
	text, ok := jws.Text(value)
	if !ok {
		text = string(value)
		var list []string
		switch {
		case text == "null":
			return ""
		case json.Unmarshal(value, &list) == nil:
			// A space in an element would make two of it.
			for i := range list {
				list[i] = strings.ReplaceAll(encodeField(list[i]), " ", "%20")
			}
			return strings.Join(list, " ")
		}
	}
	return encodeField(text)
}

// encodeField percent-encodes what cannot stand in a header field, or not at its ends.
func encodeField(s string) string {
	const digits = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		c := s[i]
		bad := c < 0x20 || c > 0x7e || c == '%' || c == ' ' && (i == 0 || i == len(s)-1)
		if bad && b == nil {
			b = append(make([]byte, 0, len(s)+8), s[:i]...)
		}
		switch {
		case bad:
			b = append(b, '%', digits[c>>4], digits[c&15])
		case b != nil:
			b = append(b, c)
		}
	}
	if b == nil {
		return s
	}
	return string(b)
}

// assertion returns the signed JWT for a token and a certificate. One signature serves
// the requests of half its lifetime.
func (id *Identity) assertion(a *AssertionConfig, v *Verdict) (string, error) {
	now := a.Now()
	t := v.Token
	key := t.ID + "\x00" + t.ClientID + "\x00" + t.Subject + "\x00" + t.Confirmation.X5TS256 + "\x00" +
		strconv.FormatInt(t.Expires.Unix(), 36) + "\x00" + strings.Join(t.Scopes, " ")
	if s, ok := id.signed.Get(key); ok && now.Before(s.until) {
		return s.text, nil
	}
	expires := now.Add(a.Lifetime)
	if !t.Expires.IsZero() && t.Expires.Before(expires) {
		expires = t.Expires
	}
	claims := struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		Issued   int64  `json:"iat"`
		Expires  int64  `json:"exp"`
		Subject  string `json:"sub,omitempty"`
		ClientID string `json:"client_id,omitempty"`
		Scope    string `json:"scope,omitempty"`
		TokenID  string `json:"token_id,omitempty"`
		Cnf      *struct {
			X5TS256 string `json:"x5t#S256"`
		} `json:"cnf,omitempty"`
	}{
		Issuer: a.Issuer, Audience: a.Audience, Issued: now.Unix(), Expires: expires.Unix(),
		Subject: t.Subject, ClientID: t.ClientID, Scope: strings.Join(t.Scopes, " "), TokenID: t.ID,
	}
	if t.Confirmation.X5TS256 != "" {
		claims.Cnf = &struct {
			X5TS256 string `json:"x5t#S256"`
		}{t.Confirmation.X5TS256}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text, err := id.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	id.signed.Put(key, signedAssertion{text, now.Add(expires.Sub(now) / 2)}, len(key)+len(text))
	return text, nil
}
