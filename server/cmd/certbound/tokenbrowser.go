package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/oauthclient"
)

// browserFlags are those of the flow with a person in it.
type browserFlags struct {
	on, public, noOpen bool
	port               int
	path, session      string
}

const browserTimeout = 5 * time.Minute

func (f *browserFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.BoolVar(&f.on, "browser", false, "log in with the browser: a token for a person")
	fs.BoolVar(&f.public, "public", false, "the client has no credentials: --cert and --key are its own self-signed certificate, made if they are not there;\nwithout them there is one for this run")
	fs.BoolVar(&f.noOpen, "no-open", false, "print the URL, and open no browser")
	fs.IntVar(&f.port, "port", 0, "local port that the browser comes back to; 0 takes a free one")
	fs.StringVar(&f.path, "redirect-path", "/callback", "`PATH` of the registered redirect URI http://127.0.0.1/callback")
	fs.StringVar(&f.session, "session-file", "", "`FILE` that keeps the tokens, so that the next time needs no browser")
}

// check wants a command line that makes sense.
func (f *browserFlags) check(cmd *cobra.Command, t tokenFlags) error {
	cert, key := t.cert, t.key
	if !f.on {
		for _, name := range []string{"public", "no-open", "port", "redirect-path", "session-file"} {
			if cmd.Flags().Changed(name) {
				return usagef(cmd, "--%s: only with --browser", name)
			}
		}
		return nil
	}
	switch {
	case (cert == "") != (key == ""):
		return usagef(cmd, "--cert and --key: expected both, found one")
	case cert == "" && !f.public:
		return usagef(cmd, "--cert and --key are missing; a client without credentials needs --public")
	case f.public && t.secret != "":
		return usagef(cmd, "--public and --secret-file: a client with a secret is not public")
	case cert == "" && f.session != "":
		return usagef(cmd, "--session-file: needs --cert and --key: what is kept is bound to the certificate, and this one is for this run only")
	case f.port < 0 || f.port > 65535:
		return usagef(cmd, "--port: %d is not a port", f.port)
	case !strings.HasPrefix(f.path, "/") || strings.ContainsAny(f.path, "?# "):
		return usagef(cmd, "--redirect-path: expected a path such as /callback, found %q", f.path)
	}
	return nil
}

// ownCertificate returns the certificate of a client without credentials. One that is not
// there yet is made, and kept if it has files.
func ownCertificate(cert, key string) (tls.Certificate, error) {
	if cert == "" {
		return oauthclient.GenerateSelfSigned(24 * time.Hour)
	}
	_, certErr := os.Stat(cert)
	_, keyErr := os.Stat(key)
	if !errors.Is(certErr, fs.ErrNotExist) || !errors.Is(keyErr, fs.ErrNotExist) {
		if _, err := checkKeyPair(cert, key); err != nil {
			return tls.Certificate{}, err
		}
		return tls.LoadX509KeyPair(cert, key)
	}
	pair, err := oauthclient.GenerateSelfSigned(0)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := writePrivate(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return tls.Certificate{}, err
	}
	return pair, writePrivate(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
}

// personAnswer is the answer of the command as JSON, for a person.
type personAnswer struct {
	tokenAnswer
	RefreshToken string          `json:"refresh_token,omitempty"`
	Claims       json.RawMessage `json:"id_token_claims,omitempty"`
}

// personToken gets a token for a person: from the session that was kept, or by the browser.
func (a *app) personToken(ctx context.Context, cfg oauthclient.Config, f tokenFlags) error {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(f.browser.port))
	// A loopback address by number: a name could lead elsewhere (RFC 8252, Section 8.3).
	l, err := net.Listen("tcp", address)
	if err != nil {
		return hinted(fmt.Errorf("port %d for the browser to come back to: %w", f.browser.port, errors.Unwrap(err)), "take another one with --port, or 0 for a free one")
	}
	defer l.Close()
	cfg.RedirectURI = "http://" + l.Addr().String() + f.browser.path
	client, err := oauthclient.New(cfg)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	save := func(context.Context, *oauthclient.SessionState) error { return nil }
	if f.browser.session != "" {
		save = func(_ context.Context, state *oauthclient.SessionState) error {
			return keepSession(f.browser.session, state)
		}
	}
	s, err := a.resume(ctx, client, f.browser.session, save)
	if err != nil {
		return err
	}
	if s == nil {
		if s, err = a.login(ctx, client, l, f, save); err != nil {
			return explainPersonError(err, f)
		}
	}
	t, err := s.TokenSource(ctx).Token()
	if err != nil {
		return explainPersonError(err, f)
	}
	if !f.json {
		_, err := fmt.Fprintln(a.stdout, t.AccessToken)
		return err
	}
	state := s.State()
	answer := personAnswer{
		tokenAnswer:  tokenAnswer{AccessToken: t.AccessToken, TokenType: t.Type(), Expires: t.Expiry.UTC(), Scope: strings.Join(s.Scopes(), " ")},
		RefreshToken: state.RefreshToken,
	}
	if id := s.IDToken(); id != nil {
		answer.Claims = id.Claims
	}
	if r, err := reportToken(t.AccessToken); err == nil && r.CNF != nil {
		answer.Bound = r.CNF.X5TS256
	}
	if answer.Endpoint, err = client.Endpoint(ctx, oauthclient.TokenEndpoint); err != nil {
		return err
	}
	return a.printJSON(answer)
}

// resume returns the session of a file if it still works, or nil.
func (a *app) resume(ctx context.Context, c *oauthclient.Client, file string, save oauthclient.SaveFunc) (*oauthclient.Session, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError(err)
	}
	var state oauthclient.SessionState
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, hinted(fmt.Errorf("%s: not a file of --session-file", file), "name another file, or remove this one")
	}
	s, err := c.Resume(state, save)
	if err == nil {
		_, err = s.TokenSource(ctx).Token()
	}
	if errors.Is(err, oauthclient.ErrLoginRequired) {
		return nil, nil
	}
	return s, err
}

func keepSession(file string, state *oauthclient.SessionState) error {
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(file, append(data, '\n'))
}

// errNobody says that nobody came back.
var errNobody = errors.New("nobody has come back from the login")

// login sends the person's browser out and waits for it.
func (a *app) login(ctx context.Context, c *oauthclient.Client, l net.Listener, f tokenFlags, save oauthclient.SaveFunc) (*oauthclient.Session, error) {
	p, err := c.Authorize(ctx, oauthclient.AuthorizationParams{})
	if err != nil {
		return nil, err
	}
	answers, outcome := make(chan url.Values, 1), make(chan error, 1)
	srv := &http.Server{
		Handler: backHandler(f.browser.path, p.State, answers, outcome), ReadTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		MaxHeaderBytes: 32 << 10, ErrorLog: nil,
	}
	go func() { _ = srv.Serve(l) }() // ends with Shutdown
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx) // after the last page
	}()
	opened := !f.browser.noOpen && openBrowser(p.URL)
	if opened {
		fmt.Fprintf(a.stderr, "Log in with the browser that opens. If none does, open this URL:\n%s\n", p.URL)
	} else {
		fmt.Fprintf(a.stderr, "Open this URL in a browser on this machine:\n%s\n", p.URL)
	}
	select {
	case answer := <-answers:
		s, err := c.Exchange(ctx, p, answer, save)
		outcome <- err
		return s, err
	case <-ctx.Done():
		return nil, errors.Join(errNobody, ctx.Err())
	}
}

// backHandler takes the browser when it comes back, once, and shows how it ended. What is
// not the answer to this request is not taken for it: every page in the browser can call
// a local port.
func backHandler(path, state string, answers chan<- url.Values, outcome <-chan error) http.Handler {
	page := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Certbound</title>\n<p>%s</p>\n", text)
	}
	taken := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		switch {
		case r.Method != http.MethodGet || r.URL.Path != path:
			page(w, http.StatusNotFound, "There is nothing here.")
			return
		case err != nil || len(query["state"]) != 1 || query.Get("state") != state:
			page(w, http.StatusBadRequest, "This is not the answer to the login that the terminal waits for.")
			return
		}
		select {
		case taken <- struct{}{}:
		default:
			page(w, http.StatusConflict, "This login has ended already. You can close this window.")
			return
		}
		answers <- query
		select {
		case err := <-outcome:
			if err != nil {
				page(w, http.StatusOK, "It did not work. The terminal says why. You can close this window.")
				return
			}
			page(w, http.StatusOK, "You are logged in. You can close this window.")
		case <-r.Context().Done():
		}
	})
}

// openBrowser opens a URL, which is https, if there is something to open it with.
func openBrowser(to string) bool {
	program := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		program = []string{"open"}
	case "windows":
		program = []string{"rundll32", "url.dll,FileProtocolHandler"}
	default: // on a terminal alone, xdg-open would take the terminal
		if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
			return false
		}
	}
	cmd := exec.Command(program[0], append(program[1:], to)...)
	if cmd.Start() != nil {
		return false
	}
	go func() { _ = cmd.Wait() }() // its end says nothing about the login
	return true
}

// explainPersonError adds what the caller can do.
func explainPersonError(err error, f tokenFlags) error {
	redirect := "http://127.0.0.1" + f.browser.path
	if e, ok := errors.AsType[*oauthclient.AuthorizationError](err); ok {
		switch e.Code {
		case "access_denied":
			return hinted(err, "the login or the consent was refused in the browser")
		case "invalid_scope", "invalid_target":
			return hinted(err, "ask for what the client is registered for, with --scope and --resource")
		}
		return err
	}
	if errors.Is(err, errNobody) {
		return hinted(errNobody, "the page in the browser says what is wrong; --timeout waits longer, and the client needs the redirect URI %s", redirect)
	}
	if e, ok := errors.AsType[*oauthclient.Error](err); ok && e.Endpoint == oauthclient.PushedAuthorizationRequestEndpoint && e.Code != "invalid_client" {
		return hinted(err, "the client needs the grant type authorization_code, the redirect URI %s (any port counts), and the scopes that are asked for", redirect)
	}
	if errors.Is(err, oauthclient.ErrResponseIssuer) {
		return hinted(err, "the answer was not from this issuer, and nothing of it was sent; begin again")
	}
	return err
}
