package authserver_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/decision"
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

// A stingy body comes in small pieces, and tells how much room there is for it.
type stingyBody struct {
	io.Reader
	room int
}

func (b *stingyBody) Read(p []byte) (int, error) {
	b.room = max(b.room, len(p))
	return b.Reader.Read(p[:min(len(p), 100)])
}

func (b *stingyBody) Close() error { return nil }

// A flooder announces bodies of 64 KiB on a hundred streams of each connection, and sends none
// of them: each took its 64 KiB at once. Memory grows with what has come.
func TestAttackAnnouncedBodies(t *testing.T) {
	h := serverWithPeople(t)
	send := func(body string, announced int) (code, room int) {
		b := &stingyBody{Reader: strings.NewReader(body)}
		r := httptest.NewRequest(http.MethodPost, fixture.Issuer+"/par", nil)
		r.Body, r.ContentLength = b, int64(announced)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, b.room
	}
	if code, room := send("client_id=w-dn", 60_000); code != http.StatusBadRequest || room > 4<<10 {
		t.Errorf("%d, with room for %d bytes", code, room)
	}
	for _, n := range []int{0, 3000, 4000, 10_000, 40_000, 60_000} { // whole, in pieces
		v := requestOf("x", strings.Repeat("y", n)).Encode()
		if code, _ := send(v, len(v)); code != http.StatusCreated {
			t.Errorf("%d bytes: %d", len(v), code)
		}
	}
}

// A disabling store disables a person between two steps of their login.
type disablingStore struct {
	authserver.GrantStore
	armed atomic.Bool
}

func (s *disablingStore) SavePerson(ctx context.Context, p *authserver.Person) error {
	if s.armed.Swap(false) {
		if err := s.GrantStore.SavePerson(ctx, &authserver.Person{Subject: p.Subject, Disabled: true, Updated: time.Now()}); err != nil {
			return err
		}
	}
	return s.GrantStore.SavePerson(ctx, p)
}

// Mallory is to be disabled, and logs in at the same moment. The login had looked at him before,
// and wrote down his name and address after: the record said no more that he is
// disabled, and he had a session.
func TestAttackLoginWhileBeingDisabled(t *testing.T) {
	store := &disablingStore{}
	as := startPeople(t, func(c *authserver.Config) {
		store.GrantStore = c.Store.(authserver.GrantStore)
		c.Store = store
	})
	b := newBrowser(t, as)
	store.armed.Store(true)
	wantErrorPage(t, b.login(authorizeURL("client_id", "w-own"), "ann"), 403, "access_denied")
	wantReason(t, as, decision.PersonDisabled)
	if p, err := store.Person(t.Context(), "ann"); err != nil || !p.Disabled {
		t.Errorf("%+v, %v", p, err)
	}
	wantErrorPage(t, b.login(authorizeURL("client_id", "w-own"), "ann"), 403, "access_denied")
}
