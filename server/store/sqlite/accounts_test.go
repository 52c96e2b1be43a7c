package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/server/people/accounts"
)

// The contract of accounts.Store, of both stores that there are.
func TestAccounts(t *testing.T) {
	for _, store := range []struct {
		name string
		open func(t *testing.T) accounts.Store
	}{
		{"memory", func(*testing.T) accounts.Store { return new(accounts.Memory) }},
		{"sqlite", func(t *testing.T) accounts.Store {
			s := open(t, t.TempDir())
			t.Cleanup(func() { s.Close() })
			return s
		}},
	} {
		t.Run(store.name, func(t *testing.T) {
			for _, test := range []struct {
				name string
				run  func(t *testing.T, s accounts.Store)
			}{
				{"comes back, shares nothing", accountRoundTrip},
				{"update, conflict, deletion", accountUpdates},
				{"failures are counted one by one", accountFailures},
				{"pages", accountPages},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, store.open(t)) })
			}
		})
	}
}

func account(name string) *accounts.User {
	return &accounts.User{
		Name: name, Subject: "subject of " + name, PasswordHash: "$argon2id$" + name, Disabled: true,
		Claims: map[string]json.RawMessage{"email": json.RawMessage(`"a@example.com"`)},
		// Failures and LockedUntil are given too: an account may be moved here.
		Failures: 3, LockedUntil: begun.Add(time.Minute), Created: begun, Updated: begun.Add(time.Hour),
	}
}

func wantAccount(t *testing.T, s accounts.Store, want *accounts.User) {
	t.Helper()
	got, err := s.User(t.Context(), want.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, times := range [][2]*time.Time{{&got.LockedUntil, &want.LockedUntil}, {&got.Created, &want.Created}, {&got.Updated, &want.Updated}} {
		if !times[0].Equal(*times[1]) {
			t.Errorf("a time is %v, want %v", *times[0], *times[1])
		}
		*times[0] = *times[1]
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the account is %+v, want %+v", got, want)
	}
	clear(got.Claims["email"])
}

func accountRoundTrip(t *testing.T, s accounts.Store) {
	ctx := t.Context()
	if _, err := s.User(ctx, "alice"); !errors.Is(err, authserver.ErrNotFound) {
		t.Errorf("User before: error %v", err)
	}
	given, want := account("alice"), account("alice")
	if err := s.CreateUser(ctx, given); err != nil || given.Version == 0 {
		t.Fatalf("CreateUser: error %v, version %d", err, given.Version)
	}
	want.Version = given.Version
	clear(given.Claims["email"])
	wantAccount(t, s, want)
	wantAccount(t, s, want) // after a change of what was read
	sameSubject := account("bob")
	sameSubject.Subject = given.Subject
	for _, u := range []*accounts.User{account("alice"), sameSubject} {
		if err := s.CreateUser(ctx, u); !errors.Is(err, authserver.ErrExists) {
			t.Errorf("CreateUser of %s with a name or subject that is there: error %v", u.Name, err)
		}
	}
	if err := s.CreateUser(ctx, &accounts.User{Name: "bare", Subject: "bare"}); err != nil {
		t.Fatal(err)
	}
	if u, err := s.User(ctx, "bare"); err != nil || len(u.Claims) != 0 || !u.LockedUntil.IsZero() || !u.Created.IsZero() {
		t.Errorf("an account with a name only is %+v, error %v", u, err)
	}
}

func accountUpdates(t *testing.T, s accounts.Store) {
	ctx := t.Context()
	u := account("alice")
	for what, err := range map[string]error{
		"UpdateUser": s.UpdateUser(ctx, u), "DeleteUser": s.DeleteUser(ctx, "alice"), "ClearFailures": s.ClearFailures(ctx, "alice"),
		"RecordFailure": s.RecordFailure(ctx, "alice", func(int) time.Time { return begun }),
	} {
		if !errors.Is(err, authserver.ErrNotFound) {
			t.Errorf("%s before: error %v", what, err)
		}
	}
	if err := errors.Join(s.CreateUser(ctx, u), s.CreateUser(ctx, account("bob"))); err != nil {
		t.Fatal(err)
	}
	stale := *u
	// Somebody guesses while the account is changed: the change must not undo the count.
	if err := s.RecordFailure(ctx, "alice", func(n int) time.Time { return begun.Add(time.Duration(n) * time.Hour) }); err != nil {
		t.Fatal(err)
	}
	u.PasswordHash, u.Disabled, u.Claims, u.Failures, u.LockedUntil = "new", false, nil, 0, time.Time{}
	if err := s.UpdateUser(ctx, u); err != nil || u.Version == stale.Version {
		t.Fatalf("UpdateUser: error %v, version %d after %d", err, u.Version, stale.Version)
	}
	want := *u
	want.Failures, want.LockedUntil = 4, begun.Add(4*time.Hour)
	wantAccount(t, s, &want)
	if err := s.UpdateUser(ctx, &stale); !errors.Is(err, authserver.ErrConflict) {
		t.Errorf("UpdateUser with the old version: error %v", err)
	}
	taken := want
	taken.Subject = "subject of bob"
	if err := s.UpdateUser(ctx, &taken); !errors.Is(err, authserver.ErrExists) {
		t.Errorf("UpdateUser with the subject of another: error %v", err)
	}
	wantAccount(t, s, &want)
	if err := s.DeleteUser(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	again := account("alice")
	if err := s.CreateUser(ctx, again); err != nil || again.Version == u.Version || again.Version == stale.Version {
		t.Errorf("CreateUser again: error %v, version %d, before %d", err, again.Version, u.Version)
	}
}

func accountFailures(t *testing.T, s accounts.Store) {
	ctx := t.Context()
	u := account("alice")
	u.Failures = 0
	if err := s.CreateUser(ctx, u); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := s.RecordFailure(ctx, "alice", func(n int) time.Time { return begun.Add(time.Duration(n) * time.Second) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want := *u
	want.Failures, want.LockedUntil = 16, begun.Add(16*time.Second)
	wantAccount(t, s, &want)
	if err := s.ClearFailures(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	want.Failures, want.LockedUntil = 0, time.Time{}
	wantAccount(t, s, &want)
	if err := s.UpdateUser(ctx, u); err != nil {
		t.Errorf("the version has moved with the failures: %v", err)
	}
}

func accountPages(t *testing.T, s accounts.Store) {
	for _, name := range []string{"c", "a", "é", "b"} {
		if err := s.CreateUser(t.Context(), account(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		after string
		limit int
		want  string
	}{{"", 9, "[a b c é]"}, {"", 2, "[a b]"}, {"b", 2, "[c é]"}, {"é", 2, "[]"}, {"", 0, "[]"}, {"", -1, "[]"}} {
		page, err := s.Users(t.Context(), test.after, test.limit)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, u := range page {
			names = append(names, u.Name)
		}
		if got := fmt.Sprint(names); got != test.want {
			t.Errorf("after %q, at most %d: %s, want %s", test.after, test.limit, got, test.want)
		}
	}
}
