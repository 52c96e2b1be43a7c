package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/pkitest"
)

// startDev runs dev in this process until the test ends, and returns what it has
// printed up to "Serving.".
func startDev(t *testing.T, dir string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"dev", "--dir", dir, "--port", "0", "--mtls-port", "0", "--api-port", "0"}, nil, w, &stderr)
		w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if got := <-code; got != exitDone {
			t.Errorf("exit code %d, stderr %s", got, stderr.String())
		}
	})
	var text strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Serving.") {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return text.String()
		}
	}
	t.Fatalf("dev ended: exit code %d\n%s\n%s", <-code, text.String(), stderr.String())
	return ""
}

// The printed lines are pasted as they are, into a shell in the folder where dev runs.
func TestDevCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatalf("this test runs the lines that dev prints: install curl: %v", err)
	}
	t.Chdir(t.TempDir())
	text := startDev(t, "certbound-dev")
	_, lines, ok := strings.Cut(text, "Try it (paste into another terminal)\n")
	if !ok {
		t.Fatalf("no lines to paste in\n%s", text)
	}
	lines, _, _ = strings.Cut(lines, "# register,")
	parts := strings.Split(strings.TrimSpace(lines), "\n\n")
	if len(parts) != 4 {
		t.Fatalf("expected 4 commands, found %q", parts)
	}
	shell := func(t *testing.T, commands ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.Join(commands, "\n"))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, commands, stderr.String())
		}
		return string(out)
	}
	t.Logf("with %s", curl)
	if got := shell(t, parts[0], `test -n "$TOKEN" && echo "$TOKEN"`); strings.Count(got, ".") != 2 {
		t.Errorf("the first command gives %q, expected a token", got)
	}
	if got := shell(t, parts[0], parts[1]); got != "hello billing\n" {
		t.Errorf("the API answers %q", got)
	}
	// A bound token in the hands of somebody else: of the same CA, without a
	// certificate, with a self-signed one.
	self := strings.ReplaceAll(parts[2], "mallory", "batch")
	if self == parts[2] {
		t.Fatal("the third command does not name mallory")
	}
	for name, command := range map[string]string{"of the same CA": parts[2], "none": parts[3], "self-signed": self} {
		t.Run("other certificate "+name, func(t *testing.T) {
			t.Attr("requirement", "M-1-4")
			got := shell(t, parts[0], command)
			if !strings.Contains(got, " 401") || !strings.Contains(got, `error="invalid_token"`) || strings.Contains(got, "hello") {
				t.Errorf("expected 401 with invalid_token, found\n%s", got)
			}
		})
	}
}

// A story with another outcome than the expected one is a failure: here mallory has
// billing's certificate, and nobody refuses him.
func TestDevNoticesFailure(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		t.Run("json="+strconv.FormatBool(asJSON), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			a := newApp(nil, &stdout, &stderr)
			a.tamper = func(s *story) { s.folder.mallory = s.folder.billing }
			args := []string{"dev", "--once", "--dir", filepath.Join(t.TempDir(), "d"), "--port", "0", "--mtls-port", "0", "--api-port", "0"}
			if asJSON {
				args = append(args, "--json")
			}
			if code := a.run(t.Context(), args); code != exitRefused {
				t.Errorf("exit code %d, expected %d", code, exitRefused)
			}
			if !asJSON {
				if !strings.Contains(stdout.String(), "unexpected: expected status 401, found 200") {
					t.Errorf("the outcome is not called unexpected:\n%s", stdout.String())
				}
				return
			}
			var doc struct {
				Passed bool
				Steps  []struct{ OK bool }
			}
			if err := json.Unmarshal(stdout.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			var good []bool
			for _, s := range doc.Steps {
				good = append(good, s.OK)
			}
			if doc.Passed || len(good) != 10 || good[3] || good[5] || !good[0] {
				t.Errorf("passed %v, steps %v", doc.Passed, good)
			}
		})
	}
}

func TestDevPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	ports := []string{"--port", "0", "--mtls-port", "0", "--api-port", "0"}
	for i := 0; i < len(ports); i += 2 {
		t.Run(ports[i], func(t *testing.T) {
			args := append([]string{"dev", "--dir", filepath.Join(t.TempDir(), "d")}, ports...)
			args[3+i+1] = port
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), args, nil, &stdout, &stderr); code != exitRefused {
				t.Errorf("exit code %d", code)
			}
			for _, want := range []string{port, "in use", ports[i]} {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr does not say %q: %s", want, stderr.String())
				}
			}
			if strings.Contains(stderr.String(), "level=INFO") {
				t.Errorf("noise: %s", stderr.String())
			}
		})
	}
}

// Colour is for terminals only.
func TestNoColourInPipe(t *testing.T) {
	var stdout bytes.Buffer
	if code := run(t.Context(), []string{"inspect", "-"}, bytes.NewReader(pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=x"}).CertPEM()), &stdout, io.Discard); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	if strings.Contains(stdout.String(), "\x1b") {
		t.Errorf("escape sequences in %q", stdout.String())
	}
}

// SIGHUP reads certificates and trust anchors again; what is broken stays as it was, and
// the log says so. SIGTERM ends the server in order.
func TestServeSignals(t *testing.T) {
	dir := t.TempDir()
	folder, err := openDevFolder(filepath.Join(dir, "d"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := writePrivate(folder.path("certbound.yaml"), []byte(`
issuer: https://localhost
listen:
  public: {address: "127.0.0.1:0", certificate: server.pem, key: server-key.pem}
  mtls: {address: "127.0.0.1:0", url: "https://mtls.localhost"}
  admin: {address: ""}
trust: {sets: [{name: dev, anchors: [client-ca.pem]}]}
tokens: {resources: ["https://api.localhost"]}
log: {format: json}
`)); err != nil {
		t.Fatal(err)
	}
	log := &lineBuffer{lines: make(chan string, 1000)}
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"serve", "--config", folder.path("certbound.yaml")}, nil, io.Discard, log)
	}()
	log.wait(t, `"msg":"serving"`)
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGHUP)
	log.wait(t, "certificates and trust anchors were read again")
	if err := os.WriteFile(folder.path("client-ca.pem"), []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	signal(syscall.SIGHUP)
	log.wait(t, "what is broken stays as it was")
	signal(syscall.SIGTERM)
	log.wait(t, `"msg":"stopped"`)
	if got := <-code; got != exitDone {
		t.Errorf("exit code %d", got)
	}
}

// A lineBuffer hands out what is written, line by line.
type lineBuffer struct {
	rest  []byte
	lines chan string
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.rest = append(b.rest, p...)
	for {
		line, rest, ok := bytes.Cut(b.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		b.lines <- string(line)
		b.rest = rest
	}
}

func (b *lineBuffer) wait(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	var seen []string
	for {
		select {
		case line := <-b.lines:
			if strings.Contains(line, text) {
				return
			}
			seen = append(seen, line)
		case <-timeout:
			t.Fatalf("no line with %q in\n%s", text, strings.Join(seen, "\n"))
		}
	}
}
