package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
)

const (
	password = "correct horse battery"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	callback = "https://app.test/cb"
)

// A clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A bench is a server whose people have accounts, and a client of theirs.
type bench struct {
	*fixture.AS
	dir   *Directory
	login *Login
	clock *clock
	store *Memory
	log   strings.Builder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{clock: &clock{now: time.Now()}, store: &Memory{}}
	b.dir = &Directory{Store: b.store, Cost: cheap, Now: b.clock.Now}
	b.login = NewLogin(b.dir, slog.New(slog.NewTextHandler(&b.log, nil)))
	b.login.step = 1
	b.AS = fixture.Start(t, func(c *authserver.Config) {
		c.Scopes = []string{"openid", "read"}
		c.Authorization = authserver.Authorization{Enabled: true, Login: b.login}
	})
	b.dir.Grants = b.AS.Store.(authserver.GrantStore)
	b.Register(t, &authserver.Client{ID: "app", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true, Scope: "openid read",
		Resources: []string{fixture.Resource}, GrantTypes: []string{"authorization_code", "refresh_token"}, RedirectURIs: []string{callback}})
	return b
}

func (b *bench) browser(t *testing.T) *fixture.Browser {
	t.Helper()
	return fixture.NewBrowser(t, b.As(t, nil), "as.test")
}

func request(pairs ...string) string {
	sum := sha256.Sum256([]byte(verifier))
	v := url.Values{"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid read"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return fixture.Issuer + "/authorize?" + v.Encode()
}

// tokens goes all the way, and redeems the code.
func (b *bench) tokens(t *testing.T, br *fixture.Browser, name string) *fixture.Answer {
	t.Helper()
	p := br.Submit(br.Open(request()), "name", name, "password", password)
	if p.Status == http.StatusOK {
		p = br.Submit(p, "decision", "allow")
	}
	if p.Query("code") == "" {
		t.Fatalf("expected a code, found %d %s\n%s", p.Status, p.At, p.Heading())
	}
	r := fixture.Post(t, b.As(t, b.L1), fixture.MTLSBase+"/token", "client_id", "app", "grant_type", "authorization_code",
		"code", p.Query("code"), "redirect_uri", callback, "code_verifier", verifier)
	if r.Status != http.StatusOK {
		t.Fatalf("expected tokens, found %d %s", r.Status, r.Text)
	}
	return r
}

func (b *bench) add(t *testing.T, name string, claims map[string]json.RawMessage) *User {
	t.Helper()
	u, err := b.dir.Add(t.Context(), name, password, claims)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// wantRefused wants the login page again, with the one sentence there is.
func wantRefused(t *testing.T, p fixture.Page) {
	t.Helper()
	if p.Status != http.StatusUnauthorized || !strings.Contains(p.Text, fault) || !strings.Contains(p.Text, `id="login"`) {
		t.Fatalf("expected the login page with its fault, found %d %s\n%s", p.Status, p.At, p.Heading())
	}
}

func TestLogin(t *testing.T) {
	b := newBench(t)
	ann := b.add(t, "Ann", map[string]json.RawMessage{"name": json.RawMessage(`"Ann Example"`)})

	t.Run("right, in another spelling", func(t *testing.T) {
		br := b.browser(t)
		p := br.Submit(br.Open(request()), "name", "ＡＮＮ", "password", password)
		if p.Status != http.StatusOK || !strings.Contains(p.Text, "Ann Example") {
			t.Fatalf("expected the consent page with the person's name, found %d\n%s", p.Status, p.Heading())
		}
	})
	t.Run("the tokens", func(t *testing.T) {
		r := b.tokens(t, b.browser(t), "ann")
		id := fixture.Claims(r.JSON["id_token"].(string))
		if id["sub"] != ann.Subject || !strings.HasPrefix(ann.Subject, "p-") || fixture.Claims(r.AccessToken())["sub"] != ann.Subject {
			t.Errorf("sub is %v, want %s", id["sub"], ann.Subject)
		}
		if amr, _ := id["amr"].([]any); len(amr) != 1 || amr[0] != "pwd" {
			t.Errorf("amr is %v", id["amr"])
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		br := b.browser(t)
		p := br.Submit(br.Open(request()), "name", "ann", "password", "wrong horse battery")
		wantRefused(t, p)
		if !strings.Contains(p.Text, `value="ann"`) || strings.Contains(p.Text, "wrong horse") {
			t.Error("expected the name, and not the password, in the form")
		}
		if p = br.Submit(p, "name", "ann", "password", password); p.Query("code") == "" { // allowed before
			t.Errorf("the same page does not take the right one: %d %s", p.Status, p.At)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		br := b.browser(t)
		if p := br.Submit(br.Open(request()), "decision", "cancel"); p.Query("error") != "access_denied" {
			t.Errorf("found %s", p.At)
		}
	})
	t.Run("somebody else than had to", func(t *testing.T) {
		b.add(t, "bob", nil)
		br := b.browser(t)
		hint := b.tokens(t, br, "ann").JSON["id_token"].(string)
		p := br.Submit(br.Open(request("prompt", "login", "id_token_hint", hint)), "name", "bob", "password", password)
		wantRefused(t, p)
		if p = br.Submit(p, "name", "ann", "password", password); p.Status != http.StatusSeeOther || p.Query("code") == "" {
			t.Errorf("not for the right one: %d %s", p.Status, p.At)
		}
	})
	t.Run("disabled", func(t *testing.T) {
		b.add(t, "eve", nil)
		if _, err := b.dir.Disable(t.Context(), "eve"); err != nil {
			t.Fatal(err)
		}
		br := b.browser(t)
		wantRefused(t, br.Submit(br.Open(request()), "name", "eve", "password", password))
		if err := b.dir.Enable(t.Context(), "Eve"); err != nil {
			t.Fatal(err)
		}
		b.tokens(t, b.browser(t), "eve")
	})
	t.Run("an account without a password", func(t *testing.T) {
		if err := b.store.CreateUser(t.Context(), &User{Name: "svc", Subject: "p-svc"}); err != nil {
			t.Fatal(err)
		}
		br := b.browser(t)
		for _, pw := range []string{password, ""} {
			wantRefused(t, br.Submit(br.Open(request()), "name", "svc", "password", pw))
		}
	})
	t.Run("no password in the log", func(t *testing.T) {
		if log := b.log.String(); !strings.Contains(log, "login refused") || strings.Contains(log, "horse") || strings.Contains(log, "argon2") {
			t.Error(log)
		}
	})
}

// The account is closed for longer and longer, and a right password opens it when the time
// is over, never before.
func TestLockOut(t *testing.T) {
	b := newBench(t)
	b.add(t, "ann", nil)
	br := b.browser(t)
	p := br.Open(request())
	try := func(pw string) fixture.Page { t.Helper(); p := br.Submit(p, "name", "ann", "password", pw); return p }
	for range freeFailures {
		wantRefused(t, try("wrong horse battery"))
	}
	want := firstDelay
	for range 4 {
		b.clock.pass(want - time.Millisecond)
		wantRefused(t, try(password)) // the right one, too early: no failure and no success
		b.clock.pass(time.Millisecond)
		wantRefused(t, try("wrong horse battery"))
		want *= 2
	}
	u, err := b.store.User(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if left := u.LockedUntil.Sub(b.clock.Now()); u.Failures != freeFailures+4 || left != want {
		t.Errorf("%d failures, closed for %v, want %d and %v", u.Failures, left, freeFailures+4, want)
	}
	b.clock.pass(want)
	if p := try(password); p.Status != http.StatusOK {
		t.Fatalf("still closed: %d", p.Status)
	}
	if u, err = b.store.User(t.Context(), "ann"); err != nil || u.Failures != 0 || !u.LockedUntil.IsZero() {
		t.Errorf("failures are not forgotten: %+v, %v", u, err)
	}
	for failures, want := range map[int]time.Duration{0: 0, 4: 0, 5: time.Second, 6: 2 * time.Second, 14: 512 * time.Second, 15: longestDelay, 1 << 30: longestDelay} {
		if got := delay(failures); got != want {
			t.Errorf("delay(%d) is %v, want %v", failures, got, want)
		}
	}
}

// A guesser sends many passwords at the same moment. If each were judged by the account as
// it was before, all of them would be free.
func TestAttackGuessesAtOnce(t *testing.T) {
	b := newBench(t)
	b.add(t, "ann", nil)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if u, err := b.dir.verify(t.Context(), b.login.hasher, "ann", "wrong horse battery"); u != nil || err != nil {
				t.Error(u, err)
			}
		})
	}
	wg.Wait()
	u, err := b.store.User(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if most := freeFailures + runtime.GOMAXPROCS(0) - 1; u.Failures > most {
		t.Errorf("%d passwords were tried, want at most %d", u.Failures, most)
	}
}

// Whoever asks for names that are there, closed, disabled or unknown gets one answer, after
// one hash of the same cost, at a multiple of the same time.
func TestAttackAccountEnumeration(t *testing.T) {
	b := newBench(t)
	b.add(t, "ann", nil)
	b.add(t, "eve", nil)
	b.add(t, "joe", nil)
	if _, err := b.dir.Disable(t.Context(), "eve"); err != nil {
		t.Fatal(err)
	}
	if err := b.store.RecordFailure(t.Context(), "joe", func(int) time.Time { return b.clock.Now().Add(time.Hour) }); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var hashes []Cost
	b.login.hasher.verified = func(c Cost) {
		mu.Lock()
		defer mu.Unlock()
		hashes = append(hashes, c)
	}
	br := b.browser(t)
	first := br.Open(request())
	var texts []string
	for _, tc := range []struct{ name, user, password string }{
		{"there", "ann", "wrong horse battery"},
		{"unknown", "nobody", "wrong horse battery"},
		{"no name at all", "no body", "wrong horse battery"},
		{"empty", "", ""},
		{"disabled, wrong", "eve", "wrong horse battery"},
		{"disabled, right", "eve", password},
		{"closed, wrong", "joe", "wrong horse battery"},
		{"closed, right", "joe", password},
		{"there, a password of a kilobyte and more", "ann", strings.Repeat("x", MaxPassword+1)},
		{"unknown, a password of a kilobyte and more", "nobody", strings.Repeat("x", MaxPassword+1)},
	} {
		hashes = nil
		p := br.Submit(first, "name", tc.user, "password", tc.password)
		wantRefused(t, p)
		if !slices.Equal(hashes, []Cost{cheap}) {
			t.Errorf("%s: the hashes were %v, want one of %v", tc.name, hashes, cheap)
		}
		texts = append(texts, strings.Replace(p.Text, `value="`+tc.user+`"`, `value=""`, 1))
	}
	for i, text := range texts {
		// With a name the focus is on the password, whoever has it.
		if strip(text) != strip(texts[0]) {
			t.Errorf("answer %d differs:\n%s\n%s", i, text, texts[0])
		}
	}
	for passed, want := range map[time.Duration]time.Duration{
		0: 250 * time.Millisecond, time.Millisecond: 249 * time.Millisecond, 249 * time.Millisecond: time.Millisecond,
		250 * time.Millisecond: 250 * time.Millisecond, 300 * time.Millisecond: 200 * time.Millisecond,
	} {
		if got := rest(passed, refusalStep); got != want {
			t.Errorf("%v: waits %v, want %v", passed, got, want)
		}
	}
}

func strip(s string) string { return strings.ReplaceAll(s, " autofocus", "") }

// The cost of new hashes is changed: who logs in gets one of the new cost.
func TestHashAgain(t *testing.T) {
	b := newBench(t)
	b.add(t, "ann", nil)
	dearer := Cost{Memory: 16, Passes: 2, Lanes: 1}
	b.dir.Cost = dearer
	costNow := func() Cost {
		t.Helper()
		u, err := b.store.User(t.Context(), "ann")
		if err != nil {
			t.Fatal(err)
		}
		h, err := parseHash(u.PasswordHash)
		if err != nil {
			t.Fatal(err)
		}
		return h.cost
	}
	br := b.browser(t)
	wantRefused(t, br.Submit(br.Open(request()), "name", "ann", "password", "wrong horse battery"))
	if got := costNow(); got != cheap {
		t.Errorf("a wrong password was hashed again: %v", got)
	}
	for range 2 {
		b.tokens(t, b.browser(t), "ann")
		if got := costNow(); got != dearer {
			t.Errorf("the cost is %v, want %v", got, dearer)
		}
	}
}

// hookStore does something between a login's reading of an account and its writing.
type hookStore struct {
	*Memory
	read func()
}

func (s *hookStore) User(ctx context.Context, name string) (*User, error) {
	u, err := s.Memory.User(ctx, name)
	if read := s.read; read != nil {
		s.read = nil
		read()
	}
	return u, err
}

// Somebody logs in with the old password while the operator sets a new one. The old one
// must not come back with the hash of the new cost.
func TestHashAgainAfterAChange(t *testing.T) {
	store := &hookStore{Memory: &Memory{}}
	d := &Directory{Store: store, Cost: cheap}
	if _, err := d.Add(t.Context(), "ann", password, nil); err != nil {
		t.Fatal(err)
	}
	d.Cost = Cost{Memory: 16, Passes: 1, Lanes: 1}
	store.read = func() {
		if err := d.SetPassword(t.Context(), "ann", "another horse battery"); err != nil {
			t.Error(err)
		}
	}
	h := newHasher()
	if u, err := d.verify(t.Context(), h, "ann", password); u == nil || err != nil {
		t.Fatalf("the password was right when it was read: %v", err)
	}
	if u, err := d.verify(t.Context(), h, "ann", password); u != nil || err != nil {
		t.Errorf("the old password is back: %v", err)
	}
	if u, err := d.verify(t.Context(), h, "ann", "another horse battery"); u == nil || err != nil {
		t.Errorf("the new password is gone: %v", err)
	}
}

func (b *bench) refresh(t *testing.T, r *fixture.Answer) *fixture.Answer {
	t.Helper()
	token, _ := r.JSON["refresh_token"].(string)
	return fixture.Post(t, b.As(t, b.L1), fixture.MTLSBase+"/token", "client_id", "app", "grant_type", "refresh_token", "refresh_token", token)
}

func (b *bench) userinfo(t *testing.T, r *fixture.Answer) *fixture.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fixture.MTLSBase+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.AccessToken())
	return fixture.Do(t, b.As(t, b.L1), req)
}

// A person is disabled: everything that they have allowed ends, at once and for good.
func TestDisable(t *testing.T) {
	b := newBench(t)
	b.add(t, "ann", nil)
	b.add(t, "bob", nil)
	br := b.browser(t)
	anns, bobs := b.tokens(t, br, "ann"), b.tokens(t, b.browser(t), "bob")
	b.tokens(t, b.browser(t), "ann") // a second grant
	if r := b.userinfo(t, anns); r.Status != http.StatusOK || r.JSON["sub"] == nil {
		t.Fatalf("userinfo before: %d %s", r.Status, r.Text)
	}

	n, err := b.dir.Disable(t.Context(), "ANN")
	if err != nil || n != 2 {
		t.Fatalf("%d grants ended, %v; want 2", n, err)
	}
	gone := func(t *testing.T) {
		t.Helper()
		if r := b.refresh(t, anns); r.Status != http.StatusBadRequest || r.Error() != "invalid_grant" {
			t.Errorf("refresh: %d %s", r.Status, r.Text)
		}
		if r := b.userinfo(t, anns); r.Status != http.StatusUnauthorized {
			t.Errorf("userinfo: %d %s", r.Status, r.Text)
		}
		if p := br.Open(request()); !strings.Contains(p.At, "/login?flow=") {
			t.Errorf("the session goes on: %d %s", p.Status, p.At)
		}
	}
	gone(t)
	if r := b.refresh(t, bobs); r.Status != http.StatusOK {
		t.Errorf("somebody else's: %d %s", r.Status, r.Text)
	}
	if n, err := b.dir.Disable(t.Context(), "ann"); err != nil || n != 0 {
		t.Errorf("once more: %d, %v", n, err)
	}

	if err := b.dir.Enable(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	gone(t) // what had ended stays so
	again := b.tokens(t, b.browser(t), "ann")
	before, err := b.store.User(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.dir.Remove(t.Context(), "ann"); err != nil || n != 1 {
		t.Fatalf("remove: %d, %v", n, err)
	}
	if r := b.refresh(t, again); r.Error() != "invalid_grant" {
		t.Errorf("refresh after remove: %d %s", r.Status, r.Text)
	}
	if after := b.add(t, "ann", nil); after.Subject == before.Subject {
		t.Error("the next ann is the same person")
	}
	for _, call := range []func() error{
		func() error { _, err := b.dir.Disable(t.Context(), "nobody"); return err },
		func() error { return b.dir.Enable(t.Context(), "nobody") },
		func() error { _, err := b.dir.Remove(t.Context(), "nobody"); return err },
		func() error { return b.dir.SetPassword(t.Context(), "nobody", password) },
	} {
		if err := call(); !errors.Is(err, authserver.ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
	}
}

// A new password ends the sessions that began with the old one, not the grants.
func TestSetPassword(t *testing.T) {
	b := newBench(t)
	b.add(t, "ann", nil)
	br := b.browser(t)
	r := b.tokens(t, br, "ann")
	for range freeFailures {
		if err := b.store.RecordFailure(t.Context(), "ann", func(int) time.Time { return b.clock.Now().Add(time.Hour) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.dir.SetPassword(t.Context(), "ann", "short"); err == nil {
		t.Error("a short password was taken")
	}
	if err := b.dir.SetPassword(t.Context(), "ann", "another horse battery"); err != nil {
		t.Fatal(err)
	}
	p := br.Open(request())
	if !strings.Contains(p.At, "/login?flow=") {
		t.Fatalf("the session goes on: %d %s", p.Status, p.At)
	}
	wantRefused(t, br.Submit(p, "name", "ann", "password", password))
	if p = br.Submit(p, "name", "ann", "password", "another horse battery"); p.Query("code") == "" {
		t.Errorf("expected a code, found %d %s", p.Status, p.At)
	}
	if r := b.refresh(t, r); r.Status != http.StatusOK {
		t.Errorf("refresh: %d %s", r.Status, r.Text)
	}
}

func TestAdd(t *testing.T) {
	d := &Directory{Store: &Memory{}, Cost: cheap}
	if _, err := d.Add(t.Context(), "Ann", password, map[string]json.RawMessage{"preferred_username": json.RawMessage(`"annie"`)}); err != nil {
		t.Fatal(err)
	}
	u, err := d.Store.User(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if got := u.Label(); got != "annie" {
		t.Errorf("label %q", got)
	}
	if _, err := d.Add(t.Context(), "aNN", password, nil); !errors.Is(err, authserver.ErrExists) {
		t.Errorf("the same name in another spelling: %v", err)
	}
	if _, err := d.Add(t.Context(), "a nn", password, nil); !errors.Is(err, ErrName) {
		t.Errorf("a space: %v", err)
	}
	if _, err := d.Add(t.Context(), "bob", "short", nil); err == nil {
		t.Error("a short password was taken")
	}
}
