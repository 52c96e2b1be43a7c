package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
)

var update = flag.Bool("update", false, "write generated files again")

// generated compares with a file that is generated from the structs, or writes it with
// -update.
func generated(t *testing.T, name string, write func(*bytes.Buffer) error) {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is not what the structs say; run the test with -update and look at the diff", name)
	}
}

func TestGenerated(t *testing.T) {
	generated(t, filepath.Join("..", "..", "docs", "configuration.md"), func(b *bytes.Buffer) error { return WriteDocs(b) })
	generated(t, filepath.Join("testdata", "schema.golden"), func(b *bytes.Buffer) error { return WriteSchema(b) })
	generated(t, filepath.Join("testdata", "example.golden"), func(b *bytes.Buffer) error { return WriteExample(b) })
}

// Every key has a text, and no secret has a default.
func TestFieldsAreDocumented(t *testing.T) {
	places(root(), "", func(path string, f *field) {
		if f.name == "" || f.doc == "" {
			t.Errorf("%s: no name in the tag, or no doc comment", path)
		}
		if f.kind == kindSecret && f.def != "" {
			t.Errorf("%s: a secret with a default", path)
		}
		for _, text := range splitList(f.def) {
			if len(f.enum) > 0 && !slices.Contains(f.enum, text) {
				t.Errorf("%s: the default %q is not in the enum", path, text)
			}
		}
	})
}

func pkiFiles(t *testing.T) (dir string) {
	dir = t.TempDir()
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Servers"})
	server := ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=as", DNS: []string{"as.example", "mtls.as.example"}, Server: true})
	clients := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Clients"})
	self := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=batch"})
	for name, data := range map[string][]byte{
		"server.pem": server.ChainPEM(), "server-key.pem": server.KeyPEM(), "client-ca.pem": clients.CertPEM(),
		"batch.pem": self.CertPEM(), "batch-key.pem": self.KeyPEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Every preset of certsource can be named, and nothing else.
func TestSources(t *testing.T) {
	want := []string{"tls"}
	for _, p := range certsource.Presets() {
		want = append(want, p.Name)
	}
	var got []string
	places(root(), "", func(path string, f *field) {
		if path == sourceKey {
			got = f.enum
		}
	})
	if !slices.Equal(got, want) {
		t.Errorf("the enum of %s is\n%q, the presets are\n%q", sourceKey, got, want)
	}
}

// What the section of the proxy says is what the source is built of.
func TestProxySection(t *testing.T) {
	tests := []struct {
		name, listen string
		fields       []string
		most         certsource.Kind
		verifiedBy   string
	}{
		{"nginx", "source: nginx, proxy: {prefixes: [192.0.2.1, '2001:db8::/64'], verifies: partners of 2026}",
			[]string{"X-Ssl-Client-Cert", "X-Ssl-Client-Verify"}, certsource.KindCertificate, "nginx (anchors: partners of 2026)"},
		{"other names", "source: apache, proxy: {public_keys: [" + strings.Repeat("A", 43) + "], field: SSL_CLIENT_CERT, chain_field: CHAIN, verify_field: SSL_CLIENT_VERIFY}",
			[]string{"Ssl_client_cert", "Chain", "Ssl_client_verify"}, certsource.KindCertificate, ""},
		{"names under a CA", "source: caddy, proxy: {subjects: ['CN=edge,O=Agora'], spiffe_ids: [spiffe://agora.example/edge], anchor_set: edge}",
			[]string{"X-Ssl-Client-Cert"}, certsource.KindCertificate, ""},
		{"hops", "source: xfcc, proxy: {prefixes: [192.0.2.1], trusted_hops: 2}", []string{"X-Forwarded-Client-Cert"}, certsource.KindCertificate, ""},
		{"a socket", "address: 'unix:/run/c.sock', url: 'https://mtls.as.example', insecure_plain_http: true, source: caddy, proxy: {unix_socket: true}",
			[]string{"X-Ssl-Client-Cert"}, certsource.KindCertificate, ""},
		{"attributes", "source: attributes, proxy: {prefixes: [192.0.2.1], verifies: partners, attributes: {subject_dn: X-DN, dn_syntax: legacy, san_dns: X-DNS}}",
			[]string{"X-Dn", "X-Dns"}, certsource.KindAttributes, "attributes (anchors: partners)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(base, "listen: {", "listen: {mtls: {"+tt.listen+"}, ", 1)
			text = strings.Replace(text, "sets: [", "sets: [{name: edge, anchors: [client-ca.pem]}, ", 1)
			if tt.name != "names under a CA" {
				text = strings.Replace(text, "trust: {", "trust: {default: clients, ", 1)
			}
			file, err := Parse(filepath.Join(pkiFiles(t), "certbound.yaml"), []byte(text), noEnv)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := file.AuthServer(nil)
			if err != nil {
				t.Fatal(err)
			}
			d := certsource.Describe(cfg.Source)
			if d.Most != tt.most || d.VerifiedBy != tt.verifiedBy || !slices.Equal(d.Fields, tt.fields) {
				t.Errorf("%+v", d)
			}
			if file.Trust.Default != "clients" {
				t.Errorf("the default set for clients is %q", file.Trust.Default)
			}
			if got, want := file.HasAnchorSet("edge"), tt.name != "names under a CA"; got != want {
				t.Errorf("clients can be registered for the set of the proxies: %v, want %v", got, want)
			}
		})
	}
}

// The example, as it is and with every key that it has as a comment, has no unknown key
// and no value of a wrong kind.
func TestExample(t *testing.T) {
	var b bytes.Buffer
	if err := WriteExample(&b); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(pkiFiles(t), "certbound.yaml")
	file, err := Parse(name, b.Bytes(), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := file.Check(time.Now())
	if err != nil || len(warnings) > 0 {
		t.Errorf("%v, %v", warnings, err)
	}

	// With each default written out, the outcome is the same.
	keys := 0
	all := regexp.MustCompile(`(?m)^( *(?:- )?)# ([a-z_]+: .*)$`).ReplaceAllStringFunc(b.String(), func(line string) string {
		m := regexp.MustCompile(`^( *(?:- )?)# ([a-z_]+): (.*)$`).FindStringSubmatch(line)
		known := false
		places(root(), "", func(_ string, f *field) { known = known || f.name == m[2] && m[3] == f.literal(f.def) && f.hasDef })
		if !known {
			return line
		}
		keys++
		return m[1] + m[2] + ": " + m[3]
	})
	if keys < 25 {
		t.Fatalf("only %d keys were found in the comments", keys)
	}
	written, err := Parse(name, []byte(all), noEnv)
	if err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	before, _ := json.Marshal(file.Resolved())
	after, _ := json.Marshal(written.Resolved())
	if !bytes.Equal(before, after) {
		t.Errorf("the defaults in the example are not the defaults:\n%s\n%s", before, after)
	}
}

func noEnv(string) (string, bool) { return "", false }

const base = `
issuer: https://as.example
listen: {public: {certificate: server.pem, key: server-key.pem}}
trust: {sets: [{name: clients, anchors: [client-ca.pem]}]}
tokens: {resources: ["https://api.example"], scopes: [read]}
`

// Every fault has its key and its line.
func TestFaults(t *testing.T) {
	dir := pkiFiles(t)
	at := func(path string, line int) string { return fmt.Sprintf("%s@%d", path, line) }
	tests := []struct {
		name string
		in   string
		want []string // key@line, sorted
	}{
		{"whole", base, nil},
		{"JSON", `{"issuer": "https://as.example", "listen": {"public": {"certificate": "server.pem", "key": "server-key.pem"}},` +
			` "trust": {"sets": [{"name": "c", "anchors": ["client-ca.pem"]}]}, "tokens": {"resources": ["https://api.example"]}}`, nil},
		{"empty file", "", []string{at("issuer", 0), at("listen.public.certificate", 0), at("tokens.resources", 0), at("trust.sets", 0)}},
		{"a list", "- a\n", []string{at("", 1)}},
		{"unknown key", base + "colour: red\n", []string{at("colour", 6)}},
		{"twice", base + "store: {}\nstore: {}\n", []string{at("store", 7)}},
		{"tag", base + "store: {sqlite: !env DB}\n", []string{at("store.sqlite", 6)}},
		{"anchor", base + "store: &x {}\nlog: *x\n", []string{at("log", 7), at("store", 6)}},
		{"merge key", base + "log:\n  <<: {level: info}\n", []string{at("log", 7)}},
		{"two documents", base + "---\nlog: {}\n", []string{at("", 7)}},
		{"not YAML", "issuer: [\n", []string{at("", 1)}},
		{"wrong kinds", base + "limits: {connections: many, form_bytes: -1, cached_clients: 1.5}\n",
			[]string{at("limits.cached_clients", 6), at("limits.connections", 6), at("limits.form_bytes", 6)}},
		{"not in the enum", base + "log: {level: loud}\n", []string{at("log.level", 6)}},
		{"unset variable", base + "log: {level: 'env:NOPE'}\n", []string{at("log.level", 6)}},
		{"missing value file", base + "log: {level: 'file:nope'}\n", []string{at("log.level", 6)}},
		{"plain http for the source tls", strings.Replace(base, "listen: {", "listen: {mtls: {insecure_plain_http: true}, ", 1),
			[]string{at("listen.mtls.insecure_plain_http", 3)}},
		{"proxy without peers", strings.Replace(base, "listen: {", "listen: {mtls: {source: rfc9440}, ", 1),
			[]string{at("listen.mtls.proxy", 3)}},
		{"proxy that is everybody", strings.Replace(base, "listen: {", "listen: {mtls: {source: rfc9440, proxy: {prefixes: [0.0.0.0/0]}}, ", 1),
			[]string{at("listen.mtls.proxy.prefixes", 3)}},
		{"peers without proxy", strings.Replace(base, "listen: {", "listen: {mtls: {proxy: {prefixes: [192.0.2.1]}}, ", 1),
			[]string{at("listen.mtls.proxy", 3)}},
		{"a preset that does not exist", strings.Replace(base, "listen: {", "listen: {mtls: {source: nginx2}, ", 1),
			[]string{at("listen.mtls.source", 3)}},
		{"no number of hops", strings.Replace(base, "listen: {", "listen: {mtls: {source: xfcc, proxy: {prefixes: [192.0.2.1]}}, ", 1),
			[]string{at("listen.mtls.proxy.trusted_hops", 3)}},
		{"a name without a CA", strings.Replace(base, "listen: {", "listen: {mtls: {source: nginx, proxy: {subjects: [CN=edge], spiffe_ids: [spiffe://a/b]}}, ", 1),
			[]string{at("listen.mtls.proxy.anchor_set", 3)}},
		{"a name under the CA of the clients", strings.Replace(base, "listen: {", "listen: {mtls: {source: nginx, proxy: {subjects: [CN=edge], anchor_set: clients}}, ", 1) + "\n",
			[]string{at("trust.sets", 4)}},
		{"a name under a set that is missing", strings.Replace(base, "listen: {", "listen: {mtls: {source: nginx, proxy: {subjects: [CN=edge], anchor_set: edge}}, ", 1),
			[]string{at("listen.mtls.proxy.anchor_set", 3)}},
		{"a subject in OpenSSL's form", strings.Replace(base, "listen: {", "listen: {mtls: {source: nginx, proxy: {subjects: [/CN=edge], anchor_set: edge}}, ", 1),
			[]string{at("listen.mtls.proxy.subjects[0]", 3)}},
		{"relying on who verifies nothing", strings.Replace(base, "listen: {", "listen: {mtls: {source: alb-passthrough, proxy: {prefixes: [192.0.2.1], verifies: partners}}, ", 1),
			[]string{at("listen.mtls.proxy.verifies", 3)}},
		{"a pin in hexadecimal", strings.Replace(base, "listen: {", "listen: {mtls: {source: nginx, proxy: {thumbprints: [abcd]}}, ", 1),
			[]string{at("listen.mtls.proxy.thumbprints", 3)}},
		{"a load balancer that is no address", strings.Replace(base, "listen: {", "listen: {mtls: {proxy_protocol: [edge]}, ", 1),
			[]string{at("listen.mtls.proxy_protocol[0]", 3)}},
		{"a load balancer that is everybody", strings.Replace(base, "listen: {", "listen: {mtls: {proxy_protocol: [0.0.0.0/0]}, ", 1),
			[]string{at("listen.mtls.proxy_protocol[0]", 3)}},
		{"a socket without URL", strings.Replace(base, "listen: {", "listen: {mtls: {address: 'unix:/run/x.sock', source: nginx, insecure_plain_http: true, proxy: {unix_socket: true}}, ", 1),
			[]string{at("listen.mtls.url", 3)}},
		{"same port", strings.Replace(base, "listen: {", "listen: {mtls: {address: ':8443'}, ", 1), []string{at("listen.mtls.address", 3)}},
		{"no key", strings.Replace(base, ", key: server-key.pem", "", 1), []string{at("listen.public.key", 3)}},
		{"no trust", strings.Replace(base, "trust: {sets: [{name: clients, anchors: [client-ca.pem]}]}", "", 1), []string{at("trust.sets", 0)}},
		{"unknown default set", strings.Replace(base, "trust: {", "trust: {default: other, ", 1),
			[]string{at("trust.default", 4)}},
		{"a client with two subjects", base + "clients:\n  - client_id: x\n    token_endpoint_auth_method: tls_client_auth\n" +
			"    tls_client_auth_san_dns: x.example\n    tls_client_auth_san_uri: urn:x\n", []string{at("clients[0].token_endpoint_auth_method", 8)}},
		{"a client with a scope that is not there", base + "clients:\n  - client_id: x\n    token_endpoint_auth_method: tls_client_auth\n" +
			"    tls_client_auth_san_dns: x.example\n    scope: write\n", []string{at("clients[0].scope", 10)}},
		{"a client with an empty key set", base + "clients:\n  - client_id: x\n    token_endpoint_auth_method: self_signed_tls_client_auth\n" +
			"    jwks: {keys: []}\n", []string{at("clients[0].jwks", 9)}},
		{"a client with a certificate file that is a key", base + "clients:\n  - client_id: x\n    token_endpoint_auth_method: self_signed_tls_client_auth\n" +
			"    certificates: [batch-key.pem]\n", []string{at("clients[0].certificates[0]", 9)}},
		{"a client with its certificate", base + "clients:\n  - client_id: x\n    token_endpoint_auth_method: self_signed_tls_client_auth\n" +
			"    certificates: [batch.pem]\n", nil},
		{"a client twice", base + "clients:\n" + strings.Repeat("  - {client_id: x, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: x.example}\n", 2),
			[]string{at("clients[1].client_id", 8)}},
		{"faults of two clients", base + "clients:\n  - {client_id: x}\n  - {client_id: y, token_endpoint_auth_method: tls_client_auth}\n",
			[]string{at("clients[0].token_endpoint_auth_method", 7), at("clients[1].token_endpoint_auth_method", 8)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := Parse(filepath.Join(dir, "certbound.yaml"), []byte(tt.in), noEnv)
			var got []string
			if err != nil {
				e, ok := errors.AsType[*Error](err)
				if !ok || file != nil {
					t.Fatalf("%T beside %v: %v", err, file, err)
				}
				for _, f := range e.Faults {
					got = append(got, at(f.Path, f.Line))
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q\n%v", got, tt.want, err)
			}
		})
	}
}

func TestValuesFromElsewhere(t *testing.T) {
	dir := pkiFiles(t)
	if err := os.WriteFile(filepath.Join(dir, "issuer.txt"), []byte("https://as.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"LIFETIME": "90s", "CONNECTIONS": "7", "BOUND": "false", "SCOPE": "read", "JWKS": `{"keys":[]}`, "SECRET": "0123456789abcdef-secret"}
	file, err := Parse(filepath.Join(dir, "x.yaml"), []byte(`
issuer: file:issuer.txt
listen: {public: {certificate: server.pem, key: server-key.pem}}
authentication: {methods: [client_secret_basic], certificate_bound_access_tokens: env:BOUND}
tokens: {resources: ["text:file:api"], scopes: ["env:SCOPE"], lifetime: env:LIFETIME}
limits: {connections: env:CONNECTIONS}
clients: [{client_id: x, token_endpoint_auth_method: client_secret_basic, client_secret: env:SECRET}]
`), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if file.Issuer != "https://as.example" || file.Limits.Connections != 7 || file.Authentication.BoundTokens ||
		file.Tokens.Lifetime != Duration(90*time.Second) || file.Tokens.Scopes[0] != "read" || file.Tokens.Resources[0] != "file:api" {
		t.Errorf("%+v", file.Config)
	}
	// The secret is in no form that anybody prints.
	var resolved bytes.Buffer
	if err := file.WriteResolved(&resolved); err != nil {
		t.Fatal(err)
	}
	tree, err := json.Marshal(file.Resolved())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(file.Config)
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{
		"check": resolved.String(), "check --json": string(tree), "json": string(whole),
		"%v": fmt.Sprintf("%v", file.Config), "%+v": fmt.Sprintf("%+v", file.Config), "%#v": fmt.Sprintf("%#v", file.Config),
	} {
		if strings.Contains(text, env["SECRET"]) {
			t.Errorf("%s shows the secret", form)
		}
	}
	if !strings.HasPrefix(file.DeclaredClients()[0].SecretHash, "pbkdf2-sha256$") {
		t.Error("the secret of a person is not hashed slowly")
	}
}

// What check prints is a configuration again, with the same outcome.
func TestResolvedReadsBack(t *testing.T) {
	dir := pkiFiles(t)
	file, err := Parse(filepath.Join(dir, "x.yaml"), []byte(base+`clients:
  - {client_id: "x: y #", token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: 'CN=a\, b,O=\"x\"'}
  - {client_id: "true", token_endpoint_auth_method: self_signed_tls_client_auth, certificates: [batch.pem], token_lifetime: 1h30m}
`), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := file.WriteResolved(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Parse(filepath.Join(dir, "y.yaml"), b.Bytes(), noEnv)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	one, _ := json.Marshal(file.Resolved())
	two, _ := json.Marshal(again.Resolved())
	if !bytes.Equal(one, two) {
		t.Errorf("\n%s\n%s", one, two)
	}
}

func TestCheck(t *testing.T) {
	now := time.Now()
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Servers", NotBefore: now.Add(-400 * 24 * time.Hour)})
	server := func(o pkitest.LeafOptions) map[string][]byte {
		o.Server = true
		l := ca.MustLeaf(o)
		return map[string][]byte{"server.pem": l.ChainPEM(), "server-key.pem": l.KeyPEM()}
	}
	host := []string{"as.example"}
	key := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=other"}).KeyPEM()
	tests := []struct {
		name     string
		files    map[string][]byte
		faults   []string
		warnings []string
	}{
		{"whole", server(pkitest.LeafOptions{DNS: host}), nil, nil},
		{"missing", map[string][]byte{"server.pem": nil, "client-ca.pem": nil}, []string{"listen.public.certificate", "trust.sets[0].anchors[0]"}, nil},
		{"key of another certificate", map[string][]byte{"server-key.pem": key}, []string{"listen.public.key"}, nil},
		{"key for certificate", map[string][]byte{"server.pem": key}, []string{"listen.public.certificate"}, nil},
		{"expired", server(pkitest.LeafOptions{DNS: host, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)}), []string{"listen.public.certificate"}, nil},
		{"expires soon", server(pkitest.LeafOptions{DNS: host, NotAfter: now.Add(72 * time.Hour)}), nil, []string{"listen.public.certificate"}},
		{"another host", server(pkitest.LeafOptions{DNS: []string{"other.example"}}), nil, []string{"listen.public.certificate"}},
		{"empty anchors", map[string][]byte{"client-ca.pem": {}}, []string{"trust.sets[0].anchors[0]"}, nil},
		{"a key among the anchors", map[string][]byte{"client-ca.pem": append(ca.CertPEM(), ca.KeyPEM()...)}, []string{"trust.sets[0].anchors[0]"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := pkiFiles(t)
			for name, data := range tt.files {
				var err error
				if data == nil {
					err = os.Remove(filepath.Join(dir, name))
				} else {
					err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			file, err := Parse(filepath.Join(dir, "x.yaml"), []byte(base), noEnv)
			if err != nil {
				t.Fatal(err)
			}
			warnings, err := file.Check(now)
			var faults []string
			if e, ok := errors.AsType[*Error](err); ok {
				faults = keys(e.Faults)
			} else if err != nil {
				t.Fatalf("undeclared error %T", err)
			}
			if !slices.Equal(faults, tt.faults) || !slices.Equal(keys(warnings), tt.warnings) {
				t.Errorf("faults %q, warnings %v; want %q, %q", faults, warnings, tt.faults, tt.warnings)
			}
			if strings.Contains(fmt.Sprint(err), "PRIVATE KEY-----") {
				t.Error("a key in the message")
			}
		})
	}
}

func keys(faults []Fault) []string {
	m := map[string]bool{}
	for _, f := range faults {
		m[f.Path] = true
	}
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "5m": 5 * time.Minute, "24h": 24 * time.Hour, "1d": 24 * time.Hour, "1d12h": 36 * time.Hour,
		"1h30m": 90 * time.Minute, "0s": 0, "1500ms": 1500 * time.Millisecond,
	} {
		got, err := ParseDuration(in)
		if err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v", in, got, err)
		}
		if back, err := ParseDuration(got.String()); err != nil || back != got {
			t.Errorf("%q prints as %q, which reads back as %v, %v", in, got, back, err)
		}
	}
	for _, in := range []string{"", "5", "d", "-5m", "-1d", "1.5d", "99999999999d", "1w", "5 m"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v, expected an error", in, got)
		}
	}
}

func TestSuggestion(t *testing.T) {
	for key, want := range map[string]string{
		"isuer": "did you mean issuer?", "lifetime": "it belongs to tokens.lifetime", "zzzzzz": "known are ",
	} {
		if got := suggestion(root(), root(), key); !strings.HasPrefix(got, want) {
			t.Errorf("suggestion(%q) = %q, want %q…", key, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	var example bytes.Buffer
	if err := WriteExample(&example); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		base, example.String(), "", "a: [", "- 1", "issuer: !x y", "a: &b c\nd: *b", "clients:\n  - jwks: {keys: [{x: 1.5}]}\n",
		"tokens: {lifetime: 5}", "? [a]\n: b", "a: |\n  b\n", "\t", "---\n---\na: b", "clients: [{client_secret: env:X}]",
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("file:")) || bytes.Contains(data, []byte("certificates")) {
			return // the fuzzer is not to read files
		}
		file, err := Parse(filepath.Join(dir, "x.yaml"), data, noEnv)
		if err != nil {
			if file != nil {
				t.Errorf("a file beside error %v", err)
			}
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("undeclared error type %T: %v", err, err)
			}
			return
		}
		if err := file.WriteResolved(&bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	})
}
