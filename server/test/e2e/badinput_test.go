package e2e

import (
	"crypto/tls"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// Bad input is answered where its author looks: on the command line, at the start of the
// server, or in the HTTP answer together with the log. The golden files are what they
// read.

func TestBadInputWrongKey(t *testing.T) {
	other := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=other"})
	dir := folder(t, settings{files: map[string][]byte{
		"server.key": other.KeyPEM(),
		"l1.pem":     fixture.Certs().L1.ChainPEM(), "other.key": other.KeyPEM(),
	}})
	var said strings.Builder
	for _, args := range [][]string{
		{"config", "check", "certbound.yaml"},
		{"serve", "--config", "certbound.yaml"},
		{"token", "--issuer", "https://as.test", "--client-id", "c-dn", "--cert", "l1.pem", "--key", "other.key"},
	} {
		record(t, &said, dir, args...)
	}
	golden(t, "wrong-key", said.String())
}

func TestBadInputUnreadableCA(t *testing.T) {
	var said strings.Builder
	for _, content := range [][]byte{nil, []byte("not PEM\n"), []byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), fixture.Certs().CA1.KeyPEM()} {
		s := settings{trust: "{sets: [{name: ca1, anchors: [clients.pem]}]}"}
		if content != nil { // else the file is missing
			s.files = map[string][]byte{"clients.pem": content}
		}
		dir := folder(t, s)
		record(t, &said, dir, "config", "check", "certbound.yaml")
		record(t, &said, dir, "serve", "--config", "certbound.yaml")
	}
	golden(t, "unreadable-ca", said.String())
}

func TestBadInputTwoSubjects(t *testing.T) {
	dir := folder(t, settings{clients: `  - client_id: billing
    token_endpoint_auth_method: tls_client_auth
    tls_client_auth_subject_dn: CN=billing
    tls_client_auth_san_dns: billing.example
`})
	var said strings.Builder
	record(t, &said, dir, "config", "check", "certbound.yaml")
	record(t, &said, dir, "serve", "--config", "certbound.yaml")
	record(t, &said, folder(t, settings{}), "client", "add", "billing", "--config", "certbound.yaml", "--dn", "CN=billing", "--san-dns", "billing.example")
	golden(t, "two-subjects", said.String())
}

func TestBadInputEmptyJWKS(t *testing.T) {
	keys := startKeyServer(t)
	keys.put("/empty", []byte(`{"keys":[]}`))
	host := strings.TrimPrefix(keys.URL, "https://")
	var said strings.Builder
	record(t, &said, folder(t, settings{clients: `  - client_id: billing
    token_endpoint_auth_method: self_signed_tls_client_auth
    jwks: {"keys": []}
`}), "serve", "--config", "certbound.yaml")
	dir := folder(t, settings{
		more:    `jwks_uri: {allow_hosts: ["` + host + `"], root_cas: [servers.pem]}`,
		clients: "  - {client_id: c-uri, token_endpoint_auth_method: self_signed_tls_client_auth, jwks_uri: " + keys.URL + "/empty}\n",
		files:   map[string][]byte{"empty.json": []byte(`{"keys": []}`)},
	})
	record(t, &said, dir, "client", "add", "billing", "--config", "certbound.yaml", "--method", "self_signed_tls_client_auth", "--jwks", "empty.json")
	w := newWorld(serve(t, dir))
	a := w.token(t, w.as(t, w.S1), "c-uri")
	refused(t, a, "invalid_client")
	said.WriteString("POST /token\n" + a.Text + "\n")
	golden(t, "empty-jwks", said.String())
	w.logged(t, `"reason":"key_set_empty"`, `"client_id":"c-uri"`)
}

func TestBadInputLargeForm(t *testing.T) {
	w := small(t)
	var said strings.Builder
	c := w.as(t, w.L1)
	for _, path := range []string{"/token", "/introspect", "/revoke"} {
		a := w.post(t, c, path, "grant_type", "client_credentials", "client_id", "c-dn", "token", "x", "padding", strings.Repeat("x", 1<<20))
		if a.Status != http.StatusRequestEntityTooLarge && a.Status != http.StatusBadRequest || a.Error() != "invalid_request" {
			t.Errorf("%s: %d %s", path, a.Status, a.Text)
		}
		said.WriteString("POST " + path + "\n" + a.Text + "\n")
	}
	golden(t, "large-form", said.String())
	w.logged(t, `"reason":"request_too_large"`, "limits.form_bytes")
	issued(t, w.token(t, c, "c-dn"), w.L1)
}

// 200 certificates: the handshake takes them, the application refuses them.
func TestBadInputLongChain(t *testing.T) {
	w := small(t)
	w.each(t, func(t *testing.T, w *world) {
		t.Attr("requirement", "M-7.5-10 T-P-1")
		cfg := w.clientTLS(nil)
		cert := w.L1.TLS()
		for len(cert.Certificate) < 200 {
			cert.Certificate = append(cert.Certificate, w.CA1i.Cert.Raw)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		a := w.token(t, w.http(t, cfg), "c-dn")
		refused(t, a, "invalid_client")
		golden(t, "long-chain", "POST /token\n"+a.Text+"\n")
	})
	w.logged(t, `"reason":"chain_too_long"`, `"client_id":"c-dn"`, "max_chain", `"found":"200"`)
}

// record writes down what a command says that must be refused. Nothing may come on
// stdout.
func record(t *testing.T, said *strings.Builder, dir string, args ...string) {
	t.Helper()
	r := command(t, dir, args...)
	if r.code == 0 || r.stdout != "" || !strings.Contains(r.stderr, "certbound: error: ") {
		t.Errorf("certbound %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	text := strings.NewReplacer(dir+string(filepath.Separator), "").Replace(r.stderr)
	said.WriteString("$ certbound " + strings.Join(args, " ") + "\n" + text)
}
