package authserver

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/decision"
)

// keyStore keeps signing keys, and that is all that ID tokens need.
type keyStore struct {
	Store
	keys []SigningKey
}

func (s *keyStore) SigningKeys(context.Context) ([]SigningKey, error) { return s.keys, nil }
func (s *keyStore) AddSigningKey(_ context.Context, k SigningKey, _ string) error {
	s.keys = append(s.keys, k)
	return nil
}

func idServer(t testing.TB) *Server {
	t.Helper()
	s, err := New(Config{Issuer: "https://as.test", Store: new(keyStore), AuthMethods: []string{None}, Resources: []string{"https://rs.test"},
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// idTokenOf signs any payload as an ID token.
func idTokenOf(t testing.TB, s *Server, payload string) string {
	t.Helper()
	k, err := s.signingKey(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	value, err := k.id.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// An id_token_hint is a token that this server has made once, for whom it says.
func TestReadIDToken(t *testing.T) {
	s := idServer(t)
	good := idTokenOf(t, s, `{"iss":"https://as.test","sub":"alice","aud":"c","iat":1,"exp":2,"sid":"s"}`)
	if c, reason, err := s.readIDToken(t.Context(), good); err != nil || reason != "" || c.Subject != "alice" || c.Audience[0] != "c" || c.SessionID != "s" {
		t.Fatalf("%+v %s %v", c, reason, err)
	}
	k, _ := s.signingKey(t.Context(), time.Now())
	access, _ := k.signer.Sign([]byte(`{"iss":"https://as.test","sub":"alice","aud":"c","iat":1,"exp":2}`))
	for name, tt := range map[string]struct {
		value string
		want  decision.Reason
	}{
		"empty":              {"", decision.TokenMalformed},
		"access token":       {access, decision.TokenType},
		"another issuer":     {idTokenOf(t, s, `{"iss":"https://other.test","sub":"alice","aud":"c","iat":1,"exp":2}`), decision.IssuerMismatch},
		"nobody":             {idTokenOf(t, s, `{"iss":"https://as.test","aud":"c","iat":1,"exp":2}`), decision.TokenMalformed},
		"two audiences":      {idTokenOf(t, s, `{"iss":"https://as.test","sub":"alice","aud":["c","d"],"iat":1,"exp":2}`), decision.TokenMalformed},
		"from the future":    {idTokenOf(t, s, `{"iss":"https://as.test","sub":"alice","aud":"c","iat":99999999999,"exp":2}`), decision.TokenNotYetValid},
		"key of nobody":      {idTokenOf(t, idServer(t), `{"iss":"https://as.test","sub":"alice","aud":"c","iat":1,"exp":2}`), decision.TokenKeyUnknown},
		"signature changed":  {good[:len(good)-8] + "AAAAAAAA", decision.TokenSignature},
		"payload of another": {swapPayload(good, idTokenOf(t, s, `{"iss":"https://as.test","sub":"mallory","aud":"c","iat":1,"exp":2}`)), decision.TokenSignature},
	} {
		if c, reason, err := s.readIDToken(t.Context(), tt.value); c != nil || reason != tt.want || err != nil {
			t.Errorf("%s: %+v, %q (want %q), %v", name, c, reason, tt.want, err)
		}
	}
}

func swapPayload(token, from string) string {
	a, b := strings.Split(token, "."), strings.Split(from, ".")
	return a[0] + "." + b[1] + "." + a[2]
}

func FuzzReadIDToken(f *testing.F) {
	s := idServer(f)
	k, err := s.signingKey(f.Context(), time.Now())
	if err != nil {
		f.Fatal(err)
	}
	sign := func(payload string) string {
		value, err := k.id.Sign([]byte(payload))
		if err != nil {
			return payload
		}
		return value
	}
	for _, p := range []string{`{"iss":"https://as.test","sub":"alice","aud":"c","iat":1,"exp":2}`, `{}`, `[]`, `{"sub":1}`, `{"iss":"https://as.test","sub":"a","aud":["c"],"SUB":"b"}`} {
		f.Add(p, true)
		f.Add(sign(p), false)
	}
	f.Fuzz(func(t *testing.T, text string, signed bool) {
		if signed {
			text = sign(text)
		}
		c, reason, err := s.readIDToken(context.Background(), text)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if (c == nil) == (reason == "") {
			t.Errorf("claims %v beside the reason %q", c, reason)
		}
		if c != nil && (c.Issuer != "https://as.test" || c.Subject == "" || len(c.Audience) != 1) {
			t.Errorf("accepted %+v", c)
		}
	})
}

// A verifier fits the challenge that was made of it, and no other.
func FuzzVerifierFits(f *testing.F) {
	f.Add("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM") // RFC 7636, Appendix B
	f.Add("", "")
	f.Add(strings.Repeat("a", 43), strings.Repeat("a", 43))
	f.Fuzz(func(t *testing.T, verifier, challenge string) {
		if !verifierFits(verifier, challenge) {
			return
		}
		if len(verifier) < 43 || len(verifier) > 128 || len(challenge) != 43 || verifierFits(verifier+"a", challenge) || verifierFits(verifier, verifier) {
			t.Errorf("%q fits %q", verifier, challenge)
		}
	})
}

func TestVerifierFits(t *testing.T) {
	if !verifierFits("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM") {
		t.Error("the example of RFC 7636, Appendix B, does not fit")
	}
}
