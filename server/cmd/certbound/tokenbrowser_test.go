package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

// A personLogin is 'certbound token --browser' that waits for its browser.
type personLogin struct {
	stdout *bytes.Buffer
	stderr *strings.Builder
	url    string
	code   chan int
}

// startLogin runs the command until it has printed the URL.
func startLogin(t *testing.T, args ...string) *personLogin {
	t.Helper()
	l := &personLogin{stdout: &bytes.Buffer{}, stderr: &strings.Builder{}, code: make(chan int, 1)}
	r, w := io.Pipe()
	go func() {
		code := run(t.Context(), append([]string{"token", "--browser", "--no-open"}, args...), nil, l.stdout, w)
		w.Close()
		l.code <- code
	}()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "https://") {
			l.url = lines.Text()
			break
		}
		l.stderr.WriteString(lines.Text() + "\n")
	}
	rest := make(chan struct{})
	go func() {
		for lines.Scan() {
			l.stderr.WriteString(lines.Text() + "\n")
		}
		close(rest)
	}()
	t.Cleanup(func() { <-rest })
	return l
}

// end waits for the command.
func (l *personLogin) end(t *testing.T, want int) {
	t.Helper()
	if got := <-l.code; got != want {
		t.Fatalf("exit code %d, want %d; stdout %q", got, want, l.stdout)
	}
}

// devParts reads where dev serves, from what it has printed, and what is in its folder.
func devParts(t *testing.T, text string) (s *story, password string) {
	t.Helper()
	m := regexp.MustCompile(`authorization server +(https://localhost:\d+)`).FindStringSubmatch(text)
	p := regexp.MustCompile(`password ([A-Z2-7]+)`).FindStringSubmatch(text)
	if m == nil || p == nil {
		t.Fatalf("no issuer and no password in\n%s", text)
	}
	folder := &devFolder{dir: "certbound-dev", serverCA: x509.NewCertPool()}
	ca, err := os.ReadFile(folder.path("server-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	folder.serverCA.AppendCertsFromPEM(ca)
	return &story{folder: folder, issuer: m[1]}, p[1]
}

// A person at a terminal: the flow, the page at its end, a second time without a browser,
// and what goes wrong.
func TestTokenBrowser(t *testing.T) {
	t.Chdir(t.TempDir())
	s, password := devParts(t, startDev(t, "certbound-dev"))
	wallet := []string{"--public", "--issuer", s.issuer, "--ca", "certbound-dev/server-ca.pem", "--client-id", "wallet", "--scope", "openid read", "--timeout", "2m"}
	kept := append([]string{"--cert", "me.pem", "--key", "me-key.pem", "--session-file", "session.json", "--json"}, wallet...)

	// walk is ann at her browser, up to the port that she is sent back to.
	walk := func(t *testing.T, l *personLogin, decision string) url.Values {
		t.Helper()
		b, err := s.newBrowser()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.client.CloseIdleConnections)
		answer, err := b.walk(t.Context(), &step{}, l.url, map[string]url.Values{
			"login":   {"name": {"ann"}, "password": {password}},
			"consent": {"decision": {decision}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if b.back == "" {
			t.Fatal("the browser was sent nowhere")
		}
		answer.Set("back", b.back)
		return answer
	}
	get := func(t *testing.T, back string, query url.Values) (int, string) {
		t.Helper()
		resp, err := http.Get(back + "?" + query.Encode())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	// finish hands the answer to the port.
	finish := func(t *testing.T, answer url.Values, change func(url.Values)) (int, string) {
		t.Helper()
		query := url.Values{}
		for name, values := range answer {
			if name != "back" {
				query[name] = values
			}
		}
		if change != nil {
			change(query)
		}
		return get(t, answer.Get("back"), query)
	}

	t.Run("denied", func(t *testing.T) {
		l := startLogin(t, wallet...)
		if status, page := finish(t, walk(t, l, "deny"), nil); status != 200 || !strings.Contains(page, "It did not work") {
			t.Errorf("%d %s", status, page)
		}
		l.end(t, exitRefused)
		if l.stdout.Len() != 0 {
			t.Errorf("stdout %q", l.stdout)
		}
	})
	t.Run("an answer of another issuer", func(t *testing.T) {
		t.Attr("requirement", "I-2.4-1 G-4.4-1")
		l := startLogin(t, wallet...)
		answer := walk(t, l, "allow")
		if status, _ := finish(t, answer, func(v url.Values) { v.Set("iss", "https://attacker.test") }); status != 200 {
			t.Errorf("status %d", status)
		}
		l.end(t, exitRefused)
	})
	t.Run("the whole way", func(t *testing.T) {
		t.Attr("requirement", "M-4-3")
		l := startLogin(t, kept...)
		answer := walk(t, l, "allow")
		// Another page in the browser finds the port.
		if status, _ := finish(t, answer, func(v url.Values) { v.Set("state", "x") }); status != http.StatusBadRequest {
			t.Errorf("a forged answer: status %d", status)
		}
		if status, page := finish(t, answer, nil); status != 200 || !strings.Contains(page, "You can close this window") {
			t.Errorf("%d %s", status, page)
		}
		l.end(t, exitDone)
		var got struct {
			AccessToken string         `json:"access_token"`
			Refresh     string         `json:"refresh_token"`
			Bound       string         `json:"x5t#S256"`
			Claims      map[string]any `json:"id_token_claims"`
			Scope       string
		}
		if err := json.Unmarshal(l.stdout.Bytes(), &got); err != nil {
			t.Fatalf("%v: %s", err, l.stdout)
		}
		leaf, err := checkKeyPair("me.pem", "me-key.pem")
		if err != nil {
			t.Fatal(err)
		}
		if got.Bound != thumbprint(&devParty{Cert: leaf}) || got.Claims["iss"] != s.issuer || got.Claims["aud"] != "wallet" || got.Refresh == "" || got.Scope != "openid read" {
			t.Errorf("%+v", got)
		}
		for _, name := range []string{"me-key.pem", "session.json"} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
	})
	t.Run("again, without a browser", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"token", "--browser", "--no-open"}, kept...), nil, &stdout, &stderr); code != exitDone {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		if strings.Contains(stderr.String(), "https://") || !strings.Contains(stdout.String(), `"access_token"`) {
			t.Errorf("stdout %s, stderr %s", stdout.String(), stderr.String())
		}
	})
	t.Run("a client without this redirect URI", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		args := append([]string{"token", "--browser", "--no-open", "--redirect-path", "/elsewhere"}, wallet...)
		if code := run(t.Context(), args, nil, &stdout, &stderr); code != exitRefused {
			t.Errorf("exit code %d", code)
		}
		if !strings.Contains(stderr.String(), "hint: ") || !strings.Contains(stderr.String(), "http://127.0.0.1/elsewhere") {
			t.Errorf("stderr %s", stderr.String())
		}
	})
	t.Run("nobody comes back", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		args := append(append([]string{"token", "--browser", "--no-open"}, wallet...), "--timeout", "1s")
		if code := run(t.Context(), args, nil, &stdout, &stderr); code != exitRefused || !strings.Contains(stderr.String(), "--timeout") {
			t.Errorf("exit code %d, stderr %s", code, stderr.String())
		}
	})
	for _, args := range [][]string{
		{"--browser"}, {"--browser", "--public", "--port", "70000"}, {"--browser", "--public", "--redirect-path", "x"}, {"--no-open"},
		{"--browser", "--public", "--session-file", "x"}, {"--browser", "--cert", "x"}, {"--browser", "--public", "--secret-file", "x"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			if code := run(t.Context(), append([]string{"token"}, args...), nil, io.Discard, io.Discard); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
		})
	}
	if _, err := os.Stat("x"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a file was made")
	}
}
