// Package storetest is the contract of [authserver.Store] as tests. Every store has
// to pass [Run], and [RunDurable] if it outlives its process; a store for people too, an
// [authserver.GrantStore], also [RunGrants] and [RunGrantsDurable]:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) authserver.Store { return memstore.New() })
//	}
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

// now is the time of every test. Stores have no clock, so any will do.
var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// Run tests the contract. open returns a new, empty store; Run closes it.
func Run(t *testing.T, open func(t *testing.T) authserver.Store) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test.run(t, s)
		})
	}
	t.Run("Ping fails after Close", func(t *testing.T) {
		s := open(t)
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("Ping of an open store: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		if err := s.Ping(t.Context()); err == nil {
			t.Error("Ping of a closed store succeeds")
		}
	})
}

var tests = []struct {
	name string
	run  func(t *testing.T, s authserver.Store)
}{
	{"client: every member comes back", clientRoundTrip},
	{"client: nothing is shared with the caller", clientNotShared},
	{"client: create, update, delete", clientLifecycle},
	{"client: a version never comes back", clientVersions},
	{"client: of concurrent updates one wins", clientUpdateRace},
	{"client: of concurrent creations one wins", clientCreateRace},
	{"client: pages", clientPages},
	{"changes: complete", changesComplete},
	{"changes: more than asked for", changesIncomplete},
	{"changes: a reader beside writers misses none", changesRace},
	{"keys: order, conflict, deletion", keys},
	{"keys: of concurrent rotations one wins", keysRace},
	{"token: comes back, shares nothing", tokens},
	{"revoke: kept until the latest expiry", revoked},
	{"use once: kept until the latest expiry", usedOnce},
	{"use once: of concurrent calls one wins", usedOnceRace},
	{"certificate: extended, never shortened", certificates},
	{"certificate: concurrent extensions keep the latest", certificatesRace},
	{"certificate: pages, and those of a client", certificateLists},
	{"revoked certificates: by thumbprint", revokedByThumbprint},
	{"revoked certificates: by issuer and serial number", revokedBySerial},
	{"revoked certificates: none is remembered", revokedNotRemembered},
	{"revocations: every change, in order", revocations},
	{"revocations: a reader beside writers misses none", revocationsRace},
	{"sweep: expired records only, at most so many", sweep},
	{"a caller that has gone", cancelled},
}

func client(id string) *authserver.Client {
	return &authserver.Client{
		ID: id, AuthMethod: "tls_client_auth", SubjectDN: "CN=" + id,
		GrantTypes: []string{"client_credentials"}, Scope: "read write",
		Created: now, Updated: now,
	}
}

// filled returns a client with every exported member set.
func filled(t *testing.T, id string) *authserver.Client {
	t.Helper()
	c := fill[authserver.Client](t)
	c.ID = id
	return c
}

// fill returns a record with every exported member set, by reflection, so that a member
// that is added later is tested without a change here.
func fill[T any](t *testing.T) *T {
	t.Helper()
	c := new(T)
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch f.Interface().(type) {
		case string:
			f.SetString("value of " + name + ` "\u0000é`)
		case bool:
			f.SetBool(true)
		case int, int64:
			f.SetInt(int64(i) + 1)
		case time.Time:
			f.Set(reflect.ValueOf(now.Add(time.Duration(i) * time.Second)))
		case []string:
			f.Set(reflect.ValueOf([]string{name + "-1", name + "-2"}))
		case json.RawMessage:
			f.Set(reflect.ValueOf(json.RawMessage(`{"keys":[{"kty":"EC","n":` + strconv.Itoa(i) + `}]}`)))
		case map[string]json.RawMessage:
			f.Set(reflect.ValueOf(map[string]json.RawMessage{name: json.RawMessage(`"a"`), "n": json.RawMessage(strconv.Itoa(i))}))
		case [32]byte:
			f.Set(reflect.ValueOf(hashOf(name)))
		default:
			t.Fatalf("storetest: %s.%s has type %s, which this suite cannot fill; add it here", v.Type().Name(), name, f.Type())
		}
	}
	return c
}

func hashOf(value string) [32]byte { return sha256.Sum256([]byte(value)) }

// scribble overwrites what lies behind every slice and map of what p points at.
func scribble(p any) {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); x := f.Interface().(type) {
		case []string:
			for i := range x {
				x[i] = "scribbled"
			}
		case json.RawMessage:
			clear(x)
		case map[string]json.RawMessage:
			for _, value := range x {
				clear(value)
			}
			clear(x)
		}
	}
}

func sameClient(t *testing.T, what string, got, want *authserver.Client) {
	t.Helper()
	same(t, what, got, want)
}

// same compares two records member by member.
func same[T any](t *testing.T, what string, got, want *T) {
	t.Helper()
	if got == nil {
		t.Fatalf("%s: there is none", what)
	}
	g, w := reflect.ValueOf(*got), reflect.ValueOf(*want)
	for i := range g.NumField() {
		a, b := g.Field(i).Interface(), w.Field(i).Interface()
		if at, ok := a.(time.Time); ok {
			if !at.Equal(b.(time.Time)) {
				t.Errorf("%s: %s is %v, want %v", what, g.Type().Field(i).Name, a, b)
			}
			continue
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s is %v, want %v", what, g.Type().Field(i).Name, a, b)
		}
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// race calls f n times at once and returns how many calls returned true.
func race(n int, f func(i int) bool) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won, start := 0, make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			if f(i) {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	close(start)
	wg.Wait()
	return won
}

func clientRoundTrip(t *testing.T, s authserver.Store) {
	want := filled(t, "full")
	must(t, "CreateClient", s.CreateClient(t.Context(), want))
	got, err := s.Client(t.Context(), "full")
	must(t, "Client", err)
	sameClient(t, "Client", got, want)
	page, err := s.Clients(t.Context(), "", 10)
	must(t, "Clients", err)
	if len(page) != 1 {
		t.Fatalf("Clients: %d of them, want 1", len(page))
	}
	sameClient(t, "Clients", page[0], want)

	bare := &authserver.Client{ID: "bare"}
	must(t, "CreateClient", s.CreateClient(t.Context(), bare))
	got, err = s.Client(t.Context(), "bare")
	must(t, "Client", err)
	sameClient(t, "a client with an id only", got, bare)
	must(t, "UpdateClient", s.UpdateClient(t.Context(), got))
}

func clientNotShared(t *testing.T, s authserver.Store) {
	want := filled(t, "c")
	given := filled(t, "c")
	must(t, "CreateClient", s.CreateClient(t.Context(), given))
	want.Version = given.Version
	scribble(given)
	got, err := s.Client(t.Context(), "c")
	must(t, "Client", err)
	sameClient(t, "after a change of what was created", got, want)

	scribble(got)
	page, err := s.Clients(t.Context(), "", 1)
	must(t, "Clients", err)
	sameClient(t, "after a change of what was read", page[0], want)
	scribble(page[0])

	update := filled(t, "c")
	update.Version = want.Version
	must(t, "UpdateClient", s.UpdateClient(t.Context(), update))
	want.Version = update.Version
	scribble(update)
	got, err = s.Client(t.Context(), "c")
	must(t, "Client", err)
	sameClient(t, "after a change of what was updated", got, want)
}

func clientLifecycle(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	_, err := s.Client(ctx, "a")
	wantErr(t, "Client before", err, authserver.ErrNotFound)
	wantErr(t, "UpdateClient before", s.UpdateClient(ctx, client("a")), authserver.ErrNotFound)
	wantErr(t, "DeleteClient before", s.DeleteClient(ctx, "a"), authserver.ErrNotFound)

	c := client("a")
	must(t, "CreateClient", s.CreateClient(ctx, c))
	if c.Version == 0 {
		t.Error("CreateClient left the version at zero")
	}
	wantErr(t, "CreateClient again", s.CreateClient(ctx, client("a")), authserver.ErrExists)
	if _, err := s.Client(ctx, "A"); !errors.Is(err, authserver.ErrNotFound) {
		t.Errorf("ids are compared without regard to case: %v", err)
	}

	stale := *c
	c.Scope = "other"
	must(t, "UpdateClient", s.UpdateClient(ctx, c))
	if c.Version == stale.Version {
		t.Error("UpdateClient left the version as it was")
	}
	wantErr(t, "UpdateClient with the old version", s.UpdateClient(ctx, &stale), authserver.ErrConflict)
	got, err := s.Client(ctx, "a")
	must(t, "Client", err)
	sameClient(t, "after the update", got, c)
	c.Scope = "again"
	must(t, "UpdateClient with the version of the last", s.UpdateClient(ctx, c))

	must(t, "DeleteClient", s.DeleteClient(ctx, "a"))
	_, err = s.Client(ctx, "a")
	wantErr(t, "Client after", err, authserver.ErrNotFound)
	wantErr(t, "DeleteClient again", s.DeleteClient(ctx, "a"), authserver.ErrNotFound)
}

// A process reads a client; it is deleted and made again by another; the first
// process must not overwrite the new one with its old copy.
func clientVersions(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	old := client("a")
	must(t, "CreateClient", s.CreateClient(ctx, old))
	must(t, "DeleteClient", s.DeleteClient(ctx, "a"))
	again := client("a")
	must(t, "CreateClient", s.CreateClient(ctx, again))
	if again.Version == old.Version {
		t.Error("the version of the deleted client came back")
	}
	wantErr(t, "UpdateClient with the version of the deleted client", s.UpdateClient(ctx, old), authserver.ErrConflict)
}

func clientUpdateRace(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	c := client("a")
	must(t, "CreateClient", s.CreateClient(ctx, c))
	version := c.Version
	won := race(16, func(i int) bool {
		mine := client("a")
		mine.Version, mine.Scope = version, strconv.Itoa(i)
		err := s.UpdateClient(ctx, mine)
		if err != nil && !errors.Is(err, authserver.ErrConflict) {
			t.Errorf("UpdateClient: %v", err)
		}
		return err == nil
	})
	if won != 1 {
		t.Errorf("%d updates of one version succeeded, want 1", won)
	}
}

func clientCreateRace(t *testing.T, s authserver.Store) {
	won := race(16, func(i int) bool {
		err := s.CreateClient(t.Context(), client("a"))
		if err != nil && !errors.Is(err, authserver.ErrExists) {
			t.Errorf("CreateClient: %v", err)
		}
		return err == nil
	})
	if won != 1 {
		t.Errorf("%d creations of one id succeeded, want 1", won)
	}
}

func clientPages(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	want := []string{"A", "B", "a", "a-", "aa", "b", "ä", "日本"}
	for i := range want {
		must(t, "CreateClient", s.CreateClient(ctx, client(want[(i*5+3)%len(want)])))
	}
	read := func(limit int) (ids []string) {
		after := ""
		for range 20 {
			page, err := s.Clients(ctx, after, limit)
			must(t, "Clients", err)
			if len(page) > limit {
				t.Fatalf("a page of %d, want at most %d", len(page), limit)
			}
			if len(page) == 0 {
				return ids
			}
			for _, c := range page {
				ids = append(ids, c.ID)
			}
			after = ids[len(ids)-1]
		}
		t.Fatal("the pages do not end")
		return nil
	}
	for _, limit := range []int{1, 3, 8, 100} {
		if got := read(limit); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q, want %q", limit, got, want)
		}
	}
	page, err := s.Clients(ctx, "a!", 2) // an id that does not exist
	must(t, "Clients", err)
	if len(page) != 2 || page[0].ID != "a-" || page[1].ID != "aa" {
		t.Errorf("after an id that does not exist: %d clients, want a- and aa", len(page))
	}
	must(t, "DeleteClient", s.DeleteClient(ctx, "aa"))
	want = slices.DeleteFunc(want, func(id string) bool { return id == "aa" })
	if got := read(3); !slices.Equal(got, want) {
		t.Errorf("after a deletion: %q, want %q", got, want)
	}
	for _, limit := range []int{0, -1} {
		if page, err := s.Clients(ctx, "", limit); err != nil || len(page) != 0 {
			t.Errorf("limit %d: %d clients, error %v, want none", limit, len(page), err)
		}
	}
}

func changesComplete(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	ids, last, complete, err := s.ClientChanges(ctx, 0, 10)
	must(t, "ClientChanges", err)
	if len(ids) != 0 || !complete {
		t.Errorf("an empty store: %q, complete %t, want none, true", ids, complete)
	}
	step := func(what string, want ...string) {
		t.Helper()
		ids, now, complete, err := s.ClientChanges(ctx, last, 10)
		must(t, "ClientChanges", err)
		slices.Sort(ids)
		if !slices.Equal(ids, want) || !complete {
			t.Errorf("%s: %q, complete %t, want %q, true", what, ids, complete, want)
		}
		if len(want) > 0 && now <= last {
			t.Errorf("%s: the number went from %d to %d", what, last, now)
		}
		last = now
	}
	step("nothing happened")
	a, b := client("a"), client("b")
	must(t, "CreateClient", s.CreateClient(ctx, a))
	must(t, "CreateClient", s.CreateClient(ctx, b))
	step("two were created", "a", "b")
	step("nothing happened since")
	must(t, "UpdateClient", s.UpdateClient(ctx, a))
	must(t, "UpdateClient", s.UpdateClient(ctx, a))
	step("one was updated twice", "a")
	must(t, "DeleteClient", s.DeleteClient(ctx, "b"))
	step("one was deleted", "b")
	must(t, "CreateClient", s.CreateClient(ctx, client("b")))
	must(t, "DeleteClient", s.DeleteClient(ctx, "b"))
	step("one came and went", "b")
	must(t, "DeleteClient", s.DeleteClient(ctx, "a"))
	must(t, "CreateClient", s.CreateClient(ctx, client("a")))
	step("one was replaced", "a")
	wantErr(t, "UpdateClient", s.UpdateClient(ctx, b), authserver.ErrNotFound)
	step("a change failed")
}

func changesIncomplete(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	for i := range 6 {
		must(t, "CreateClient", s.CreateClient(ctx, client(strconv.Itoa(i))))
	}
	must(t, "DeleteClient", s.DeleteClient(ctx, "0"))
	_, last, complete, err := s.ClientChanges(ctx, 0, 5)
	must(t, "ClientChanges", err)
	if complete {
		t.Error("six changes asked for with max 5 are said to be complete")
	}
	ids, _, complete, err := s.ClientChanges(ctx, 0, 6)
	must(t, "ClientChanges", err)
	if len(ids) != 6 || !complete {
		t.Errorf("six changes asked for with max 6: %q, complete %t", ids, complete)
	}
	// The number of the last change lets the caller go on from here.
	ids, again, complete, err := s.ClientChanges(ctx, last, 5)
	must(t, "ClientChanges", err)
	if len(ids) != 0 || !complete || again != last {
		t.Errorf("after the last change: %q, last %d, complete %t, want none, %d, true", ids, again, complete, last)
	}
	// A number that this store has not given out yet belongs to another one, such
	// as the one before a backup was put back.
	if _, got, complete, err := s.ClientChanges(ctx, last+1000, 5); err != nil || complete || got != last {
		t.Errorf("a number from the future: last %d, complete %t, error %v, want %d, false", got, complete, err, last)
	}
}

func changesRace(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	const writers, each = 4, 25
	seen := make(map[string]bool)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.CreateClient(ctx, client(fmt.Sprintf("%d-%d", w, i))); err != nil {
					t.Errorf("CreateClient: %v", err)
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	last := int64(0)
	poll := func() {
		ids, now, complete, err := s.ClientChanges(ctx, last, 1000)
		if err != nil || !complete {
			t.Errorf("ClientChanges: complete %t, error %v", complete, err)
		}
		for _, id := range ids {
			seen[id] = true
		}
		last = now
	}
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
		}
		poll()
	}
	if len(seen) != writers*each {
		t.Errorf("the feed showed %d clients, want %d", len(seen), writers*each)
	}
}

func key(kid string) authserver.SigningKey {
	return authserver.SigningKey{
		KID: kid, Alg: "ES256", PKCS8: []byte("key " + kid),
		Created: now, NotBefore: now.Add(time.Minute), Retire: now.Add(time.Hour), Expires: now.Add(2 * time.Hour),
	}
}

func kids(keys []authserver.SigningKey) (out []string) {
	for _, k := range keys {
		out = append(out, k.KID)
	}
	return out
}

func keys(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	wantErr(t, "after a key that is not there", s.AddSigningKey(ctx, key("b"), "a"), authserver.ErrConflict)
	given := key("b")
	must(t, "AddSigningKey", s.AddSigningKey(ctx, given, ""))
	clear(given.PKCS8)
	wantErr(t, "a second first key", s.AddSigningKey(ctx, key("a"), ""), authserver.ErrConflict)
	must(t, "AddSigningKey", s.AddSigningKey(ctx, key("a"), "b"))
	wantErr(t, "after the oldest key", s.AddSigningKey(ctx, key("c"), "b"), authserver.ErrConflict)
	wantErr(t, "an id twice", s.AddSigningKey(ctx, key("b"), "a"), authserver.ErrExists)
	far := key("c") // a zero time and one beyond what nanoseconds can hold
	far.NotBefore, far.Expires = time.Time{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	must(t, "AddSigningKey", s.AddSigningKey(ctx, far, "a"))

	got, err := s.SigningKeys(ctx)
	must(t, "SigningKeys", err)
	if !slices.Equal(kids(got), []string{"b", "a", "c"}) {
		t.Fatalf("the keys are %q, want them in the order in which they were added: b a c", kids(got))
	}
	for i, want := range []authserver.SigningKey{key("b"), key("a"), far} {
		g := got[i]
		if g.Alg != want.Alg || string(g.PKCS8) != string(want.PKCS8) || !g.Created.Equal(want.Created) ||
			!g.NotBefore.Equal(want.NotBefore) || !g.Retire.Equal(want.Retire) || !g.Expires.Equal(want.Expires) {
			t.Errorf("key %s came back changed", want.KID)
		}
		clear(g.PKCS8)
	}
	if again, err := s.SigningKeys(ctx); err != nil || string(again[0].PKCS8) != "key b" {
		t.Errorf("a change of what was read reached the store (error %v)", err)
	}

	must(t, "DeleteSigningKey", s.DeleteSigningKey(ctx, "b"))
	must(t, "DeleteSigningKey of a key that is not there", s.DeleteSigningKey(ctx, "b"))
	got, err = s.SigningKeys(ctx)
	must(t, "SigningKeys", err)
	if !slices.Equal(kids(got), []string{"a", "c"}) {
		t.Errorf("after a deletion the keys are %q, want a c", kids(got))
	}
	// Where the newest key was deleted, the one before it is the newest.
	must(t, "DeleteSigningKey", s.DeleteSigningKey(ctx, "c"))
	must(t, "AddSigningKey", s.AddSigningKey(ctx, key("d"), "a"))
	must(t, "DeleteSigningKey", s.DeleteSigningKey(ctx, "a"))
	must(t, "DeleteSigningKey", s.DeleteSigningKey(ctx, "d"))
	must(t, "AddSigningKey to a store whose keys are all gone", s.AddSigningKey(ctx, key("e"), ""))
}

// Several servers start on an empty store, or rotate, at the same moment.
func keysRace(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	after := ""
	for round := range 3 {
		won := race(8, func(i int) bool {
			err := s.AddSigningKey(ctx, key(fmt.Sprintf("%d-%d", round, i)), after)
			if err != nil && !errors.Is(err, authserver.ErrConflict) {
				t.Errorf("AddSigningKey: %v", err)
			}
			return err == nil
		})
		got, err := s.SigningKeys(ctx)
		must(t, "SigningKeys", err)
		if won != 1 || len(got) != round+1 {
			t.Fatalf("round %d: %d rotations succeeded and there are %d keys, want 1 and %d", round, won, len(got), round+1)
		}
		after = got[round].KID
	}
}

func token(value string, expires time.Time) *authserver.OpaqueToken {
	return &authserver.OpaqueToken{
		Hash: sha256.Sum256([]byte(value)), JTI: "jti-" + value, ClientID: "c", Subject: "c",
		Scope: "read write", Audience: []string{"https://a.test", "https://b.test"},
		Issued: now, Expires: expires, X5TS256: "thumbprint",
	}
}

func tokens(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	want, given := token("v", now.Add(time.Hour)), token("v", now.Add(time.Hour))
	_, err := s.Token(ctx, want.Hash)
	wantErr(t, "Token before", err, authserver.ErrNotFound)
	must(t, "SaveToken", s.SaveToken(ctx, given))
	given.Audience[0] = "scribbled"
	for range 2 { // the second time after a change of what was read
		got, err := s.Token(ctx, want.Hash)
		must(t, "Token", err)
		if got.Hash != want.Hash || got.JTI != want.JTI || got.ClientID != want.ClientID || got.Subject != want.Subject ||
			got.Scope != want.Scope || !slices.Equal(got.Audience, want.Audience) || got.X5TS256 != want.X5TS256 ||
			!got.Issued.Equal(want.Issued) || !got.Expires.Equal(want.Expires) {
			t.Errorf("the token came back as %+v, want %+v", got, want)
		}
		got.Audience[0] = "scribbled"
	}
	wantErr(t, "SaveToken again", s.SaveToken(ctx, want), authserver.ErrExists)
	bare := &authserver.OpaqueToken{Hash: sha256.Sum256([]byte("bare")), Expires: now}
	must(t, "SaveToken", s.SaveToken(ctx, bare))
	got, err := s.Token(ctx, bare.Hash)
	must(t, "Token", err)
	if len(got.Audience) != 0 || got.X5TS256 != "" || !got.Issued.IsZero() {
		t.Errorf("a token without audience, binding and date came back as %+v", got)
	}
}

func revoked(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	is := func(jti string, want bool) {
		t.Helper()
		got, err := s.Revoked(ctx, jti)
		must(t, "Revoked", err)
		if got != want {
			t.Errorf("revoked is %t, want %t", got, want)
		}
	}
	is("a", false)
	must(t, "Revoke", s.Revoke(ctx, "a", now.Add(time.Hour)))
	must(t, "Revoke again, with an earlier expiry", s.Revoke(ctx, "a", now))
	is("a", true)
	is("A", false)
	_, err := s.Sweep(ctx, now.Add(time.Minute), 10)
	must(t, "Sweep", err)
	is("a", true)
	must(t, "Revoke again, with a later expiry", s.Revoke(ctx, "a", now.Add(2*time.Hour)))
	_, err = s.Sweep(ctx, now.Add(time.Hour), 10)
	must(t, "Sweep", err)
	is("a", true)
	_, err = s.Sweep(ctx, now.Add(2*time.Hour), 10)
	must(t, "Sweep", err)
	is("a", false)
}

func usedOnce(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	use := func(key string, expires time.Time, want bool) {
		t.Helper()
		got, err := s.UseOnce(ctx, key, expires)
		must(t, "UseOnce", err)
		if got != want {
			t.Errorf("first is %t, want %t", got, want)
		}
	}
	use("a", now.Add(time.Hour), true)
	use("a", now.Add(2*time.Hour), false)
	use("b", now.Add(time.Hour), true)
	use("", now.Add(time.Hour), true)
	// Keys are told apart to the last byte: they come from strangers.
	for _, key := range []string{"x", "x\x00", "x\x00y", "x\x00z", "X", "x ", "\xff", "\xfe", strings.Repeat("k", 10_000), strings.Repeat("k", 10_001)} {
		use(key, now.Add(time.Hour), true)
		use(key, now.Add(time.Hour), false)
	}
	_, err := s.Sweep(ctx, now.Add(90*time.Minute), 100)
	must(t, "Sweep", err)
	use("a", now.Add(2*time.Hour), false)
	use("b", now.Add(2*time.Hour), true)
	// Without a sweep a key stays used, however old.
	use("c", now.Add(-time.Hour), true)
	use("c", now.Add(time.Hour), false)
}

// Somebody sends one captured assertion over many connections at once.
func usedOnceRace(t *testing.T, s authserver.Store) {
	for round := range 3 {
		won := race(32, func(int) bool {
			first, err := s.UseOnce(t.Context(), "assertion "+strconv.Itoa(round), now.Add(time.Hour))
			if err != nil {
				t.Errorf("UseOnce: %v", err)
			}
			return first
		})
		if won != 1 {
			t.Errorf("%d calls were the first, want 1", won)
		}
	}
}

func certificate(until time.Time) authserver.CertificateRecord {
	return authserver.CertificateRecord{
		Thumbprint: "thumbprint", IssuerKeyID: "0a0b", Serial: "1f", Subject: "CN=a,O=Agora", ClientID: "c",
		NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), FirstSeen: now, TokensUntil: until,
	}
}

func certificates(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	_, err := s.Certificate(ctx, "thumbprint")
	wantErr(t, "Certificate before", err, authserver.ErrNotFound)
	is := func(want authserver.CertificateRecord) {
		t.Helper()
		got, err := s.Certificate(ctx, "thumbprint")
		must(t, "Certificate", err)
		if !got.NotAfter.Equal(want.NotAfter) || !got.TokensUntil.Equal(want.TokensUntil) {
			t.Errorf("the dates are %v and %v, want %v and %v", got.NotAfter, got.TokensUntil, want.NotAfter, want.TokensUntil)
		}
		if !got.FirstSeen.Equal(want.FirstSeen) {
			t.Errorf("first seen %v, want %v", got.FirstSeen, want.FirstSeen)
		}
		got.NotAfter, got.FirstSeen, got.TokensUntil = want.NotAfter, want.FirstSeen, want.TokensUntil
		if *got != want {
			t.Errorf("the certificate came back as %+v, want %+v", got, want)
		}
	}
	first := certificate(now.Add(time.Hour))
	must(t, "SaveCertificate", s.SaveCertificate(ctx, first))
	is(first)
	must(t, "SaveCertificate with an earlier end", s.SaveCertificate(ctx, certificate(now)))
	is(first)
	later := certificate(now.Add(2 * time.Hour))
	later.ClientID = "another"
	must(t, "SaveCertificate with a later end", s.SaveCertificate(ctx, later))
	is(certificate(now.Add(2 * time.Hour)))
	_, err = s.Sweep(ctx, now.Add(time.Hour), 10)
	must(t, "Sweep", err)
	is(certificate(now.Add(2 * time.Hour)))
}

func certificatesRace(t *testing.T, s authserver.Store) {
	race(16, func(i int) bool {
		if err := s.SaveCertificate(t.Context(), certificate(now.Add(time.Duration(i)*time.Minute))); err != nil {
			t.Errorf("SaveCertificate: %v", err)
		}
		return true
	})
	got, err := s.Certificate(t.Context(), "thumbprint")
	must(t, "Certificate", err)
	if want := now.Add(15 * time.Minute); !got.TokensUntil.Equal(want) {
		t.Errorf("TokensUntil is %v, want the latest, %v", got.TokensUntil, want)
	}
}

func sweep(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	const each = 10
	for i := range each {
		expires := now.Add(time.Duration(i) * time.Minute)
		name := strconv.Itoa(i)
		must(t, "SaveToken", s.SaveToken(ctx, token(name, expires)))
		must(t, "Revoke", s.Revoke(ctx, name, expires))
		_, err := s.UseOnce(ctx, name, expires)
		must(t, "UseOnce", err)
		c := certificate(expires)
		c.Thumbprint = name
		must(t, "SaveCertificate", s.SaveCertificate(ctx, c))
	}
	must(t, "CreateClient", s.CreateClient(ctx, client("c")))
	must(t, "AddSigningKey", s.AddSigningKey(ctx, key("k"), ""))

	swept := func(at time.Time, limit, want int) {
		t.Helper()
		got, err := s.Sweep(ctx, at, limit)
		must(t, "Sweep", err)
		if got != want {
			t.Errorf("%d were removed, want %d", got, want)
		}
	}
	swept(now.Add(-time.Second), 100, 0)
	swept(now, 100, 4) // what expires at this moment has expired
	swept(now.Add(4*time.Minute), 3, 12)
	swept(now.Add(4*time.Minute), 3, 4)
	swept(now.Add(4*time.Minute), 3, 0)
	for _, limit := range []int{0, -1} {
		swept(now.Add(time.Hour), limit, 0)
	}
	for i := range each {
		name := strconv.Itoa(i)
		_, tokenErr := s.Token(ctx, token(name, now).Hash)
		isRevoked, err := s.Revoked(ctx, name)
		must(t, "Revoked", err)
		_, certErr := s.Certificate(ctx, name)
		if left := i > 4; errors.Is(tokenErr, authserver.ErrNotFound) == left || isRevoked != left || errors.Is(certErr, authserver.ErrNotFound) == left {
			t.Errorf("record %d: token %v, revoked %t, certificate %v, want it left: %t", i, tokenErr, isRevoked, certErr, left)
		}
	}
	swept(now.Add(1000*time.Hour), 100, 20)
	_, err := s.Client(ctx, "c")
	must(t, "a client after the sweep", err)
	if got, err := s.SigningKeys(ctx); err != nil || len(got) != 1 {
		t.Errorf("%d signing keys after the sweep, error %v, want 1", len(got), err)
	}
}

func cancelled(t *testing.T, s authserver.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.CreateClient(ctx, client("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("CreateClient: error %v, want context.Canceled", err)
	}
	if _, err := s.Client(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Client: error %v, want context.Canceled", err)
	}
	if first, err := s.UseOnce(ctx, "a", now); !errors.Is(err, context.Canceled) || first {
		t.Errorf("UseOnce: first %t, error %v, want false, context.Canceled", first, err)
	}
	must(t, "CreateClient after a cancelled one", s.CreateClient(t.Context(), client("b")))
}
