package authserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/internal/fixture"
)

// flowRules are the rules of a server with an authorization endpoint.
func flowRules(t *testing.T) authserver.Rules {
	t.Helper()
	rules := fixture.Start(t).Server.Rules()
	rules.Authorization, rules.IDTokenAlgs = true, []string{"ES256"}
	return rules
}

// wantFault checks that the registration is refused for one member, or accepted if
// member is empty.
func wantFault(t *testing.T, metadata string, rules authserver.Rules, member string) {
	t.Helper()
	_, err := authserver.ParseMetadata([]byte(metadata), rules, true)
	if member == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	me, ok := errors.AsType[*authserver.MetadataError](err)
	if !ok || !slices.ContainsFunc(me.Faults, func(f authserver.Fault) bool { return f.Member == member }) {
		t.Errorf("no word about %s: %v", member, err)
	}
}

func TestFlowRules(t *testing.T) {
	rules := flowRules(t)
	jwks := string(fixture.JWKSOf(t, fixture.Certs().S1))
	confidential := func(members string) string {
		return `{"client_id":"x","token_endpoint_auth_method":"tls_client_auth","tls_client_auth_san_dns":"a.example"` + members + `}`
	}
	public := func(members string) string {
		return `{"client_id":"x","token_endpoint_auth_method":"none"` + members + `}`
	}
	const uri, both = `,"redirect_uris":["https://a.example/cb"]`, `,"grant_types":["authorization_code","refresh_token"]`
	fapi := func(members string) string {
		return confidential(uri + `,"certbound_profile":"fapi2","tls_client_certificate_bound_access_tokens":true` + members)
	}
	for _, r := range []struct{ ids, name, metadata, fault string }{
		{"", "code", confidential(uri + both), ""},
		{"", "code by default", confidential(uri), ""},
		{"M-4-1", "a public client", public(uri + both), ""},
		{"", "code and client_credentials", confidential(uri + `,"grant_types":["authorization_code","client_credentials"],"response_types":["code"]`), ""},
		{"R-2-7", "code without redirect URIs", confidential(both), "redirect_uris"},
		{"R-2-7", "an empty list of redirect URIs", confidential(both + `,"redirect_uris":[]`), "redirect_uris"},
		{"R-2-7", "refresh_token without code", confidential(uri + `,"grant_types":["client_credentials","refresh_token"]`), "grant_types"},
		{"R-2-7", "response type without the grant type", confidential(uri + `,"grant_types":["client_credentials"],"response_types":["code"]`), "response_types"},
		{"M-6.4-1 M-6.4-2 G-2.1.2-1 OA-6", "implicit", confidential(uri + `,"response_types":["token"]`), "response_types"},
		{"M-6.4-1 M-6.4-2", "hybrid", confidential(uri + `,"response_types":["code id_token"]`), "response_types"},
		{"M-6.4-1 OA-6", "the implicit grant", confidential(uri + `,"grant_types":["implicit"]`), "grant_types"},
		{"G-2.4-1 OA-6", "the password grant", confidential(uri + `,"grant_types":["password"]`), "grant_types"},
		{"", "a grant type twice", confidential(uri + `,"grant_types":["authorization_code","authorization_code"]`), "grant_types"},
		{"M-4-4", "a public client that wants client_credentials", public(uri + `,"grant_types":["authorization_code","client_credentials"]`), "grant_types"},
		{"", "fifty-one redirect URIs", confidential(`,"redirect_uris":[` + strings.TrimSuffix(strings.Repeat(`"https://a.example/",`, 51), ",") + `]`), "redirect_uris"},
		{"", "one twice", confidential(`,"redirect_uris":["https://a.example/","https://a.example/"]`), "redirect_uris"},
		{"", "a post logout URI", confidential(uri + `,"post_logout_redirect_uris":["https://a.example/bye"]`), ""},
		{"", "a bad post logout URI", confidential(uri + `,"post_logout_redirect_uris":["http://a.example/bye"]`), "post_logout_redirect_uris"},
		{"", "signed requests without keys", confidential(uri + `,"require_signed_request_object":true`), "jwks"},
		{"", "signed requests", confidential(uri + `,"require_signed_request_object":true,"request_object_signing_alg":"PS256","jwks":` + jwks), ""},
		{"", "requests signed with none", confidential(uri + `,"request_object_signing_alg":"none","jwks":` + jwks), "request_object_signing_alg"},
		{"", "ID tokens that nobody can sign", confidential(uri + `,"id_token_signed_response_alg":"RS256"`), "id_token_signed_response_alg"},
		{"", "ID tokens signed with none", confidential(uri + `,"id_token_signed_response_alg":"none"`), "id_token_signed_response_alg"},
		{"", "a negative age", confidential(uri + `,"default_max_age":-1`), "default_max_age"},
		{"", "an age in words", confidential(uri + `,"default_max_age":"1h"`), "default_max_age"},
		{"", "a logo over http", confidential(`,"logo_uri":"http://a.example/logo.png"`), "logo_uri"},
		{"", "a logo that is a script", confidential(`,"logo_uri":"javascript:alert(1)"`), "logo_uri"},
		{"", "a page with a password", confidential(`,"client_uri":"https://user:pass@a.example/"`), "client_uri"},
		{"", "a name that turns the line", confidential(`,"client_name":"\u202egro.knab"`), "client_name"},
		{"", "a name of two lines", confidential(`,"client_name":"a\nb"`), "client_name"},
		{"", "too many contacts", confidential(`,"contacts":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 21), ",") + `]`), "contacts"},
		{"", "an empty contact", confidential(`,"contacts":[""]`), "contacts"},
		{"", "encrypted ID tokens", confidential(uri + `,"id_token_encrypted_response_alg":"RSA-OAEP"`), "id_token_encrypted_response_alg"},
		{"", "a sub of its own", confidential(uri + `,"subject_type":"pairwise"`), "subject_type"},
		{"", "the sub of all", confidential(uri + `,"subject_type":"public"`), ""},
		{"R-2-5", "what is not understood", confidential(uri + `,"initiate_login_uri":"https://a.example/","application_type":"web"`), ""},

		{"F2-5.3.2.1-5", "fapi2", fapi(``), ""},
		{"F2-5.3.2.1-3", "fapi2, public", public(uri + `,"certbound_profile":"fapi2","tls_client_certificate_bound_access_tokens":true`), "token_endpoint_auth_method"},
		{"F2-5.3.2.1-6", "fapi2, a secret", `{"client_id":"x","certbound_profile":"fapi2","tls_client_certificate_bound_access_tokens":true}`, "token_endpoint_auth_method"},
		{"F2-5.3.2.1-4", "fapi2, unbound", confidential(uri + `,"certbound_profile":"fapi2"`), "tls_client_certificate_bound_access_tokens"},
		{"F2-5.3.2.2-8", "fapi2, http", fapi(`,"post_logout_redirect_uris":["http://a.example/"]`), "post_logout_redirect_uris"},
		{"", "fapi2, RS256", fapi(`,"request_object_signing_alg":"RS256","jwks":` + jwks), "request_object_signing_alg"},
		{"", "another profile", confidential(`,"certbound_profile":"fapi1"`), "certbound_profile"},
	} {
		proves(t, r.ids, r.name, func(t *testing.T) { wantFault(t, r.metadata, rules, r.fault) })
	}

	proves(t, "F2-5.3.2.1-3", "the profile of the server is that of all", func(t *testing.T) {
		all := rules
		all.Profile = authserver.ProfileFAPI2
		wantFault(t, public(uri), all, "token_endpoint_auth_method")
		wantFault(t, confidential(uri), all, "tls_client_certificate_bound_access_tokens")
	})
	t.Run("without an authorization endpoint", func(t *testing.T) {
		machine := rules
		machine.Authorization = false
		wantFault(t, confidential(both+uri), machine, "grant_types")
		wantFault(t, confidential(`,"response_types":["code"]`), machine, "response_types")
		// What means nothing is not understood, and not kept.
		c, err := authserver.ParseMetadata([]byte(confidential(`,"redirect_uris":["https://a.example/cb"],"response_types":[]`)), machine, true)
		if err != nil || c.RedirectURIs != nil {
			t.Errorf("%+v %v", c, err)
		}
	})
	t.Run("defaults", func(t *testing.T) {
		for _, tt := range []struct {
			client authserver.Client
			want   []string
		}{
			{authserver.Client{}, []string{"client_credentials"}},
			{authserver.Client{RedirectURIs: []string{"https://a.example"}}, []string{"authorization_code"}},
			{authserver.Client{AuthMethod: authserver.None}, nil},
			{authserver.Client{GrantTypes: []string{"x"}}, []string{"x"}},
		} {
			if got := tt.client.Grants(); !slices.Equal(got, tt.want) {
				t.Errorf("%v, expected %v", got, tt.want)
			}
		}
	})
}

// redirectRows are redirect URIs with what they are good for.
var redirectRows = []struct {
	uri                  string
	confidential, public bool
}{
	{"https://client.example/cb", true, true},
	{"https://client.example:8443/cb?tenant=1", true, true},
	{"https://client.example", true, true},
	{"https://[2001:db8::1]/cb", true, true},
	{"http://127.0.0.1/cb", true, true},
	{"http://127.0.0.1:9000/cb", true, true},
	{"http://[::1]/cb", true, true},
	{"com.example.app:/cb", false, true},
	{"com.example.app://cb", false, true},

	{"", false, false},
	{"/cb", false, false},
	{"//client.example/cb", false, false},
	{"client.example/cb", false, false},
	{"http://client.example/cb", false, false},
	{"http://localhost/cb", false, false},
	{"http://127.0.0.1.evil.example/cb", false, false},
	{"http://2130706433/cb", false, false},
	{"http://0x7f.1/cb", false, false},
	{"http://192.0.2.1/cb", false, false},
	{"http://0.0.0.0/cb", false, false},
	{"http://[::ffff:127.0.0.1]/cb", false, false},
	{"http://[::1%25lo]/cb", false, false},
	{"http://127.0.0.1:/cb", false, false},
	{"https://client.example/cb#", false, false},
	{"https://client.example/cb#x", false, false},
	{"https://user@client.example/cb", false, false},
	{"https://client.example@evil.example/cb", false, false},
	{"https://*.client.example/cb", false, false},
	{"https://client.example/*", false, false},
	{"https://client.example/a/../cb", false, false},
	{"https://client.example/a/%2e%2e/cb", false, false},
	{"https://client.example/./cb", false, false},
	{`https://client.example\@evil.example/`, false, false},
	{"https://CLIENT.example/cb", false, false},
	{"HTTPS://client.example/cb", false, false},
	{"https:client.example/cb", false, false},
	{"https:///cb", false, false},
	{"https://:443/cb", false, false},
	{"https://client.example:/cb", false, false},
	{"https://client%2eexample/cb", false, false},
	{"https://client.example:port/cb", false, false},
	{"https://client.example/c b", false, false},
	{"https://client.example/c\tb", false, false},
	{"https://client.example/%zz", false, false},
	{"https://clïent.example/cb", false, false},
	{"javascript:alert(1)", false, false},
	{"data:text/html,x", false, false},
	{"myapp:/cb", false, false},
	{"com.example.app:", false, false},
	{"urn:ietf:wg:oauth:2.0:oob", false, false},
	{"https://client.example/" + strings.Repeat("a", 2048), false, false},
}

func TestAttackRedirectURIsAtRegistration(t *testing.T) {
	t.Attr("requirement", "F2-5.3.2.2-8 F2-5.3.2.1-7 OA-6")
	rules := flowRules(t)
	for _, r := range redirectRows {
		uri, _ := json.Marshal(r.uri)
		for method, ok := range map[string]bool{`"tls_client_auth","tls_client_auth_san_dns":"a.example"`: r.confidential, `"none"`: r.public} {
			member := "redirect_uris"
			if ok {
				member = ""
			}
			t.Run(fmt.Sprintf("%.40s %.20s", r.uri, method), func(t *testing.T) {
				wantFault(t, `{"client_id":"x","token_endpoint_auth_method":`+method+`,"redirect_uris":[`+string(uri)+`]}`, rules, member)
			})
		}
	}
}
