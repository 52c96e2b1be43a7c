package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

const callback = "https://app.test/callback"

// peopleFolder is a folder of a server where ann can log in, and two clients that act for
// her: f-app with L1, held to FAPI 2.0, and p-app, which is public.
func peopleFolder(t *testing.T) (dir, password string) {
	t.Helper()
	dir = folder(t, settings{
		scopes: "read, write, admin, openid, profile",
		more:   "people: {enabled: true, login: accounts, refresh_tokens: {rotate_all: true}}\n",
		clients: `  - client_id: f-app
    token_endpoint_auth_method: tls_client_auth
    tls_client_auth_subject_dn: ` + fixture.SubjectDN + `
    profile: fapi2
    redirect_uris: ["` + callback + `"]
    grant_types: [authorization_code, refresh_token]
    scope: openid profile read
  - client_id: p-app
    token_endpoint_auth_method: none
    redirect_uris: ["` + callback + `"]
    grant_types: [authorization_code, refresh_token]
    scope: openid profile read
`})
	var added struct{ Password string }
	out := must(t, dir, "user", "add", "ann", "--generate", "--full-name", "Ann Example", "--json")
	if err := json.Unmarshal([]byte(out), &added); err != nil || added.Password == "" {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir, remember("a password", added.Password)
}

var (
	formTag = regexp.MustCompile(`<form id="([a-z]+)" method="post" action="([^"]*)"`)
	csrfTag = regexp.MustCompile(`<input type="hidden" name="csrf" value="([^"]*)"`)
)

// browse is ann at a browser of her own: she opens a URL, logs in and allows what is asked
// for. It returns where the browser is sent in the end.
func browse(t *testing.T, w *world, password, to string) *url.URL {
	t.Helper()
	c := w.as(t, nil)
	c.Jar, _ = cookiejar.New(nil)
	method, body := http.MethodGet, ""
	for range 12 {
		req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		r := fixture.Do(t, c, req)
		method, body = http.MethodGet, ""
		if at := r.Header.Get("Location"); at != "" {
			next, err := req.URL.Parse(at)
			if err != nil {
				t.Fatal(err)
			}
			if next.Host != publicHost {
				remember("a code", next.Query().Get("code"))
				return next
			}
			to = next.String()
			continue
		}
		form, csrf := formTag.FindStringSubmatch(r.Text), csrfTag.FindStringSubmatch(r.Text)
		if form == nil || csrf == nil {
			t.Fatalf("no form at %s: %d %s", to, r.Status, r.Text)
		}
		fields := map[string]url.Values{"login": {"name": {"ann"}, "password": {password}}, "consent": {"decision": {"allow"}}}[form[1]]
		if fields == nil || r.Status != http.StatusOK {
			t.Fatalf("the form %q at %s: %d %s", form[1], to, r.Status, r.Text)
		}
		fields.Set("csrf", html.UnescapeString(csrf[1]))
		next, err := req.URL.Parse(html.UnescapeString(form[2]))
		if err != nil {
			t.Fatal(err)
		}
		method, to, body = http.MethodPost, next.String(), fields.Encode()
	}
	t.Fatal("the server redirects without an end")
	return nil
}

// kinds are the two clients: who they are, and what a thief has in place of it.
type kind struct {
	name, id    string
	own, thief  *pkitest.Leaf
	public      bool
	thiefWants  string // the error at the token endpoint
	rotates     bool
	requirement string
}

func kinds() []kind {
	c := fixture.Certs()
	return []kind{
		{name: "FAPI 2.0, tls_client_auth", id: "f-app", own: c.L1, thief: c.L2, thiefWants: "invalid_client",
			requirement: "P-2-1 M-5-5 M-3-1"},
		{name: "public, self-signed", id: "p-app", own: c.S1, thief: c.S2, public: true, thiefWants: "invalid_grant", rotates: true,
			requirement: "M-4-1 M-4-5 M-4-6 M-4-7"},
	}
}

// The npm package openid-client against the real binary: pushed request, PKCE, code, ID
// token, UserInfo, refresh, revocation, all direct requests over mutual TLS at the aliases.
func TestIndependentOpenIDClient(t *testing.T) {
	installed, err := exec.CommandContext(t.Context(), "openid-client/install.sh").Output()
	if err != nil {
		t.Fatalf("this test needs node and npm; scripts/deps.sh installs what is needed: %v", err)
	}
	dir, password := peopleFolder(t)
	w := newWorld(serve(t, dir))
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Attr("requirement", k.requirement)
			app := startNode(t, map[string]any{
				"folder": strings.TrimSpace(string(installed)), "issuer": fixture.Issuer, "clientId": k.id, "public": k.public, "redirectUri": callback,
				"ca": string(w.ServerCA.CertPEM()), "hosts": map[string]string{publicHost: w.public, mtlsHost: w.mtls},
				"own": pemPair(k.own), "thief": pemPair(k.thief),
			})
			var start struct{ URL string }
			app.read(&start)
			app.write(browse(t, w, password, start.URL).String())
			var got struct {
				Claims, Person, Again                      map[string]any
				ThiefRefresh, ThiefUserInfo                string
				AccessToken, RefreshToken, Refreshed, Next string
			}
			app.read(&got)
			for _, secret := range []string{got.AccessToken, got.RefreshToken, got.Refreshed, got.Next} {
				remember("a token", secret)
			}
			if got.Claims["iss"] != fixture.Issuer || got.Claims["aud"] != k.id || got.Claims["sub"] == "" {
				t.Errorf("ID token %v", got.Claims)
			}
			if got.Person["sub"] != got.Claims["sub"] || got.Person["name"] != "Ann Example" || got.Again["sub"] != got.Claims["sub"] {
				t.Errorf("UserInfo %v, then %v", got.Person, got.Again)
			}
			if got.ThiefRefresh != k.thiefWants || got.ThiefUserInfo != "invalid_token" {
				t.Errorf("the thief's refresh: %s, UserInfo: %s; want %s and invalid_token", got.ThiefRefresh, got.ThiefUserInfo, k.thiefWants)
			}
			if rotated := got.Next != "" && got.Next != got.RefreshToken; rotated != k.rotates {
				t.Errorf("another refresh token: %v, want %v", rotated, k.rotates)
			}
			for what, token := range map[string]string{"first": got.AccessToken, "refreshed": got.Refreshed} {
				if r := w.api(t, w.as(t, k.own), rsHost, token); r.Status != 200 {
					t.Errorf("the %s token at the API: %d %s", what, r.Status, r.Text)
				}
				if r := w.api(t, w.as(t, k.thief), rsHost, token); r.Status != 401 {
					t.Errorf("the %s token with another certificate at the API: %d", what, r.Status)
				}
			}
			app.write("go on")
			var end struct{ AfterRevocation string }
			if app.read(&end); end.AfterRevocation != "invalid_grant" {
				t.Errorf("a refresh after revocation: %s", end.AfterRevocation)
			}
		})
	}
}

func pemPair(l *pkitest.Leaf) map[string]string {
	rememberKey(l)
	return map[string]string{"cert": string(l.ChainPEM()), "key": string(l.KeyPEM())}
}

// A nodeApp is a running openid-client/client.mjs.
type nodeApp struct {
	t      *testing.T
	stdin  io.Writer
	stdout *bufio.Reader
	stderr *bytes.Buffer
}

func startNode(t *testing.T, settings map[string]any) *nodeApp {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "openid-client/client.mjs")
	cmd.Env = append(os.Environ(), "NODE_OPTIONS=")
	app := &nodeApp{t: t, stderr: &bytes.Buffer{}}
	cmd.Stderr = app.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	app.stdin, app.stdout = stdin, bufio.NewReader(stdout)
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // killed with the test if it has not ended
	})
	data, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	app.write(string(data))
	return app
}

func (a *nodeApp) write(line string) {
	a.t.Helper()
	if _, err := io.WriteString(a.stdin, line+"\n"); err != nil {
		a.t.Fatalf("openid-client has ended: %v", err)
	}
}

func (a *nodeApp) read(into any) {
	a.t.Helper()
	line, err := a.stdout.ReadBytes('\n')
	if err != nil {
		a.t.Fatalf("openid-client has ended: %v\n%s", err, a.stderr)
	}
	if err := json.Unmarshal(line, into); err != nil {
		a.t.Fatalf("%v: %s", err, line)
	}
}

// golang.org/x/oauth2 against the real binary. It knows nothing of pushed requests, which
// its HTTP client makes by hand, nor of aliases, which are its endpoints here.
func TestIndependentOAuth2Client(t *testing.T) {
	dir, password := peopleFolder(t)
	w := newWorld(serve(t, dir))
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Attr("requirement", k.requirement)
			own := context.WithValue(t.Context(), oauth2.HTTPClient, w.as(t, k.own))
			thief := context.WithValue(t.Context(), oauth2.HTTPClient, w.as(t, k.thief))
			conf := &oauth2.Config{
				ClientID: k.id, RedirectURL: callback, Scopes: []string{"openid", "profile", "read"},
				Endpoint: oauth2.Endpoint{AuthURL: fixture.Issuer + "/authorize", TokenURL: fixture.MTLSBase + "/token", AuthStyle: oauth2.AuthStyleInParams},
			}
			verifier := oauth2.GenerateVerifier()
			full, err := url.Parse(conf.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", "the-nonce")))
			if err != nil {
				t.Fatal(err)
			}
			var pairs []string
			for name, values := range full.Query() {
				pairs = append(pairs, name, values[0])
			}
			pushed := w.post(t, w.as(t, k.own), "/par", pairs...)
			uri, _ := pushed.JSON["request_uri"].(string)
			if pushed.Status != 201 || uri == "" {
				t.Fatalf("%d %s", pushed.Status, pushed.Text)
			}
			answer := browse(t, w, password, conf.Endpoint.AuthURL+"?"+url.Values{"client_id": {k.id}, "request_uri": {uri}}.Encode()).Query()
			if answer.Get("iss") != fixture.Issuer || answer.Get("state") != "the-state" {
				t.Fatalf("answer %v", answer)
			}
			token, err := conf.Exchange(own, answer.Get("code"), oauth2.VerifierOption(verifier))
			if err != nil {
				t.Fatal(err)
			}
			remember("a token", token.AccessToken)
			remember("a token", token.RefreshToken)
			id, _ := token.Extra("id_token").(string)
			if claims := fixture.Claims(id); claims["nonce"] != "the-nonce" || claims["aud"] != k.id {
				t.Errorf("ID token %v", claims)
			}
			// Everything that the thief has but the certificate.
			stale := &oauth2.Token{RefreshToken: token.RefreshToken}
			_, err = conf.TokenSource(thief, stale).Token()
			if e, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || e.ErrorCode != k.thiefWants {
				t.Errorf("the thief's refresh: %v, want %s", err, k.thiefWants)
			}
			fresh, err := conf.TokenSource(own, stale).Token()
			if err != nil {
				t.Fatal(err)
			}
			remember("a token", fresh.AccessToken)
			remember("a token", fresh.RefreshToken)
			if rotated := fresh.RefreshToken != token.RefreshToken; rotated != k.rotates {
				t.Errorf("another refresh token: %v, want %v", rotated, k.rotates)
			}
			userinfo := func(ctx context.Context) (int, string) {
				t.Helper()
				resp, err := conf.Client(ctx, fresh).Get(fixture.MTLSBase + "/userinfo")
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
			if status, body := userinfo(own); status != 200 || !strings.Contains(body, "Ann Example") {
				t.Errorf("UserInfo: %d %s", status, body)
			}
			if status, body := userinfo(thief); status != 401 || strings.Contains(body, "Ann") {
				t.Errorf("UserInfo with another certificate: %d %s", status, body)
			}
			if r := w.api(t, w.as(t, k.own), rsHost, fresh.AccessToken); r.Status != 200 {
				t.Errorf("the token at the API: %d %s", r.Status, r.Text)
			}
		})
	}
}
