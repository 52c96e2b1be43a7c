package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certbound/certbound/oauthclient"
)

// A FAPI test tool gets by with the file: the two clients, and the resource.
func TestDevForTestTools(t *testing.T) {
	t.Chdir(t.TempDir())
	startDev(t, "certbound-dev")
	data, err := os.ReadFile(filepath.Join("certbound-dev", devSuite))
	if err != nil {
		t.Fatal(err)
	}
	type client struct {
		ID    string `json:"client_id"`
		Scope string
	}
	type mtls struct{ Cert, Key, CA string }
	var suite struct {
		Alias    string
		Server   struct{ DiscoveryURL string }
		Client   client
		Client2  client
		MTLS     mtls
		MTLS2    mtls
		Resource struct{ ResourceURL string }
	}
	if err := json.Unmarshal(data, &suite); err != nil {
		t.Fatal(err)
	}
	folder := &devFolder{dir: "certbound-dev"}
	ca, err := os.ReadFile(folder.path("server-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	folder.serverCA = x509.NewCertPool()
	folder.serverCA.AppendCertsFromPEM(ca)
	password, err := os.ReadFile(folder.path(devPassword))
	if err != nil {
		t.Fatal(err)
	}
	issuer := strings.TrimSuffix(suite.Server.DiscoveryURL, "/.well-known/openid-configuration")
	s := &story{folder: folder, issuer: issuer}
	api := suite.Resource.ResourceURL

	var pairs []tls.Certificate
	var tokens []string
	for i, c := range []client{suite.Client, suite.Client2} {
		files := []mtls{suite.MTLS, suite.MTLS2}[i]
		pair, err := tls.X509KeyPair([]byte(files.Cert), []byte(files.Key))
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(api)
		if err != nil {
			t.Fatal(err)
		}
		oc, err := oauthclient.New(oauthclient.Config{
			Issuer: issuer, ClientID: c.ID, AuthMethod: oauthclient.TLSClientAuth, Certificate: oauthclient.Static(pair), RedirectURI: devRedirects[i],
			Scopes: strings.Fields(c.Scope), FAPI2: true, RootCAs: folder.serverCA, DialContext: loopbackDial, ResourceHosts: []string{u.Host},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(oc.CloseIdleConnections)
		p, err := oc.Authorize(t.Context(), oauthclient.AuthorizationParams{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.newBrowser()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.client.CloseIdleConnections)
		answer, err := b.walk(t.Context(), &step{}, p.URL, map[string]url.Values{
			"login":   {"name": {"ann"}, "password": {strings.TrimSpace(string(password))}},
			"consent": {"decision": {"allow"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		session, err := oc.Exchange(t.Context(), p, answer, nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := session.UserInfo(t.Context())
		if err != nil || info.Subject != session.IDToken().Subject {
			t.Errorf("UserInfo %+v, error %v", info, err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api, nil)
		if err != nil {
			t.Fatal(err)
		}
		const id = "c770aef3-6784-41f7-8e0e-ff5f97bddb3a"
		req.Header.Set("X-Fapi-Interaction-Id", id)
		res, err := session.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Client   string `json:"client_id"`
			Accounts []any
		}
		err = json.NewDecoder(res.Body).Decode(&body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || body.Client != c.ID || len(body.Accounts) == 0 || res.Header.Get("X-Fapi-Interaction-Id") != id {
			t.Errorf("%s: %d %+v, error %v", api, res.StatusCode, body, err)
		}
		pairs, tokens = append(pairs, pair), append(tokens, session.State().AccessToken)
	}

	get := func(at, token string, pair *tls.Certificate) (int, string) {
		t.Helper()
		hc := httpClient(folder.serverCA, pair)
		defer hc.CloseIdleConnections()
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	rows := []struct {
		name, requirement, at, token string
		pair                         *tls.Certificate
		want                         int
	}{
		{"with the certificate", "F2-5.3.4-1", api, tokens[0], &pairs[0], 200},
		{"with that of the other client", "F2-5.3.4-5", api, tokens[0], &pairs[1], 401},
		{"without a certificate", "F2-5.3.4-5", api, tokens[0], nil, 401},
		{"in the query", "F2-5.3.4-2", api + "?access_token=" + url.QueryEscape(tokens[0]), "", &pairs[0], 401},
		{"none", "F2-5.3.4-2", api, "", &pairs[0], 401},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.requirement)
			if status, body := get(row.at, row.token, row.pair); status != row.want || strings.Contains(body, "Everyday") != (row.want == 200) {
				t.Errorf("status %d, want %d: %s", status, row.want, body)
			}
		})
	}
}
