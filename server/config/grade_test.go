package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

const graded = `issuer: https://as.example:8443
profile: fapi2
listen: {public: {address: ":8443", certificate: server.pem, key: server-key.pem}}
trust: {sets: [{name: clients, anchors: [client-ca.pem]}]}
authentication: {methods: [tls_client_auth, private_key_jwt]}
tokens: {resources: ["https://api.example"], scopes: [read]}
people: {enabled: true, login: accounts}
`

func gradeOf(t *testing.T, text string) map[string]Grade {
	t.Helper()
	file, err := parseGraded("certbound.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Grade{}
	for _, g := range file.Grade() {
		if _, twice := out[g.Rule]; twice {
			t.Errorf("%s stands twice", g.Rule)
		}
		if g.Reason == "" || g.Demand == "" || !slices.Contains([]string{"MUST", "SHOULD", "MAY"}, g.Level) {
			t.Errorf("%+v", g)
		}
		out[g.Rule] = g
	}
	return out
}

func failed(grades map[string]Grade) []string {
	var out []string
	for rule, g := range grades {
		if g.Result == Failed {
			out = append(out, rule)
		}
	}
	slices.Sort(out)
	return out
}

// Each setting that breaks the profile fails its rule, and stops the start: the grade and
// the server ask the same rules.
func TestGrade(t *testing.T) {
	if got := failed(gradeOf(t, graded)); got != nil {
		t.Errorf("without a fault: %v", got)
	}
	for _, tc := range []struct {
		name, old, text string
		rules           []string
		starts          bool
	}{
		{name: "a secret", old: "private_key_jwt]", text: "client_secret_basic]", rules: []string{"5.3.2.1 (6)"}},
		{name: "public clients", old: "private_key_jwt]", text: "none]", rules: []string{"5.3.2.1 (3)"}},
		{name: "any certificate with the key", old: "private_key_jwt]", text: "private_key_jwt], insecure_match_key: true", rules: []string{"5.3.2.1 (6)"}},
		{name: "no bound tokens", old: "private_key_jwt]", text: "private_key_jwt], certificate_bound_access_tokens: false", rules: []string{"5.3.2.1 (4)"}},
		{name: "bound never", old: "scopes: [read]", text: "scopes: [read], binding: never", rules: []string{"5.3.2.1 (4)"}},
		{name: "unbound without a certificate", old: "scopes: [read]", text: "scopes: [read], allow_unbound_fallback: true", rules: []string{"5.3.2.1 (4)"}},
		{name: "RS256", old: "people:", text: "signing_keys: {algorithm: RS256}\npeople:", rules: []string{"5.4.1 (1)"}},
		{name: "statements with RS256", old: "people:", text: "registration: {enabled: true, statements: [{issuer: \"https://d.example\", jwks_uri: \"https://d.example/k\", algorithms: [RS256]}]}\npeople:", rules: []string{"5.4.1 (1)"}},
		{name: "rotation", old: "login: accounts", text: "login: accounts, refresh_tokens: {rotate_all: true}", rules: []string{"5.3.2.1 (9)"}},
		{name: "a client with unbound tokens", old: "people:", text: "clients: [{client_id: x, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: CN=x, tls_client_certificate_bound_access_tokens: false}]\npeople:", rules: []string{"5.3.2.1 (4)"}},
		{name: "traces in clear", old: "people:", text: "telemetry: {otlp: http, endpoint: \"http://collector.example:4318\"}\npeople:", rules: []string{"5.2.1 (1)"}, starts: true},
		{name: "traces on this machine", old: "people:", text: "telemetry: {otlp: http, endpoint: \"http://127.0.0.1:4318\"}\npeople:", starts: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(graded, tc.old, tc.text, 1)
			grades := gradeOf(t, text)
			if got := failed(grades); !slices.Equal(got, tc.rules) {
				t.Errorf("expected %v to fail, found %v", tc.rules, got)
			}
			for _, rule := range tc.rules {
				if c := grades[rule].Changes; len(c) == 0 || c[0].Line == 0 || c[0].Text == "" {
					t.Errorf("%s: no place to change: %+v", rule, c)
				}
			}
			if _, err := Parse("certbound.yaml", []byte(text), func(string) (string, bool) { return "", false }); (err == nil) != tc.starts {
				t.Errorf("the start: %v", err)
			}
		})
	}
	t.Run("without the key", func(t *testing.T) {
		got := failed(gradeOf(t, strings.Replace(graded, "profile: fapi2\n", "", 1)))
		want := []string{"5.2.2 (1)", "5.3.2.1 (4)", "5.3.2.1 (8)", "5.3.2.2 (3)", "5.3.2.2 (6)", "5.4.1 (1)"}
		if !slices.Equal(got, want) {
			t.Errorf("expected %v, found %v", want, got)
		}
	})
	t.Run("behind a proxy, without people", func(t *testing.T) {
		text := strings.Replace(graded, "certificate: server.pem, key: server-key.pem}", "insecure_plain_http: true}, mtls: {certificate: server.pem, key: server-key.pem}", 1)
		grades := gradeOf(t, strings.Replace(text, "enabled: true", "enabled: false", 1))
		for rule, want := range map[string]Result{"5.2.1 (1)": Yours, "5.2.1 (2)": Yours, "5.2.2 (1)": Yours, "5.2.3 (2)": Yours, "5.3.2.2 (3)": NotApplicable, "5.3.2.1 (4)": Passed} {
			if got := grades[rule].Result; got != want {
				t.Errorf("%s: expected %s, found %s", rule, want, got)
			}
		}
	})
}

// All rules for authorization servers are there, in the numbers of the profile.
func TestGradedRules(t *testing.T) {
	got := slices.Sorted(maps.Keys(gradeOf(t, graded)))
	for section, n := range map[string]int{"5.2.1": 5, "5.2.2": 1, "5.2.3": 3, "5.3.2.1": 14, "5.3.2.2": 14, "5.4.1": 4} {
		found := 0
		for _, rule := range got {
			if strings.HasPrefix(rule, section+" (") {
				found++
			}
		}
		if found != n {
			t.Errorf("section %s: expected %d rules, found %d", section, n, found)
		}
	}
}
