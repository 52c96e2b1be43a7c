//go:build linux

package e2e

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// missing ends a test whose program of others is not there. In CI, where make deps has
// installed all of them, that is a failure; elsewhere it is a skip, since whoever changes
// something else has not got to install Envoy first.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...) + "; make deps installs what the tests need"
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// nginx asks the built binary, as it stands on the page.
func TestForwardAuthPage(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		if _, err := os.Stat("/usr/sbin/nginx"); err != nil {
			missing(t, "nginx is not installed")
		}
	}
	ports := freePorts(t, 7)
	runPage(t, "forward-auth.md", 10, ports, map[string]string{"http.server": ports[5], "certbound gateway": ports[6], "nginx -p": ports[3]},
		"9443", ports[3], "9091", ports[4], "9000", ports[5], "9444", ports[6])
}

// The file of the page on Envoy, with the built binary and a client of the real API. Then
// the file changes, and the next answer is by the new one, over the same connection.
func TestEnvoyPage(t *testing.T) {
	certs := fixture.Certs()
	leaf := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{publicHost, mtlsHost, "localhost"}, Server: true})
	w := newWorld(serve(t, folder(t, settings{clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read write}
`, files: map[string][]byte{"server.pem": leaf.ChainPEM(), "server.key": leaf.KeyPEM()}})))
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "envoy.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?ms)^```yaml\n(# gateway.yaml.*?)^```$").FindSubmatch(page)
	if m == nil {
		t.Fatal("the page has no gateway.yaml")
	}
	dir, ports := t.TempDir(), freePorts(t, 1)
	_, public, err := net.SplitHostPort(w.public)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "servers.pem", w.ServerCA.CertPEM())
	text := strings.NewReplacer("9091", ports[0], "https://localhost:8443", `https://as.test
  jwks_uri: https://localhost:`+public+"/jwks", "certbound-dev/server-ca.pem", "servers.pem", "https://localhost:8445", fixture.Resource).Replace(string(m[1]))
	write(t, dir, "gateway.yaml", []byte(text))
	cmd := exec.Command(programPath, "gateway", "--config", "gateway.yaml")
	log := &safeBuffer{}
	cmd.Dir, cmd.Stderr = dir, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the gateway came to no good end: %v\n%s", err, tail(log.String()))
		}
		checkLog(t, log.String())
	})
	waitFor(t, ports[0])
	c, err := grpc.NewClient("unix:"+filepath.Join(dir, "authz.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	client := authv3.NewAuthorizationClient(c)
	token := w.token(t, w.as(t, w.L1), "c-dn", "scope", "read").AccessToken()
	ask := func(leaf *pkitest.Leaf, path string) *authv3.CheckResponse {
		t.Helper()
		cert := strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(
			string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Cert.Raw})))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		resp, err := client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source: &authv3.AttributeContext_Peer{Certificate: cert},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: http.MethodGet, Host: rsHost, Path: path, Headers: map[string]string{"authorization": "Bearer " + token, "x-client-id": "forged"},
			}},
		}}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatalf("%v\n%s", err, tail(log.String()))
		}
		return resp
	}
	ok := ask(w.L1, "/hello.txt").GetOkResponse()
	if ok == nil || len(ok.Headers) != 1 || ok.Headers[0].Header.GetKey() != "x-client-id" || ok.Headers[0].Header.GetValue() != "c-dn" {
		t.Errorf("the owner: %v\n%s", ok, tail(log.String()))
	}
	if got := ask(w.L2, "/hello.txt").GetDeniedResponse().GetStatus().GetCode(); got != http.StatusUnauthorized {
		t.Errorf("the thief: %d, want 401", got)
	}
	eventually(t, "the log says why", func() bool { return strings.Contains(log.String(), "binding_mismatch") }, func() string { return tail(log.String()) })
	write(t, dir, "gateway.yaml", []byte(strings.Replace(text, "  - name: files\n", "  - name: files\n    path: /files\n    pass_token: true\n", 1)))
	_ = cmd.Process.Signal(syscall.SIGHUP)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if ask(w.L1, "/hello.txt").GetDeniedResponse().GetStatus().GetCode() == http.StatusNotFound {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the new file is not in force\n%s", tail(log.String()))
		}
	}
	if ok := ask(w.L1, "/files/x").GetOkResponse(); ok == nil || len(ok.HeadersToRemove) != 0 {
		t.Errorf("by the new file: %v, want the token to stay", ok)
	}
}
