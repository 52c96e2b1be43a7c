package authserver_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/internal/fixture"
)

// requestStore counts the authorization requests that are kept, and keeps none.
type requestStore struct {
	authserver.GrantStore
	bytes, count atomic.Int64
}

func (s *requestStore) SaveRequest(ctx context.Context, r *authserver.AuthorizationRequest) error {
	s.bytes.Add(int64(len(r.Parameters)))
	s.count.Add(1)
	return nil
}

// A flooder opens the authorization endpoint again and again with a large state, or pushes as
// a public client: each request was a row of up to 16 KiB for half an hour, at 1,000 a second
// more than 20 GB, and more than is swept. What anybody can make the server keep is bounded for each
// client; other clients, and those that authenticate, do not notice.
func TestAttackFloodOfAuthorizationRequests(t *testing.T) {
	store := &requestStore{GrantStore: memstore.New()}
	var offset atomic.Int64
	secret, hash := authserver.NewSecret()
	client := func(id, method string) *authserver.Client {
		c := &authserver.Client{ID: id, AuthMethod: method, Scope: "openid read", GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{callback}}
		if method == authserver.ClientSecretBasic {
			c.SecretHash = hash
		}
		return c
	}
	s, err := authserver.New(authserver.Config{
		Issuer: fixture.Issuer, Store: store, AuthMethods: []string{authserver.None, authserver.ClientSecretBasic}, Resources: []string{fixture.Resource},
		Scopes: []string{"openid", "read"}, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) },
		Authorization: authserver.Authorization{Enabled: true, Login: fakeLogin{}},
		Clients:       []*authserver.Client{client("public", authserver.None), client("other", authserver.None), client("secret", authserver.ClientSecretBasic)},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	open := func(id, state string) int {
		return getAuthorize(h, requestOf("client_id", id, "state", state, "prompt", "consent").Encode()).Code
	}
	pushAs := func(id, secret string) int {
		v := requestOf("client_id", id)
		r := httptest.NewRequest(http.MethodPost, fixture.Issuer+"/par", strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if secret != "" {
			r.Header.Set("Authorization", fixture.Basic(id, secret))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	large := strings.Repeat("x", 2048)
	const most = 64 << 20
	refused := false
	for range most/2048 + 1 { // the parameters are larger than the state
		if code := open("public", large); code == http.StatusTooManyRequests {
			refused = true
			break
		} else if code != http.StatusSeeOther {
			t.Fatal(code)
		}
	}
	if !refused || store.bytes.Load() > most {
		t.Fatalf("%d requests with %d bytes are kept", store.count.Load(), store.bytes.Load())
	}
	for name, tt := range map[string]struct{ got, want int }{
		"small":                          {open("public", "s"), http.StatusTooManyRequests},
		"pushed":                         {pushAs("public", ""), http.StatusTooManyRequests},
		"of another client":              {open("other", "s"), http.StatusSeeOther},
		"of a client that authenticates": {pushAs("secret", secret), http.StatusCreated},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d, want %d", name, tt.got, tt.want)
		}
	}
	offset.Store(int64(30 * time.Minute))
	if code := open("public", "s"); code != http.StatusSeeOther {
		t.Errorf("later: %d", code)
	}
}
