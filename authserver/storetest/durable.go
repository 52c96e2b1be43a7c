package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

// RunDurable tests what a store keeps when it is closed and opened again, and that
// several openings at a time see each other. open opens the store in dir, an empty
// folder or one in which it was opened before; RunDurable closes it.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) authserver.Store) {
	t.Run("restart: everything is still there", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		ctx := t.Context()
		c, gone := filled(t, "c"), client("gone")
		must(t, "CreateClient", s.CreateClient(ctx, c))
		must(t, "CreateClient", s.CreateClient(ctx, gone))
		must(t, "DeleteClient", s.DeleteClient(ctx, "gone"))
		must(t, "AddSigningKey", s.AddSigningKey(ctx, key("1"), ""))
		must(t, "AddSigningKey", s.AddSigningKey(ctx, key("0"), "1"))
		must(t, "SaveToken", s.SaveToken(ctx, token("t", now.Add(time.Hour))))
		must(t, "Revoke", s.Revoke(ctx, "jti", now.Add(time.Hour)))
		_, err := s.UseOnce(ctx, "used", now.Add(time.Hour))
		must(t, "UseOnce", err)
		must(t, "SaveCertificate", s.SaveCertificate(ctx, certificate(now.Add(time.Hour))))
		must(t, "RevokeCertificate", s.RevokeCertificate(ctx, byThumbprint("stolen")))
		before, err := s.Revocations(ctx, 0, 10)
		must(t, "Revocations", err)
		_, last, _, err := s.ClientChanges(ctx, 0, 10)
		must(t, "ClientChanges", err)
		must(t, "Close", s.Close())

		s = open(t, dir)
		defer s.Close()
		got, err := s.Client(ctx, "c")
		must(t, "Client", err)
		sameClient(t, "after a restart", got, c)
		_, err = s.Client(ctx, "gone")
		wantErr(t, "a deleted client", err, authserver.ErrNotFound)
		keys, err := s.SigningKeys(ctx)
		must(t, "SigningKeys", err)
		if !slices.Equal(kids(keys), []string{"1", "0"}) {
			t.Errorf("the keys are %q, want 1 0", kids(keys))
		}
		wantErr(t, "a second first key", s.AddSigningKey(ctx, key("2"), ""), authserver.ErrConflict)
		_, err = s.Token(ctx, token("t", now).Hash)
		must(t, "Token", err)
		if is, err := s.Revoked(ctx, "jti"); err != nil || !is {
			t.Errorf("revoked is %t, error %v, want true", is, err)
		}
		if first, err := s.UseOnce(ctx, "used", now.Add(time.Hour)); err != nil || first {
			t.Errorf("a used key is the first again: %t, error %v", first, err)
		}
		_, err = s.Certificate(ctx, "thumbprint")
		must(t, "Certificate", err)
		isRevoked(t, s, "stolen", "", "", true)
		after, err := s.Revocations(ctx, before.Last, 10)
		must(t, "Revocations", err)
		if before.Feed != after.Feed || before.Last != after.Last || len(before.Entries) != 2 || len(after.Entries) != 0 {
			t.Errorf("the revocations went from %+v to %+v", before, after)
		}
		ids, again, complete, err := s.ClientChanges(ctx, last, 10)
		must(t, "ClientChanges", err)
		if len(ids) != 0 || again != last || !complete {
			t.Errorf("the feed went from %d to %d with %q, complete %t", last, again, ids, complete)
		}
		must(t, "UpdateClient with the version from before", s.UpdateClient(ctx, c))
		renewed := client("gone")
		must(t, "CreateClient", s.CreateClient(ctx, renewed))
		if renewed.Version == gone.Version {
			t.Error("the version of a client deleted before the restart came back")
		}
	})

	t.Run("two openings: each sees what the other wrote", func(t *testing.T) {
		dir := t.TempDir()
		a, b := open(t, dir), open(t, dir)
		defer a.Close()
		defer b.Close()
		ctx := t.Context()
		_, last, _, err := a.ClientChanges(ctx, 0, 10)
		must(t, "ClientChanges", err)
		c := client("c")
		must(t, "CreateClient", b.CreateClient(ctx, c))
		ids, _, complete, err := a.ClientChanges(ctx, last, 10)
		must(t, "ClientChanges", err)
		if !slices.Equal(ids, []string{"c"}) || !complete {
			t.Errorf("the other opening reports %q, complete %t, want c, true", ids, complete)
		}
		got, err := a.Client(ctx, "c")
		must(t, "Client", err)
		sameClient(t, "Client", got, c)
		must(t, "UpdateClient", a.UpdateClient(ctx, got))
		wantErr(t, "UpdateClient with the old version", b.UpdateClient(ctx, c), authserver.ErrConflict)
		if _, err := a.UseOnce(ctx, "k", now); err != nil {
			t.Errorf("UseOnce: %v", err)
		}
		if first, err := b.UseOnce(ctx, "k", now); err != nil || first {
			t.Errorf("a key used in one opening is the first in the other: %t, error %v", first, err)
		}
	})

	t.Run("two openings: one-time use and rotation have one winner", func(t *testing.T) {
		dir := t.TempDir()
		stores := []authserver.Store{open(t, dir), open(t, dir)}
		defer stores[0].Close()
		defer stores[1].Close()
		ctx := t.Context()
		var mu sync.Mutex
		winners := make(map[string]int)
		const rounds = 10
		race(8, func(i int) bool {
			s := stores[i%2]
			for round := range rounds {
				name := fmt.Sprint(round)
				first, err := s.UseOnce(ctx, name, now)
				if err != nil {
					t.Errorf("UseOnce: %v", err)
				}
				if first {
					mu.Lock()
					winners[name]++
					mu.Unlock()
				}
			}
			return true
		})
		for round := range rounds {
			if n := winners[fmt.Sprint(round)]; n != 1 {
				t.Errorf("key %d: %d calls were the first, want 1", round, n)
			}
		}
		won := race(8, func(i int) bool {
			err := stores[i%2].AddSigningKey(ctx, key(fmt.Sprint(i)), "")
			if err != nil && !errors.Is(err, authserver.ErrConflict) {
				t.Errorf("AddSigningKey: %v", err)
			}
			return err == nil
		})
		if won != 1 {
			t.Errorf("%d first keys were made, want 1", won)
		}
	})
}
