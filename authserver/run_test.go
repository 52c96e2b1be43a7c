package authserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

// countingStore counts reads and writes, and can fail.
type countingStore struct {
	authserver.Store
	reads, writes atomic.Int64
	fails         atomic.Bool
}

var errDown = errors.New("store: connection refused")

func (s *countingStore) down() error {
	if s.fails.Load() {
		return errDown
	}
	return nil
}

func (s *countingStore) Client(ctx context.Context, id string) (*authserver.Client, error) {
	s.reads.Add(1)
	if err := s.down(); err != nil {
		return nil, err
	}
	return s.Store.Client(ctx, id)
}

func (s *countingStore) ClientChanges(ctx context.Context, since int64, max int) ([]string, int64, bool, error) {
	if err := s.down(); err != nil {
		return nil, 0, false, err
	}
	return s.Store.ClientChanges(ctx, since, max)
}

func (s *countingStore) SaveToken(ctx context.Context, t *authserver.OpaqueToken) error {
	s.writes.Add(1)
	if err := s.down(); err != nil {
		return err
	}
	return s.Store.SaveToken(ctx, t)
}

func (s *countingStore) SaveCertificate(ctx context.Context, c authserver.CertificateRecord) error {
	s.writes.Add(1)
	if err := s.down(); err != nil {
		return err
	}
	return s.Store.SaveCertificate(ctx, c)
}

func (s *countingStore) SigningKeys(ctx context.Context) ([]authserver.SigningKey, error) {
	if err := s.down(); err != nil {
		return nil, err
	}
	return s.Store.SigningKeys(ctx)
}

func (s *countingStore) Revoked(ctx context.Context, jti string) (bool, error) {
	if err := s.down(); err != nil {
		return false, err
	}
	return s.Store.Revoked(ctx, jti)
}

func (s *countingStore) Revoke(ctx context.Context, jti string, expires time.Time) error {
	s.writes.Add(1)
	if err := s.down(); err != nil {
		return err
	}
	return s.Store.Revoke(ctx, jti, expires)
}

func TestStoreUse(t *testing.T) {
	store := &countingStore{Store: memstore.New()}
	as := fixture.Start(t, func(c *authserver.Config) { c.Store = store })
	l1 := as.As(t, as.L1)
	// The cache is used as soon as Run follows the store.
	waitFor(t, func() bool {
		before := store.reads.Load()
		fixture.Token(t, l1, "c-dn")
		return store.reads.Load() == before
	})
	t.Run("one row for a new certificate, then no read and no write", func(t *testing.T) {
		reads, writes := store.reads.Load(), store.writes.Load()
		for range 20 {
			wantOK(t, fixture.Token(t, l1, "c-dn"))
		}
		if r, w := store.reads.Load()-reads, store.writes.Load()-writes; r != 0 || w != 0 {
			t.Errorf("%d reads, %d writes", r, w)
		}
		wantOK(t, fixture.Token(t, as.As(t, as.L1r), "c-dn"))
		if w := store.writes.Load() - writes; w != 1 {
			t.Errorf("%d writes for a new certificate", w)
		}
		rec, err := store.Certificate(t.Context(), certbound.Thumbprint(as.L1.Cert))
		if err != nil || rec.ClientID != "c-dn" || rec.Serial != as.L1.Cert.SerialNumber.Text(16) || rec.Subject == "" ||
			!rec.NotAfter.Equal(as.L1.Cert.NotAfter) || len(rec.IssuerKeyID) < 20 || rec.TokensUntil.Before(time.Now().Add(10*time.Minute)) {
			t.Errorf("%+v %v", rec, err)
		}
		// A self-signed certificate without an authority key id has one of ours.
		wantOK(t, fixture.Token(t, as.As(t, as.S1), "c-self"))
		if rec, err := store.Certificate(t.Context(), certbound.Thumbprint(as.S1.Cert)); err != nil || len(rec.IssuerKeyID) < 20 {
			t.Errorf("%+v %v", rec, err)
		}
	})
	t.Run("ids that do not exist are remembered as well", func(t *testing.T) {
		wantIC(t, fixture.Token(t, l1, "nobody"))
		reads := store.reads.Load()
		for range 5 {
			wantIC(t, fixture.Token(t, l1, "nobody"))
		}
		if r := store.reads.Load() - reads; r != 0 {
			t.Errorf("%d reads", r)
		}
		as.Register(t, &authserver.Client{ID: "nobody", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN})
		wantOK(t, fixture.Token(t, l1, "nobody"))
	})
	t.Run("a change made elsewhere counts within a second", func(t *testing.T) {
		wantOK(t, fixture.Token(t, l1, "c-dns"))
		c, err := store.Store.Client(t.Context(), "c-dns")
		if err != nil {
			t.Fatal(err)
		}
		c.SANDNS = "other.example"
		if err := store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		changed := time.Now()
		waitFor(t, func() bool { return fixture.Token(t, l1, "c-dns").Status == 401 })
		t.Logf("seen after %v", time.Since(changed))
	})
	proves(t, "T-P-1", "a store that is down", func(t *testing.T) {
		store.fails.Store(true)
		defer store.fails.Store(false)
		wantError(t, fixture.Token(t, l1, "never-seen"), 503, "temporarily_unavailable")
		wantReason(t, as, decision.LookupFailed)
		wantError(t, fixture.Token(t, as.As(t, as.L1k), "c-dn"), 503, "temporarily_unavailable") // a new certificate cannot be remembered
		wantError(t, fixture.Token(t, l1, "c-dn-opaque"), 503, "temporarily_unavailable")
		if !strings.Contains(as.Log(), "connection refused") {
			t.Error("the cause is not in the log")
		}
	})
}

// waitFor waits for something that happens in the background.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not happen")
}

// bench is a server without a network, for tests with a clock of their own.
func newServer(t testing.TB, change func(*authserver.Config)) (*authserver.Server, authserver.Store) {
	t.Helper()
	cfg := authserver.Config{
		Issuer: fixture.Issuer, Store: memstore.New(), AuthMethods: []string{authserver.ClientSecretBasic},
		Resources: []string{fixture.Resource}, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := authserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg.Store
}

func post(h http.Handler, path, authorization, body string) (int, map[string]any) {
	r := httptest.NewRequest(http.MethodPost, fixture.Issuer+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	return w.Code, answer
}

func keysOf(t *testing.T, h http.Handler) map[string]bool {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, fixture.Issuer+"/jwks", nil))
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || w.Code != 200 {
		t.Fatal(w.Code, err)
	}
	out := map[string]bool{}
	for _, k := range set.Keys {
		if !k.IsPublic() {
			t.Fatal("a private key is published")
		}
		out[k.KeyID] = true
	}
	return out
}

func kidOf(t *testing.T, answer map[string]any) string {
	t.Helper()
	token, _ := answer["access_token"].(string)
	object, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
	if err != nil {
		t.Fatal(err, answer)
	}
	return object.Signatures[0].Header.KeyID
}

// TestKeyRotation follows keys for a day of rotations: whenever a token is signed, its key has been
// public for the time before, and stays public until the token has expired.
func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newServer(t, func(c *authserver.Config) {
			c.KeyRotation = authserver.KeyRotation{Every: 4 * time.Hour, Prepublish: time.Hour}
			c.TokenLifetime, c.MaxTokenLifetime = time.Hour, time.Hour
		})
		secret, hash := authserver.NewSecret()
		if err := store.CreateClient(t.Context(), &authserver.Client{ID: "c", SecretHash: hash}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer cancel()
		synctest.Wait()
		h := s.Handler()
		type issued struct {
			kid     string
			expires time.Time
		}
		var tokens []issued
		published := map[string]time.Time{}
		signers := map[string]bool{}
		for step := range 24 * 4 { // a day in quarters of an hour
			now := time.Now()
			keys := keysOf(t, h)
			for kid := range keys {
				if _, ok := published[kid]; !ok {
					published[kid] = now
				}
			}
			status, answer := post(h, "/token", fixture.Basic("c", secret), "grant_type=client_credentials")
			if status != 200 {
				t.Fatal(status, answer)
			}
			kid := kidOf(t, answer)
			if at, ok := published[kid]; !ok || len(signers) > 0 && !signers[kid] && now.Sub(at) < 45*time.Minute {
				t.Fatalf("step %d: key %s signs %v after it was published", step, kid, now.Sub(at))
			}
			signers[kid] = true
			tokens = append(tokens, issued{kid, now.Add(time.Hour)})
			for _, token := range tokens {
				if now.Before(token.expires) && !keys[token.kid] {
					t.Fatalf("step %d: the key of a token that lives has gone", step)
				}
			}
			if len(keys) > 3 {
				t.Fatalf("step %d: %d keys are public", step, len(keys))
			}
			time.Sleep(15 * time.Minute)
		}
		if len(signers) < 6 || len(signers) > 8 {
			t.Errorf("%d keys in a day", len(signers))
		}
		stored, err := store.SigningKeys(t.Context())
		if err != nil || len(stored) > 3 {
			t.Errorf("%d keys are kept: %v", len(stored), err)
		}
		// By command.
		kid, err := s.RotateKey(t.Context())
		if err != nil || signers[kid] || !keysOf(t, h)[kid] {
			t.Fatalf("%q %v", kid, err)
		}
		if _, answer := post(h, "/token", fixture.Basic("c", secret), "grant_type=client_credentials"); kidOf(t, answer) == kid {
			t.Error("a new key signs at once")
		}
		time.Sleep(time.Hour + time.Minute)
		if _, answer := post(h, "/token", fixture.Basic("c", secret), "grant_type=client_credentials"); kidOf(t, answer) != kid {
			t.Error("a new key does not sign")
		}
	})
}

// TestKeysOfSeveralProcesses starts processes on one store at the same time.
func TestKeysOfSeveralProcesses(t *testing.T) {
	store := memstore.New()
	var servers []*authserver.Server
	for range 4 {
		s, _ := newServer(t, func(c *authserver.Config) { c.Store = store })
		servers = append(servers, s)
	}
	secret, hash := authserver.NewSecret()
	if err := store.CreateClient(t.Context(), &authserver.Client{ID: "c", SecretHash: hash, MayIntrospect: true}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() {
			if status, answer := post(s.Handler(), "/token", fixture.Basic("c", secret), "grant_type=client_credentials"); status != 200 {
				t.Error(status, answer)
			}
		})
	}
	wg.Wait()
	stored, err := store.SigningKeys(t.Context())
	if err != nil || len(stored) != 1 {
		t.Fatalf("%d keys: %v", len(stored), err)
	}
	// A token of one is known to the others, also right after a rotation.
	_, answer := post(servers[0].Handler(), "/token", fixture.Basic("c", secret), "grant_type=client_credentials")
	for _, s := range servers {
		_, i := post(s.Handler(), "/introspect", fixture.Basic("c", secret), "token="+answer["access_token"].(string))
		if i["active"] != true {
			t.Error(i)
		}
	}
	for _, s := range servers {
		wg.Go(func() {
			if _, err := s.RotateKey(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestLostStore shows that a server which cannot follow changes stops using what it
// remembers.
func TestLostStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &countingStore{Store: memstore.New()}
		s, _ := newServer(t, func(c *authserver.Config) { c.Store = store })
		secret, hash := authserver.NewSecret()
		if err := store.CreateClient(t.Context(), &authserver.Client{ID: "c", SecretHash: hash}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer cancel()
		synctest.Wait()
		ask := func() int {
			status, _ := post(s.Handler(), "/token", fixture.Basic("c", secret), "grant_type=client_credentials")
			return status
		}
		if got := ask(); got != 200 {
			t.Fatal(got)
		}
		store.fails.Store(true)
		time.Sleep(time.Second)
		if got := ask(); got != 200 {
			t.Errorf("%d after one second", got)
		}
		time.Sleep(10 * time.Second)
		if got := ask(); got != 503 {
			t.Errorf("%d after ten seconds", got)
		}
		store.fails.Store(false)
		time.Sleep(time.Second)
		if got := ask(); got != 200 {
			t.Errorf("%d when the store is back", got)
		}
	})
}

// TestSweep shows that Run removes what has expired.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, store := newServer(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer cancel()
		if err := store.Revoke(t.Context(), "jti", time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Minute) // the margin for other clocks, and a round
		if revoked, err := store.Revoked(t.Context(), "jti"); err != nil || revoked {
			t.Errorf("%v %v", revoked, err)
		}
	})
}

func TestRunNeedsTheStore(t *testing.T) {
	store := &countingStore{Store: memstore.New()}
	store.fails.Store(true)
	s, _ := newServer(t, func(c *authserver.Config) { c.Store = store })
	if err := s.Run(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("%v", err)
	}
}
