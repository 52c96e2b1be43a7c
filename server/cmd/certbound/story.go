package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/decision"
)

// A story is what dev tells. Its exported fields are the JSON document.
type story struct {
	Issuer string   `json:"issuer"`
	MTLS   string   `json:"mtls"`
	API    string   `json:"api"`
	Dir    string   `json:"dir"`
	Steps  []*step  `json:"steps"`
	Passed bool     `json:"passed"`
	Curl   []recipe `json:"curl"`

	folder            *devFolder
	issuer, mtls, api string
	seen              *lastDecision
	closeUp           *step // shown from both sides
}

// A step is one request with its outcome.
type step struct {
	Text        string `json:"text"`
	Certificate string `json:"certificate"` // whose, or "none"
	Request     string `json:"request"`
	Want        int    `json:"expected_status"`
	WantError   string `json:"expected_error,omitempty"`
	Status      int    `json:"status"`
	Error       string `json:"error,omitempty"`
	// Bound is the x5t#S256 in the cnf of the token that was issued.
	Bound string `json:"x5t#S256,omitempty"`
	Body  string `json:"body,omitempty"`
	// Decision is what the operator sees of a refusal.
	Decision *decision.Decision `json:"decision,omitempty"`
	Fault    string             `json:"fault,omitempty"` // why the outcome is not the expected one
	OK       bool               `json:"ok"`
}

// httpClient trusts roots, and offers a certificate if there is one.
func httpClient(roots *x509.CertPool, cert *tls.Certificate) *http.Client {
	conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: conf, Proxy: nil, ForceAttemptHTTP2: true, DialContext: loopbackDial},
	}
}

// loopbackDial is for "localhost", which some machines resolve to ::1 first.
func loopbackDial(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
}

func loopback() []net.IP { return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} }

// waitReady waits until the server has its signing key.
func (s *story) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	client := httpClient(s.folder.serverCA, nil)
	defer client.CloseIdleConnections()
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.issuer+"/.well-known/oauth-authorization-server", nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("the server answers %d", res.StatusCode)
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server does not become ready: %w", last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tell makes the requests, one after the other, and reports each.
func (s *story) tell(ctx context.Context, report func(*step)) {
	s.Issuer, s.MTLS, s.API, s.Dir = s.issuer, s.mtls, s.api, s.folder.dir
	billing, batch, mallory := &s.folder.billing, &s.folder.batch, &s.folder.mallory
	s.Passed = true
	tellStep := func(st *step, run func(*step)) {
		run(st)
		st.judge()
		s.Steps = append(s.Steps, st)
		s.Passed = s.Passed && st.OK
		report(st)
	}
	var stolen string
	token := func(p *devParty, id string) func(*step) {
		return func(st *step) {
			got, _ := s.token(ctx, st, p, url.Values{"grant_type": {"client_credentials"}, "client_id": {id}})
			if got != "" && stolen == "" {
				stolen = got
			}
		}
	}
	call := func(p *devParty) func(*step) {
		return func(st *step) { s.call(ctx, st, p, stolen) }
	}
	tellStep(&step{Text: "billing shows the certificate that a CA issued", Want: 200, Bound: thumbprint(billing)}, token(billing, "billing"))
	tellStep(&step{Text: "batch shows its own, self-signed certificate", Want: 200, Bound: thumbprint(batch)}, token(batch, "batch"))
	tellStep(&step{Text: "billing calls the API with its token", Want: 200}, call(billing))
	tellStep(&step{Text: "mallory has stolen the token, not the certificate", Want: 401, WantError: "invalid_token"}, call(mallory))
	tellStep(&step{Text: "mallory tries without any certificate", Want: 401, WantError: "invalid_token"}, call(nil))
	tellStep(&step{Text: "mallory says: I am billing", Want: 400, WantError: "invalid_client"}, token(mallory, "billing"))
	s.closeUp = s.Steps[len(s.Steps)-1]
	s.tellPerson(ctx, tellStep)
	s.Curl = s.recipes()
}

func thumbprint(p *devParty) string { return certbound.Thumbprint(p.Cert) }

// judge compares the outcome with the expected one.
func (st *step) judge() {
	switch {
	case st.Fault != "":
	case st.Error == "invalid_client" && st.Status == http.StatusUnauthorized:
		// RFC 6749, Section 5.2, allows 401 beside 400.
	case st.Status != st.Want:
		st.Fault = fmt.Sprintf("expected status %d, found %d", st.Want, st.Status)
	}
	if st.Fault == "" && st.Error != st.WantError {
		st.Fault = fmt.Sprintf("expected error %q, found %q", st.WantError, st.Error)
	}
	st.OK = st.Fault == ""
}

// token asks for a token as a client, and returns it and the refresh token beside it.
func (s *story) token(ctx context.Context, st *step, p *devParty, form url.Values) (access, refresh string) {
	want := st.Bound
	st.Bound = ""
	body := s.do(ctx, st, p, http.MethodPost, s.mtls+"/token", "", form)
	if st.Status != http.StatusOK {
		return "", ""
	}
	st.Body = "" // the token is not for the screen
	var answer struct {
		Token   string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Token == "" {
		st.Fault = "the answer has no access_token"
		return "", ""
	}
	t, err := reportToken(answer.Token)
	if err == nil && t.CNF != nil {
		st.Bound = t.CNF.X5TS256
	}
	if st.Bound != want {
		st.Fault = fmt.Sprintf("expected a token bound to %s, found %q", want, st.Bound)
	}
	return answer.Token, answer.Refresh
}

// call sends a token to the API.
func (s *story) call(ctx context.Context, st *step, p *devParty, token string) {
	s.do(ctx, st, p, http.MethodGet, s.api+"/hello", token, nil)
}

// do makes a request on a connection of its own.
func (s *story) do(ctx context.Context, st *step, p *devParty, method, target, token string, form url.Values) []byte {
	var cert *tls.Certificate
	st.Certificate = "none"
	if p != nil {
		cert, st.Certificate = &p.pair, p.name
	}
	u, err := url.Parse(target)
	if err != nil {
		st.Fault = err.Error()
		return nil
	}
	st.Request = method + " " + u.Path
	client := httpClient(s.folder.serverCA, cert)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		st.Fault = err.Error()
		return nil
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	s.seen.take()
	res, err := client.Do(req)
	if err != nil {
		st.Fault = err.Error()
		return nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		st.Fault = err.Error()
		return nil
	}
	st.Status = res.StatusCode
	st.Body = strings.TrimSpace(string(body))
	st.Error = errorCode(res.Header, body)
	if st.Status != http.StatusOK {
		st.Decision = s.seen.take()
		if st.Decision == nil {
			st.Fault = errors.New("the operator's side has no decision").Error()
		}
	}
	return body
}

// errorCode finds the OAuth error of an answer: in the body, or in the challenge.
func errorCode(h http.Header, body []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		return answer.Error
	}
	_, rest, ok := strings.Cut(h.Get("WWW-Authenticate"), `error="`)
	if !ok {
		return ""
	}
	code, _, _ := strings.Cut(rest, `"`)
	return code
}

// A recipe is a command line to paste.
type recipe struct {
	Text    string `json:"text"`
	Command string `json:"command"`
}

// recipes are what a reader can try. The first one sets TOKEN for the others.
func (s *story) recipes() []recipe {
	file := func(name string) string { return shellQuote(s.folder.path(name)) }
	as := func(name string) string { return "--cert " + file(name+".pem") + " --key " + file(name+"-key.pem") }
	base := "curl -sS --cacert " + file("server-ca.pem")
	call := " \\\n  -H \"Authorization: Bearer $TOKEN\" " + s.api + "/hello"
	return []recipe{
		{"get a token as billing", "TOKEN=$(" + base + " \\\n  " + as("billing") + " \\\n  -d grant_type=client_credentials -d client_id=billing \\\n  " +
			s.mtls + "/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"},
		{"use it, with the certificate: 200", base + " " + as("billing") + call},
		{"use it with another certificate: 401", base + " -i -w '\\n' " + as("mallory") + call},
		{"use it without a certificate: 401", base + " -i -w '\\n'" + call},
	}
}
