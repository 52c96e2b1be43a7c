package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/oauthclient"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/people/accounts"
)

const (
	// walletRedirect has no port: a loopback address may have any (RFC 8252, Section 7.3).
	walletRedirect = "http://127.0.0.1/callback"
	// devSuite is the file for FAPI test tools.
	devSuite = "fapi-suite.json"
	// accountsPath is the resource that they call.
	accountsPath = "/accounts"
)

// devRedirects are those of the OpenID conformance suite on the same machine, with the
// alias certbound. It gives its second client a query.
var devRedirects = []string{
	"https://localhost.emobix.co.uk:8443/test/a/certbound/callback",
	"https://localhost.emobix.co.uk:8443/test/a/certbound/callback?dummy1=lorem&dummy2=ipsum",
}

func fapiClient(p *devParty, redirects []string) *authserver.Client {
	return &authserver.Client{
		ID: p.name, Name: "FAPI test client " + p.name, AuthMethod: "tls_client_auth", SubjectDN: nameText(p.Cert.RawSubject), Profile: authserver.ProfileFAPI2,
		Scope: "openid profile email accounts", RedirectURIs: redirects,
		GrantTypes: []string{authserver.GrantAuthorizationCode, authserver.GrantRefreshToken},
	}
}

// addPerson makes the account of ann, or puts its password right.
func (d *devFolder) addPerson(ctx context.Context, users accounts.Store, now func() time.Time) error {
	dir := &accounts.Directory{Store: users, Now: now}
	_, err := dir.Add(ctx, "ann", d.password, map[string]json.RawMessage{
		"name": json.RawMessage(`"Ann Example"`), "email": json.RawMessage(`"ann@example.org"`), "email_verified": json.RawMessage(`true`),
	})
	if errors.Is(err, authserver.ErrExists) && d.made { // the password is new, the database is not
		return dir.SetPassword(ctx, "ann", d.password)
	}
	if errors.Is(err, authserver.ErrExists) {
		return nil
	}
	return err
}

// writeSuite writes what a FAPI test tool wants to know, in the form of the OpenID
// conformance suite.
func (d *devFolder) writeSuite(issuer, api string) error {
	type client struct {
		ID    string `json:"client_id"`
		Scope string `json:"scope"`
	}
	type mtls struct {
		Cert string `json:"cert"`
		Key  string `json:"key"`
		CA   string `json:"ca"`
	}
	var files [5]string
	for i, name := range []string{"fapi-1.pem", "fapi-1-key.pem", "fapi-2.pem", "fapi-2-key.pem", "client-ca.pem"} {
		data, err := os.ReadFile(d.path(name))
		if err != nil {
			return fileError(err)
		}
		files[i] = string(data)
	}
	doc, err := json.MarshalIndent(struct {
		Alias       string            `json:"alias"`
		Description string            `json:"description"`
		Server      map[string]string `json:"server"`
		Client      client            `json:"client"`
		MTLS        mtls              `json:"mtls"`
		Client2     client            `json:"client2"`
		MTLS2       mtls              `json:"mtls2"`
		Resource    map[string]string `json:"resource"`
	}{
		Alias: "certbound", Description: "certbound dev",
		Server:   map[string]string{"discoveryUrl": issuer + "/.well-known/openid-configuration"},
		Client:   client{d.fapi1.name, "openid accounts"},
		MTLS:     mtls{files[0], files[1], files[4]},
		Client2:  client{d.fapi2.name, "openid accounts"},
		MTLS2:    mtls{files[2], files[3], files[4]},
		Resource: map[string]string{"resourceUrl": api + accountsPath},
	}, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(d.path(devSuite), append(doc, '\n'))
}

var interactionID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// serveAccounts is a resource of a person. Test tools send an interaction id, and look for
// it in the answer.
func serveAccounts(w http.ResponseWriter, r *http.Request) {
	token, _ := resourceserver.TokenFromContext(r.Context())
	if id := r.Header.Get("X-Fapi-Interaction-Id"); interactionID.MatchString(id) {
		w.Header().Set("X-Fapi-Interaction-Id", id)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{ // a caller who is gone misses nothing
		"client_id": token.ClientID, "sub": token.Subject,
		"accounts": []map[string]string{{"id": "1", "name": "Everyday", "currency": "EUR"}},
	})
}

// tellPerson tells of ann, who lets her wallet act for her, and of a thief.
func (s *story) tellPerson(ctx context.Context, tell func(*step, func(*step))) {
	wallet, mallory := &s.folder.wallet, &s.folder.mallory
	var request *oauthclient.Pending
	var code, refresh string
	tell(&step{Text: "ann logs in, and allows her wallet to read", Want: http.StatusSeeOther}, func(st *step) {
		var err error
		if request, code, err = s.login(ctx, st); err != nil {
			st.Fault = err.Error()
			return
		}
		st.Body = "a code for wallet"
	})
	if request == nil {
		request = &oauthclient.Pending{} // the next step fails and says why
	}
	tell(&step{Text: "wallet has no secret, but its own certificate", Want: 200, Bound: thumbprint(wallet)}, func(st *step) {
		_, refresh = s.token(ctx, st, wallet, url.Values{"grant_type": {"authorization_code"}, "client_id": {"wallet"}, "code": {code},
			"redirect_uri": {walletRedirect}, "code_verifier": {request.Verifier}})
	})
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"wallet"}, "refresh_token": {refresh}}
	tell(&step{Text: "wallet refreshes with the same certificate", Want: 200, Bound: thumbprint(wallet)}, func(st *step) {
		s.token(ctx, st, wallet, form)
	})
	tell(&step{Text: "mallory has stolen the refresh token", Want: 400, WantError: "invalid_grant"}, func(st *step) {
		s.token(ctx, st, mallory, form)
	})
}

// login is ann at her browser: she opens the request of her wallet, logs in and allows it.
// It returns the code that the browser brings back.
func (s *story) login(ctx context.Context, st *step) (*oauthclient.Pending, string, error) {
	st.Certificate, st.Request = "none", "GET /authorize"
	c, err := oauthclient.New(oauthclient.Config{
		Issuer: s.issuer, ClientID: "wallet", AuthMethod: oauthclient.None, Certificate: oauthclient.Static(s.folder.wallet.pair),
		RedirectURI: walletRedirect, Scopes: []string{"openid", "read"}, RequireBoundTokens: true,
		RootCAs: s.folder.serverCA, DialContext: loopbackDial,
	})
	if err != nil {
		return nil, "", err
	}
	defer c.CloseIdleConnections()
	request, err := c.Authorize(ctx, oauthclient.AuthorizationParams{})
	if err != nil {
		return nil, "", err
	}
	b, err := s.newBrowser()
	if err != nil {
		return nil, "", err
	}
	defer b.client.CloseIdleConnections()
	answer, err := b.walk(ctx, st, request.URL, map[string]url.Values{
		"login":   {"name": {"ann"}, "password": {s.folder.password}},
		"consent": {"decision": {"allow"}},
	})
	if err != nil {
		return nil, "", err
	}
	if iss := answer.Get("iss"); iss != s.issuer {
		return nil, "", fmt.Errorf("expected iss %q in the answer, found %q", s.issuer, iss)
	}
	if answer.Get("state") != request.State || answer.Get("code") == "" {
		return nil, "", fmt.Errorf("expected a code for the request, found %q", answer.Get("error"))
	}
	return request, answer.Get("code"), nil
}

// A browser knows as much of HTTP and HTML as a login needs.
type browser struct {
	client *http.Client
	home   string // the host that it stays at
	back   string // where it was sent in the end, without the query
}

func (s *story) newBrowser() (*browser, error) {
	issuer, err := url.Parse(s.issuer)
	if err != nil {
		return nil, err
	}
	b := &browser{client: httpClient(s.folder.serverCA, nil), home: issuer.Host}
	if b.client.Jar, err = cookiejar.New(nil); err != nil {
		return nil, err
	}
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b, nil
}

var (
	formTag  = regexp.MustCompile(`<form id="([a-z]+)" method="post" action="([^"]*)"`)
	csrfTag  = regexp.MustCompile(`<input type="hidden" name="csrf" value="([^"]*)"`)
	faultTag = regexp.MustCompile(`<p id="fault"[^>]*>([^<]*)<`)
)

// walk opens a page and sends the form of each page, by its id, until it is sent to
// another host. It returns the query there.
func (b *browser) walk(ctx context.Context, st *step, at string, forms map[string]url.Values) (url.Values, error) {
	var form url.Values
	for range 12 {
		method := http.MethodGet
		if form != nil {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			form = nil
		}
		res, err := b.client.Do(req)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, 256<<10))
		res.Body.Close()
		if err != nil {
			return nil, err
		}
		st.Status = res.StatusCode
		if next, err := res.Location(); err == nil {
			if next.Host != b.home {
				query := next.Query()
				next.RawQuery = ""
				b.back = next.String()
				return query, nil
			}
			at = next.String()
			continue
		}
		page := string(body)
		m, csrf := formTag.FindStringSubmatch(page), csrfTag.FindStringSubmatch(page)
		if m == nil || csrf == nil || forms[m[1]] == nil {
			return nil, fmt.Errorf("expected the page of a login or a consent at %s, found status %d", req.URL.Path, res.StatusCode)
		}
		if fault := faultTag.FindStringSubmatch(page); fault != nil {
			return nil, errors.New(html.UnescapeString(fault[1]))
		}
		to, err := req.URL.Parse(html.UnescapeString(m[2]))
		if err != nil {
			return nil, err
		}
		form = url.Values{"csrf": {html.UnescapeString(csrf[1])}}
		for name, values := range forms[m[1]] {
			form[name] = values
		}
		at = to.String()
	}
	return nil, errors.New("the server redirects without an end")
}
