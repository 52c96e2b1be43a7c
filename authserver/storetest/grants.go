package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

// RunGrants tests the contract of [authserver.GrantStore], beside [Run]. open returns a
// new, empty store; RunGrants closes it.
func RunGrants(t *testing.T, open func(t *testing.T) authserver.GrantStore) {
	for _, test := range grantTests {
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
}

var grantTests = []struct {
	name string
	run  func(t *testing.T, s authserver.GrantStore)
}{
	{"request: comes back, shares nothing", requestRoundTrip},
	{"request: update, conflict, deletion", requestUpdates},
	{"request: of concurrent updates one wins", requestRace},
	{"authorize: the request ends as the grant begins", authorize},
	{"authorize: with an error nothing is changed", authorizeRefused},
	{"authorize: of concurrent calls one wins", authorizeRace},
	{"code: comes back, shares nothing", codeRoundTrip},
	{"code: redeemed once", redeem},
	{"code: what was issued is saved whole or not at all", redeemRefused},
	{"code: of concurrent calls one wins", redeemRace},
	{"refresh: comes back, shares nothing", refreshRoundTrip},
	{"refresh: without a new one the token lives on", refreshExtends},
	{"refresh: a successor, and a second one within the grace time", refreshRotates},
	{"refresh: used after the grace time, the whole family ends", refreshReused},
	{"refresh: with an error nothing is changed", refreshRefused},
	{"refresh: concurrent calls within the grace time all succeed", refreshRace},
	{"refresh: of concurrent calls without a grace time at most one wins", refreshReuseRace},
	{"grants: pages of a subject, of a client, of both", grantPages},
	{"revoke: access tokens are in the feed, each once", revokeGrant},
	{"revoke: no token slips between", revokeRace},
	{"delete client: nothing of it is left", deleteClient},
	{"session: comes back, replaced, touched, deleted", sessions},
	{"consent: comes back, replaced, forgotten", consents},
	{"person: comes back, replaced", persons},
	{"initial token: comes back, listed, deleted", initialTokens},
	{"initial token: a registration uses it", register},
	{"initial token: of concurrent registrations as many win as it has uses", registerRace},
	{"sweep: what has expired of each kind, at most so many", sweepPeople},
	{"sweep: a grant waits for its access tokens", sweepGrants},
	{"times: none, and beyond what nanoseconds can hold", farTimes},
	{"a caller that has gone", cancelledPeople},
}

func request(name string) *authserver.AuthorizationRequest {
	return &authserver.AuthorizationRequest{
		Hash: hashOf(name), ClientID: "c", Pushed: true, Parameters: json.RawMessage(`{"scope":"read"}`),
		Created: now, Expires: now.Add(90 * time.Second),
	}
}

func grantOf(id, clientID, subject string) *authserver.Grant {
	return &authserver.Grant{ID: id, ClientID: clientID, Subject: subject, Scope: "read", Created: now, Expires: now.Add(24 * time.Hour)}
}

func codeOf(name string, g *authserver.Grant) *authserver.Code {
	return &authserver.Code{Hash: hashOf(name), GrantID: g.ID, ClientID: g.ClientID, RedirectURI: "https://c.test/cb", Expires: now.Add(time.Minute)}
}

// begin makes a grant with the code "code-"+id.
func begin(t *testing.T, s authserver.GrantStore, g *authserver.Grant) {
	t.Helper()
	r := request("request-" + g.ID)
	r.ClientID = g.ClientID
	must(t, "SaveRequest", s.SaveRequest(t.Context(), r))
	must(t, "Authorize", s.Authorize(t.Context(), r, g, codeOf("code-"+g.ID, g), nil))
}

// answer is what the token endpoint issues: an access token with the given name as jti
// and, if refresh is not empty, a refresh token.
func answer(g *authserver.Grant, jti, refresh string) authserver.Issued {
	i := authserver.Issued{JTI: jti, Expires: now.Add(time.Hour)}
	if refresh != "" {
		i.Refresh = &authserver.RefreshToken{Hash: hashOf(refresh), GrantID: g.ID, ClientID: g.ClientID, X5TS256: "thumbprint", Issued: now, Expires: now.Add(2 * time.Hour)}
	}
	return i
}

// beginRefresh makes a grant and redeems its code for an access token and a refresh token.
func beginRefresh(t *testing.T, s authserver.GrantStore, g *authserver.Grant, jti, refresh string) {
	t.Helper()
	begin(t, s, g)
	must(t, "RedeemCode", s.RedeemCode(t.Context(), hashOf("code-"+g.ID), now, answer(g, jti, refresh)))
}

func hasRefresh(t *testing.T, s authserver.GrantStore, name string, want bool) {
	t.Helper()
	_, _, err := s.RefreshToken(t.Context(), hashOf(name))
	if want {
		must(t, "RefreshToken "+name, err)
	} else {
		wantErr(t, "RefreshToken "+name, err, authserver.ErrNotFound)
	}
}

func isRevokedToken(t *testing.T, s authserver.Store, jti string, want bool) {
	t.Helper()
	got, err := s.Revoked(t.Context(), jti)
	must(t, "Revoked", err)
	if got != want {
		t.Errorf("access token %s is revoked: %t, want %t", jti, got, want)
	}
}

func requestRoundTrip(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	want, given := fill[authserver.AuthorizationRequest](t), fill[authserver.AuthorizationRequest](t)
	_, err := s.Request(ctx, want.Hash)
	wantErr(t, "Request before", err, authserver.ErrNotFound)
	must(t, "SaveRequest", s.SaveRequest(ctx, given))
	want.Version = given.Version
	if given.Version == fill[authserver.AuthorizationRequest](t).Version {
		t.Error("SaveRequest left the version as it was")
	}
	scribble(given)
	for range 2 { // the second time after a change of what was read
		got, err := s.Request(ctx, want.Hash)
		must(t, "Request", err)
		same(t, "Request", got, want)
		scribble(got)
	}
	wantErr(t, "SaveRequest again", s.SaveRequest(ctx, request(`Hash`)), authserver.ErrExists)
	got, err := s.Request(ctx, want.Hash)
	must(t, "Request", err)
	same(t, "after a second one with its hash", got, want)

	bare := &authserver.AuthorizationRequest{Hash: hashOf("bare")}
	must(t, "SaveRequest", s.SaveRequest(ctx, bare))
	got, err = s.Request(ctx, bare.Hash)
	must(t, "Request", err)
	if len(got.Parameters)+len(got.Progress) != 0 || got.Pushed || got.ClientID != "" {
		t.Errorf("a request with a hash only came back as %+v", got)
	}
}

func requestUpdates(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	r := request("r")
	wantErr(t, "UpdateRequest before", s.UpdateRequest(ctx, r), authserver.ErrNotFound)
	wantErr(t, "DeleteRequest before", s.DeleteRequest(ctx, r.Hash), authserver.ErrNotFound)
	must(t, "SaveRequest", s.SaveRequest(ctx, r))
	stale := *r
	update := *r
	update.Browser, update.Progress, update.Expires = hashOf("browser"), json.RawMessage(`{"a":1}`), now.Add(time.Hour)
	update.ClientID, update.Parameters, update.Pushed = "another", json.RawMessage(`{}`), false
	must(t, "UpdateRequest", s.UpdateRequest(ctx, &update))
	if update.Version == stale.Version {
		t.Error("UpdateRequest left the version as it was")
	}
	want := *r
	want.Browser, want.Progress, want.Expires, want.Version = update.Browser, json.RawMessage(`{"a":1}`), update.Expires, update.Version
	scribble(&update)
	got, err := s.Request(ctx, r.Hash)
	must(t, "Request", err)
	same(t, "after an update of everything", got, &want)

	stale.Progress = json.RawMessage(`{"stale":true}`)
	wantErr(t, "UpdateRequest with the old version", s.UpdateRequest(ctx, &stale), authserver.ErrConflict)
	got.Progress = json.RawMessage(`{"b":2}`)
	got.Expires = now.Add(time.Minute) // earlier than before
	must(t, "UpdateRequest with the version of the last", s.UpdateRequest(ctx, got))
	again, err := s.Request(ctx, r.Hash)
	must(t, "Request", err)
	same(t, "after the second update", again, got)
	n, err := s.Sweep(ctx, now.Add(time.Minute), 10)
	must(t, "Sweep", err)
	if n != 1 {
		t.Errorf("%d were swept at the new end, want 1", n)
	}
	wantErr(t, "UpdateRequest after the sweep", s.UpdateRequest(ctx, got), authserver.ErrNotFound)

	must(t, "SaveRequest", s.SaveRequest(ctx, request("r")))
	must(t, "DeleteRequest", s.DeleteRequest(ctx, r.Hash))
	wantErr(t, "DeleteRequest again", s.DeleteRequest(ctx, r.Hash), authserver.ErrNotFound)
	_, err = s.Request(ctx, r.Hash)
	wantErr(t, "Request after", err, authserver.ErrNotFound)
}

// Two browsers open one link: the request is bound to one of them.
func requestRace(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	r := request("r")
	must(t, "SaveRequest", s.SaveRequest(ctx, r))
	won := race(16, func(i int) bool {
		mine := *r
		mine.Browser = hashOf(strconv.Itoa(i))
		err := s.UpdateRequest(ctx, &mine)
		if err != nil && !errors.Is(err, authserver.ErrConflict) {
			t.Errorf("UpdateRequest: %v", err)
		}
		return err == nil
	})
	if won != 1 {
		t.Errorf("%d updates of one version succeeded, want 1", won)
	}
}

func authorize(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	r := request("r")
	must(t, "SaveRequest", s.SaveRequest(ctx, r))
	wantGrant, g := fill[authserver.Grant](t), fill[authserver.Grant](t)
	wantGrant.Revoked, g.Revoked = time.Time{}, time.Time{}
	code := codeOf("code", g)
	wantConsent, consent := fill[authserver.Consent](t), fill[authserver.Consent](t)
	must(t, "Authorize", s.Authorize(ctx, r, g, code, consent))
	scribble(g)
	scribble(consent)
	_, err := s.Request(ctx, r.Hash)
	wantErr(t, "Request after", err, authserver.ErrNotFound)
	for range 2 { // the second time after a change of what was read
		got, err := s.Grant(ctx, g.ID)
		must(t, "Grant", err)
		same(t, "Grant", got, wantGrant)
		scribble(got)
		gotConsent, err := s.Consent(ctx, consent.Subject, consent.ClientID)
		must(t, "Consent", err)
		same(t, "Consent", gotConsent, wantConsent)
		scribble(gotConsent)
		gotCode, ofCode, err := s.Code(ctx, code.Hash)
		must(t, "Code", err)
		same(t, "Code", gotCode, code)
		same(t, "the grant of the code", ofCode, wantGrant)
		scribble(ofCode)
	}
	wantErr(t, "Authorize again", s.Authorize(ctx, r, grantOf("2", "c", "alice"), codeOf("code-2", g), nil), authserver.ErrNotFound)
	_, err = s.Grant(ctx, "2")
	wantErr(t, "the grant of the second call", err, authserver.ErrNotFound)
	_, err = s.Grant(ctx, "unknown")
	wantErr(t, "Grant that is not there", err, authserver.ErrNotFound)
}

func authorizeRefused(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	begin(t, s, grantOf("there", "c", "alice"))
	r := request("r")
	must(t, "SaveRequest", s.SaveRequest(ctx, r))
	stale := *r
	must(t, "UpdateRequest", s.UpdateRequest(ctx, r))
	consent := &authserver.Consent{Subject: "alice", ClientID: "c", Scope: "read"}
	there, other := grantOf("there", "c", "mallory"), grantOf("other", "c", "mallory")
	for _, test := range []struct {
		name string
		r    *authserver.AuthorizationRequest
		g    *authserver.Grant
		code string
		want error
	}{
		{"an old version of the request", &stale, other, "code", authserver.ErrConflict},
		{"a request that is not there", request("gone"), other, "code", authserver.ErrNotFound},
		{"a grant that is there", r, there, "code", authserver.ErrExists},
		{"a code that is there", r, other, "code-there", authserver.ErrExists},
	} {
		wantErr(t, test.name, s.Authorize(ctx, test.r, test.g, codeOf(test.code, test.g), consent), test.want)
		_, err := s.Request(ctx, r.Hash)
		must(t, test.name+": Request", err)
		_, err = s.Grant(ctx, "other")
		wantErr(t, test.name+": Grant", err, authserver.ErrNotFound)
		_, _, err = s.Code(ctx, hashOf("code"))
		wantErr(t, test.name+": Code", err, authserver.ErrNotFound)
		_, err = s.Consent(ctx, "alice", "c")
		wantErr(t, test.name+": Consent", err, authserver.ErrNotFound)
		g, err := s.Grant(ctx, "there")
		must(t, test.name+": Grant", err)
		if g.Subject != "alice" {
			t.Errorf("%s: the grant that was there is now that of %s", test.name, g.Subject)
		}
	}
	must(t, "Authorize", s.Authorize(ctx, r, other, codeOf("code", other), consent))
}

// A person clicks twice, and denies at the same time in another window.
func authorizeRace(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	for round := range 3 {
		r := request(strconv.Itoa(round))
		must(t, "SaveRequest", s.SaveRequest(ctx, r))
		won := race(16, func(i int) bool {
			if i == 0 {
				err := s.DeleteRequest(ctx, r.Hash)
				if err != nil && !errors.Is(err, authserver.ErrNotFound) {
					t.Errorf("DeleteRequest: %v", err)
				}
				return err == nil
			}
			g := grantOf(fmt.Sprintf("%d-%d", round, i), "c", "alice")
			err := s.Authorize(ctx, r, g, codeOf("code "+g.ID, g), nil)
			if err != nil && !errors.Is(err, authserver.ErrNotFound) {
				t.Errorf("Authorize: %v", err)
			}
			if _, _, lost := s.Code(ctx, hashOf("code "+g.ID)); (lost == nil) != (err == nil) {
				t.Errorf("Authorize says %v and its code is there: %v", err, lost)
			}
			return err == nil
		})
		if won != 1 {
			t.Errorf("%d ends of one request, want 1", won)
		}
	}
}

func codeRoundTrip(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	r, g := request("r"), grantOf("g", "c", "alice")
	must(t, "SaveRequest", s.SaveRequest(ctx, r))
	want, given := fill[authserver.Code](t), fill[authserver.Code](t)
	want.GrantID, given.GrantID = "g", "g"
	want.Used, given.Used = time.Time{}, time.Time{}
	must(t, "Authorize", s.Authorize(ctx, r, g, given, nil))
	*given = authserver.Code{}
	_, _, err := s.Code(ctx, hashOf("unknown"))
	wantErr(t, "Code that is not there", err, authserver.ErrNotFound)
	for range 2 { // the second time after a change of what was read
		got, _, err := s.Code(ctx, want.Hash)
		must(t, "Code", err)
		same(t, "Code", got, want)
		*got = authserver.Code{}
	}
}

func redeem(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	g := grantOf("g", "c", "alice")
	begin(t, s, g)
	hash := hashOf("code-g")
	wantErr(t, "RedeemCode of one that is not there", s.RedeemCode(ctx, hashOf("unknown"), now, answer(g, "no", "no")), authserver.ErrNotFound)
	first := answer(g, "jti-1", "refresh-1")
	first.Opaque = token("opaque-1", now.Add(time.Hour))
	must(t, "RedeemCode", s.RedeemCode(ctx, hash, now.Add(time.Second), first))
	code, _, err := s.Code(ctx, hash)
	must(t, "Code after", err)
	if !code.Used.Equal(now.Add(time.Second)) {
		t.Errorf("the code was used at %v", code.Used)
	}
	hasRefresh(t, s, "refresh-1", true)
	_, err = s.Token(ctx, first.Opaque.Hash)
	must(t, "Token", err)

	second := answer(g, "jti-2", "refresh-2")
	second.Opaque = token("opaque-2", now.Add(time.Hour))
	wantErr(t, "RedeemCode again", s.RedeemCode(ctx, hash, now.Add(2*time.Second), second), authserver.ErrUsed)
	hasRefresh(t, s, "refresh-2", false)
	_, err = s.Token(ctx, second.Opaque.Hash)
	wantErr(t, "the token of the second call", err, authserver.ErrNotFound)
	if code, _, err = s.Code(ctx, hash); err != nil || !code.Used.Equal(now.Add(time.Second)) {
		t.Errorf("after a second call the code was used at %v, error %v", code.Used, err)
	}
	if got, err := s.Grant(ctx, "g"); err != nil || !got.Revoked.IsZero() {
		t.Errorf("the store has revoked the grant by itself: %+v, error %v", got, err)
	}
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "g", now))
	isRevokedToken(t, s, "jti-1", true)
	isRevokedToken(t, s, "jti-2", false) // it was never issued

	h := grantOf("h", "c", "alice")
	begin(t, s, h)
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "h", now))
	wantErr(t, "RedeemCode of a revoked grant", s.RedeemCode(ctx, hashOf("code-h"), now, answer(h, "jti-3", "refresh-3")), authserver.ErrGrantRevoked)
	hasRefresh(t, s, "refresh-3", false)
	if code, _, err := s.Code(ctx, hashOf("code-h")); err != nil || !code.Used.IsZero() {
		t.Errorf("the code of the revoked grant was used at %v, error %v", code.Used, err)
	}
	i := grantOf("i", "c", "alice")
	begin(t, s, i)
	must(t, "RedeemCode without anything issued", s.RedeemCode(ctx, hashOf("code-i"), now, authserver.Issued{}))
}

func redeemRefused(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	other := grantOf("other", "c", "alice")
	beginRefresh(t, s, other, "jti", "refresh-there")
	must(t, "SaveToken", s.SaveToken(ctx, token("opaque-there", now.Add(time.Hour))))
	g := grantOf("g", "c", "alice")
	begin(t, s, g)
	for _, test := range []struct{ refresh, opaque string }{{"refresh-there", "opaque"}, {"refresh", "opaque-there"}, {"refresh-there", "opaque-there"}} {
		i := answer(g, "jti-g", test.refresh)
		i.Opaque = token(test.opaque, now.Add(time.Hour))
		wantErr(t, "RedeemCode with what is there", s.RedeemCode(ctx, hashOf("code-g"), now, i), authserver.ErrExists)
		hasRefresh(t, s, "refresh", false)
		_, err := s.Token(ctx, hashOf("opaque"))
		wantErr(t, "Token", err, authserver.ErrNotFound)
		if r, _, err := s.RefreshToken(ctx, hashOf("refresh-there")); err != nil || r.GrantID != "other" {
			t.Errorf("the refresh token that was there has the grant %q, error %v", r.GrantID, err)
		}
	}
	must(t, "RedeemCode", s.RedeemCode(ctx, hashOf("code-g"), now, answer(g, "jti-g", "refresh")))
}

// A stolen code is sent by its thief and by its owner, over many connections at once.
func redeemRace(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	for round := range 3 {
		g := grantOf(strconv.Itoa(round), "c", "alice")
		begin(t, s, g)
		won := race(32, func(i int) bool {
			name := fmt.Sprintf("%d-%d", round, i)
			err := s.RedeemCode(ctx, hashOf("code-"+g.ID), now, answer(g, name, name))
			if err != nil && !errors.Is(err, authserver.ErrUsed) {
				t.Errorf("RedeemCode: %v", err)
			}
			if _, _, lost := s.RefreshToken(ctx, hashOf(name)); (lost == nil) != (err == nil) {
				t.Errorf("RedeemCode says %v and its refresh token is there: %v", err, lost)
			}
			return err == nil
		})
		if won != 1 {
			t.Errorf("%d calls redeemed one code, want 1", won)
		}
	}
}

func refreshRoundTrip(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	g := grantOf("g", "c", "alice")
	begin(t, s, g)
	want, given := fill[authserver.RefreshToken](t), fill[authserver.RefreshToken](t)
	want.GrantID, given.GrantID = "g", "g"
	want.Used, given.Used = time.Time{}, time.Time{}
	must(t, "RedeemCode", s.RedeemCode(ctx, hashOf("code-g"), now, authserver.Issued{Refresh: given}))
	*given = authserver.RefreshToken{}
	_, _, err := s.RefreshToken(ctx, hashOf("unknown"))
	wantErr(t, "RefreshToken that is not there", err, authserver.ErrNotFound)
	for range 2 { // the second time after a change of what was read
		got, ofToken, err := s.RefreshToken(ctx, want.Hash)
		must(t, "RefreshToken", err)
		same(t, "RefreshToken", got, want)
		same(t, "the grant of the refresh token", ofToken, g)
		*got, *ofToken = authserver.RefreshToken{}, authserver.Grant{}
	}
}

func refreshExtends(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	g := grantOf("g", "c", "alice")
	beginRefresh(t, s, g, "jti-0", "r")
	for i, test := range []struct{ extend, want time.Time }{
		{now.Add(3 * time.Hour), now.Add(3 * time.Hour)},
		{now.Add(time.Hour), now.Add(3 * time.Hour)},
		{time.Time{}, now.Add(3 * time.Hour)},
		{now.Add(4 * time.Hour), now.Add(4 * time.Hour)},
	} {
		must(t, "Refresh", s.Refresh(ctx, hashOf("r"), now.Add(time.Minute), -1, test.extend, answer(g, "jti-"+strconv.Itoa(i+1), "")))
		r, _, err := s.RefreshToken(ctx, hashOf("r"))
		must(t, "RefreshToken", err)
		if !r.Expires.Equal(test.want) || !r.Used.IsZero() || !r.Issued.Equal(now) {
			t.Errorf("extended until %v: the token is %+v, want that it expires at %v and is not used", test.extend, r, test.want)
		}
	}
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "g", now))
	for i := range 5 {
		isRevokedToken(t, s, "jti-"+strconv.Itoa(i), true)
	}
}

func refreshRotates(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	g := grantOf("g", "c", "alice")
	beginRefresh(t, s, g, "jti-0", "r0")
	const grace = 30 * time.Second
	must(t, "Refresh", s.Refresh(ctx, hashOf("r0"), now, grace, now.Add(9*time.Hour), answer(g, "jti-1", "r1")))
	// Until its end, the old token yields further successors. Its time does not move.
	for i, at := range []time.Duration{0, time.Second, grace} {
		name := "again-" + strconv.Itoa(i)
		must(t, "Refresh within the grace time", s.Refresh(ctx, hashOf("r0"), now.Add(at), grace, time.Time{}, answer(g, name, name)))
		hasRefresh(t, s, name, true)
		r, _, err := s.RefreshToken(ctx, hashOf("r0"))
		must(t, "RefreshToken", err)
		if !r.Used.Equal(now) || !r.Expires.Equal(now.Add(2*time.Hour)) {
			t.Errorf("the old token was used at %v and expires at %v, want %v, and an end that has not moved", r.Used, r.Expires, now)
		}
	}
	// The successors have lives of their own, and one family.
	must(t, "Refresh of a successor", s.Refresh(ctx, hashOf("r1"), now.Add(time.Hour), grace, time.Time{}, answer(g, "jti-2", "r2")))
	must(t, "Refresh of a twin", s.Refresh(ctx, hashOf("again-0"), now.Add(time.Hour), grace, time.Time{}, answer(g, "jti-3", "r3")))
	if _, of, err := s.RefreshToken(ctx, hashOf("r3")); err != nil || of.ID != "g" {
		t.Errorf("the successor of the twin has the grant %+v, error %v", of, err)
	}
}

func refreshReused(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	const grace = 30 * time.Second
	for _, test := range []struct {
		id        string
		grace, at time.Duration
		rotate    bool
	}{
		{"after the grace time", grace, grace + time.Second, true},
		{"by a server that does not rotate any more", grace, grace + time.Second, false},
		{"without a grace time, at once", -1, 0, true},
	} {
		g := grantOf(test.id, "c", "alice")
		name := func(what string) string { return what + " " + test.id }
		beginRefresh(t, s, g, name("jti-0"), name("r0"))
		must(t, "Refresh", s.Refresh(ctx, hashOf(name("r0")), now, test.grace, time.Time{}, answer(g, name("jti-1"), name("r1"))))
		before, err := s.Revocations(ctx, 0, 1000)
		must(t, "Revocations", err)
		again := answer(g, name("jti-2"), "")
		if test.rotate {
			again = answer(g, name("jti-2"), name("r2"))
		}
		wantErr(t, test.id, s.Refresh(ctx, hashOf(name("r0")), now.Add(test.at), test.grace, now.Add(9*time.Hour), again), authserver.ErrUsed)
		hasRefresh(t, s, name("r2"), false)
		got, err := s.Grant(ctx, g.ID)
		must(t, "Grant", err)
		if !got.Revoked.Equal(now.Add(test.at)) {
			t.Errorf("%s: the grant was revoked at %v, want %v", test.id, got.Revoked, now.Add(test.at))
		}
		page, err := s.Revocations(ctx, before.Last, 1000)
		must(t, "Revocations", err)
		var revoked []string
		for _, e := range page.Entries {
			revoked = append(revoked, e.JTI)
		}
		slices.Sort(revoked)
		if want := []string{name("jti-0"), name("jti-1")}; !slices.Equal(revoked, want) {
			t.Errorf("%s: the feed has %q, want %q", test.id, revoked, want)
		}
		for _, r := range []string{"r0", "r1"} {
			wantErr(t, "Refresh within the ended family", s.Refresh(ctx, hashOf(name(r)), now.Add(test.at), test.grace, time.Time{}, answer(g, "no", "no")), authserver.ErrGrantRevoked)
			hasRefresh(t, s, name(r), true)
		}
		hasRefresh(t, s, "no", false)
	}
}

func refreshRefused(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	g := grantOf("g", "c", "alice")
	beginRefresh(t, s, g, "jti-0", "r0")
	must(t, "SaveToken", s.SaveToken(ctx, token("opaque-there", now.Add(time.Hour))))
	i := answer(g, "jti-1", "r1")
	i.Opaque = token("opaque-there", now.Add(time.Hour))
	wantErr(t, "Refresh with a token that is there", s.Refresh(ctx, hashOf("r0"), now, 0, time.Time{}, i), authserver.ErrExists)
	wantErr(t, "Refresh with a refresh token that is there", s.Refresh(ctx, hashOf("r0"), now, 0, time.Time{}, answer(g, "jti-1", "r0")), authserver.ErrExists)
	wantErr(t, "Refresh with one that is not there", s.Refresh(ctx, hashOf("unknown"), now, 0, time.Time{}, answer(g, "jti-1", "r1")), authserver.ErrNotFound)
	hasRefresh(t, s, "r1", false)
	if r, of, err := s.RefreshToken(ctx, hashOf("r0")); err != nil || !r.Used.IsZero() || !of.Revoked.IsZero() {
		t.Errorf("after errors the token is %+v, its grant %+v, error %v", r, of, err)
	}
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "g", now))
	isRevokedToken(t, s, "jti-1", false)
	wantErr(t, "Refresh of a revoked grant", s.Refresh(ctx, hashOf("r0"), now, 0, time.Time{}, answer(g, "jti-1", "r1")), authserver.ErrGrantRevoked)
	hasRefresh(t, s, "r1", false)
}

// A client sends its refresh token over many connections at once, since it does not
// coordinate its threads.
func refreshRace(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	g := grantOf("g", "c", "alice")
	beginRefresh(t, s, g, "jti", "r")
	const n = 16
	won := race(n, func(i int) bool {
		name := strconv.Itoa(i)
		err := s.Refresh(ctx, hashOf("r"), now.Add(time.Duration(i)*time.Millisecond), time.Minute, time.Time{}, answer(g, name, name))
		if err != nil {
			t.Errorf("Refresh: %v", err)
		}
		return err == nil
	})
	if won != n {
		t.Errorf("%d calls succeeded, want all %d", won, n)
	}
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "g", now.Add(time.Minute)))
	for i := range n {
		hasRefresh(t, s, strconv.Itoa(i), true)
		isRevokedToken(t, s, strconv.Itoa(i), true)
	}
}

// A stolen refresh token is sent by its thief and by its owner at once.
func refreshReuseRace(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	for round := range 3 {
		g := grantOf(strconv.Itoa(round), "c", "alice")
		beginRefresh(t, s, g, "jti-"+g.ID, "r-"+g.ID)
		won := race(16, func(i int) bool {
			name := fmt.Sprintf("%d-%d", round, i)
			err := s.Refresh(ctx, hashOf("r-"+g.ID), now, -1, time.Time{}, answer(g, name, name))
			if err != nil && !errors.Is(err, authserver.ErrUsed) && !errors.Is(err, authserver.ErrGrantRevoked) {
				t.Errorf("Refresh: %v", err)
			}
			if err == nil {
				return true
			}
			// The family has ended before the second is told so.
			if got, err := s.Grant(ctx, g.ID); err != nil || got.Revoked.IsZero() {
				t.Errorf("the second use was refused and the grant is %+v, error %v", got, err)
			}
			hasRefresh(t, s, name, false)
			return false
		})
		if won != 1 {
			t.Errorf("%d calls succeeded, want 1", won)
		}
		isRevokedToken(t, s, "jti-"+g.ID, true)
	}
}

func grantPages(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	for i := range 12 { // ids a to l
		begin(t, s, grantOf(string(rune('a'+(i*5+3)%12)), []string{"c1", "c2"}[(i*5+3)%2], []string{"alice", "bob", "carol"}[(i*5+3)%3]))
	}
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "g", now))
	for _, test := range []struct {
		subject, client, after string
		limit                  int
		want                   string
	}{
		{"alice", "", "", 10, "adj"}, // g is revoked
		{"", "c1", "", 10, "aceik"},
		{"alice", "c2", "", 10, "dj"},
		{"", "c1", "", 2, "ac"},
		{"", "c1", "c", 2, "ei"},
		{"", "c1", "d", 2, "ei"},
		{"", "c1", "k", 2, ""},
		{"bob", "", "b", 10, "ehk"},
		{"alice", "c2", "d", 10, "j"},
		{"nobody", "", "", 10, ""},
		{"alice", "none", "", 10, ""},
		{"Alice", "", "", 10, ""},
		{"alice", "", "", 0, ""},
		{"alice", "", "", -1, ""},
	} {
		page, err := s.Grants(ctx, test.subject, test.client, test.after, test.limit)
		must(t, "Grants", err)
		got := ""
		for _, g := range page {
			got += g.ID
			if g.Scope != "read" || !g.Created.Equal(now) {
				t.Errorf("the list has the grant %+v", g)
			}
		}
		if got != test.want {
			t.Errorf("the grants of %q and %q after %q, at most %d, are %q, want %q", test.subject, test.client, test.after, test.limit, got, test.want)
		}
	}
}

func revokeGrant(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	wantErr(t, "RevokeGrant of one that is not there", s.RevokeGrant(ctx, "g", now), authserver.ErrNotFound)
	g, other := grantOf("g", "c", "alice"), grantOf("other", "c", "alice")
	beginRefresh(t, s, g, "jti-0", "r")
	beginRefresh(t, s, other, "jti-other", "r-other")
	for i := 1; i < 4; i++ {
		must(t, "Refresh", s.Refresh(ctx, hashOf("r"), now, 0, time.Time{}, answer(g, "jti-"+strconv.Itoa(i), "")))
	}
	// Two were revoked before by themselves, one of them until an earlier time.
	must(t, "Revoke", s.Revoke(ctx, "jti-1", now.Add(time.Hour)))
	must(t, "Revoke", s.Revoke(ctx, "jti-2", now.Add(time.Minute)))
	before, err := s.Revocations(ctx, 0, 10)
	must(t, "Revocations", err)
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "g", now.Add(time.Second)))
	must(t, "RevokeGrant again", s.RevokeGrant(ctx, "g", now.Add(time.Hour)))
	if got, err := s.Grant(ctx, "g"); err != nil || !got.Revoked.Equal(now.Add(time.Second)) {
		t.Errorf("the grant is %+v, error %v, want the time of the first call", got, err)
	}
	must(t, "Revoke", s.Revoke(ctx, "later", now.Add(time.Hour)))
	page, err := s.Revocations(ctx, before.Last, 10)
	must(t, "Revocations", err)
	var got []string
	last := before.Last
	for _, e := range page.Entries {
		got = append(got, e.JTI)
		if !e.Expires.Equal(now.Add(time.Hour)) {
			t.Errorf("%s expires at %v, want the end of the token, %v", e.JTI, e.Expires, now.Add(time.Hour))
		}
		if e.Number <= last || e.Number > page.Last {
			t.Errorf("%s has the number %d after %d, last %d", e.JTI, e.Number, last, page.Last)
		}
		last = e.Number
	}
	if len(got) != 4 || got[3] != "later" {
		t.Fatalf("the feed has %q, want three tokens of the grant and the one after it", got)
	}
	slices.Sort(got)
	if want := []string{"jti-0", "jti-2", "jti-3", "later"}; !slices.Equal(got, want) {
		t.Errorf("the feed has %q, want %q", got, want)
	}
	isRevokedToken(t, s, "jti-other", false)
	if got, err := s.Grant(ctx, "other"); err != nil || !got.Revoked.IsZero() {
		t.Errorf("the other grant is %+v, error %v", got, err)
	}
}

// A grant is revoked while tokens are issued for it: each of them is either revoked too
// or not issued.
func revokeRace(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	for round := range 5 {
		g := grantOf(strconv.Itoa(round), "c", "alice")
		beginRefresh(t, s, g, "jti-"+g.ID, "r-"+g.ID)
		issued := make([]bool, 8)
		race(len(issued), func(i int) bool {
			if i == 0 {
				if err := s.RevokeGrant(ctx, g.ID, now); err != nil {
					t.Errorf("RevokeGrant: %v", err)
				}
				return true
			}
			err := s.Refresh(ctx, hashOf("r-"+g.ID), now, 0, time.Time{}, answer(g, fmt.Sprintf("%d-%d", round, i), ""))
			if err != nil && !errors.Is(err, authserver.ErrGrantRevoked) {
				t.Errorf("Refresh: %v", err)
			}
			issued[i] = err == nil
			return true
		})
		for i := 1; i < len(issued); i++ {
			isRevokedToken(t, s, fmt.Sprintf("%d-%d", round, i), issued[i])
		}
	}
}

func deleteClient(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	for _, id := range []string{"c", "d"} {
		must(t, "CreateClient", s.CreateClient(ctx, client(id)))
		r := request("request of " + id)
		r.ClientID = id
		must(t, "SaveRequest", s.SaveRequest(ctx, r))
		for _, name := range []string{"1", "2"} {
			g := grantOf(id+name, id, "alice")
			beginRefresh(t, s, g, "jti-"+g.ID, "r-"+g.ID)
		}
		r, g := request("consent of "+id), grantOf(id+"3", id, "alice")
		must(t, "SaveRequest", s.SaveRequest(ctx, r))
		must(t, "Authorize", s.Authorize(ctx, r, g, codeOf("code-"+g.ID, g), &authserver.Consent{Subject: "alice", ClientID: id}))
	}
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "c2", now))
	before, err := s.Revocations(ctx, 0, 10)
	must(t, "Revocations", err)
	must(t, "DeleteClient", s.DeleteClient(ctx, "c"))
	page, err := s.Revocations(ctx, before.Last, 10)
	must(t, "Revocations", err)
	if len(page.Entries) != 1 || page.Entries[0].JTI != "jti-c1" || page.Entries[0].Number != page.Last {
		t.Errorf("the feed has %+v, want jti-c1, which was not revoked before", page)
	}
	must(t, "CreateClient with the id of the deleted one", s.CreateClient(ctx, client("c")))
	for _, id := range []string{"c", "d"} {
		want := authserver.ErrNotFound
		if id == "d" {
			want = nil
		}
		_, err := s.Request(ctx, hashOf("request of "+id))
		wantErr(t, id+": Request", err, want)
		_, err = s.Consent(ctx, "alice", id)
		wantErr(t, id+": Consent", err, want)
		for _, name := range []string{"1", "2", "3"} {
			_, err = s.Grant(ctx, id+name)
			wantErr(t, id+": Grant", err, want)
			_, _, err = s.Code(ctx, hashOf("code-"+id+name))
			wantErr(t, id+": Code", err, want)
			if name != "3" {
				_, _, err = s.RefreshToken(ctx, hashOf("r-"+id+name))
				wantErr(t, id+": RefreshToken", err, want)
				isRevokedToken(t, s, "jti-"+id+name, id == "c")
			}
		}
	}
	g := grantOf("c1", "c", "alice") // nothing of the old one is in the way
	wantErr(t, "Refresh with an old token", s.Refresh(ctx, hashOf("r-c1"), now, 0, time.Time{}, answer(g, "no", "no")), authserver.ErrNotFound)
	must(t, "SaveRequest", s.SaveRequest(ctx, request("new")))
	r := request("new")
	r.Version = 1
	got, err := s.Request(ctx, r.Hash)
	must(t, "Request", err)
	must(t, "Authorize", s.Authorize(ctx, got, g, codeOf("code-c1", g), nil))
}

func sessions(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	want, given := fill[authserver.Session](t), fill[authserver.Session](t)
	_, err := s.Session(ctx, want.Hash)
	wantErr(t, "Session before", err, authserver.ErrNotFound)
	wantErr(t, "TouchSession before", s.TouchSession(ctx, want.Hash, now, now), authserver.ErrNotFound)
	must(t, "DeleteSession before", s.DeleteSession(ctx, want.Hash))
	must(t, "SaveSession", s.SaveSession(ctx, given, [32]byte{}))
	scribble(given)
	for range 2 { // the second time after a change of what was read
		got, err := s.Session(ctx, want.Hash)
		must(t, "Session", err)
		same(t, "Session", got, want)
		scribble(got)
	}
	want.LastSeen, want.Expires = now.Add(time.Hour), now.Add(2*time.Hour)
	must(t, "TouchSession", s.TouchSession(ctx, want.Hash, want.LastSeen, want.Expires))
	got, err := s.Session(ctx, want.Hash)
	must(t, "Session", err)
	same(t, "after TouchSession", got, want)
	must(t, "TouchSession", s.TouchSession(ctx, want.Hash, want.LastSeen, now)) // an earlier end
	if got, err := s.Session(ctx, want.Hash); err != nil || !got.Expires.Equal(now) {
		t.Errorf("the session is %+v, error %v, want that it ends now", got, err)
	}

	// Somebody knows the cookie of a session, or has made one up: no other person's
	// session gets it.
	thief := &authserver.Session{Hash: want.Hash, ID: "thief", Subject: "mallory", Expires: now.Add(time.Hour)}
	wantErr(t, "SaveSession with a hash that is there", s.SaveSession(ctx, thief, [32]byte{}), authserver.ErrExists)
	wantErr(t, "SaveSession that replaces itself", s.SaveSession(ctx, thief, want.Hash), authserver.ErrExists)
	if got, err := s.Session(ctx, want.Hash); err != nil || got.Subject != want.Subject {
		t.Errorf("the session is now %+v, error %v", got, err)
	}

	session := func(name, subject string) *authserver.Session {
		return &authserver.Session{Hash: hashOf(name), ID: "id of " + name, Subject: subject, Created: now, Expires: now.Add(time.Hour)}
	}
	must(t, "SaveSession", s.SaveSession(ctx, session("a1", "alice"), want.Hash))
	_, err = s.Session(ctx, want.Hash)
	wantErr(t, "the session that was replaced", err, authserver.ErrNotFound)
	must(t, "SaveSession that replaces none", s.SaveSession(ctx, session("a2", "alice"), hashOf("unknown")))
	must(t, "SaveSession", s.SaveSession(ctx, session("a3", "alice"), [32]byte{}))
	must(t, "SaveSession", s.SaveSession(ctx, session("b", "bob"), [32]byte{}))
	must(t, "DeleteSession", s.DeleteSession(ctx, hashOf("a1")))
	must(t, "DeleteSession again", s.DeleteSession(ctx, hashOf("a1")))
	there := func(want ...string) {
		t.Helper()
		for _, name := range []string{"a1", "a2", "a3", "b"} {
			_, err := s.Session(ctx, hashOf(name))
			if slices.Contains(want, name) {
				must(t, "Session "+name, err)
			} else {
				wantErr(t, "Session "+name, err, authserver.ErrNotFound)
			}
		}
	}
	there("a2", "a3", "b")
	must(t, "DeleteSessions", s.DeleteSessions(ctx, "alice"))
	must(t, "DeleteSessions again", s.DeleteSessions(ctx, "alice"))
	there("b")
	wantErr(t, "TouchSession after", s.TouchSession(ctx, hashOf("a2"), now, now), authserver.ErrNotFound)
}

func consents(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	_, err := s.Consent(ctx, "alice", "c")
	wantErr(t, "Consent before", err, authserver.ErrNotFound)
	must(t, "DeleteConsent before", s.DeleteConsent(ctx, "alice", "c"))
	given := 0
	give := func(subject, clientID, scope string) {
		t.Helper()
		given++
		r, g := request(strconv.Itoa(given)), grantOf(strconv.Itoa(given), clientID, subject)
		must(t, "SaveRequest", s.SaveRequest(ctx, r))
		must(t, "Authorize", s.Authorize(ctx, r, g, codeOf("code-"+g.ID, g),
			&authserver.Consent{Subject: subject, ClientID: clientID, Scope: scope, Given: now, Expires: now.Add(time.Duration(given) * time.Hour)}))
	}
	give("alice", "c", "read")
	give("alice", "d", "read")
	give("bob", "c", "read")
	give("alice", "c", "read write")
	got, err := s.Consent(ctx, "alice", "c")
	must(t, "Consent", err)
	if got.Scope != "read write" || !got.Expires.Equal(now.Add(4*time.Hour)) {
		t.Errorf("the consent is %+v, want the later one", got)
	}
	must(t, "DeleteConsent", s.DeleteConsent(ctx, "alice", "c"))
	_, err = s.Consent(ctx, "alice", "c")
	wantErr(t, "Consent after", err, authserver.ErrNotFound)
	for _, other := range [][2]string{{"alice", "d"}, {"bob", "c"}} {
		_, err := s.Consent(ctx, other[0], other[1])
		must(t, "another consent", err)
	}
	if _, err := s.Grant(ctx, "1"); err != nil {
		t.Errorf("the grant is gone with the consent: %v", err)
	}
}

func persons(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	want, given := fill[authserver.Person](t), fill[authserver.Person](t)
	_, err := s.Person(ctx, want.Subject)
	wantErr(t, "Person before", err, authserver.ErrNotFound)
	must(t, "SavePerson", s.SavePerson(ctx, given))
	scribble(given)
	for range 2 { // the second time after a change of what was read
		got, err := s.Person(ctx, want.Subject)
		must(t, "Person", err)
		same(t, "Person", got, want)
		scribble(got)
	}
	// The person is disabled. What knew nothing of it does not enable them.
	for _, updated := range []time.Time{{}, want.Updated.Add(-time.Second), want.Updated} {
		wantErr(t, "SavePerson of a disabled person", s.SavePerson(ctx, &authserver.Person{Subject: want.Subject, Updated: updated}), authserver.ErrConflict)
	}
	got, err := s.Person(ctx, want.Subject)
	must(t, "Person", err)
	same(t, "Person", got, want)
	must(t, "SavePerson, still disabled", s.SavePerson(ctx, &authserver.Person{Subject: want.Subject, Disabled: true, Updated: want.Updated}))
	later := want.Updated.Add(time.Second)
	must(t, "SavePerson again", s.SavePerson(ctx, &authserver.Person{Subject: want.Subject, Updated: later}))
	got, err = s.Person(ctx, want.Subject)
	must(t, "Person", err)
	if len(got.Claims) != 0 || got.Disabled || !got.Updated.Equal(later) {
		t.Errorf("after a second call the person is %+v, want one without claims", got)
	}
}

func initialToken(name string) *authserver.InitialToken {
	return &authserver.InitialToken{Name: name, Hash: hashOf("initial " + name), Uses: 1, Created: now, Expires: now.Add(time.Hour)}
}

func initialTokens(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	want, given := fill[authserver.InitialToken](t), fill[authserver.InitialToken](t)
	_, err := s.InitialToken(ctx, want.Hash)
	wantErr(t, "InitialToken before", err, authserver.ErrNotFound)
	wantErr(t, "DeleteInitialToken before", s.DeleteInitialToken(ctx, want.Name), authserver.ErrNotFound)
	must(t, "SaveInitialToken", s.SaveInitialToken(ctx, given))
	scribble(given)
	for range 2 { // the second time after a change of what was read
		got, err := s.InitialToken(ctx, want.Hash)
		must(t, "InitialToken", err)
		same(t, "InitialToken", got, want)
		scribble(got)
		page, err := s.InitialTokens(ctx, "", 10)
		must(t, "InitialTokens", err)
		if len(page) != 1 {
			t.Fatalf("InitialTokens: %d of them, want 1", len(page))
		}
		same(t, "InitialTokens", page[0], want)
		scribble(page[0])
	}
	_, err = s.InitialToken(ctx, [32]byte{})
	wantErr(t, "InitialToken with the zero hash", err, authserver.ErrNotFound)
	must(t, "DeleteInitialToken", s.DeleteInitialToken(ctx, want.Name))
	_, err = s.InitialToken(ctx, want.Hash)
	wantErr(t, "InitialToken after", err, authserver.ErrNotFound)

	for _, name := range []string{"c", "a", "b"} {
		must(t, "SaveInitialToken", s.SaveInitialToken(ctx, initialToken(name)))
	}
	sameName, sameHash := initialToken("other"), initialToken("new")
	sameName.Name, sameHash.Hash = "a", hashOf("initial a")
	wantErr(t, "SaveInitialToken with a name that is there", s.SaveInitialToken(ctx, sameName), authserver.ErrExists)
	wantErr(t, "SaveInitialToken with a hash that is there", s.SaveInitialToken(ctx, sameHash), authserver.ErrExists)
	for _, test := range []struct {
		after string
		limit int
		want  string
	}{{"", 10, "abc"}, {"", 2, "ab"}, {"b", 2, "c"}, {"c", 2, ""}, {"", 0, ""}, {"", -1, ""}} {
		page, err := s.InitialTokens(ctx, test.after, test.limit)
		must(t, "InitialTokens", err)
		got := ""
		for _, i := range page {
			got += i.Name
		}
		if got != test.want {
			t.Errorf("after %q, at most %d: %q, want %q", test.after, test.limit, got, test.want)
		}
	}
	must(t, "DeleteInitialToken", s.DeleteInitialToken(ctx, "a"))
	must(t, "SaveInitialToken with the name of a deleted one", s.SaveInitialToken(ctx, sameName))
}

func register(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	want, c := filled(t, "full"), filled(t, "full")
	must(t, "RegisterClient without a token", s.RegisterClient(ctx, c, [32]byte{}, now))
	want.Version = c.Version
	got, err := s.Client(ctx, "full")
	must(t, "Client", err)
	sameClient(t, "Client", got, want)
	if ids, _, complete, err := s.ClientChanges(ctx, 0, 10); err != nil || !complete || !slices.Equal(ids, []string{"full"}) {
		t.Errorf("the feed of clients has %q, complete %t, error %v", ids, complete, err)
	}
	wantErr(t, "RegisterClient again", s.RegisterClient(ctx, client("full"), [32]byte{}, now), authserver.ErrExists)

	for name, uses := range map[string]int{"two": 2, "any": -1, "none": 0} {
		i := initialToken(name)
		i.Uses = uses
		must(t, "SaveInitialToken", s.SaveInitialToken(ctx, i))
	}
	uses := func(name string, want int) {
		t.Helper()
		i, err := s.InitialToken(ctx, hashOf("initial "+name))
		must(t, "InitialToken", err)
		if i.Uses != want {
			t.Errorf("%q has %d uses left, want %d", name, i.Uses, want)
		}
	}
	n := 0
	try := func(name string, at time.Time, want error) {
		t.Helper()
		n++
		id := "client-" + strconv.Itoa(n)
		err := s.RegisterClient(ctx, client(id), hashOf("initial "+name), at)
		_, missing := s.Client(ctx, id)
		if want == nil {
			must(t, "RegisterClient with "+name, err)
			must(t, "Client", missing)
			return
		}
		wantErr(t, "RegisterClient with "+name, err, want)
		wantErr(t, "the client of a refused registration", missing, authserver.ErrNotFound)
	}
	try("unknown", now, authserver.ErrUsed)
	try("none", now, authserver.ErrUsed)
	try("two", now.Add(time.Hour), authserver.ErrUsed) // what expires at this moment has expired
	uses("two", 2)
	wantErr(t, "RegisterClient with an id that is there", s.RegisterClient(ctx, client("full"), hashOf("initial two"), now), authserver.ErrExists)
	uses("two", 2)
	try("two", now.Add(time.Hour-time.Second), nil)
	uses("two", 1)
	try("two", now, nil)
	uses("two", 0)
	try("two", now, authserver.ErrUsed)
	uses("two", 0)
	for range 3 {
		try("any", now, nil)
	}
	uses("any", -1)
	must(t, "DeleteInitialToken", s.DeleteInitialToken(ctx, "any"))
	try("any", now, authserver.ErrUsed)
}

func registerRace(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	i := initialToken("i")
	i.Uses = 3
	must(t, "SaveInitialToken", s.SaveInitialToken(ctx, i))
	won := race(16, func(n int) bool {
		err := s.RegisterClient(ctx, client(strconv.Itoa(n)), i.Hash, now)
		if err != nil && !errors.Is(err, authserver.ErrUsed) {
			t.Errorf("RegisterClient: %v", err)
		}
		return err == nil
	})
	list, err := s.Clients(ctx, "", 100)
	must(t, "Clients", err)
	if won != 3 || len(list) != 3 {
		t.Errorf("%d registrations succeeded and there are %d clients, want 3 and 3", won, len(list))
	}
}

func sweepPeople(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	const each, kinds = 10, 7
	for i := range each {
		expires, name := now.Add(time.Duration(i)*time.Minute), strconv.Itoa(i)
		r := request(name)
		r.Expires = expires
		must(t, "SaveRequest", s.SaveRequest(ctx, r))
		// A code, a refresh token, an access token and a consent, of a grant without end.
		g := grantOf(name, "c"+name, "alice")
		g.Expires = time.Time{}
		code, req := codeOf("code-"+name, g), request("request-"+name)
		code.Expires = expires
		must(t, "SaveRequest", s.SaveRequest(ctx, req))
		must(t, "Authorize", s.Authorize(ctx, req, g, code, &authserver.Consent{Subject: "alice", ClientID: g.ClientID, Expires: expires}))
		issued := answer(g, "jti-"+name, "r-"+name)
		issued.Expires, issued.Refresh.Expires = expires, expires
		must(t, "RedeemCode", s.RedeemCode(ctx, code.Hash, now, issued))
		must(t, "SaveSession", s.SaveSession(ctx, &authserver.Session{Hash: hashOf(name), Subject: "alice", Expires: expires}, [32]byte{}))
		initial := initialToken(name)
		initial.Expires = expires
		must(t, "SaveInitialToken", s.SaveInitialToken(ctx, initial))
		must(t, "SavePerson", s.SavePerson(ctx, &authserver.Person{Subject: name}))
	}
	forever := request("forever")
	must(t, "SaveRequest", s.SaveRequest(ctx, forever))
	g := grantOf("forever", "forever", "alice")
	g.Expires = time.Time{}
	code := codeOf("forever", g)
	code.Expires = now
	must(t, "Authorize", s.Authorize(ctx, forever, g, code, &authserver.Consent{Subject: "alice", ClientID: "forever"}))

	swept := func(at time.Time, limit, want int) {
		t.Helper()
		got, err := s.Sweep(ctx, at, limit)
		must(t, "Sweep", err)
		if got != want {
			t.Errorf("%d were removed, want %d", got, want)
		}
	}
	swept(now.Add(-time.Second), 100, 0)
	swept(now, 100, kinds+1) // what expires at this moment has expired; the one more is the code of "forever"
	swept(now.Add(4*time.Minute), 3, 3*kinds)
	swept(now.Add(4*time.Minute), 3, kinds)
	swept(now.Add(4*time.Minute), 3, 0)
	for _, limit := range []int{0, -1} {
		swept(now.Add(time.Hour), limit, 0)
	}
	for i := range each {
		name, want := strconv.Itoa(i), error(nil)
		if i <= 4 {
			want = authserver.ErrNotFound
		}
		_, err := s.Request(ctx, hashOf(name))
		wantErr(t, name+": Request", err, want)
		_, _, err = s.Code(ctx, hashOf("code-"+name))
		wantErr(t, name+": Code", err, want)
		_, _, err = s.RefreshToken(ctx, hashOf("r-"+name))
		wantErr(t, name+": RefreshToken", err, want)
		_, err = s.Session(ctx, hashOf(name))
		wantErr(t, name+": Session", err, want)
		_, err = s.Consent(ctx, "alice", "c"+name)
		wantErr(t, name+": Consent", err, want)
		_, err = s.InitialToken(ctx, hashOf("initial "+name))
		wantErr(t, name+": InitialToken", err, want)
		// Grants without an end and what is known of people stay.
		_, err = s.Grant(ctx, name)
		must(t, name+": Grant", err)
		_, err = s.Person(ctx, name)
		must(t, name+": Person", err)
	}
	must(t, "SaveInitialToken with the name of a swept one", s.SaveInitialToken(ctx, initialToken("0")))
	must(t, "DeleteInitialToken", s.DeleteInitialToken(ctx, "0"))
	swept(now.Add(1000*time.Hour), 100, 5*kinds)
	_, err := s.Consent(ctx, "alice", "forever")
	must(t, "a consent without end", err)
	// A swept access token is not revoked with its grant: it has expired.
	must(t, "RevokeGrant", s.RevokeGrant(ctx, "9", now.Add(1000*time.Hour)))
	isRevokedToken(t, s, "jti-9", false)
}

func sweepGrants(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	for _, test := range []struct {
		id               string
		expires, revoked time.Duration // after now; 0: never
		access           time.Duration // the end of its access token
		want             time.Duration // when it can be swept
	}{
		{"expires after its access token", 2 * time.Hour, 0, time.Hour, 2 * time.Hour},
		{"expires before its access token", time.Hour, 0, 2 * time.Hour, 2 * time.Hour},
		{"revoked after its access token", 9 * time.Hour, 2 * time.Hour, time.Hour, 2 * time.Hour},
		{"revoked before its access token ends", 9 * time.Hour, time.Hour, 2 * time.Hour, 2 * time.Hour},
		{"revoked, without an end of its own", 0, 2 * time.Hour, time.Hour, 2 * time.Hour},
		{"revoked after it had expired", 2 * time.Hour, 3 * time.Hour, time.Hour, 2 * time.Hour},
	} {
		g := grantOf(test.id, "c", "alice")
		g.Expires = now.Add(test.expires)
		if test.expires == 0 {
			g.Expires = time.Time{}
		}
		begin(t, s, g)
		issued := answer(g, "jti-"+g.ID, "r-"+g.ID)
		issued.Expires, issued.Refresh.Expires = now.Add(test.access), now.Add(100*time.Hour)
		must(t, "RedeemCode", s.RedeemCode(ctx, hashOf("code-"+g.ID), now, issued))
		if test.revoked != 0 {
			must(t, "RevokeGrant", s.RevokeGrant(ctx, g.ID, now.Add(test.revoked)))
		}
		_, err := s.Sweep(ctx, now.Add(test.want-time.Second), 100)
		must(t, "Sweep", err)
		_, err = s.Grant(ctx, g.ID)
		must(t, test.id+": a second before, Grant", err)
		hasRefresh(t, s, "r-"+g.ID, true)
		_, err = s.Sweep(ctx, now.Add(test.want), 100)
		must(t, "Sweep", err)
		_, err = s.Grant(ctx, g.ID)
		wantErr(t, test.id+": Grant", err, authserver.ErrNotFound)
		hasRefresh(t, s, "r-"+g.ID, false) // although it would live for longer
		_, _, err = s.Code(ctx, hashOf("code-"+g.ID))
		wantErr(t, test.id+": Code", err, authserver.ErrNotFound)
		wantErr(t, test.id+": Refresh", s.Refresh(ctx, hashOf("r-"+g.ID), now, 0, time.Time{}, answer(g, "no", "")), authserver.ErrNotFound)
	}
	// At most so many, and the rest whole.
	for i := range 5 {
		g := grantOf(strconv.Itoa(i), "c", "alice")
		beginRefresh(t, s, g, "jti-"+g.ID, "r-"+g.ID)
		must(t, "RevokeGrant", s.RevokeGrant(ctx, g.ID, now.Add(time.Duration(5-i)*time.Second)))
	}
	at := now.Add(time.Hour)
	for _, limit := range []int{2, 2, 2} {
		_, err := s.Sweep(ctx, at, limit)
		must(t, "Sweep", err)
		for i := range 5 {
			_, gone := s.Grant(ctx, strconv.Itoa(i))
			_, _, noToken := s.RefreshToken(ctx, hashOf("r-"+strconv.Itoa(i)))
			if (gone == nil) != (noToken == nil) {
				t.Errorf("grant %d: %v, its refresh token: %v", i, gone, noToken)
			}
		}
	}
	for i := range 5 {
		_, err := s.Grant(ctx, strconv.Itoa(i))
		wantErr(t, "a grant after the sweep", err, authserver.ErrNotFound)
	}
}

func farTimes(t *testing.T, s authserver.GrantStore) {
	ctx := t.Context()
	far := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	r := request("r")
	r.Created, r.Expires = time.Time{}, far
	must(t, "SaveRequest", s.SaveRequest(ctx, r))
	got, err := s.Request(ctx, r.Hash)
	must(t, "Request", err)
	same(t, "Request", got, r)
	g := &authserver.Grant{ID: "g", ClientID: "c", Subject: "alice"}
	code := &authserver.Code{Hash: hashOf("code"), GrantID: "g", Expires: far}
	must(t, "Authorize", s.Authorize(ctx, r, g, code, nil))
	gotCode, gotGrant, err := s.Code(ctx, code.Hash)
	must(t, "Code", err)
	same(t, "Code", gotCode, code)
	same(t, "Grant", gotGrant, g)
	refresh := &authserver.RefreshToken{Hash: hashOf("r"), GrantID: "g", Expires: far}
	must(t, "RedeemCode", s.RedeemCode(ctx, code.Hash, now, authserver.Issued{Refresh: refresh}))
	gotRefresh, _, err := s.RefreshToken(ctx, refresh.Hash)
	must(t, "RefreshToken", err)
	same(t, "RefreshToken", gotRefresh, refresh)
	session := &authserver.Session{Hash: hashOf("s"), Expires: far}
	must(t, "SaveSession", s.SaveSession(ctx, session, [32]byte{}))
	gotSession, err := s.Session(ctx, session.Hash)
	must(t, "Session", err)
	same(t, "Session", gotSession, session)
	if n, err := s.Sweep(ctx, now.Add(100_000*time.Hour), 100); err != nil || n != 0 {
		t.Errorf("%d were swept, error %v, want none", n, err)
	}
}

func cancelledPeople(t *testing.T, s authserver.GrantStore) {
	beginRefresh(t, s, grantOf("g", "c", "alice"), "jti", "r")
	begin(t, s, grantOf("h", "c", "alice"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, codeErr := s.Code(ctx, hashOf("code-g"))
	_, grantsErr := s.Grants(ctx, "alice", "", "", 10)
	for what, err := range map[string]error{
		"SaveRequest": s.SaveRequest(ctx, request("r")),
		"RedeemCode":  s.RedeemCode(ctx, hashOf("code-h"), now, answer(grantOf("h", "c", "alice"), "a", "a")),
		"Refresh":     s.Refresh(ctx, hashOf("r"), now, 0, time.Time{}, answer(grantOf("g", "c", "alice"), "b", "b")),
		"RevokeGrant": s.RevokeGrant(ctx, "g", now),
		"Code":        codeErr,
		"Grants":      grantsErr,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want context.Canceled", what, err)
		}
	}
	_, err := s.Request(t.Context(), hashOf("r"))
	wantErr(t, "Request", err, authserver.ErrNotFound)
	must(t, "RedeemCode after a cancelled one", s.RedeemCode(t.Context(), hashOf("code-h"), now, answer(grantOf("h", "c", "alice"), "a", "a")))
	if g, err := s.Grant(t.Context(), "g"); err != nil || !g.Revoked.IsZero() {
		t.Errorf("the grant is %+v, error %v", g, err)
	}
}
