package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/internal/fixture"
)

// resign makes the provider sign other ID tokens, with a key of its own.
func resign(t *testing.T, change func(claims map[string]any)) func(path string, body []byte) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := jose.JSONWebKey{Key: key, KeyID: t.Name(), Algorithm: "ES256", Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: own}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	return func(path string, body []byte) []byte {
		switch path {
		case "/jwks":
			var set jose.JSONWebKeySet
			if err := json.Unmarshal(body, &set); err != nil {
				t.Error(err)
			}
			set.Keys = append(set.Keys, own.Public())
			body, _ = json.Marshal(set)
		case "/token":
			var doc map[string]any
			if err := json.Unmarshal(body, &doc); err != nil {
				t.Error(err)
			}
			raw, _ := doc["id_token"].(string)
			claims := fixture.Claims(raw)
			change(claims)
			payload, _ := json.Marshal(claims)
			object, err := signer.Sign(payload)
			if err != nil {
				t.Error(err)
				return nil
			}
			doc["id_token"], _ = object.CompactSerialize()
			body, _ = json.Marshal(doc)
		}
		return body
	}
}

// Somebody sits down at Ann's desk in the afternoon. The client asks for a login of now, with
// prompt=login or max_age, and the provider answers from the session of the morning, or with
// an ID token that does not say when the login was. Each of these was taken for a login of
// this moment, and the ID token of ours said so.
func TestAttackOldLoginForANewOne(t *testing.T) {
	b := newBench(t)
	for name, tt := range map[string]struct {
		ago   int64 // seconds; negative: not told
		pairs []string
		good  bool
	}{
		"prompt=login, this morning":       {4 * 3600, []string{"prompt", "login"}, false},
		"prompt=login, nobody knows when":  {-1, []string{"prompt", "login"}, false},
		"prompt=login, just now":           {1, []string{"prompt", "login"}, true},
		"max_age=0, this morning":          {4 * 3600, []string{"max_age", "0"}, false},
		"max_age, nobody knows when":       {-1, []string{"max_age", "600"}, false},
		"max_age, longer ago than allowed": {700, []string{"max_age", "600"}, false},
		"max_age, within it":               {500, []string{"max_age", "600"}, true},
		"nothing asked, nobody knows when": {-1, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			b.set(resign(t, func(claims map[string]any) {
				delete(claims, "auth_time")
				if tt.ago >= 0 {
					claims["auth_time"] = time.Now().Unix() - tt.ago
				}
			}), false)
			defer b.set(nil, false)
			p := b.login(t, b.browser(t), "ann", tt.pairs...)
			if tt.good {
				b.idToken(t, p)
				return
			}
			wantRedirect(t, p, "login_required")
			b.logged(t, "auth_time: expected a login since")
		})
	}
}

// The operator has chosen the address as the name of people, as many do. Mallory has an account
// at the same provider and writes Ann's address into it, which nobody has verified: he was
// Ann here.
func TestAttackUnverifiedAddress(t *testing.T) {
	for name, verified := range map[string]json.RawMessage{"false": json.RawMessage("false"), "not said": nil} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.SubjectClaim = "email" })
			claims := map[string]json.RawMessage{"email": json.RawMessage(`"ann@op.test"`)}
			if verified != nil {
				claims["email_verified"] = verified
			}
			if _, err := b.people.Add(t.Context(), "mallory", password, claims); err != nil {
				t.Fatal(err)
			}
			wantRedirect(t, b.login(t, b.browser(t), "mallory"), "server_error")
			b.logged(t, "expected email_verified true beside email")
		})
	}
}

// hanging is a provider that takes the connection and says nothing.
type hanging struct {
	asked   atomic.Int64
	release chan struct{}
}

func (h *hanging) RoundTrip(*http.Request) (*http.Response, error) {
	h.asked.Add(1)
	<-h.release
	return nil, http.ErrHandlerTimeout
}

// The provider hangs, and a stranger opens login after login: each waited for its turn to ask
// for 15 seconds, so that the tenth waited for minutes, and so did people when the provider
// was back. All who wait share one question, and who goes away waits no more.
func TestAttackLoginsWhileTheProviderHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{release: make(chan struct{})}
		l, err := New(Config{Issuer: providerURL, ClientID: "ours", RedirectURL: fixture.Issuer + "/login/callback", HTTPClient: &http.Client{Transport: h}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var failed, gone atomic.Int64
		for range 20 {
			wg.Go(func() {
				if _, err := l.discover(t.Context()); err != nil {
					failed.Add(1)
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := l.discover(ctx); errors.Is(err, context.Canceled) {
				gone.Add(1)
			}
		})
		synctest.Wait() // all of them wait
		cancel()
		synctest.Wait()
		if gone.Load() != 1 || failed.Load() != 0 {
			t.Errorf("%d have gone, %d have failed", gone.Load(), failed.Load())
		}
		close(h.release)
		wg.Wait()
		if failed.Load() != 20 || h.asked.Load() != 1 {
			t.Errorf("%d of 20 have their answer, asked %d times", failed.Load(), h.asked.Load())
		}
		if _, err := l.discover(t.Context()); err == nil || h.asked.Load() != 2 {
			t.Errorf("a failure is remembered: %v, asked %d times", err, h.asked.Load())
		}
	})
}
