package people

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// Names and values of the tests with the built program.
const (
	appCallback = "https://app.test/cb"
	mtlsBase    = "https://mtls.as.test"
	password    = "correct horse battery"
)

// binary builds the program, once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "certbound-people-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "certbound")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/certbound").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return path, nil
})

// built is the folder of the program. TestMain removes it.
var built string

// A program is a running certbound serve with people, and all that is around it.
type program struct {
	*fixture.Certificates
	dir          string
	public, mtls string // addresses
	addresses    map[string]string
	cmd          *exec.Cmd
	ended        chan struct{}

	mu  sync.Mutex
	log []byte
}

// newFolder makes the folder of a server: people log in with built-in accounts, and the
// client app, which has L1, sends them. More is added to the configuration.
func newFolder(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	certs := fixture.Certs()
	server := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{"as.test", "mtls.as.test", "app.test", "evil.test", "evil.as.test"}, Server: true})
	if more == "" {
		more = "people: {enabled: true, login: accounts, title: Example Bank}"
	}
	for name, content := range map[string][]byte{
		"ca1.pem": certs.CA1.CertPEM(), "server.pem": server.ChainPEM(), "server.key": server.KeyPEM(),
		"certbound.yaml": []byte(`issuer: https://as.test
listen:
  public: {address: "127.0.0.1:0", certificate: server.pem, key: server.key}
  mtls: {address: "127.0.0.1:0", url: "https://mtls.as.test"}
  admin: {address: "127.0.0.1:0"}
trust: {default: ca1, sets: [{name: ca1, anchors: [ca1.pem]}]}
authentication: {methods: [tls_client_auth, none]}
tokens: {scopes: [openid, profile, email, read, payments, offline_access], resources: ["https://rs.test"], default_resource: "https://rs.test"}
log: {format: json, level: debug}
clients:
- {client_id: app, client_name: Household Budget, client_uri: "https://app.test/", policy_uri: "https://app.test/privacy", tos_uri: "https://app.test/terms", token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: openid profile email read payments, grant_types: [authorization_code, refresh_token], redirect_uris: ["https://app.test/cb"], post_logout_redirect_uris: ["https://app.test/bye"]}
- {client_id: other, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: client-2.example, scope: openid read, grant_types: [authorization_code, refresh_token], redirect_uris: ["https://app.test/cb"]}
- {client_id: wallet, client_name: Wallet, token_endpoint_auth_method: none, scope: openid read, grant_types: [authorization_code, refresh_token], redirect_uris: ["https://app.test/cb"]}
` + more + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command runs the program in a folder, which has to succeed, and returns stdout.
func command(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("certbound %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return stdout.String()
}

func addUser(t *testing.T, dir, name, full string) {
	t.Helper()
	command(t, dir, password+"\n", "user", "add", name, "--full-name", full, "--email", name+"@example.org", "--password-stdin")
}

// serveProgram starts the server of a folder. At the end of the test it has to come to a
// good end, if it still runs.
func serveProgram(t *testing.T, dir string) *program {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Certificates: fixture.Certs(), dir: dir, ended: make(chan struct{}), cmd: exec.Command(path, "serve", "--config", "certbound.yaml")}
	p.cmd.Dir = dir
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan struct{})
	go func() {
		for lines := bufio.NewReader(stderr); ; {
			line, err := lines.ReadBytes('\n')
			p.mu.Lock()
			p.log = append(p.log, line...)
			p.mu.Unlock()
			var record struct{ Msg, Public, MTLS string }
			if json.Unmarshal(line, &record) == nil && record.Msg == "serving" {
				p.public, p.mtls = record.Public, record.MTLS
				close(serving)
			}
			if err != nil {
				break
			}
		}
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-p.ended: // killed by the test
			return
		default:
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		select {
		case <-p.ended:
		case <-time.After(time.Minute):
			_ = p.cmd.Process.Kill()
			t.Errorf("the server has not stopped a minute after SIGTERM")
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the server ended with exit code %d\n%s", code, p.text())
		}
	})
	select {
	case <-serving:
	case <-p.ended:
		t.Fatalf("the server did not start\n%s", p.text())
	case <-time.After(time.Minute):
		t.Fatalf("the server is not serving after a minute\n%s", p.text())
	}
	p.addresses = map[string]string{"as.test": p.public, "mtls.as.test": p.mtls}
	return p
}

// text returns the log so far.
func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.log)
}

// kill ends the server as a power cut would.
func (p *program) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
}

// as returns a client with a certificate, or without. It follows no redirects.
func (p *program) as(t *testing.T, leaf *pkitest.Leaf) *http.Client {
	t.Helper()
	conf := &tls.Config{RootCAs: p.ServerCA.Pool()}
	if leaf != nil {
		cert := leaf.TLS()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	tr := &http.Transport{TLSClientConfig: conf, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		real, ok := p.addresses[host]
		if !ok {
			return nil, errors.New("no such host on the bench: " + host)
		}
		return new(net.Dialer).DialContext(ctx, network, real)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// A flow is one authorization request, as the client app keeps it.
type flow struct {
	client, verifier string
	params           url.Values
}

func newFlow(client string, pairs ...string) *flow {
	f := &flow{client: client, verifier: random()}
	sum := sha256.Sum256([]byte(f.verifier))
	f.params = url.Values{"client_id": {client}, "response_type": {"code"}, "redirect_uri": {appCallback}, "scope": {"openid read"}, "state": {random()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		if f.params.Del(pairs[i]); pairs[i+1] != "" {
			f.params.Set(pairs[i], pairs[i+1])
		}
	}
	return f
}

// url is the request in the query.
func (f *flow) url() string { return issuer + "/authorize?" + f.params.Encode() }

// push pushes the request, and returns the link to open.
func (f *flow) push(t *testing.T, c *http.Client) string {
	t.Helper()
	var pairs []string
	for name, values := range f.params {
		pairs = append(pairs, name, values[0])
	}
	r := fixture.Post(t, c, mtlsBase+"/par", pairs...)
	uri, _ := r.JSON["request_uri"].(string)
	if r.Status != http.StatusCreated || uri == "" {
		t.Fatalf("expected a request_uri, found %d %s", r.Status, r.Text)
	}
	return f.link(uri)
}

func (f *flow) link(uri string) string {
	return issuer + "/authorize?" + url.Values{"client_id": {f.client}, "request_uri": {uri}}.Encode()
}

// redeem exchanges the code.
func (f *flow) redeem(t *testing.T, c *http.Client, code string) *fixture.Answer {
	t.Helper()
	return fixture.Post(t, c, mtlsBase+"/token", "client_id", f.client, "grant_type", "authorization_code", "code", code,
		"redirect_uri", appCallback, "code_verifier", f.verifier)
}

func refreshWith(t *testing.T, c *http.Client, client, token string) *fixture.Answer {
	t.Helper()
	return fixture.Post(t, c, mtlsBase+"/token", "client_id", client, "grant_type", "refresh_token", "refresh_token", token)
}

func member(a *fixture.Answer, name string) string { s, _ := a.JSON[name].(string); return s }
