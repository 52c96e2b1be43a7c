package authserver_test

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki/subject"
)

// appendixA is the JWK of RFC 8705, Appendix A, with x5c on one line.
const appendixA = `{"kty":"EC","x":"1yfLHCpXqFjxCeHHHMVDTcLscpb07KUxudBmOMn8C7Q","y":"8_coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8","crv":"P-256",` +
	`"x5c":["MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY="]}`

// TestRegistrationRules sends metadata through the code path of every registration.
// Answers of the later registration endpoint rest on it: an error here is
// invalid_client_metadata there.
func TestRegistrationRules(t *testing.T) {
	as := fixture.Start(t)
	rules := as.Server.Rules()
	jwksS1 := string(fixture.JWKSOf(t, as.S1))
	bare, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: as.S1.Cert.PublicKey}}})
	if err != nil {
		t.Fatal(err)
	}
	private, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: as.S1.Key}}})
	if err != nil {
		t.Fatal(err)
	}
	pki := func(members string) string {
		return `{"client_id":"x","token_endpoint_auth_method":"tls_client_auth"` + members + `}`
	}
	self := func(members string) string {
		return `{"client_id":"x","token_endpoint_auth_method":"self_signed_tls_client_auth"` + members + `}`
	}
	_, hash := authserver.NewSecret()
	type row struct{ ids, name, metadata, fault string }
	rows := []row{
		{"M-2.1.2-1", "no subject member", pki(``), "token_endpoint_auth_method"},
		{"M-2.1.2-3 M-9.5-2", "DN", pki(`,"tls_client_auth_subject_dn":"CN=a,O=b"`), ""},
		{"M-9.5-3", "DNS", pki(`,"tls_client_auth_san_dns":"a.example"`), ""},
		{"M-9.5-4", "URI", pki(`,"tls_client_auth_san_uri":"spiffe://example.org/wl"`), ""},
		{"M-9.5-5 M-2.1.2-6", "IP", pki(`,"tls_client_auth_san_ip":"2001:db8::10"`), ""},
		{"M-9.5-6", "mail", pki(`,"tls_client_auth_san_email":"a@b.example"`), ""},
		{"R-2-1", "a subject member does not choose the method", `{"client_id":"x","tls_client_auth_san_dns":"a.example","certbound_secret_hash":"` + hash + `"}`, "tls_client_auth_san_dns"},
		{"M-2.1.2-11", "a subject member with another method", `{"client_id":"x","token_endpoint_auth_method":"client_secret_basic","tls_client_auth_san_dns":"a.example","certbound_secret_hash":"` + hash + `"}`, "tls_client_auth_san_dns"},
		{"M-2.2-1", "self-signed without keys", self(``), "jwks"},
		{"M-A-1", "the key of RFC 8705, Appendix A", self(`,"jwks":{"keys":[` + appendixA + `]}`), ""},
		{"M-2.2-1", "self-signed by value", self(`,"jwks":` + jwksS1), ""},
		{"M-2.2-1", "self-signed by reference", self(`,"jwks_uri":"https://keys.test/x"`), ""},
		{"M-2.2.2-5 R-2-3", "both", self(`,"jwks":` + jwksS1 + `,"jwks_uri":"https://keys.test/x"`), "jwks_uri"},
		{"M-2.2-7 F2-5.4.2-1", "http", self(`,"jwks_uri":"http://keys.test/x"`), "jwks_uri"},
		{"M-2.2.2-4 X-4.7-4", "a key without x5c", self(`,"jwks":` + string(bare)), "jwks"},
		{"X-6-1", "a private key", self(`,"jwks":` + string(private)), "jwks"},
		{"R-2-4", "no key set", self(`,"jwks":[]`), "jwks"},
		{"R-2-4", "keys is no array", self(`,"jwks":{"keys":{}}`), "jwks"},
		{"R-2-4", "an empty key set", self(`,"jwks":{"keys":[]}`), "jwks"},
		{"X-4.7-1", "x5c in base64url", self(`,"jwks":` + strings.NewReplacer("+", "-", "/", "_").Replace(jwksS1)), "jwks"},
		{"X-4.7-1", "x5c with line breaks", self(`,"jwks":` + strings.Replace(jwksS1, `"x5c":["`, `"x5c":["\n`, 1)), "jwks"},
		{"M-2.2.2-2", "x5c without key members", self(`,"jwks":{"keys":[{"kty":"EC","crv":"P-256","x5c":["` + base64Std(as.S1.Cert.Raw) + `"]}]}`), "jwks"},
		{"M-2.2.2-3 X-4.7-3", "x5c of another key", self(`,"jwks":` + strings.Replace(string(bare), `"kty"`, `"x5c":["`+base64Std(as.S2.Cert.Raw)+`"],"kty"`, 1)), "jwks"},
		{"X-4.7-4", "x5t#S256 of another certificate", self(`,"jwks":` + strings.Replace(jwksS1, `"kty"`, `"x5t#S256":"A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0","kty"`, 1)), "jwks"},
		{"R-2-5", "an unknown member", pki(`,"tls_client_auth_san_dns":"a.example","foo":{"a":[1]}`), ""},
		{"M-3.4-1", "binding as a string", pki(`,"tls_client_auth_san_dns":"a.example","tls_client_certificate_bound_access_tokens":"true"`), "tls_client_certificate_bound_access_tokens"},
		{"M-3.4-1 M-9.5-1", "binding", pki(`,"tls_client_auth_san_dns":"a.example","tls_client_certificate_bound_access_tokens":true`), ""},
		{"F2-5.2.2.1-4", "use_mtls_endpoint_aliases", pki(`,"tls_client_auth_san_dns":"a.example","use_mtls_endpoint_aliases":true`), ""},
		{"M-6.4-2", "binding and an implicit response type", pki(`,"tls_client_auth_san_dns":"a.example","tls_client_certificate_bound_access_tokens":true,"response_types":["token"]`), "response_types"},
		{"DP-8", "two bindings", pki(`,"tls_client_auth_san_dns":"a.example","tls_client_certificate_bound_access_tokens":true,"dpop_bound_access_tokens":true`), "dpop_bound_access_tokens"},
		{"", "another grant", pki(`,"tls_client_auth_san_dns":"a.example","grant_types":["implicit"]`), "grant_types"},
		{"", "unknown method", `{"client_id":"x","token_endpoint_auth_method":"client_secret_post"}`, "token_endpoint_auth_method"},
		{"", "unknown scope", pki(`,"tls_client_auth_san_dns":"a.example","scope":"root"`), "scope"},
		{"", "scope with two spaces", pki(`,"tls_client_auth_san_dns":"a.example","scope":"read  write"`), "scope"},
		{"", "unknown resource", pki(`,"tls_client_auth_san_dns":"a.example","certbound_resources":["https://x.test"]`), "certbound_resources"},
		{"", "introspects without permission", pki(`,"tls_client_auth_san_dns":"a.example","certbound_introspects":["https://rs.test"]`), "certbound_introspects"},
		{"", "unknown anchor set", pki(`,"tls_client_auth_san_dns":"a.example","certbound_anchor_set":"x"`), "certbound_anchor_set"},
		{"", "anchor set without the PKI method", self(`,"certbound_anchor_set":"ca1","jwks":` + jwksS1), "certbound_anchor_set"},
		{"", "sole entry of a DN", pki(`,"tls_client_auth_subject_dn":"CN=a","certbound_sole_san":true`), "certbound_sole_san"},
		{"", "lifetime", pki(`,"tls_client_auth_san_dns":"a.example","certbound_token_lifetime":1000000`), "certbound_token_lifetime"},
		{"", "negative lifetime", pki(`,"tls_client_auth_san_dns":"a.example","certbound_token_lifetime":-1`), "certbound_token_lifetime"},
		{"", "token format", pki(`,"tls_client_auth_san_dns":"a.example","certbound_token_format":"x"`), "certbound_token_format"},
		{"", "no secret", `{"client_id":"x"}`, "certbound_secret_hash"},
		{"", "a secret that is no hash", `{"client_id":"x","certbound_secret_hash":"secret"}`, "certbound_secret_hash"},
		{"R-3.2.1-2", "a secret with a mutual-TLS method", pki(`,"tls_client_auth_san_dns":"a.example","certbound_secret_hash":"` + hash + `"`), "certbound_secret_hash"},
		{"", "assertion algorithm", `{"client_id":"x","token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_signing_alg":"HS256","jwks":` + jwksS1 + `}`, "token_endpoint_auth_signing_alg"},
		{"", "public client that introspects", `{"client_id":"x","token_endpoint_auth_method":"none","certbound_may_introspect":true}`, "certbound_may_introspect"},
		{"", "no client_id", `{"token_endpoint_auth_method":"none"}`, "client_id"},
		{"", "client_id with a line break", `{"client_id":"a\nb","token_endpoint_auth_method":"none"}`, "client_id"},
		{"", "twice", `{"client_id":"x","client_id":"y","token_endpoint_auth_method":"none"}`, "client metadata"},
		{"", "no object", `[]`, "client metadata"},
		{"", "cut off", `{"client_id":"x"`, "client metadata"},
		{"", "more after it", `{"client_id":"x"}{}`, "client metadata"},
	}
	// Every pair of the five (M-2.1.2-2).
	values := map[subject.Kind]string{subject.DN: "CN=a", subject.SANDNS: "a.example", subject.SANURI: "https://a.example/", subject.SANIP: "192.0.2.1", subject.SANEmail: "a@b.example"}
	for i, a := range subject.Kinds() {
		for _, b := range subject.Kinds()[i+1:] {
			rows = append(rows, row{"M-2.1.2-2 R-2-7", string(a) + " and " + string(b),
				pki(`,"` + string(a) + `":"` + values[a] + `","` + string(b) + `":"` + values[b] + `"`), "token_endpoint_auth_method"})
		}
		for _, bad := range []string{`["a"]`, `1`, `""`, `null`, `{}`, `true`} {
			rows = append(rows, row{"M-2.1.2-10", string(a) + " " + bad, pki(`,"` + string(a) + `":` + bad), string(a)})
		}
	}
	for _, dn := range []string{"client-1", "CN", "CN=a,,O=b", `CN=a\\`, `CN=a\\zz`, `CN=client\\AD-1`, " ,", ", ,"} {
		rows = append(rows, row{"M-2.1.2-3", "DN " + dn, pki(`,"tls_client_auth_subject_dn":"` + dn + `"`), "tls_client_auth_subject_dn"})
	}
	for _, ip := range []string{"192.0.2.010", "192.0.2.10/32", "[2001:db8::10]", "fe80::1%eth0", "0x7f.1"} {
		rows = append(rows, row{"M-2.1.2-6 TV-I6", "IP " + ip, pki(`,"tls_client_auth_san_ip":"` + ip + `"`), "tls_client_auth_san_ip"})
	}
	for _, r := range rows {
		proves(t, r.ids, r.name, func(t *testing.T) {
			c, err := authserver.ParseMetadata([]byte(r.metadata), rules, true)
			if r.fault == "" {
				if err != nil || c == nil || c.ID != "x" {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			me, ok := errors.AsType[*authserver.MetadataError](err)
			if !ok || c != nil {
				t.Fatalf("expected a MetadataError and no client, found %v, %v", err, c)
			}
			if !slices.ContainsFunc(me.Faults, func(f authserver.Fault) bool { return f.Member == r.fault }) {
				t.Errorf("no word about %s: %v", r.fault, err)
			}
		})
	}

	proves(t, "W-2.2-1", "an update replaces", func(t *testing.T) {
		// What is omitted is gone: the record without its subject member is invalid.
		if _, err := authserver.ParseMetadata([]byte(pki(``)), rules, true); err == nil {
			t.Error("accepted")
		}
	})
	proves(t, "A-5-1 G-4.15-1 F2-6.7-1", "a client's own request cannot choose client_id or our members", func(t *testing.T) {
		c, err := authserver.ParseMetadata([]byte(`{"client_id":"admin","certbound_may_introspect":true,"token_endpoint_auth_method":"none"}`), rules, false)
		me, ok := errors.AsType[*authserver.MetadataError](err)
		if !ok || c != nil || len(me.Faults) != 1 || me.Faults[0].Member != "client_id" {
			t.Errorf("%v", err)
		}
	})
	t.Run("members of a switch that is off are unknown", func(t *testing.T) {
		off := rules
		off.Switches.TLSClientAuth, off.BoundTokens = false, false
		c, err := authserver.ParseMetadata([]byte(`{"client_id":"x","token_endpoint_auth_method":"none","tls_client_auth_san_dns":"a.example","tls_client_certificate_bound_access_tokens":true}`), off, true)
		if err != nil || c.SANDNS != "" || c.BoundTokens {
			t.Errorf("%+v %v", c, err)
		}
		if err := authserver.ValidateClient(&authserver.Client{ID: "x", AuthMethod: "none", SANDNS: "a.example", BoundTokens: true}, off); err == nil {
			t.Error("accepted in a record")
		}
	})
	t.Run("all faults at once", func(t *testing.T) {
		err := authserver.ValidateClient(&authserver.Client{AuthMethod: clientauth.TLSClientAuth, Scope: "x", TokenFormat: "y", TokenLifetime: -1}, rules)
		me, _ := errors.AsType[*authserver.MetadataError](err)
		got := map[string]bool{}
		for _, f := range me.Faults {
			got[f.Member] = true
		}
		want := []string{"certbound_token_format", "certbound_token_lifetime", "client_id", "scope", "token_endpoint_auth_method"}
		if found := slices.Sorted(maps.Keys(got)); !slices.Equal(found, want) {
			t.Errorf("%v", found)
		}
	})
}

// TestMemberNames checks that ParseMetadata knows each JSON member of Client.
func TestMemberNames(t *testing.T) {
	full := authserver.Client{
		ID: "x", Name: "n", AuthMethod: "tls_client_auth", SANDNS: "a.example", BoundTokens: true, UseEndpointAliases: true,
		GrantTypes: []string{"client_credentials"}, Scope: "read", AnchorSet: "ca1", SoleEntry: true, Resources: []string{fixture.Resource},
		TokenFormat: "opaque", TokenLifetime: 5, MayIntrospect: true, Introspects: []string{fixture.Resource}, Disabled: true,
		RedirectURIs: []string{"https://client.example/cb"}, ResponseTypes: []string{"code"}, PostLogoutRedirectURIs: []string{"https://client.example/"},
		RequirePAR: true, RequireSignedRequests: true, RequestObjectAlg: "PS256", IDTokenAlg: "ES256", DefaultMaxAge: 60,
		URI: "https://client.example/", LogoURI: "https://client.example/l", PolicyURI: "https://client.example/p", TermsURI: "https://client.example/t",
		Contacts: []string{"a@client.example"}, SoftwareID: "s", SoftwareVersion: "1", Profile: "fapi2", SkipConsent: true,
		JWKSURI: "https://client.example/jwks", Dynamic: true, RegistrationTokenHash: "h", RegisteredBy: "invite", StatementIssuer: "https://directory.example",
		AllowedMethods: []string{"tls_client_auth"}, AllowedGrantTypes: []string{"authorization_code"}, AllowedScopes: []string{"read"}, AllowedAnchorSet: "ca1",
	}
	full.GrantTypes = []string{"client_credentials", "authorization_code", "refresh_token"}
	// Nobody may forget a member here: but for secrets, rotation and dates all are set.
	for i, value := 0, reflect.ValueOf(full); i < value.NumField(); i++ {
		name := value.Type().Field(i).Name
		others := strings.HasPrefix(name, "SAN") || strings.HasPrefix(name, "Next") || slices.Contains([]string{"SubjectDN", "JWKS", "SigningAlg", "SecretHash", "CurrentNotAfter", "Created", "Updated", "Version"}, name)
		if !others && value.Field(i).IsZero() {
			t.Errorf("%s is not set in this test", name)
		}
	}
	data, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	as := fixture.Start(t)
	rules := as.Server.Rules()
	rules.Authorization = true
	c, err := authserver.ParseMetadata(data, rules, true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(c)
	if err != nil || string(again) != string(data) {
		t.Errorf("%s\n%s", again, data)
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(`{"client_id":"x","token_endpoint_auth_method":"tls_client_auth","tls_client_auth_san_dns":"a.example"}`))
	f.Add([]byte(`{"client_id":"x","token_endpoint_auth_method":"self_signed_tls_client_auth","jwks":{"keys":[]}}`))
	f.Add([]byte(`{"client_id":"x","scope":"read","certbound_token_lifetime":1e3}`))
	f.Add([]byte(`{"tls_client_auth_subject_dn":"CN=\u0000","CLIENT_ID":"x"}`))
	f.Add([]byte(`{"client_id":"x","token_endpoint_auth_method":"none","redirect_uris":["com.example.app:/cb","http://[::1]:1/cb"],"response_types":["code"],"logo_uri":"https://a.example/\u00e9"}`))
	rules := authserver.Config{
		MTLS:        authserver.MTLSFeature{Enabled: true, TLSClientAuth: true, SelfSignedTLSClientAuth: true, CertificateBoundAccessTokens: true},
		AuthMethods: []string{"tls_client_auth", "self_signed_tls_client_auth", "client_secret_basic", "private_key_jwt", "none"},
		Scopes:      []string{"read"}, Resources: []string{fixture.Resource}, DefaultAnchorSet: "x",
		Authorization: authserver.Authorization{Enabled: true},
	}.Rules()
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := authserver.ParseMetadata(data, rules, true)
		if err != nil {
			if _, ok := errors.AsType[*authserver.MetadataError](err); !ok || c != nil {
				t.Errorf("%T, %v", err, c)
			}
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := authserver.ParseMetadata(again, rules, true); err != nil {
			t.Errorf("accepted, but not after encoding: %v\n%s", err, again)
		}
	})
}
