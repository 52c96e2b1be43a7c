package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// freePorts returns ports on which nobody listens, for programs that are told theirs.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, port)
	}
	return out
}

// "Protect an API in five minutes", as it stands on the page.
func TestGatewayPage(t *testing.T) {
	ports := freePorts(t, 6)
	runPage(t, "gateway.md", 8, ports, map[string]string{"http.server": ports[5], "certbound gateway": ports[3]},
		"9443", ports[3], "9091", ports[4], "9000", ports[5])
}

// The same for a gRPC service. Nothing of ours is published by this test, so "go get" finds
// our modules in this checkout.
func TestGRPCPage(t *testing.T) {
	ports := freePorts(t, 4)
	checkout, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "")
	const module, part = "github.com/certbound/certbound", "/resourceserver/grpcresource"
	runPage(t, "grpc.md", 9, ports, map[string]string{"./health": ports[3]}, "9443", ports[3],
		"go get "+module+part+"\n", fmt.Sprintf("go mod edit -replace=%[1]s=%[2]s -replace=%[1]s%[3]s=%[2]s%[3]s\ngo get %[1]s%[3]s@v0.0.0\n", module, checkout, part))
}

// runPage runs the five minutes of a page word for word: each block is run, or written to
// its file, and what the page shows is what comes out. Only the ports are others: the first
// three are those of certbound dev. A block with one of the words of servers runs on until
// the test ends; it is ready when somebody listens on the port.
func runPage(t *testing.T, name string, want int, ports []string, servers map[string]string, replace ...string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	servers["certbound dev"] = ports[0]
	text := strings.NewReplacer(append(replace, "8443", ports[0], "8445", ports[2],
		"certbound dev\n", fmt.Sprintf("certbound dev --port %s --mtls-port %s --api-port %s\n", ports[0], ports[1], ports[2]))...).Replace(string(page))
	_, text, _ = strings.Cut(text, "## Five minutes\n")
	text, _, _ = strings.Cut(text, "\n## ")
	dir := t.TempDir()
	env := append(os.Environ(), "PATH="+filepath.Dir(programPath)+":"+os.Getenv("PATH")+":/usr/sbin")
	write(t, dir, "vars", nil)
	var out string
	steps := 0
blocks:
	for _, m := range regexp.MustCompile("(?ms)^```(sh|yaml|nginx|go|text)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		steps++
		kind, block := m[1], m[2]
		switch kind {
		case "yaml", "nginx", "go":
			name, _, _ := strings.Cut(strings.TrimLeft(block, "#/ "), "\n")
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir, name, []byte(block))
			continue
		case "text":
			if strings.TrimSpace(out) != strings.TrimSpace(block) {
				t.Errorf("the page shows\n%s\nand this came out\n%s", block, out)
			}
			continue
		}
		for word, port := range servers {
			if strings.Contains(block, word) {
				background(t, dir, env, block)
				waitFor(t, port)
				continue blocks
			}
		}
		// One shell for all: what it sets, the next block finds.
		cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -eo pipefail; . ./vars; set -a\n"+block+"\nset +a; declare -p TOKEN > vars 2> /dev/null || true")
		cmd.Dir, cmd.Env = dir, env
		combined, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", block, err, combined)
		}
		out = string(combined)
	}
	if steps != want {
		t.Errorf("%d blocks were found, want %d", steps, want)
	}
}

// background runs a block until the test ends.
func background(t *testing.T, dir string, env []string, block string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(block), "\n")
	lines[len(lines)-1] = "exec " + lines[len(lines)-1]
	cmd := exec.Command("bash", "-ec", strings.Join(lines, "\n"))
	cmd.Dir, cmd.Env = dir, env
	var log safeBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s\n%s", block, tail(log.String()))
		}
	})
}

type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func waitFor(t *testing.T, port string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens on port %s: %v", port, err)
		}
	}
}

// A gateway process before an API, with tokens of a running server.
type gatewayProcess struct {
	*world
	dir     string
	config  string
	address string
	admin   string
	log     *safeBuffer
	cmd     *exec.Cmd
	wait    func() error // for its end
}

func startGateway(t *testing.T, w *world, api string, change ...func(*gatewayProcess)) *gatewayProcess {
	t.Helper()
	dir := t.TempDir()
	leaf := w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + rsHost, DNS: []string{rsHost}, Server: true})
	write(t, dir, "rs.pem", leaf.ChainPEM())
	write(t, dir, "rs.key", leaf.KeyPEM())
	write(t, dir, "servers.pem", w.ServerCA.CertPEM())
	ports := freePorts(t, 2)
	_, public, err := net.SplitHostPort(w.public)
	if err != nil {
		t.Fatal(err)
	}
	// The keys are fetched by address; the issuer stays as.test.
	g := &gatewayProcess{world: w, dir: dir, address: "127.0.0.1:" + ports[0], log: &safeBuffer{}, config: `listen: {address: "127.0.0.1:` + ports[0] + `", certificate: rs.pem, key: rs.key, admin: {address: "127.0.0.1:` + ports[1] + `"}}
tokens: {issuer: "https://as.test", jwks_uri: "https://localhost:` + public + `/jwks", root_cas: [servers.pem]}
log: {format: json}
routes:
  - {name: orders, resource: "https://rs.test", scopes: [read], upstream: {url: "` + api + `"}}
`}
	g.admin = "127.0.0.1:" + ports[1]
	for _, f := range change {
		f(g)
	}
	g.write(t, g.config)
	g.cmd = exec.Command(programPath, "gateway", "--config", "gateway.yaml")
	g.cmd.Dir = dir
	g.cmd.Stderr = g.log
	g.wait = sync.OnceValue(g.cmd.Wait)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.cmd.Process.Signal(syscall.SIGTERM)
		if err := g.wait(); err != nil {
			t.Errorf("the gateway came to no good end: %v\n%s", err, tail(g.log.String()))
		}
		checkLog(t, g.log.String())
	})
	waitFor(t, ports[0])
	w.addresses[rsHost] = g.address
	return g
}

func (g *gatewayProcess) write(t *testing.T, text string) {
	t.Helper()
	write(t, g.dir, "new.yaml", []byte(text))
	if err := os.Rename(filepath.Join(g.dir, "new.yaml"), filepath.Join(g.dir, "gateway.yaml")); err != nil {
		t.Fatal(err)
	}
}

func (g *gatewayProcess) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s\n%s", what, tail(g.log.String()))
		}
	}
}

// The built binary, tokens of the built binary: the file changes while requests go on, and
// none fails; a broken file changes nothing.
func TestGatewayReloads(t *testing.T) {
	certs := fixture.Certs()
	server := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{publicHost, mtlsHost, "localhost"}, Server: true})
	dir := folder(t, settings{clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read write}
`, files: map[string][]byte{"server.pem": server.ChainPEM(), "server.key": server.KeyPEM()}})
	p := serve(t, dir)
	w := newWorld(p)
	var header atomic.Value
	header.Store("")
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		header.Store(r.Header.Get("X-Client-ID"))
		_, _ = io.WriteString(rw, apiText)
	}))
	t.Cleanup(api.Close)
	g := startGateway(t, w, api.URL)
	token := w.token(t, w.as(t, w.L1), "c-dn", "scope", "read").AccessToken()
	if token == "" {
		t.Fatal("no token")
	}
	if a := w.api(t, w.as(t, w.L1), rsHost, token); a.Status != 200 || a.Text != apiText {
		t.Fatalf("status %d: %s\n%s", a.Status, a.Text, tail(g.log.String()))
	}
	if a := w.api(t, w.as(t, w.L2), rsHost, token); a.Status != 401 {
		t.Errorf("a stolen token: status %d", a.Status)
	}

	stop, ctx := make(chan struct{}), t.Context()
	var requests, failed atomic.Int64
	var load sync.WaitGroup
	for range 2 {
		c := w.as(t, w.L1)
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				requests.Add(1)
				if status, err := get(ctx, c, token); err != nil || status != 200 {
					failed.Add(1)
				}
			}
		})
	}
	// By itself.
	g.write(t, g.config+"identity: {claims: [{claim: client_id, field: X-Client-ID}]}\n")
	g.eventually(t, "the API learns the client", func() bool { return header.Load() == "c-dn" })
	// At once, by signal.
	g.write(t, g.config)
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	g.eventually(t, "the API learns it no longer", func() bool { return header.Load() == "" })
	g.write(t, "routes: nonsense\n")
	g.eventually(t, "the fault is in the log", func() bool { return strings.Contains(g.log.String(), "what is broken stays as it was") })
	close(stop)
	load.Wait()
	if failed.Load() > 0 || requests.Load() < 50 {
		t.Errorf("%d of %d requests failed", failed.Load(), requests.Load())
	}
}

func get(ctx context.Context, c *http.Client, token string) (int, error) {
	status, _, err := getRecorded(ctx, c, token)
	return status, err
}

// getRecorded returns the id of the record, too.
func getRecorded(ctx context.Context, c *http.Client, token string) (status int, id string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+rsHost+"/", nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get(resourceserver.RequestIDHeader), err
}
