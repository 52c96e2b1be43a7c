package authserver_test

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

func TestManageRegistration(t *testing.T) {
	as := fixture.Start(t, openRegistration)
	none, l1 := as.As(t, nil), as.As(t, as.L1)
	register := func(t *testing.T, m members) (id, token, uri string) {
		t.Helper()
		return wantRegistered(t, call(t, none, "POST", fixture.Issuer+"/register", "", m))
	}
	put := func(t *testing.T, uri, token string, m members) *fixture.Answer {
		t.Helper()
		return call(t, none, "PUT", uri, token, m)
	}

	proves(t, "W-2.1-1", "read", func(t *testing.T) {
		r := call(t, none, "POST", fixture.Issuer+"/register", "", pkiClient(nil))
		_, token, uri := wantRegistered(t, r)
		again := call(t, none, "GET", uri, token, nil)
		if again.Status != 200 || again.Text != r.Text || again.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d\n%s\n%s", again.Status, r.Text, again.Text)
		}
	})
	proves(t, "W-2-1 W-2-2", "without the token, or with another", func(t *testing.T) {
		id, token, uri := register(t, pkiClient(nil))
		_, others, _ := register(t, pkiClient(nil))
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			body := any(nil)
			if method == "PUT" {
				body = pkiClient(members{"client_id": id})
			}
			r := call(t, none, method, uri, "", body)
			wantError(t, r, 401, "invalid_token")
			for _, tt := range []struct{ uri, token string }{
				{uri, others}, {uri, token + "x"}, {uri, "x"}, {uri, strings.Repeat("x", 1000)},
				{fixture.Issuer + "/register/unknown", token}, {fixture.Issuer + "/register/", token},
				{fixture.Issuer + "/register/c-dn", token}, // registered, but not by itself
			} {
				r := call(t, none, method, tt.uri, tt.token, body)
				wantError(t, r, 401, "invalid_token")
				if !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
					t.Errorf("%q", r.Header.Get("WWW-Authenticate"))
				}
			}
			// Not in the query, and not twice.
			wantError(t, call(t, none, method, uri+"?access_token="+token, "", body), 401, "invalid_token")
			req, _ := http.NewRequestWithContext(t.Context(), method, uri, nil)
			req.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token}
			wantError(t, fixture.Do(t, none, req), 401, "invalid_token")
		}
		if r := call(t, none, "GET", uri, token, nil); r.Status != 200 {
			t.Errorf("%d", r.Status)
		}
	})
	proves(t, "W-2-2", "no permission", func(t *testing.T) {
		id, token, uri := register(t, pkiClient(nil))
		c, err := as.Store.Client(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		c.Disabled = true
		if err := as.Store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			wantError(t, call(t, none, method, uri, token, nil), 403, "access_denied")
		}
	})
	t.Run("other methods", func(t *testing.T) {
		_, token, uri := register(t, pkiClient(nil))
		for _, method := range []string{"POST", "PATCH"} {
			if r := call(t, none, method, uri, token, members{}); r.Status != 405 || r.Header.Get("Allow") != "GET, HEAD, PUT, DELETE" {
				t.Errorf("%s: %d %q", method, r.Status, r.Header.Get("Allow"))
			}
		}
	})
	proves(t, "W-2.2-1", "an update replaces", func(t *testing.T) {
		id, token, uri := register(t, pkiClient(members{"client_name": "one", "contacts": []string{"a@b.example"}, "tls_client_auth_san_dns": nil, "tls_client_auth_subject_dn": fixture.SubjectDN}))
		wantOK(t, fixture.Token(t, l1, id))
		// Without its subject member it is no client, and the old state stays.
		wantError(t, put(t, uri, token, pkiClient(members{"client_id": id, "tls_client_auth_san_dns": nil})), 400, "invalid_client_metadata")
		wantOK(t, fixture.Token(t, l1, id))
		wantError(t, put(t, uri, token, pkiClient(members{"client_id": id, "tls_client_auth_san_uri": "https://x.example"})), 400, "invalid_client_metadata")

		r := put(t, uri, token, pkiClient(members{"client_id": id, "tls_client_auth_san_dns": nil, "tls_client_auth_san_uri": "https://client-1.example/id"}))
		if r.Status != 200 || r.JSON["tls_client_auth_san_uri"] == nil || r.JSON["tls_client_auth_subject_dn"] != nil || r.JSON["client_name"] != nil || r.JSON["contacts"] != nil ||
			r.JSON["registration_access_token"] != token || r.JSON["registration_client_uri"] != uri {
			t.Fatalf("%d %s", r.Status, r.Text)
		}
		wantOK(t, fixture.Token(t, l1, id))
		onlyDN := as.CA1i.MustLeaf(fixtureSubjectOnly())
		wantIC(t, fixture.Token(t, as.As(t, onlyDN), id))
		if again := call(t, none, "GET", uri, token, nil); again.Text != r.Text {
			t.Errorf("%s\n%s", r.Text, again.Text)
		}
	})
	proves(t, "W-2.2-2", "what an update has to carry, and must not", func(t *testing.T) {
		id, token, uri := register(t, pkiClient(nil))
		other, _, _ := register(t, pkiClient(nil))
		for name, m := range map[string]members{
			"no client_id":             {},
			"client_id of another":     {"client_id": other},
			"client_id of no type":     {"client_id": 1},
			"the token":                {"client_id": id, "registration_access_token": token},
			"the address":              {"client_id": id, "registration_client_uri": uri},
			"client_secret_expires_at": {"client_id": id, "client_secret_expires_at": 0},
			"client_id_issued_at":      {"client_id": id, "client_id_issued_at": 1},
			"a secret of its choice":   {"client_id": id, "client_secret": "mine"},
		} {
			t.Run(name, func(t *testing.T) {
				wantError(t, put(t, uri, token, pkiClient(m)), 400, "invalid_client_metadata")
			})
		}
		if c, err := as.Store.Client(t.Context(), other); err != nil || !c.Updated.IsZero() {
			t.Errorf("%+v %v", c, err)
		}
	})
	proves(t, "W-2.2-3 M-2.2-2", "a change counts at once, also on open connections", func(t *testing.T) {
		s1, s2 := as.As(t, as.S1), as.As(t, as.S2)
		self := members{"token_endpoint_auth_method": "self_signed_tls_client_auth", "grant_types": []string{"client_credentials"}, "jwks": fixture.JWKSOf(t, as.S1)}
		id, token, uri := register(t, self)
		wantOK(t, fixture.Token(t, s1, id))
		wantIC(t, fixture.Token(t, s2, id))
		self["jwks"], self["client_id"] = fixture.JWKSOf(t, as.S2), id
		if r := put(t, uri, token, self); r.Status != 200 {
			t.Fatalf("%s", r.Text)
		}
		wantIC(t, fixture.Token(t, s1, id))
		wantOK(t, fixture.Token(t, s2, id))
	})
	proves(t, "W-2.3-1", "delete", func(t *testing.T) {
		id, token, uri := register(t, pkiClient(nil))
		got := fixture.Token(t, l1, id)
		wantOK(t, got)
		introspect := func() any {
			return fixture.Post(t, as.As(t, as.L2), fixture.MTLSBase+"/introspect", "client_id", "c-rs", "token", got.AccessToken()).JSON["active"]
		}
		if introspect() != true {
			t.Error("the token is not active")
		}
		hash := pendingCode(t, as, id)
		if r := call(t, none, "DELETE", uri, token, nil); r.Status != 204 || r.Text != "" || r.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %q", r.Status, r.Text)
		}
		wantIC(t, fixture.Token(t, l1, id))
		if introspect() != false {
			t.Error("the token is still active")
		}
		_, g, err := as.Store.(authserver.GrantStore).Code(t.Context(), hash)
		if !errors.Is(err, authserver.ErrNotFound) && (err != nil || g.Revoked.IsZero()) {
			t.Errorf("the grant of a person lives on: %+v %v", g, err)
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			wantError(t, call(t, none, method, uri, token, nil), 401, "invalid_token")
		}
	})
	t.Run("a secret comes and goes with its method", func(t *testing.T) {
		id, token, uri := register(t, pkiClient(nil))
		r := put(t, uri, token, members{"client_id": id, "grant_types": []string{"client_credentials"}})
		secret, _ := r.JSON["client_secret"].(string)
		if r.Status != 200 || secret == "" {
			t.Fatalf("%s", r.Text)
		}
		basic := fixture.Basic(id, secret)
		wantOK(t, fixture.Post(t, none, fixture.Issuer+"/token", "Authorization", basic, "grant_type", "client_credentials"))
		// It stays the same while the method does, and may be sent along.
		r = put(t, uri, token, members{"client_id": id, "client_secret": secret, "grant_types": []string{"client_credentials"}, "client_name": "x"})
		if r.Status != 200 || r.JSON["client_secret"] != nil {
			t.Fatalf("%s", r.Text)
		}
		wantOK(t, fixture.Post(t, none, fixture.Issuer+"/token", "Authorization", basic, "grant_type", "client_credentials"))
		if r = put(t, uri, token, pkiClient(members{"client_id": id})); r.Status != 200 || r.JSON["client_secret"] != nil {
			t.Fatalf("%s", r.Text)
		}
		wantIC(t, fixture.Post(t, none, fixture.Issuer+"/token", "Authorization", basic, "grant_type", "client_credentials"))
		wantOK(t, fixture.Token(t, l1, id))
	})
	t.Run("what the operator has set stays", func(t *testing.T) {
		id, token, uri := register(t, pkiClient(members{"redirect_uris": []string{"https://a.example/cb"}, "grant_types": []string{"client_credentials", "authorization_code"}}))
		c, err := as.Store.Client(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		c.AnchorSet, c.TokenLifetime, c.MayIntrospect, c.SkipConsent = "ca2", 60, true, true
		if err := as.Store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		m := pkiClient(members{"client_id": id, "redirect_uris": []string{"https://a.example/cb"}, "grant_types": []string{"client_credentials", "authorization_code"}})
		if r := put(t, uri, token, m); r.Status != 200 {
			t.Fatalf("%s", r.Text)
		}
		c, _ = as.Store.Client(t.Context(), id)
		if c.AnchorSet != "ca2" || c.TokenLifetime != 60 || !c.MayIntrospect || !c.SkipConsent {
			t.Errorf("%+v", c)
		}
		// It cannot get rid of its anchors by way of another method, nor take the
		// operator's trust to another address.
		m2 := members{"client_id": id, "redirect_uris": []string{"https://b.example/cb"}, "grant_types": []string{"authorization_code"}}
		if r := put(t, uri, token, m2); r.Status != 200 {
			t.Fatalf("%s", r.Text)
		}
		if r := put(t, uri, token, m); r.Status != 200 {
			t.Fatalf("%s", r.Text)
		}
		c, _ = as.Store.Client(t.Context(), id)
		if c.AnchorSet != "ca2" || c.SkipConsent {
			t.Errorf("%+v", c)
		}
		wantIC(t, fixture.Token(t, l1, id))
	})
}

// A client asks for more in an update than it could have had when it registered.
func TestAttackUpdateBeyondTheGround(t *testing.T) {
	as := fixture.Start(t, invited)
	none := as.As(t, nil)
	initial := invite(t, as, authserver.InitialToken{AnchorSet: "ca2", Methods: []string{"tls_client_auth", "self_signed_tls_client_auth"}, Scopes: []string{"read"}, Profile: "fapi2"})
	id, token, uri := wantRegistered(t, call(t, none, "POST", fixture.Issuer+"/register", initial, pkiClient(nil)))
	for name, m := range map[string]members{
		"a scope":    {"scope": "read write"},
		"a method":   {"token_endpoint_auth_method": "client_secret_basic", "tls_client_auth_san_dns": nil},
		"no binding": {"tls_client_certificate_bound_access_tokens": nil},
		"no secret":  {"token_endpoint_auth_method": "none", "tls_client_auth_san_dns": nil, "redirect_uris": []string{"https://a.example/cb"}, "grant_types": []string{"authorization_code"}},
	} {
		t.Run(name, func(t *testing.T) {
			m["client_id"] = id
			wantError(t, call(t, none, "PUT", uri, token, pkiClient(m)), 400, "invalid_client_metadata")
			wantReason(t, as, decision.MetadataInvalid)
		})
	}
	m := pkiClient(members{"client_id": id, "certbound_anchor_set": "ca1", "certbound_resources": []string{fixture.Resource2}})
	if r := call(t, none, "PUT", uri, token, m); r.Status != 200 {
		t.Fatalf("%s", r.Text)
	}
	wantIC(t, fixture.Token(t, as.As(t, as.L1), id))
	wantOK(t, fixture.Token(t, as.As(t, as.L1CA2), id))
	// The token that let it in is not the one that manages it, and the reverse.
	wantError(t, call(t, none, "GET", uri, initial, nil), 401, "invalid_token")
	wantError(t, call(t, none, "POST", fixture.Issuer+"/register", token, pkiClient(nil)), 401, "invalid_token")
}

// Two updates at the same time: one of them is told.
func TestConcurrentUpdates(t *testing.T) {
	as := fixture.Start(t, openRegistration)
	none := as.As(t, nil)
	id, token, uri := wantRegistered(t, call(t, none, "POST", fixture.Issuer+"/register", "", pkiClient(nil)))
	results := make(chan *fixture.Answer, 8)
	for range 8 {
		go func() { results <- call(t, none, "PUT", uri, token, pkiClient(members{"client_id": id})) }()
	}
	var got []int
	for range 8 {
		r := <-results
		got = append(got, r.Status)
		if r.Status != 200 && (r.Status != 409 || r.Error() != "invalid_request") {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	}
	if !slices.Contains(got, 200) {
		t.Errorf("%v", got)
	}
}

// pendingCode saves a grant of a person to a client, with a code, and returns its hash.
func pendingCode(t *testing.T, as *fixture.AS, clientID string) [32]byte {
	t.Helper()
	store, now := as.Store.(authserver.GrantStore), time.Now()
	request := &authserver.AuthorizationRequest{Hash: sha256.Sum256([]byte(t.Name())), ClientID: clientID, Created: now, Expires: now.Add(time.Hour)}
	if err := store.SaveRequest(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	code := &authserver.Code{Hash: sha256.Sum256([]byte("code" + t.Name())), GrantID: t.Name(), ClientID: clientID, Expires: now.Add(time.Hour)}
	grant := &authserver.Grant{ID: t.Name(), ClientID: clientID, Subject: "alice", Created: now}
	if err := store.Authorize(t.Context(), request, grant, code, nil); err != nil {
		t.Fatal(err)
	}
	return code.Hash
}
