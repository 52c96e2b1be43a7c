// Package people tests the flows with a person in them where several processes share one
// database, and where one of them is killed.
package people

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/store/sqlite"
)

// childEnv names the folder of the database for a test binary that is a server.
const childEnv = "CERTBOUND_TEST_PEOPLE_FOLDER"

const (
	issuer   = "https://as.test"
	resource = "https://rs.test"
	redirect = "https://app.example/callback"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

func open(ctx context.Context, dir string) (*sqlite.Store, error) {
	return sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "certbound.db"), Logger: slog.New(slog.DiscardHandler)})
}

type noLogin struct{}

func (noLogin) ServeLogin(w http.ResponseWriter, _ *http.Request, _ *authserver.LoginAttempt) {
	w.WriteHeader(http.StatusTeapot)
}

// serve is the child: a server on the database of the folder, until stdin ends.
func serve(dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, err := open(ctx, dir)
	if err != nil {
		return err
	}
	defer store.Close()
	s, err := authserver.New(authserver.Config{
		Issuer: issuer, Store: store, Source: certsource.TLS{}, AuthMethods: []string{authserver.None},
		MTLS:          authserver.MTLSFeature{Enabled: true, CertificateBoundAccessTokens: true},
		Authorization: authserver.Authorization{Enabled: true, Login: noLogin{}, Refresh: authserver.RefreshPolicy{RotateAll: true, Grace: -1}},
		Scopes:        []string{"openid"}, Resources: []string{resource}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	leaf, err := pkitest.SelfSigned(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{"as.test"}, Server: true})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.MTLSHandler(), ConnContext: certsource.ConnContext, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}}
	failed := make(chan error, 2)
	go func() { failed <- srv.ServeTLS(ln, "", "") }()
	go func() { failed <- s.Run(ctx) }()
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- errors.Join(err, srv.Close())
	}()
	fmt.Println(ln.Addr(), base64.StdEncoding.EncodeToString(leaf.Cert.Raw))
	if err := <-failed; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A process is a child.
type process struct {
	cmd    *exec.Cmd
	client *http.Client
}

func start(t *testing.T, dir string, leaf *pkitest.Leaf) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), childEnv+"="+dir), os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = p.cmd.Wait() }) // or it was killed
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the server does not start: %v", err)
	}
	address, encoded, _ := strings.Cut(strings.TrimSpace(line), " ")
	der, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	cert := leaf.TLS()
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }},
	}
	t.Cleanup(tr.CloseIdleConnections)
	p.client = &http.Client{Transport: tr, Timeout: time.Minute}
	return p
}

// kill ends the process as a power cut would, for all that the process can do about it.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // killed
}

type answer struct {
	Status  int
	Error   string `json:"error"`
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Subject string `json:"sub"`
}

func (p *process) do(req *http.Request) (*answer, error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{Status: resp.StatusCode}
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("%d %q: %w", resp.StatusCode, body, err)
	}
	return a, nil
}

func (p *process) token(ctx context.Context, form url.Values) (*answer, error) {
	form.Set("client_id", "app")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.do(req)
}

func (p *process) redeem(ctx context.Context, c code) (*answer, error) {
	return p.token(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {c.value}, "code_verifier": {c.verifier}, "redirect_uri": {redirect}})
}

func (p *process) refresh(ctx context.Context, token string) (*answer, error) {
	return p.token(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func (p *process) userinfo(ctx context.Context, token string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/userinfo", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return p.do(req)
}

// want wants an answer with a status and, unless it is 200, an error code.
func want(t *testing.T, status int, code string) func(*answer, error) *answer {
	return func(a *answer, err error) *answer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != status || a.Error != code {
			t.Fatalf("expected %d %s, found %d %s", status, code, a.Status, a.Error)
		}
		return a
	}
}

// A code is one that a person has allowed the client app.
type code struct{ value, verifier string }

func random() string {
	var r [32]byte
	rand.Read(r[:])
	return base64.RawURLEncoding.EncodeToString(r[:])
}

// allow does what the authorization endpoint does when a person has agreed.
func allow(ctx context.Context, store authserver.GrantStore) (code, error) {
	c := code{"cbc_" + random(), random()}
	now := time.Now()
	r := &authserver.AuthorizationRequest{Hash: sha256.Sum256([]byte(random())), ClientID: "app", Created: now, Expires: now.Add(time.Minute)}
	if err := store.SaveRequest(ctx, r); err != nil {
		return c, err
	}
	r, err := store.Request(ctx, r.Hash)
	if err != nil {
		return c, err
	}
	sum := sha256.Sum256([]byte(c.verifier))
	g := &authserver.Grant{ID: random(), ClientID: "app", Subject: "alice", Scope: "openid", Resources: []string{resource}, AuthTime: now, Created: now, Expires: now.Add(time.Hour)}
	return c, store.Authorize(ctx, r, g, &authserver.Code{
		Hash: sha256.Sum256([]byte(c.value)), GrantID: g.ID, ClientID: "app", RedirectURI: redirect, RedirectURISent: true,
		Challenge: base64.RawURLEncoding.EncodeToString(sum[:]), Expires: now.Add(time.Minute),
	}, nil)
}

// bench is a database with the client app.
func bench(t *testing.T) (dir string, store *sqlite.Store, leaf *pkitest.Leaf) {
	t.Helper()
	dir = t.TempDir()
	store, err := open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	err = store.CreateClient(t.Context(), &authserver.Client{ID: "app", AuthMethod: authserver.None, Scope: "openid", BoundTokens: true,
		RedirectURIs: []string{redirect}, GrantTypes: []string{authserver.GrantAuthorizationCode, authserver.GrantRefreshToken}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, store, pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=app"})
}

// The thief and the owner redeem one code at the same time, each at another process of the
// server. One of them at most gets tokens, and they end at both when the other comes.
func TestAttackCodeReuseAtTwoProcesses(t *testing.T) {
	dir, store, leaf := bench(t)
	both := []*process{start(t, dir, leaf), start(t, dir, leaf)}
	ctx := t.Context()
	allowed := func() code {
		t.Helper()
		c, err := allow(ctx, store)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ended := func(a *answer) {
		t.Helper()
		for _, p := range both {
			want(t, 400, "invalid_grant")(p.refresh(ctx, a.Refresh))
			want(t, 401, "invalid_token")(p.userinfo(ctx, a.Access))
		}
	}
	t.Run("one after the other", func(t *testing.T) {
		c := allowed()
		first := want(t, 200, "")(both[0].redeem(ctx, c))
		if got := want(t, 200, "")(both[1].userinfo(ctx, first.Access)); got.Subject != "alice" {
			t.Errorf("sub is %q", got.Subject)
		}
		want(t, 400, "invalid_grant")(both[1].redeem(ctx, c))
		ended(first)
	})
	t.Run("at the same time", func(t *testing.T) {
		for range 10 {
			c := allowed()
			answers := make([]*answer, 8)
			errs := make([]error, len(answers))
			var wg sync.WaitGroup
			for i := range answers {
				wg.Go(func() { answers[i], errs[i] = both[i%2].redeem(ctx, c) })
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			var won *answer
			for _, a := range answers {
				if a.Status != 200 {
					want(t, 400, "invalid_grant")(a, nil)
					continue
				}
				if won != nil {
					t.Fatal("two got tokens for one code")
				}
				won = a
			}
			if won == nil {
				t.Fatal("nobody got tokens")
			}
			ended(won)
		}
	})
	t.Run("a refresh token", func(t *testing.T) {
		first := want(t, 200, "")(both[0].redeem(ctx, allowed()))
		second := want(t, 200, "")(both[0].refresh(ctx, first.Refresh))
		if second.Refresh == "" || second.Refresh == first.Refresh {
			t.Fatal("not rotated")
		}
		want(t, 400, "invalid_grant")(both[1].refresh(ctx, first.Refresh)) // after the grace time, which is none
		ended(second)
	})
}

// A process is killed while codes are redeemed. What it has acknowledged is there after
// it, and nothing is accepted a second time.
func TestKillWhileCodesAreRedeemed(t *testing.T) {
	dir, store, leaf := bench(t)
	ctx := t.Context()
	type redeemed struct {
		c code
		a *answer
	}
	for range 3 {
		p := start(t, dir, leaf)
		var mu sync.Mutex
		var done []redeemed
		enough := make(chan struct{})
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for {
					c, err := allow(ctx, store)
					if err != nil {
						t.Error(err)
						return
					}
					a, err := p.redeem(ctx, c)
					if err != nil {
						return // it was killed
					}
					mu.Lock()
					done = append(done, redeemed{c, a})
					if len(done) == 40 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		select {
		case <-enough:
		case <-time.After(5 * time.Minute):
			t.Error("too slow")
		}
		p.kill(t)
		wg.Wait()
		again := start(t, dir, leaf)
		for _, r := range done {
			want(t, 200, "")(r.a, nil)
			if got := certbound.Thumbprint(leaf.Cert); boundTo(r.a.Access) != got {
				t.Errorf("bound to %s, want %s", boundTo(r.a.Access), got)
			}
			next := want(t, 200, "")(again.refresh(ctx, r.a.Refresh))
			want(t, 400, "invalid_grant")(again.redeem(ctx, r.c))
			want(t, 400, "invalid_grant")(again.refresh(ctx, next.Refresh))
		}
		t.Logf("%d codes redeemed before the end", len(done))
	}
}

func boundTo(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Cnf certbound.Confirmation `json:"cnf"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Cnf.X5TS256
}
