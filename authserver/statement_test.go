package authserver_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

const directory = "https://directory.test"

// statement returns a software statement of the directory. nil removes a claim.
func statement(t testing.TB, key *pkitest.Leaf, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": directory, "iat": time.Now().Unix(), "software_id": "s1"}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return fixture.Sign(t, jose.ES256, key.Key, all)
}

func TestSoftwareStatement(t *testing.T) {
	key, other := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=directory"}), pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=other"})
	byURL := "https://by-url.test"
	as := fixture.Start(t, invited, func(c *authserver.Config) {
		c.Registration.Statements = []authserver.StatementIssuer{
			{Issuer: directory, JWKS: fixture.JWKSOf(t, key), SoftwareIDs: []string{"s1", "s2"}, AnchorSet: "ca2", Scopes: []string{"read"}},
			{Issuer: byURL, JWKSURI: "https://keys.test/directory", Algs: []string{"ES256"}},
		}
	})
	as.Keys.Serve("/directory", fixture.JWKSOf(t, key))
	none := as.As(t, nil)
	register := func(t *testing.T, token string, m members) *fixture.Answer {
		t.Helper()
		return call(t, none, "POST", fixture.Issuer+"/register", token, m)
	}
	with := func(s string, m members) members {
		out := pkiClient(m)
		out["software_statement"] = s
		return out
	}

	proves(t, "R-2-6 R-3.2.1-1", "what it states wins", func(t *testing.T) {
		s := statement(t, key, map[string]any{"client_name": "Stated", "tls_client_auth_san_dns": "client-1.example", "redirect_uris": []string{"https://stated.example/cb"}, "certbound_may_introspect": true, "client_id": "x"})
		r := register(t, "", with(s, members{"client_name": "Mine", "tls_client_auth_san_dns": "mine.example", "redirect_uris": []string{"https://mine.example/cb"}}))
		id, _, _ := wantRegistered(t, r)
		if r.JSON["client_name"] != "Stated" || r.JSON["tls_client_auth_san_dns"] != "client-1.example" || strings.Contains(r.Text, "mine.example") ||
			r.JSON["software_statement"] != s || r.JSON["software_id"] != "s1" || r.JSON["scope"] != "read" || id == "x" {
			t.Errorf("%s", r.Text)
		}
		c, err := as.Store.Client(t.Context(), id)
		if err != nil || c.MayIntrospect || c.AnchorSet != "ca2" || c.StatementIssuer != directory {
			t.Errorf("%+v %v", c, err)
		}
		wantOK(t, fixture.Token(t, as.As(t, as.L1CA2), id))
		wantIC(t, fixture.Token(t, as.As(t, as.L1), id))
	})
	proves(t, "R-2-6 M-2.1.2-2", "exactly one subject member after the merge", func(t *testing.T) {
		s := statement(t, key, map[string]any{"tls_client_auth_subject_dn": fixture.SubjectDN})
		wantError(t, register(t, "", with(s, nil)), 400, "invalid_client_metadata")
		wantRegistered(t, register(t, "", with(s, members{"tls_client_auth_san_dns": nil})))
		// The same of the key set.
		s = statement(t, key, map[string]any{"jwks_uri": "https://keys.test/x"})
		m := members{"token_endpoint_auth_method": "private_key_jwt", "jwks": fixture.JWKSOf(t, as.S1), "software_statement": s}
		wantError(t, register(t, "", m), 400, "invalid_client_metadata")
	})
	proves(t, "R-3.2.2-2", "statements that are not valid", func(t *testing.T) {
		now := time.Now().Unix()
		good := statement(t, key, nil)
		unsigned := base64URL(`{"alg":"none"}`) + "." + strings.Split(good, ".")[1] + "."
		for name, s := range map[string]any{
			"of another key":   statement(t, other, nil),
			"changed":          good[:len(good)-8] + "AAAAAAAA",
			"unsigned":         unsigned,
			"no JWT":           "x",
			"empty":            "",
			"no string":        1,
			"an object":        map[string]any{"iss": directory},
			"null":             nil,
			"expired":          statement(t, key, map[string]any{"exp": now - 3600}),
			"without dates":    statement(t, key, map[string]any{"iat": nil}),
			"old, without exp": statement(t, key, map[string]any{"iat": now - 2*3600}),
			"of tomorrow":      statement(t, key, map[string]any{"iat": now + 24*3600}),
			"not before":       statement(t, key, map[string]any{"nbf": now + 24*3600}),
			"a date in words":  statement(t, key, map[string]any{"iat": "now"}),
			"a date of null":   fixture.Sign(t, jose.ES256, key.Key, map[string]any{"iss": directory, "iat": nil, "software_id": "s1"}),
			"for another":      statement(t, key, map[string]any{"aud": "https://other.test"}),
			"without issuer":   statement(t, key, map[string]any{"iss": nil}),
			"odd software_id":  statement(t, key, map[string]any{"software_id": 1}),
		} {
			t.Run(name, func(t *testing.T) {
				m := pkiClient(nil)
				m["software_statement"] = s
				wantError(t, register(t, "", m), 400, "invalid_software_statement")
				wantReason(t, as, decision.StatementInvalid)
			})
		}
		// What holds: an audience that is ours, and exp.
		for _, claims := range []map[string]any{{"aud": fixture.Issuer}, {"aud": []string{"https://other.test", fixture.Issuer + "/register"}}, {"iat": now - 2*3600, "exp": now + 60}} {
			wantRegistered(t, register(t, "", with(statement(t, key, claims), nil)))
		}
	})
	proves(t, "R-3.2.2-2", "statements that are not approved", func(t *testing.T) {
		for _, claims := range []map[string]any{{"iss": "https://stranger.test"}, {"software_id": "s3"}, {"software_id": nil}} {
			wantError(t, register(t, "", with(statement(t, key, claims), nil)), 400, "unapproved_software_statement")
			wantReason(t, as, decision.StatementUnapproved)
		}
	})
	t.Run("keys by URL are fetched again for a new key", func(t *testing.T) {
		wantRegistered(t, register(t, "", with(statement(t, key, map[string]any{"iss": byURL}), nil)))
		wantError(t, register(t, "", with(statement(t, other, map[string]any{"iss": byURL}), nil)), 400, "invalid_software_statement")
		as.Keys.Handle("/directory", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
		if r := register(t, "", with(statement(t, key, map[string]any{"iss": byURL}), nil)); r.Status != 201 {
			t.Errorf("with the keys that are known: %d %s", r.Status, r.Text)
		}
	})
	t.Run("an algorithm that the issuer does not use", func(t *testing.T) {
		s := statement(t, key, map[string]any{"iss": byURL})
		parts := strings.Split(s, ".")
		wantError(t, register(t, "", with(base64URL(`{"alg":"PS256"}`)+"."+parts[1]+"."+parts[2], nil)), 400, "invalid_software_statement")
	})
	t.Run("an initial access token goes before the issuer of a statement", func(t *testing.T) {
		token := invite(t, as, authserver.InitialToken{AnchorSet: "ca1", Scopes: []string{"admin"}})
		r := register(t, token, with(statement(t, key, map[string]any{"client_name": "Stated"}), members{"client_name": "Mine"}))
		id, _, _ := wantRegistered(t, r)
		if r.JSON["scope"] != "admin" || r.JSON["client_name"] != "Stated" {
			t.Errorf("%s", r.Text)
		}
		wantOK(t, fixture.Token(t, as.As(t, as.L1), id))
	})
	t.Run("a statement that is not valid is no way round, whatever else there is", func(t *testing.T) {
		token := invite(t, as, authserver.InitialToken{})
		wantError(t, register(t, token, with("x.y.z", nil)), 400, "invalid_software_statement")
		wantError(t, register(t, "wrong", with(statement(t, key, nil), nil)), 401, "invalid_token")
	})
}

// A client that came with a statement leaves the statement out of its update, to have a
// redirect URI of its own choice.
func TestAttackUpdateWithoutStatement(t *testing.T) {
	t.Attr("requirement", "R-2-6 W-2.2-1")
	key := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=directory"})
	as := fixture.Start(t, openRegistration, func(c *authserver.Config) {
		c.Registration.Statements = []authserver.StatementIssuer{{Issuer: directory, JWKS: fixture.JWKSOf(t, key)}, {Issuer: "https://second.test", JWKS: fixture.JWKSOf(t, key)}}
	})
	none := as.As(t, nil)
	s := statement(t, key, map[string]any{"redirect_uris": []string{"https://stated.example/cb"}})
	m := pkiClient(members{"grant_types": []string{"authorization_code"}, "software_statement": s})
	id, token, uri := wantRegistered(t, call(t, none, "POST", fixture.Issuer+"/register", "", m))
	own := pkiClient(members{"client_id": id, "grant_types": []string{"authorization_code"}, "redirect_uris": []string{"https://evil.example/cb"}})
	wantError(t, call(t, none, "PUT", uri, token, own), 400, "invalid_software_statement")
	own["software_statement"] = statement(t, key, map[string]any{"iss": "https://second.test", "redirect_uris": []string{"https://evil.example/cb"}})
	wantError(t, call(t, none, "PUT", uri, token, own), 400, "invalid_software_statement")
	own["software_statement"] = s
	r := call(t, none, "PUT", uri, token, own)
	if r.Status != 200 || strings.Contains(r.Text, "evil.example/cb\"]") || r.JSON["software_statement"] != s {
		t.Errorf("%d %s", r.Status, r.Text)
	}
}

// fuzzRegistration is a server for fuzzing, with a key of the directory.
func fuzzRegistration(f *testing.F) (http.Handler, *pkitest.Leaf) {
	key := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=directory"})
	cfg := authserver.Config{
		Issuer: fixture.Issuer, Store: memstore.New(), Scopes: []string{"read"}, Resources: []string{fixture.Resource},
		AuthMethods:   []string{"client_secret_basic", "private_key_jwt", "none"},
		Authorization: authserver.Authorization{Enabled: true, Login: nobodyLogsIn{}},
		Registration: authserver.Registration{
			Enabled: true, Open: true, OpenLimit: 1 << 30, MaxClients: 1 << 30, Scopes: []string{"read"},
			OpenGrantTypes: []string{"client_credentials", "authorization_code", "refresh_token"},
			Statements:     []authserver.StatementIssuer{{Issuer: directory, JWKS: fixture.JWKSOf(f, key)}},
		},
		Logger: discardLogger(),
	}
	s, err := authserver.New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	return s.Handler(), key
}

// answered checks what holds for every answer: JSON with a code that RFC 7591 has, or a
// registration that its own answer can be made from again.
func answered(t *testing.T, h http.Handler, body []byte) {
	t.Helper()
	w := serveJSON(t, h, "POST", fixture.Issuer+"/register", "", body)
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w.Code != 201 {
		switch answer["error"] {
		case "invalid_client_metadata", "invalid_redirect_uri", "invalid_software_statement", "unapproved_software_statement":
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code != 400 && w.Code != 413 || answer["client_id"] != nil {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return
	}
	token, uri := answer["registration_access_token"].(string), answer["registration_client_uri"].(string)
	for _, name := range []string{"registration_access_token", "registration_client_uri", "client_id_issued_at", "client_secret_expires_at"} {
		delete(answer, name)
	}
	again, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	if len(again) > 64<<10 {
		return // the answer is longer than the request was, and too long to be one
	}
	if w := serveJSON(t, h, "PUT", uri, token, again); w.Code != 200 {
		t.Errorf("what was registered cannot be registered again: %d %s\n%s", w.Code, w.Body, again)
	}
	if w := serveJSON(t, h, "DELETE", uri, token, nil); w.Code != 204 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func FuzzRegistration(f *testing.F) {
	h, _ := fuzzRegistration(f)
	for _, s := range []string{
		`{"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"none","contacts":["a"],"default_max_age":1}`,
		`{"grant_types":["client_credentials"],"scope":"read","foo":null}`,
		`{"software_statement":"a.b.c"}`, `{"redirect_uris":["http://[::1]/"],"client_name":"\u00e9"}`, `[]`, `{`, `{"jwks":{"keys":[]},"jwks_uri":"https://a.example"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { answered(t, h, body) })
}

// FuzzSoftwareStatement signs arbitrary claims, so that the fuzzer gets past the
// signature.
func FuzzSoftwareStatement(f *testing.F) {
	h, key := fuzzRegistration(f)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key.Key}, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		`{"iss":"https://directory.test","exp":4102444800,"redirect_uris":["https://a.example/cb"]}`,
		`{"iss":"https://directory.test","exp":4102444800,"software_statement":"x","client_id":"y","aud":["https://as.test"]}`,
		`{"ISS":"https://directory.test"}`, `{"iss":["https://directory.test"],"exp":1e400}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, claims []byte) {
		object, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		s, err := object.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]any{"software_statement": s, "grant_types": []string{"client_credentials"}})
		if err != nil {
			t.Fatal(err)
		}
		answered(t, h, body)
	})
}
