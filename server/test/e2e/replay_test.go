package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// Lines of the logs of a running server and of a running gateway are decided again by the
// command, with what the two have kept of the certificates.
func TestReplayOfRealLogs(t *testing.T) {
	certs := fixture.Certs()
	server := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{publicHost, mtlsHost, "localhost"}, Server: true})
	dir := folder(t, settings{
		clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read write}
`,
		files: map[string][]byte{"server.pem": server.ChainPEM(), "server.key": server.KeyPEM()},
		more:  "evidence: {folder: evidence}\n",
	})
	w := newWorld(serve(t, dir))
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, apiText) }))
	t.Cleanup(api.Close)
	g := startGateway(t, w, api.URL, func(g *gatewayProcess) { g.config += "evidence: {folder: evidence}\n" })

	// The same line with another configuration of today.
	edited := func(folder, name, old, new string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("%s has no %q: %v", name, old, err)
		}
		write(t, folder, "edited-"+name, []byte(strings.Replace(string(text), old, new, 1)))
	}
	check := func(folder, config, line string, code int, texts ...string) {
		t.Helper()
		var r result
		// What is kept is written beside the requests.
		g.eventually(t, "the certificates are kept", func() bool {
			r = command(t, folder, "explain", "--from-log", line, "--config", config)
			return !strings.Contains(r.stdout, "does not have the certificate")
		})
		if r.code != code {
			t.Errorf("exit code %d, expected %d", r.code, code)
		}
		for _, text := range texts {
			if !strings.Contains(r.stdout, text) {
				t.Errorf("no %q in\n%s%s", text, r.stdout, r.stderr)
			}
		}
		if t.Failed() {
			t.Fatalf("%s\n%s%s", line, r.stdout, r.stderr)
		}
	}

	token := w.token(t, w.as(t, w.L1), "c-dn", "scope", "read").AccessToken()
	if token == "" {
		t.Fatal("no token")
	}
	if a := w.token(t, w.as(t, w.L2), "c-dn"); a.Status/100 != 4 {
		t.Fatalf("%d %s", a.Status, a.Text)
	}
	line := w.logged(t, "request refused", `"reason":"subject_mismatch"`)
	check(dir, "certbound.yaml", line, 0, "refused: subject_mismatch", "the same outcome\n")
	edited(dir, "certbound.yaml", fixture.SubjectDN, w.L2.Cert.Subject.String())
	check(dir, "edited-certbound.yaml", line, 1, "now     allowed", "another outcome")
	edited(dir, "certbound.yaml", "anchors: [ca1.pem]", "anchors: [ca2.pem]")
	check(dir, "edited-certbound.yaml", line, 0, "the same outcome, for another reason")

	logged := func(texts ...string) (found string) {
		t.Helper()
		g.eventually(t, "a record", func() bool {
			for line := range strings.Lines(g.log.String()) {
				all := strings.HasSuffix(line, "\n") // and not what has come of it so far
				for _, text := range texts {
					all = all && strings.Contains(line, text)
				}
				if all {
					found = line
				}
			}
			return found != ""
		})
		return found
	}
	if a := w.api(t, w.as(t, w.L1), rsHost, token); a.Status != 200 {
		t.Fatalf("status %d: %s", a.Status, a.Text)
	}
	if a := w.api(t, w.as(t, w.L2), rsHost, token); a.Status != 401 {
		t.Fatalf("status %d: %s", a.Status, a.Text)
	}
	allowed := logged(`"outcome":"allowed"`, `"route":"orders"`)
	check(g.dir, "gateway.yaml", allowed, 0, "then    allowed", "now     allowed", "the same outcome\n")
	edited(g.dir, "gateway.yaml", `name: orders,`, `name: orders, path: /orders,`)
	check(g.dir, "edited-gateway.yaml", allowed, 1, "refused: route_unknown", "another outcome")
	check(g.dir, "gateway.yaml", logged(`"outcome":"refused"`, "binding_mismatch"), 2, "refused: binding_mismatch", "cannot be said")
}
