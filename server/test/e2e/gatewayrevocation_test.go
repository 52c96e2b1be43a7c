package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// gatewayWorld is a running server whose tokens a gateway can judge and whose revocations
// it can follow, and an API.
func gatewayWorld(t *testing.T) (w *world, api string) {
	t.Helper()
	certs := fixture.Certs()
	server := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{publicHost, mtlsHost, "localhost"}, Server: true})
	dir := folder(t, settings{clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read write}
- {client_id: c-rs, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: client-2.example, may_introspect: true, introspects: ["https://rs.test"]}
`, files: map[string][]byte{"server.pem": server.ChainPEM(), "server.key": server.KeyPEM(), "l1.pem": certs.L1.CertPEM()}})
	w = newWorld(serve(t, dir))
	backend := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, apiText) }))
	t.Cleanup(backend.Close)
	return w, backend.URL
}

// Attack: token, certificate and key of a client are stolen; the API verifies JWTs by
// itself. The client revokes the token, or the operator the certificate: within
// tokens.revocations.every the gateway refuses what was stolen, and nothing else.
func TestGatewayFollowsRevocations(t *testing.T) {
	t.Attr("requirement", "F2-5.3.4-3")
	w, api := gatewayWorld(t)
	g := startGateway(t, w, api, func(g *gatewayProcess) {
		write(t, g.dir, "own.pem", w.L2.ChainPEM())
		write(t, g.dir, "own.key", w.L2.KeyPEM())
		g.config = strings.Replace(g.config, "tokens: {", `tokens: {introspector: {client_id: c-rs, certificate: own.pem, key: own.key},
  revocations: {follow: true, every: 1s, stale_after: 20s, endpoint: "https://localhost:`+port(w.mtls)+`/revocations"},
  `, 1)
	})
	l1, l1r := w.as(t, w.L1), w.as(t, w.L1r)
	stolen, kept := w.token(t, l1, "c-dn").AccessToken(), w.token(t, l1, "c-dn").AccessToken()
	renewed := w.token(t, l1r, "c-dn").AccessToken()
	status := func(c *http.Client, token string) int {
		t.Helper()
		return w.api(t, c, rsHost, token).Status
	}
	for _, token := range []string{stolen, kept} {
		if got := status(l1, token); got != http.StatusOK {
			t.Fatalf("before: status %d\n%s", got, tail(g.log.String()))
		}
	}
	if a := w.post(t, l1, "/revoke", "client_id", "c-dn", "token", stolen); a.Status != http.StatusOK {
		t.Fatalf("/revoke: %d %s", a.Status, a.Text)
	}
	g.eventually(t, "the revoked token is refused", func() bool { return status(l1, stolen) == http.StatusUnauthorized })
	if got := status(l1, kept); got != http.StatusOK {
		t.Errorf("the other token of the same certificate: status %d", got)
	}
	if r := command(t, w.program.dir, "trust", "revoke", "--cert", "l1.pem", "--note", "stolen", "--config", "certbound.yaml"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	g.eventually(t, "the tokens of the revoked certificate are refused", func() bool { return status(l1, kept) == http.StatusUnauthorized })
	if got := status(l1r, renewed); got != http.StatusOK {
		t.Errorf("a token of the renewed certificate: status %d", got)
	}
	for _, want := range []string{`"reason":"token_revoked"`, `"revocation_age_ms":`, `"outcome":"refused"`} {
		g.eventually(t, "a record has "+want, func() bool { return strings.Contains(g.log.String(), want) })
	}
}
