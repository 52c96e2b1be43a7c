package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

// RunGrantsDurable is [RunDurable] for an [authserver.GrantStore]. open opens the store in
// dir, an empty folder or one in which it was opened before; RunGrantsDurable closes it.
func RunGrantsDurable(t *testing.T, open func(t *testing.T, dir string) authserver.GrantStore) {
	t.Run("restart: everything is still there", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		ctx := t.Context()
		r := request("r")
		must(t, "SaveRequest", s.SaveRequest(ctx, r))
		g, revoked := grantOf("g", "c", "alice"), grantOf("revoked", "c", "alice")
		beginRefresh(t, s, g, "jti-g", "r-g")
		must(t, "Refresh", s.Refresh(ctx, hashOf("r-g"), now, time.Minute, time.Time{}, answer(g, "jti-2", "r-2")))
		beginRefresh(t, s, revoked, "jti-revoked", "r-revoked")
		must(t, "RevokeGrant", s.RevokeGrant(ctx, "revoked", now))
		session := fill[authserver.Session](t)
		must(t, "SaveSession", s.SaveSession(ctx, session, [32]byte{}))
		person := fill[authserver.Person](t)
		must(t, "SavePerson", s.SavePerson(ctx, person))
		initial := initialToken("i")
		must(t, "SaveInitialToken", s.SaveInitialToken(ctx, initial))
		must(t, "RegisterClient", s.RegisterClient(ctx, client("registered"), initial.Hash, now))
		before, err := s.Revocations(ctx, 0, 10)
		must(t, "Revocations", err)
		must(t, "Close", s.Close())

		s = open(t, dir)
		defer s.Close()
		got, err := s.Request(ctx, r.Hash)
		must(t, "Request", err)
		same(t, "Request", got, r)
		must(t, "UpdateRequest with the version from before", s.UpdateRequest(ctx, r))
		wantErr(t, "RedeemCode of a used code", s.RedeemCode(ctx, hashOf("code-g"), now, answer(g, "no", "no")), authserver.ErrUsed)
		wantErr(t, "Refresh of the revoked grant", s.Refresh(ctx, hashOf("r-revoked"), now, 0, time.Time{}, answer(revoked, "no", "no")), authserver.ErrGrantRevoked)
		isRevokedToken(t, s, "jti-revoked", true)
		gotSession, err := s.Session(ctx, session.Hash)
		must(t, "Session", err)
		same(t, "Session", gotSession, session)
		gotPerson, err := s.Person(ctx, person.Subject)
		must(t, "Person", err)
		same(t, "Person", gotPerson, person)
		wantErr(t, "RegisterClient with a used token", s.RegisterClient(ctx, client("another"), initial.Hash, now), authserver.ErrUsed)
		// The family still knows its access tokens, and what was used.
		wantErr(t, "Refresh of a used token", s.Refresh(ctx, hashOf("r-g"), now.Add(time.Hour), time.Minute, time.Time{}, answer(g, "no", "no")), authserver.ErrUsed)
		page, err := s.Revocations(ctx, before.Last, 10)
		must(t, "Revocations", err)
		if page.Feed != before.Feed || len(page.Entries) != 2 || page.Last != before.Last+2 {
			t.Errorf("the feed went from %+v to %+v, want the two tokens of the grant", before, page)
		}
	})

	t.Run("two openings: what is used once has one winner", func(t *testing.T) {
		dir := t.TempDir()
		stores := []authserver.GrantStore{open(t, dir), open(t, dir)}
		defer stores[0].Close()
		defer stores[1].Close()
		ctx := t.Context()
		initial := initialToken("i")
		must(t, "SaveInitialToken", stores[0].SaveInitialToken(ctx, initial))
		for round := range 5 {
			name := strconv.Itoa(round)
			g := grantOf(name, "c", "alice")
			beginRefresh(t, stores[0], g, "jti-"+name, "r-"+name)
			code, refused := grantOf("code "+name, "c", "alice"), request("refused "+name)
			begin(t, stores[1], code)
			must(t, "SaveRequest", stores[0].SaveRequest(ctx, refused))
			for _, test := range []struct {
				name string
				call func(s authserver.GrantStore, i int) error
				lost []error
			}{
				{"Authorize", func(s authserver.GrantStore, i int) error {
					g := grantOf(fmt.Sprintf("authorize %s %d", name, i), "c", "alice")
					return s.Authorize(ctx, refused, g, codeOf(g.ID, g), nil)
				}, []error{authserver.ErrNotFound}},
				{"RedeemCode", func(s authserver.GrantStore, i int) error {
					return s.RedeemCode(ctx, hashOf("code-code "+name), now, answer(code, fmt.Sprintf("code %s %d", name, i), ""))
				}, []error{authserver.ErrUsed}},
				{"Refresh", func(s authserver.GrantStore, i int) error {
					return s.Refresh(ctx, hashOf("r-"+name), now, -1, time.Time{}, answer(g, "", fmt.Sprintf("refresh %s %d", name, i)))
				}, []error{authserver.ErrUsed, authserver.ErrGrantRevoked}},
			} {
				won := race(8, func(i int) bool {
					err := test.call(stores[i%2], i)
					if err == nil {
						return true
					}
					for _, lost := range test.lost {
						if errors.Is(err, lost) {
							return false
						}
					}
					t.Errorf("%s: %v", test.name, err)
					return false
				})
				if won != 1 {
					t.Errorf("%s: %d calls succeeded, want 1", test.name, won)
				}
			}
			isRevokedToken(t, stores[1], "jti-"+name, true)
		}
		won := race(8, func(i int) bool {
			err := stores[i%2].RegisterClient(ctx, client(strconv.Itoa(i)), initial.Hash, now)
			if err != nil && !errors.Is(err, authserver.ErrUsed) {
				t.Errorf("RegisterClient: %v", err)
			}
			return err == nil
		})
		if won != 1 {
			t.Errorf("%d registrations with a token for one, want 1", won)
		}
	})
}
