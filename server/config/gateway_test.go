package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/gateway"
)

func TestGatewayGenerated(t *testing.T) {
	generated(t, filepath.Join("..", "..", "docs", "gateway-configuration.md"), func(b *bytes.Buffer) error { return WriteGatewayDocs(b) })
	generated(t, filepath.Join("testdata", "gateway-schema.golden"), func(b *bytes.Buffer) error { return WriteGatewaySchema(b) })
	generated(t, filepath.Join("testdata", "gateway-example.golden"), func(b *bytes.Buffer) error { return WriteGatewayExample(b) })
}

// Every key has a text, and the sources are those of certsource.
func TestGatewayFields(t *testing.T) {
	sources := []string{"tls"}
	for _, p := range certsource.Presets() {
		sources = append(sources, p.Name)
	}
	sources = append(sources, "envoy-peer") // of ext_authz, in no field
	places(gatewayRoot(), "", func(path string, f *field) {
		if f.name == "" || f.doc == "" {
			t.Errorf("%s: no name in the tag, or no doc comment", path)
		}
		for _, text := range splitList(f.def) {
			if len(f.enum) > 0 && !slices.Contains(f.enum, text) {
				t.Errorf("%s: the default %q is not in the enum", path, text)
			}
		}
		if path == "listen.source" && !slices.Equal(f.enum, sources) {
			t.Errorf("the enum of %s is\n%q, the presets are\n%q", path, f.enum, sources)
		}
	})
}

const gatewayBase = `listen: {address: ':8443', certificate: server.pem, key: server-key.pem}
tokens: {issuer: 'https://as.example'}
routes: [{name: api, resource: 'https://as.example/api', upstream: {url: 'http://127.0.0.1:9000'}}]
`

func gatewayText(t *testing.T, old, replacement string) string {
	t.Helper()
	if !strings.Contains(gatewayBase, old) {
		t.Fatalf("no %q", old)
	}
	return strings.Replace(gatewayBase, old, replacement, 1)
}

// The example is a file that can be used, once the files that it names are there.
func TestGatewayExample(t *testing.T) {
	var b bytes.Buffer
	if err := WriteGatewayExample(&b); err != nil {
		t.Fatal(err)
	}
	dir := pkiFiles(t)
	text := strings.NewReplacer("anchors: [client-ca.pem]", "anchors: [client-ca.pem]", "- claim: client_id", "- claim: client_id").Replace(b.String())
	file, err := ParseGateway(filepath.Join(dir, "gateway.yaml"), []byte(text), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Check(time.Now()); err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := file.WriteResolved(&printed); err != nil || !strings.Contains(printed.String(), "binding: required  # default") {
		t.Errorf("%v\n%s", err, printed.String())
	}
}

// Every fault is found, with its key.
func TestGatewayFaults(t *testing.T) {
	dir := pkiFiles(t)
	key := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=assertions", KeyType: pkitest.P384})
	if err := os.WriteFile(filepath.Join(dir, "p384.pem"), key.KeyPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	route := "upstream: {url: 'http://127.0.0.1:9000'}"
	const asks = "address: 'unix:/x', insecure_plain_http: true, proxy: {unix_socket: true}, front: "
	tests := []struct {
		name, old, replacement string
		want                   []string
	}{
		{"fine", "api", "api", nil},
		{"profile", "tokens: {", "profile: fapi2\ntokens: {introspection: always, introspector: {client_id: x, client_secret: 'a-secret-of-16-chars'}, ", nil},
		{"profile without revocations", "tokens: {", "profile: fapi2\ntokens: {", []string{"tokens.revocations.follow"}},
		{"profile with a long leeway", "tokens: {", "profile: fapi2\ntokens: {introspection: always, introspector: {client_id: x, client_secret: 'a-secret-of-16-chars'}, leeway: 2m, ", []string{"tokens.leeway"}},
		{"profile with unbound tokens", gatewayBase, "profile: fapi2\n" + strings.NewReplacer("tokens: {", "tokens: {introspection: always, introspector: {client_id: x, client_secret: 'a-secret-of-16-chars'}, ",
			"name: api", "name: api, binding: when-present").Replace(gatewayBase), []string{"routes[0].binding"}},
		{"no routes", gatewayBase[strings.Index(gatewayBase, "routes:"):], "routes: []\n", []string{"routes"}},
		{"unknown key", "name: api", "nome: api", []string{"routes[0].name", "routes[0].nome"}},
		{"no resource", "resource: 'https://as.example/api', ", "", []string{"routes[0].resource"}},
		{"resource of another kind", "'https://as.example/api'", "'http://as.example/api'", []string{"routes[0]"}},
		{"anonymous with a resource", "name: api", "name: api, anonymous: true", []string{"routes[0].anonymous"}},
		{"no such set", "name: api", "name: api, anchor_set: x", []string{"routes[0].anchor_set"}},
		{"path", "name: api", "name: api, path: /a/../b", []string{"routes[0].path"}},
		{"host", "name: api", "name: api, hosts: ['a:1']", []string{"routes"}},
		{"two of the same", "routes: [", "routes: [{name: b, resource: 'https://b.example', " + route + "}, ", []string{"routes"}},
		{"upstream", "http://127.0.0.1:9000", "ftp://x", []string{"routes[0].upstream.url"}},
		{"upstream certificates", route, "upstream: {url: 'http://x', certificate: server.pem}", []string{"routes[0].upstream"}},
		{"plain HTTP with tls", "certificate: server.pem, key: server-key.pem", "insecure_plain_http: true", []string{"listen.insecure_plain_http"}},
		{"source without proxy", "address: ':8443'", "source: nginx, address: ':8443'", []string{"listen.proxy"}},
		{"proxy without source", "address: ':8443'", "proxy: {prefixes: [10.0.0.1]}, address: ':8443'", []string{"listen.proxy"}},
		{"no upstream", ", " + route, "", []string{"routes[0].upstream.url"}},
		{"a front that asks, with upstream", "address: ':8443'", "address: ':8443', front: nginx, source: nginx, proxy: {prefixes: [10.0.0.1]}", []string{"routes[0].upstream.url"}},
		{"a front that asks", "address: ':8443', certificate: server.pem, key: server-key.pem}", asks + "nginx, source: nginx}", nil},
		{"its certificate on the connection", "address: ':8443', certificate: server.pem, key: server-key.pem}", "address: ':8443', certificate: server.pem, key: server-key.pem, front: nginx}", []string{"listen.source"}},
		{"envoy-peer", "address: ':8443', certificate: server.pem, key: server-key.pem}", asks + "envoy-grpc, source: envoy-peer}", nil},
		{"envoy-peer over HTTP", "address: ':8443', certificate: server.pem, key: server-key.pem}", asks + "envoy-http, source: envoy-peer}", []string{"listen.source"}},
		{"envoy-peer that nobody may ask", "address: ':8443', certificate: server.pem, key: server-key.pem}",
			"address: ':8443', certificate: server.pem, key: server-key.pem, front: envoy-grpc, source: envoy-peer}", []string{"listen.proxy"}},
		{"envoy-peer with a field", "address: ':8443', certificate: server.pem, key: server-key.pem}",
			"address: 'unix:/x', insecure_plain_http: true, front: envoy-grpc, source: envoy-peer, proxy: {unix_socket: true, field: X-Y}}", []string{"listen.proxy"}},
		{"xfcc without hops", "address: ':8443', certificate: server.pem, key: server-key.pem}", asks + "envoy-grpc, source: xfcc}", []string{"listen.proxy.trusted_hops"}},
		{"the PROXY protocol and gRPC", "address: ':8443', certificate: server.pem, key: server-key.pem}", asks + "envoy-grpc, source: envoy-peer, proxy_protocol: [10.0.0.1]}", []string{"listen.proxy_protocol"}},
		{"a socket in the clear", "address: ':8443', certificate: server.pem, key: server-key.pem", "address: 'unix:/x', source: nginx, proxy: {unix_socket: true}", []string{"listen.insecure_plain_http"}},
		{"no key", ", key: server-key.pem", "", []string{"listen.key"}},
		{"address", "':8443'", "nowhere", []string{"listen.address"}},
		{"introspector", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspection: always", []string{"tokens.introspector.client_id"}},
		{"revocations", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspector: {client_id: g, client_secret: 'text:x'}, revocations: {follow: true}", nil},
		{"revocations, but who asks", "issuer: 'https://as.example'", "issuer: 'https://as.example', revocations: {follow: true}", []string{"tokens.introspector.client_id"}},
		{"revocations that are always stale", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspector: {client_id: g, client_secret: 'text:x'}, revocations: {follow: true, every: 1m, stale_after: 10s}", []string{"tokens.revocations.stale_after"}},
		{"revocations all the time", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspector: {client_id: g, client_secret: 'text:x'}, revocations: {follow: true, every: 0s}", []string{"tokens.revocations.every"}},
		{"no revocations remembered", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspector: {client_id: g, client_secret: 'text:x'}, revocations: {follow: true, max_entries: 0}", []string{"tokens.revocations.max_entries"}},
		{"revocations at a strange place", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspector: {client_id: g, client_secret: 'text:x'}, revocations: {follow: true, endpoint: 'http://as.example/r'}", []string{"tokens.revocations.endpoint"}},
		{"introspection at a strange place", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspection: always, introspector: {client_id: g, client_secret: 'text:x', endpoint: 'http://as.example/i'}", []string{"tokens.introspector.endpoint"}},
		{"stale answers", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspection: always, introspector: {client_id: g, client_secret: 'text:x', stale_for: 1m}", nil},
		{"stale answers of none", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspection: always, introspector: {client_id: g, client_secret: 'text:x', cache_for: 0s, stale_for: 1m}", []string{"tokens.introspector.stale_for"}},
		{"no inactive answers remembered", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspection: always, introspector: {client_id: g, client_secret: 'text:x', inactive_size: 0}", []string{"tokens.introspector.inactive_size"}},
		{"h2c with TLS", "address: ':8443'", "address: ':8443', h2c: true", []string{"listen.h2c"}},
		{"h2c", "address: ':8443', certificate: server.pem, key: server-key.pem}", "address: 'unix:/x', insecure_plain_http: true, h2c: true, source: haproxy, proxy: {unix_socket: true}}", nil},
		{"introspector for nothing", "issuer: 'https://as.example'", "issuer: 'https://as.example', introspector: {client_id: x}", []string{"tokens.introspector"}},
		{"issuer", "'https://as.example'}", "'http://as.example'}", []string{"routes[0]"}},
		{"claim", "routes:", "identity: {claims: [{claim: sub, field: Authorization}]}\nroutes:", []string{"identity"}},
		{"assertion without key", "routes:", "identity: {assertion: {field: X-A, issuer: g, audience: a}}\nroutes:", []string{"identity.assertion.key"}},
		{"assertion key of another kind", "routes:", "identity: {assertion: {field: X-A, issuer: g, audience: a, key: p384.pem}}\nroutes:", []string{"identity"}},
		{"no such file", "server.pem", "nothing.pem", []string{"listen.certificate"}},
		{"another's key", "server-key.pem", "batch-key.pem", []string{"listen.key"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := gatewayText(t, tt.old, tt.replacement)
			if strings.Contains(text, "front:") && !strings.Contains(tt.name, "with upstream") {
				text = strings.ReplaceAll(text, ", "+route, "")
			}
			file, err := ParseGateway(filepath.Join(dir, "gateway.yaml"), []byte(text), noEnv)
			if err == nil {
				_, err = file.Check(time.Now())
			}
			var got []string
			if e, ok := errors.AsType[*Error](err); ok {
				for _, f := range e.Faults {
					got = append(got, f.Path)
					if f.Line == 0 {
						t.Errorf("no place: %v", f)
					}
				}
			} else if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("faults at %q, want %q\n%v", got, tt.want, err)
			}
		})
	}
}

// What has not changed is taken over with its connections and caches, and nothing else.
func TestGatewayRebuild(t *testing.T) {
	dir := pkiFiles(t)
	build := func(text string, before *BuiltGateway) *BuiltGateway {
		t.Helper()
		file, err := ParseGateway(filepath.Join(dir, "gateway.yaml"), []byte(text), noEnv)
		if err != nil {
			t.Fatal(err)
		}
		b, err := file.Build(GatewayParts{Before: before})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	upstream := func(b *BuiltGateway) *gateway.Upstream {
		for _, target := range b.Proxy.Targets {
			return target.Upstream
		}
		return nil
	}
	first := build(gatewayBase, nil)
	for _, tt := range []struct {
		name, old, replacement string
		verifier, upstream     bool
	}{
		{"scopes", "name: api", "name: api, scopes: [read]", true, true},
		{"binding", "name: api", "name: api, binding: when-present", false, true},
		{"issuer", "https://as.example'}", "https://as2.example'}", false, true},
		{"upstream", ":9000", ":9001", true, false},
	} {
		next := build(gatewayText(t, tt.old, tt.replacement), first)
		if got := next.Verifiers[0] == first.Verifiers[0]; got != tt.verifier {
			t.Errorf("%s: verifier kept: %v", tt.name, got)
		}
		if got := upstream(next) == upstream(first); got != tt.upstream {
			t.Errorf("%s: upstream kept: %v", tt.name, got)
		}
	}
}
