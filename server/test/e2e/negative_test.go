package e2e

import (
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/pkitest/negative"
)

// The suite of attacks that anybody can run against a deployment (pkitest/negative) runs
// against this one: the built binary, with a resource server that judges JWTs and one that
// asks. Every protocol gets the same attacks.
func TestNegative(t *testing.T) {
	clients := clientDN + clientSelf +
		"  - {client_id: c-rs, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: client-2.example, may_introspect: true, introspects: [https://rs2.test]}\n"
	kinds := []struct{ member, id, value string }{
		{"tls_client_auth_san_dns", "c-dns", "client-1.example"},
		{"tls_client_auth_san_uri", "c-uri", "https://client-1.example/id"},
		{"tls_client_auth_san_ip", "c-ip4", "192.0.2.10"},
		{"tls_client_auth_san_email", "c-mail", "ops@client-1.example"},
	}
	for _, k := range kinds {
		clients += "  - {client_id: " + k.id + ", token_endpoint_auth_method: tls_client_auth, " + k.member + ": '" + k.value + "', scope: read}\n"
	}
	w := newWorld(serve(t, folder(t, settings{clients: clients})))
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	w.addresses[rs2Host] = w.startAPI(t, rs2Host, certsource.TLS{}, false)

	target := negative.Target{
		TokenURL: fixture.MTLSBase + "/token", PublicURL: fixture.Issuer + "/.well-known/oauth-authorization-server",
		Resources: []string{"https://" + rsHost + "/"},
		ClientID:  "c-dn", CA: w.CA1i, Client: fixture.L1Options(), Params: url.Values{"resource": {"https://" + rsHost}},
		SelfSignedID: "c-self", SelfSigned: w.S1, HeaderNames: []string{"X-Edge-Client-Cert"},
		RootCAs: w.ServerCA.Pool(), DialContext: w.dial, CanaryWait: 250 * time.Millisecond,
		ReplaceAnchors: func(t *testing.T, anchors []*x509.Certificate) {
			t.Helper()
			const generation = `certbound_reload_generation{name="trust"}`
			before := w.metrics(t)[generation]
			next := write(t, w.dir, "next", pkitest.PEM(anchors...))
			if err := os.Rename(next, filepath.Join(w.dir, "ca1.pem")); err != nil {
				t.Fatal(err)
			}
			w.signal(t, syscall.SIGHUP)
			w.eventually(t, "the new anchors are in use", func() bool { return w.metrics(t)[generation] > before })
		},
	}
	t.Run("subject, JWT", func(t *testing.T) { negative.Run(t, target) })

	// The rest needs no second look at sessions and at the self-signed client.
	target.ReplaceAnchors, target.SelfSignedID, target.SelfSigned = nil, "", nil
	t.Run("introspection", func(t *testing.T) {
		asks := target
		asks.Resources, asks.Params = []string{"https://" + rs2Host + "/"}, url.Values{"resource": {"https://" + rs2Host}}
		negative.Run(t, asks)
	})
	target.Resources, target.Params, target.PublicURL = nil, nil, ""
	for _, k := range kinds {
		t.Run(k.member, func(t *testing.T) {
			by := target
			by.ClientID, by.Registered = k.id, k.member
			negative.Run(t, by)
		})
	}
}

// Under the profile fapi2 a set takes RSA keys with 2048 bits or more, and curves with 224
// or more, from certificates that say they are for clients; and what the policy of a set
// refuses, the log names.
func TestPolicyOfAnchorSet(t *testing.T) {
	with := func(change func(*pkitest.LeafOptions)) *pkitest.Leaf {
		o := fixture.L1Options()
		change(&o)
		return fixture.Certs().CA1i.MustLeaf(o)
	}
	weak := with(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.RSA1024 })
	silent := with(func(o *pkitest.LeafOptions) { o.NoExtKeyUsage = true })
	certs := fixture.Certs()
	for _, row := range []struct {
		name, keys string
		leaf       *pkitest.Leaf
		reason     string // empty: a token
		ids        string
	}{
		{"default", "profile: default", silent, "", ""},
		{"fapi2", "profile: fapi2", certs.L1, "", ""},
		{"fapi2, RSA with 2048 bits", "profile: fapi2", with(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.RSA2048 }), "", ""},
		{"fapi2, RSA with 1024 bits", "profile: fapi2", weak, "weak_key", "F1-B-5.2.2-2 F2-5.4.1-2"},
		{"fapi2, no extended key usage", "profile: fapi2", silent, "extended_key_usage", ""},
		{"open-banking", "profile: open-banking", certs.L1, "", ""},
		{"open-banking, Ed25519", "profile: open-banking", with(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.Ed25519 }), "weak_key", ""},
		{"lifetime", "max_lifetime: 30d", certs.L1, "lifetime_too_long", ""},
		{"policies", "certificate_policies: [1.3.6.1.4.1.99999.1]", certs.L1, "certificate_policy", ""},
		{"a pin that fits", "pinned_issuers: [" + pki.PinKey(certs.CA1i.Cert).String() + "]", certs.L1, "", ""},
		{"a pin that does not", "pinned_issuers: [" + pki.PinKey(certs.CA2.Cert).String() + "]", certs.L1, "issuer_not_pinned", ""},
		{"names that fit", "permitted: {subjects: ['O=Example,C=GB'], dns: [.example]}", certs.L1, "", ""},
		{"names that do not", "permitted: {subjects: ['O=Elsewhere,C=FR']}", certs.L1, "name_constraint", ""},
		{"path", "max_path: 2", certs.L1, "name_constraint", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.ids != "" {
				t.Attr("requirement", row.ids)
			}
			w := small(t, func(s *settings) { s.trust = "{sets: [{name: ca1, anchors: [ca1.pem], " + row.keys + "}]}" })
			a := w.token(t, w.as(t, row.leaf), "c-dn")
			if row.reason == "" {
				issued(t, a, row.leaf)
				return
			}
			refused(t, a, "invalid_client")
			w.logged(t, `"reason":"`+row.reason+`"`)
		})
	}
}
