// Package e2e runs the built binary as an operator runs it: with a configuration file,
// files of certificates, commands and signals; and comes to it as clients, thieves and
// proxies do, over TLS on loopback.
package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

var update = flag.Bool("update", false, "write the golden files")

// programPath is the program, built once.
var programPath string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "certbound-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programPath = filepath.Join(dir, "certbound")
		build := exec.Command("go", "build", "-o", programPath, "../../cmd/certbound")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: building the binary: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// A result is what a command left behind.
type result struct {
	stdout, stderr string
	code           int
}

// command runs the binary in a folder.
func command(t *testing.T, dir string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), programPath, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must is command for those that have to succeed. It returns stdout.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	r := command(t, dir, args...)
	if r.code != 0 {
		t.Fatalf("certbound %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// The hosts of the requirements, Section 0.2. Their addresses are those of a server.
const (
	publicHost = "as.test"
	mtlsHost   = "mtls.as.test"
	rsHost     = "rs.test"
	rs2Host    = "rs2.test"
)

// settings are the parts of a configuration that tests change.
type settings struct {
	url     string // of the mutual-TLS listener
	mtls    string // more keys of listen.mtls
	listen  string // more keys of listen
	trust   string // in place of the two sets
	scopes  string // in place of read, write, admin
	more    string // whole sections
	clients string // list items
	level   string // of the log; debug if empty
	files   map[string][]byte
}

// folder makes a folder with a configuration and the files that it names.
func folder(t *testing.T, s settings) string {
	t.Helper()
	dir := t.TempDir()
	certs := fixture.Certs()
	server := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + publicHost, DNS: []string{publicHost, mtlsHost}, Server: true})
	write(t, dir, "ca1.pem", certs.CA1.CertPEM())
	write(t, dir, "ca2.pem", certs.CA2.CertPEM())
	write(t, dir, "servers.pem", certs.ServerCA.CertPEM())
	write(t, dir, "server.pem", server.ChainPEM())
	write(t, dir, "server.key", server.KeyPEM())
	write(t, dir, "s1.pem", certs.S1.CertPEM())
	for name, content := range s.files {
		write(t, dir, name, content)
	}
	if s.trust == "" {
		s.trust = `{default: ca1, poll_interval: 1s, sets: [{name: ca1, anchors: [ca1.pem]}, {name: ca2, anchors: [ca2.pem]}]}`
	}
	if s.mtls != "" {
		s.mtls = ", " + s.mtls
	}
	if s.url == "" {
		s.url = fixture.MTLSBase
	}
	if s.level == "" {
		s.level = "debug"
	}
	text := `issuer: https://as.test
listen:
  public: {address: "127.0.0.1:0", certificate: server.pem, key: server.key}
  mtls: {address: "127.0.0.1:0", url: "` + s.url + `"` + s.mtls + `}
  admin: {address: "127.0.0.1:0"}` + s.listen + `
trust: ` + s.trust + `
authentication:
  methods: [tls_client_auth, self_signed_tls_client_auth, client_secret_basic, private_key_jwt, none]
tokens:
  scopes: [` + cmp.Or(s.scopes, "read, write, admin") + `]
  resources: ["https://rs.test", "https://rs2.test"]
  default_resource: https://rs.test
log: {format: json, level: ` + s.level + `}
` + s.more
	if s.clients != "" {
		text += "\nclients:\n" + s.clients
	}
	write(t, dir, "certbound.yaml", []byte(text+"\n"))
	return dir
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A program is a running certbound serve.
type program struct {
	dir                 string
	public, mtls, admin string // addresses
	cmd                 *exec.Cmd
	ended               chan struct{}

	mu  sync.Mutex
	log []byte
}

// serve starts the server of a folder. At the end of the test it is told to stop, if
// it still runs, and must have come to a good end; and its log is searched for what
// must not be there.
func serve(t *testing.T, dir string) *program {
	t.Helper()
	p := &program{dir: dir, ended: make(chan struct{}), cmd: exec.Command(programPath, "serve", "--config", "certbound.yaml")}
	p.cmd.Dir = dir
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan bool, 1)
	go func() {
		lines := bufio.NewReader(stderr)
		for {
			line, err := lines.ReadBytes('\n')
			p.mu.Lock()
			p.log = append(p.log, line...)
			p.mu.Unlock()
			var record struct{ Msg, Public, MTLS, Admin string }
			if json.Unmarshal(line, &record) == nil && record.Msg == "serving" {
				p.public, p.mtls, p.admin = record.Public, record.MTLS, record.Admin
				serving <- true
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
		case <-p.ended:
		default:
			p.stop(t)
		}
		checkLog(t, p.text())
	})
	select {
	case <-serving:
	case <-p.ended:
		t.Fatalf("the server did not start\n%s", p.text())
	case <-time.After(30 * time.Second):
		t.Fatalf("the server is not serving after 30 s\n%s", p.text())
	}
	p.eventually(t, "ready", func() bool {
		resp, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// text returns the log so far.
func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.log)
}

func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// stop ends the server by SIGTERM and wants exit code 0.
func (p *program) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Fatalf("the server has not stopped 30 s after SIGTERM\n%s", tail(p.text()))
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the server ended with exit code %d\n%s", code, tail(p.text()))
	}
}

// kill ends the server by SIGKILL.
func (p *program) kill(t *testing.T) {
	t.Helper()
	p.signal(t, os.Kill)
	<-p.ended
}

// eventually waits at most 10 s until a condition holds.
func (p *program) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s\n%s", what, tail(p.text()))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logged waits for a record with all of these texts and returns its line.
func (p *program) logged(t *testing.T, texts ...string) string {
	t.Helper()
	var found string
	p.eventually(t, fmt.Sprintf("a log record with %q", texts), func() bool {
	lines:
		for line := range strings.Lines(p.text()) {
			for _, text := range texts {
				if !strings.Contains(line, text) {
					continue lines
				}
			}
			found = line
			return true
		}
		return false
	})
	return found
}

// metrics returns what a scrape finds, by name and labels.
func (p *program) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	found := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		i := strings.LastIndexByte(lines.Text(), ' ')
		if i < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		if found[lines.Text()[:i]], err = strconv.ParseFloat(lines.Text()[i+1:], 64); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// judged returns how many decisions were made.
func (p *program) judged(t *testing.T) (n float64) {
	t.Helper()
	for name, value := range p.metrics(t) {
		if strings.HasPrefix(name, "certbound_decisions_total{") {
			n += value
		}
	}
	return n
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs; got\n%s\nwant\n%s", file, text, want)
	}
}
