//go:build linux

// Package proxies runs real proxies in front of the real server: nginx, HAProxy, Apache
// httpd, Caddy, Traefik and Envoy, each with its file of docs/proxies, on loopback. What they
// really send is recorded for the tests of certsource (see recording_test.go).
package proxies

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
)

// A program is a proxy that can be run.
type program struct {
	name    string
	path    func(t *testing.T) string // of the executable
	version []string                  // arguments that print the version
	number  *regexp.Regexp            // finds the version there
	// files of docs/proxies, the main one first.
	files []string
	// ports has the places of the ports, and what to write there: old, new, …, with
	// {443} and {80} for those of the test.
	ports []string
	// address writes an address as the files do. If nil, host:port.
	address func(string) string
	// also is another file that is made for the test, around the documented one: name
	// and content.
	also [2]string
	// arguments starts it in the foreground; dir has the files.
	arguments func(dir string) []string
}

// installed finds a program of Debian's.
func installed(name string) func(*testing.T) string {
	return func(t *testing.T) string {
		path, err := exec.LookPath(name)
		if err != nil && (name == "nginx" || name == "haproxy" || name == "apache2") {
			path, err = exec.LookPath("/usr/sbin/" + name)
		}
		if err != nil {
			missing(t, "%s is not installed", name)
		}
		return path
	}
}

var builds sync.Map // name → func() (string, error)

// built finds, or builds, a program from the Go module proxy.
func built(name string) func(*testing.T) string {
	return func(t *testing.T) string {
		once, _ := builds.LoadOrStore(name, sync.OnceValues(func() (string, error) {
			cmd := exec.Command("build/build.sh", name)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				return "", fmt.Errorf("%w\n%s", err, errs.String())
			}
			return strings.TrimSpace(string(out)), nil
		}))
		path, err := once.(func() (string, error))()
		if err != nil {
			missing(t, "%s cannot be built: %v", name, err)
		}
		return path
	}
}

// fetched finds, or fetches, Envoy.
func fetched(t *testing.T) string {
	path, err := fetchEnvoy()
	if err != nil {
		missing(t, "envoy cannot be fetched: %v", err)
	}
	return path
}

var fetchEnvoy = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("build/envoy/fetch.sh")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
})

// missing ends a test whose program of others is not there. In CI, where make deps has
// installed all of them, that is a failure; elsewhere it is a skip, since whoever changes
// something else has not got to build Traefik first.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...) + "; make deps installs what the tests need"
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// versionOf returns the version that the program says it has.
func (p *program) versionOf(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(p.path(t), p.version...).CombinedOutput()
	m := p.number.FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%s: no version: %v\n%s", p.name, err, out)
	}
	return string(m[1])
}

// A proxy is a program that runs.
type proxy struct {
	tls, plain string // addresses of port 443 and port 80
}

// settings are what a test puts in place of the documented values.
type settings struct {
	origin [3]string // in place of 127.0.0.1:8443, :8444 and :8445
	// edits are further replacements, old and new.
	edits []string
	// name is a server name that is served. If empty, as.test.
	name string
}

// start runs the program with its documented configuration until the test ends.
func (p *program) start(t *testing.T, s settings) *proxy {
	t.Helper()
	path := p.path(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	for name, content := range material() {
		write(t, filepath.Join(dir, name), content)
	}
	px := &proxy{tls: freePort(t), plain: freePort(t)}
	edits := p.replacer(dir, px, s)
	for _, file := range p.files {
		text, err := os.ReadFile(filepath.Join("../../../docs/proxies", file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), edits.apply(string(text)))
	}
	if p.also[0] != "" {
		write(t, filepath.Join(dir, p.also[0]), edits.apply(strings.NewReplacer("{443}", portOf(px.tls), "{80}", portOf(px.plain)).Replace(p.also[1])))
	}
	if unused := edits.unused(); len(unused) > 0 {
		t.Fatalf("%s: the configuration has none of %q; the test would not run what is documented", p.name, unused)
	}

	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, p.arguments(dir)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + filepath.Join(dir, "tmp"),
		"APACHE_RUN_DIR=" + dir, "APACHE_LOG_DIR=" + dir, "APACHE_LOCK_DIR=" + dir}
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that its workers end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	said := func() string { // the last lines
		text, _ := os.ReadFile(log.Name())
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		for i, line := range lines {
			lines[i] = line[:min(len(line), 300)]
		}
		return strings.Join(lines[max(0, len(lines)-30):], "\n")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, said())
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the group that was started above
		log.Close()
	})
	// It is ready when a handshake succeeds: some listen before they have read all.
	cfg := &tls.Config{ServerName: cmp.Or(s.name, "as.test"), RootCAs: fixture.Certs().ServerCA.Pool()}
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", px.tls, cfg)
		if err == nil {
			c.Close()
			return px
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended at once: %v\n%s", p.name, err, said())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s makes no handshake on %s: %v\n%s", p.name, px.tls, err, said())
		}
	}
}

// A replacer turns the documented configuration into one for the test: other ports, other
// folders. Everything else is loaded as it stands, and what it does not find is an error:
// the test would not run what is documented.
type replacer struct {
	pairs []string // old, new, …
	used  map[string]bool
}

func (p *program) replacer(dir string, px *proxy, s settings) *replacer {
	r := &replacer{used: map[string]bool{}}
	for i, text := range s.edits {
		if i%2 == 1 { // what is put in names the folder, too
			text = strings.ReplaceAll(text, "/etc/certbound/proxy/", dir+"/")
		}
		r.pairs = append(r.pairs, text)
	}
	for i := 0; i+1 < len(p.ports); i += 2 {
		r.pairs = append(r.pairs, p.ports[i], strings.NewReplacer(
			"{443}", portOf(px.tls), "{80}", portOf(px.plain)).Replace(p.ports[i+1]))
	}
	r.pairs = append(r.pairs, "/etc/certbound/proxy/", dir+"/")
	for i, documented := range []string{"127.0.0.1:8443", "127.0.0.1:8444", "127.0.0.1:8445"} {
		if s.origin[i] == "" {
			continue
		}
		to := s.origin[i]
		if p.address != nil {
			documented, to = p.address(documented), p.address(to)
		}
		r.pairs = append(r.pairs, documented, to)
	}
	return r
}

func (r *replacer) apply(text string) string {
	for i := 0; i+1 < len(r.pairs); i += 2 {
		r.used[r.pairs[i]] = r.used[r.pairs[i]] || strings.Contains(text, r.pairs[i])
	}
	// At once, so that nothing that was put in is replaced again.
	return strings.NewReplacer(r.pairs...).Replace(text)
}

func (r *replacer) unused() []string {
	var list []string
	for old, used := range r.used {
		if !used {
			list = append(list, old)
		}
	}
	return list
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "127.0.0.1:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
