package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/pkitest"
)

// A client of the file changes its name, its CA or its certificate at a date.
func TestDeclaredRotation(t *testing.T) {
	const head = `issuer: https://as.example
listen: {public: {certificate: server.pem, key: server-key.pem}}
trust: {default: old, sets: [{name: old, anchors: [client-ca.pem]}, {name: new, anchors: [client-ca.pem]}]}
tokens: {resources: ["https://api.example"]}
clients:
  - {client_id: c, `
	const billing = `token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: CN=billing`
	const batch = `token_endpoint_auth_method: self_signed_tls_client_auth, certificates: [batch.pem]`
	date := time.Date(2027, 1, 8, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, text string
		path       string // of the fault; empty: none
		current    bool   // what is accepted on the date, beside what is next
		check      func(c *authserver.Client) bool
	}{
		{"subject", billing + `, next_subject_kind: tls_client_auth_san_dns, next_subject: billing.example, next_not_before: 2027-01-01, current_not_after: 2027-01-08`, "", false,
			func(c *authserver.Client) bool {
				c.Promote()
				return c.SANDNS == "billing.example" && c.SubjectDN == ""
			}},
		{"anchor set, until it is written in its place", billing + `, next_anchor_set: new, next_not_before: "2027-01-01T12:00:00+01:00"`, "", true,
			func(c *authserver.Client) bool { c.Promote(); return c.AnchorSet == "new" && c.SubjectDN != "" }},
		{"certificate", batch + `, next_certificates: [next.pem], current_not_after: 2027-01-08T00:00:00Z`, "", false,
			func(c *authserver.Client) bool {
				old := string(c.JWKS)
				c.Promote()
				return len(c.JWKS) > 0 && string(c.JWKS) != old
			}},
		{"no date", billing + `, next_anchor_set: new, next_not_before: soon`, "clients[0].next_not_before", false, nil},
		{"a gap", billing + `, next_anchor_set: new, next_not_before: 2027-01-08, current_not_after: 2027-01-01`, "clients[0].current_not_after", false, nil},
		{"no such set", billing + `, next_anchor_set: none`, "clients[0].next_anchor_set", false, nil},
		{"no such file", batch + `, next_certificates: [none.pem]`, "clients[0].next_certificates[0]", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := pkiFiles(t)
			name := filepath.Join(dir, "certbound.yaml")
			next := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=batch"})
			for file, data := range map[string][]byte{name: []byte(head + tt.text + "}\n"), filepath.Join(dir, "next.pem"): next.CertPEM()} {
				if err := os.WriteFile(file, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			file, err := Load(name)
			if tt.path == "" {
				if err != nil {
					t.Fatal(err)
				}
				c := *file.DeclaredClients()[0]
				if r := c.Rotation(date); !r.Next || r.Current != tt.current {
					t.Errorf("on the date %+v is accepted", r)
				}
				if !tt.check(&c) {
					t.Errorf("next is %+v", c)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || !strings.HasPrefix(e.Faults[0].Path, tt.path) {
				t.Errorf("error %v, want one at %s", err, tt.path)
			}
		})
	}
}
