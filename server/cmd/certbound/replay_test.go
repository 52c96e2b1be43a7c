package main

import (
	"bytes"
	"context"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/evidence"
)

// A request of the log is decided again with the gateway's configuration of today: the same
// while nothing has changed, another when the CA is gone, and without its certificate, or
// with a token in question, the command says that it cannot tell.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"})
	other := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Other"})
	issuing := ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=Issuing"})
	leaf := issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing"})
	lost := issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=lost"})
	server := ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=api", DNS: []string{"api.example"}, Server: true})
	write("server.pem", server.ChainPEM())
	write("server.key", server.KeyPEM())
	write("clients.pem", ca.CertPEM())
	write("gateway.yaml", []byte(`listen: {certificate: server.pem, key: server.key}
tokens: {issuer: "https://as.example"}
trust: {sets: [{name: clients, anchors: [clients.pem], revocation: {mode: crl, crl: [lists]}}]}
evidence: {folder: evidence}
routes:
  - {name: orders, path: /orders, resource: "https://api.example", anchor_set: clients, upstream: {url: "http://127.0.0.1:9"}}
`))
	if err := os.Mkdir(filepath.Join(dir, "lists"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("lists/root.crl", ca.MustCRL())
	write("lists/issuing.crl", issuing.MustCRL())
	k, err := evidence.Open(evidence.Config{Folder: filepath.Join(dir, "evidence")})
	if err != nil {
		t.Fatal(err)
	}
	k.Keep(leaf.Cert, leaf.Chain()[1:], true)
	ended, end := context.WithCancel(t.Context())
	end()
	k.Run(ended) // writes what waits

	allowed := func(leaf *pkitest.Leaf, path string) string {
		return `{"time":"2027-01-10T12:00:00Z","msg":"request","request_id":"r1","outcome":"allowed","route":"orders","method":"GET","host":"api.example","path":"` +
			path + `","client_id":"billing","x5t#S256":"` + certbound.Thumbprint(leaf.Cert) + `"}`
	}
	refused := `{"request_id":"r2","outcome":"refused","route":"orders","method":"GET","host":"api.example","path":"/orders","x5t#S256":"` + certbound.Thumbprint(leaf.Cert) +
		`","decision":{"allowed":false,"checks":[{"check":"token","outcome":"failed","reason":"token_expired"}]}}`
	run := func(line string) (int, string) {
		var out, errs bytes.Buffer
		code := newApp(strings.NewReader(line), &out, &errs).run(t.Context(), []string{"explain", "--from-log", "-", "--config", filepath.Join(dir, "gateway.yaml")})
		return code, out.String() + errs.String()
	}
	check := func(name, line string, want int, texts ...string) {
		t.Helper()
		code, text := run(line)
		golden(t, filepath.Join("testdata", "replay", strings.ReplaceAll(name, " ", "-")+".golden"), []byte(strings.ReplaceAll(text, dir, "FOLDER")))
		if code != want {
			t.Errorf("%s: exit code %d, expected %d\n%s", name, code, want, text)
		}
		for _, s := range texts {
			if !strings.Contains(text, s) {
				t.Errorf("%s: no %q in\n%s", name, s, text)
			}
		}
	}
	policy := strings.NewReplacer(`"token"`, `"policy"`, "token_expired", "hook_refused").Replace(refused)
	check("nothing has changed", allowed(leaf, "/orders/1"), 0, "allowed", "policy", "revocation")
	check("it passes today", policy, 1, "now     allowed")
	check("another reason", strings.Replace(policy, "/orders", "/invoices", 1), 0, "route_unknown", "another reason")
	check("the route is gone", allowed(leaf, "/invoices"), 1, "route_unknown")
	check("no evidence", allowed(lost, "/orders"), 2, "does not have the certificate")
	check("the token", refused, 2, "the token is never kept")
	check("no record", `{"msg":"serving"}`, 2, "--from-log")
	write("lists/issuing.crl", issuing.MustCRLWith(pkitest.CRLOptions{Serials: []*big.Int{leaf.Cert.SerialNumber}, RevokedAt: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)}))
	check("it is revoked", allowed(leaf, "/orders/1"), 1, "failed: revoked")
	check("refused as then", policy, 0, "the same outcome")
	if err := os.Remove(filepath.Join(dir, "lists", "issuing.crl")); err != nil {
		t.Fatal(err)
	}
	check("no list", allowed(leaf, "/orders/1"), 0, "no list that is there")
	write("clients.pem", other.CertPEM())
	check("the CA is gone", allowed(leaf, "/orders"), 1, "refused")
}
