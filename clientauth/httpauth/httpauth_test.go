package httpauth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/clientauth/httpauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/pkitest"
)

// value is the subject value of a tls_client_auth client.
type value struct {
	kind  subject.Kind
	value string
}

// pkiClients are the clients of the requirements, and one more with the value of c-dn.
var pkiClients = map[string]value{
	"c-dn":    {subject.DN, fixture.SubjectDN},
	"c-dn-2":  {subject.DN, fixture.SubjectDN},
	"c-dns":   {subject.SANDNS, "client-1.example"},
	"c-uri":   {subject.SANURI, "https://client-1.example/id"},
	"c-ip4":   {subject.SANIP, "192.0.2.10"},
	"c-ip6":   {subject.SANIP, "2001:db8::10"},
	"c-mail":  {subject.SANEmail, "ops@client-1.example"},
	"c-twice": {subject.DN, fixture.SubjectDN}, // known to both look-ups
}

func certificates(leaves ...*pkitest.Leaf) (ders [][]byte) {
	for _, l := range leaves {
		ders = append(ders, l.Cert.Raw)
	}
	return ders
}

// settings are those of a server that allows both methods, over TLS.
func settings(t testing.TB) httpauth.Config {
	t.Helper()
	c := fixture.Certs()
	paths, err := pki.NewValidator(pki.Config{
		Sets:   []pki.Set{{Name: "ca1", Anchors: []*x509.Certificate{c.CA1.Cert}}, {Name: "ca2", Anchors: []*x509.Certificate{c.CA2.Cert}}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	selfSigned := map[string][][]byte{
		"c-self": certificates(c.S1), "c-selves": certificates(c.S1, c.S2), "c-self-ca": certificates(c.L1CAX),
		"c-empty": {}, "c-twice": certificates(c.S1),
	}
	return httpauth.Config{
		Methods: httpauth.Both,
		Source:  certsource.TLS{},
		Paths:   paths,
		Subjects: clientauth.SubjectValues("ca1", func(_ context.Context, id string) (subject.Kind, string, error) {
			if id == "c-broken" {
				return "", "", errors.New("the database is gone")
			}
			return pkiClients[id].kind, pkiClients[id].value, nil
		}),
		Certificates: clientauth.Certificates(func(_ context.Context, id string) ([][]byte, error) { return selfSigned[id], nil }),
		Logger:       slog.New(slog.DiscardHandler),
	}
}

// A server runs the middleware on a listener that asks for a certificate.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	last *decision.Decision
	next int // requests that reached the handler behind the middleware
}

// token is the handler behind the middleware. It answers with the client of the
// context, and with what it reads of the form itself.
func (s *server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.next++
	s.mu.Unlock()
	answer := map[string]string{}
	if c, ok := httpauth.ClientFromContext(r.Context()); ok {
		answer["client_id"], answer["method"], answer["x5t#S256"] = c.ID, c.Method, c.Presented.Thumbprint()
	}
	if f, ok := httpauth.RefusalFromContext(r.Context()); ok {
		answer["refused"] = string(f.Decision.Reason())
		// The next scheme: client_secret_basic.
		id, secret, ok := r.BasicAuth()
		if !ok || id != "c-sec" || secret != "right" {
			f.Respond(w, r)
			return
		}
		answer["client_id"], answer["method"] = id, "client_secret_basic"
	}
	answer["form"] = r.PostFormValue("client_id")
	answer["scope"] = r.PostFormValue("scope")
	json.NewEncoder(w).Encode(answer)
}

func (s *server) decision() *decision.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func serve(t testing.TB, changes ...func(*httpauth.Config)) *server {
	t.Helper()
	s := new(server)
	cfg := settings(t)
	cfg.Observer = func(_ context.Context, d *decision.Decision) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last = d
	}
	for _, change := range changes {
		change(&cfg)
	}
	m, err := httpauth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(s.token)))
	s.Config.ConnContext = certsource.ConnContext
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	return s
}

func start(t testing.TB, changes ...func(*httpauth.Config)) *server {
	t.Helper()
	s := serve(t, changes...)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// client makes new connections with the certificate, or without one.
func (s *server) client(t testing.TB, leaf *pkitest.Leaf) *http.Client {
	transport := s.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	if leaf != nil {
		cert := leaf.TLS()
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return &http.Client{Transport: transport}
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (a answer) error() string { s, _ := a.json["error"].(string); return s }

func do(t testing.TB, c *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	json.Unmarshal(body, &a.json)
	a.header.Del("Date")
	return a
}

func (s *server) post(t testing.TB, leaf *pkitest.Leaf, form string, header ...string) answer {
	t.Helper()
	return do(t, s.client(t, leaf), s.request(t, form, header...))
}

func (s *server) request(t testing.TB, form string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest("POST", s.URL, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// ic checks that a is invalid_client as RFC 6749, Section 5.2, has it.
func (a answer) ic(t *testing.T) {
	t.Helper()
	if a.error() != "invalid_client" || a.status != 400 && a.status != 401 || a.header.Get("Content-Type") != "application/json" ||
		a.header.Get("Cache-Control") != "no-store" || (a.status == 401) != (a.header.Get("WWW-Authenticate") != "") {
		t.Errorf("%d %v %s, want invalid_client", a.status, a.header, a.body)
	}
}

func (a answer) ok(t *testing.T, id, method string, leaf *pkitest.Leaf) {
	t.Helper()
	if a.status != 200 || a.json["client_id"] != id || a.json["method"] != method || a.json["x5t#S256"] != certbound.Thumbprint(leaf.Cert) {
		t.Errorf("%d %s, want %s by %s", a.status, a.body, id, method)
	}
	if a.json["form"] != id || a.json["scope"] != "read" {
		t.Errorf("the next handler reads %s", a.body)
	}
}

// challenge makes the middleware answer 401.
func challenge(c *httpauth.Config) { c.Challenge = `Basic realm="as"` }

func TestMethods(t *testing.T) {
	c := fixture.Certs()
	s := start(t, challenge)
	two := fixture.L1Options()
	two.DNS = []string{"a.example", "b.example", "client-1.example"}
	wildcard := fixture.L1Options()
	wildcard.DNS = []string{"*.example"}
	upper := fixture.L1Options()
	upper.URI = []string{"https://client-1.example/ID"}
	selfSignedL1 := pkitest.MustSelfSigned(fixture.L1Options())
	const pkiMethod, selfMethod = clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth

	tests := []struct {
		name, requirement string
		id                string
		leaf              *pkitest.Leaf
		method            string // "" is invalid_client
		reason            decision.Reason
	}{
		{"subject DN", "M-2.1-1 M-2.1-4", "c-dn", c.L1, pkiMethod, ""},
		{"dNSName", "M-2.1-4 M-2.1.2-4", "c-dns", c.L1, pkiMethod, ""},
		{"URI", "M-2.1-4 M-2.1.2-5", "c-uri", c.L1, pkiMethod, ""},
		{"IPv4", "M-2.1-4 M-2.1.2-6", "c-ip4", c.L1, pkiMethod, ""},
		{"IPv6", "M-2.1-4 M-2.1.2-6", "c-ip6", c.L1, pkiMethod, ""},
		{"rfc822Name", "M-2.1-4 M-2.1.2-8", "c-mail", c.L1, pkiMethod, ""},
		{"subject DN, other certificate", "M-2-7 M-2-9 M-2.1-4", "c-dn", c.L2, "", decision.SubjectMismatch},
		{"dNSName, other certificate", "M-2.1-4 M-2.1.2-4", "c-dns", c.L2, "", decision.SubjectMismatch},
		{"URI, other certificate", "M-2.1-4", "c-uri", c.L2, "", decision.SubjectMismatch},
		{"IPv4, other certificate", "M-2.1-4", "c-ip4", c.L2, "", decision.SubjectMismatch},
		{"IPv6, other certificate", "M-2.1-4", "c-ip6", c.L2, "", decision.SubjectMismatch},
		{"rfc822Name, other certificate", "M-2.1-4", "c-mail", c.L2, "", decision.SubjectMismatch},
		{"URI in other letters", "M-2.1.2-5", "c-uri", c.CA1i.MustLeaf(upper), "", decision.SubjectMismatch},
		{"the expected entry is the last of three", "M-2.1.2-9", "c-dns", c.CA1i.MustLeaf(two), pkiMethod, ""},
		{"a wildcard in the certificate", "M-2.1.2-12 M-7.5-9", "c-dns", c.CA1i.MustLeaf(wildcard), "", decision.SubjectMismatch},
		{"the name in the CN only", "M-2.1-9", "c-dns", c.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-1.example"}), "", decision.SubjectAbsent},
		{"the mail address as dNSName", "M-2.1-9", "c-mail", c.CA1i.MustLeaf(pkitest.LeafOptions{DNS: []string{"ops@client-1.example"}}), "", decision.SubjectAbsent},
		{"renewed with a new key", "M-2.1-7", "c-dn", c.L1r, pkiMethod, ""},
		{"an unknown CA", "M-2.1-1 M-7.4-1", "c-dn", c.L1CAX, "", decision.ChainIncomplete},
		{"the CA of others", "M-7.4-2", "c-dn", c.L1CA2, "", decision.ChainIncomplete},
		{"self-signed with the names", "M-2.1-1 M-6.1-4", "c-dn", selfSignedL1, "", decision.UnknownAuthority},
		{"without the intermediate", "M-2.1-1", "c-dn", &pkitest.Leaf{Cert: c.L1.Cert, Key: c.L1.Key}, "", decision.ChainIncomplete},
		{"a self-signed certificate for a PKI client", "M-2-7", "c-dn", c.S1, "", decision.UnknownAuthority},

		{"self-signed", "M-2.2-3 M-2.2-4 M-6.1-3 M-6.1-4", "c-self", c.S1, selfMethod, ""},
		{"self-signed, the first of two", "M-2.2-5", "c-selves", c.S1, selfMethod, ""},
		{"self-signed, the second of two", "M-2.2-5", "c-selves", c.S2, selfMethod, ""},
		{"registered, and of an unknown CA", "M-2.2-3", "c-self-ca", c.L1CAX, selfMethod, ""},
		{"self-signed, another certificate", "M-2-7 M-2.2-4", "c-self", c.S2, "", decision.NotRegistered},
		{"self-signed, a PKI certificate", "M-2-7", "c-self", c.L1, "", decision.NotRegistered},
		{"self-signed, the same key and names", "M-2.2-4", "c-self", pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1", Key: c.S1.Key}), "", decision.NotRegistered},
		{"self-signed, the same names", "M-2.2-4", "c-self", pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1"}), "", decision.NotRegistered},
		{"no registered certificate", "", "c-empty", c.S1, "", decision.KeySetEmpty},

		{"no certificate", "M-2-8 M-6.1-2", "c-dn", nil, "", decision.NoCertificate},
		{"no certificate, self-signed", "M-2-8", "c-self", nil, "", decision.NoCertificate},
		{"known to both methods", "", "c-twice", c.L1, "", decision.AmbiguousClient},
		{"known to both methods, the other certificate", "", "c-twice", c.S1, "", decision.AmbiguousClient},
		{"an unknown client", "", "nobody", c.L1, "", decision.UnknownClient},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.requirement != "" {
				t.Attr("requirement", tt.requirement)
			}
			a := s.post(t, tt.leaf, "grant_type=client_credentials&client_id="+tt.id+"&scope=read")
			if tt.method != "" {
				a.ok(t, tt.id, tt.method, tt.leaf)
			} else {
				a.ic(t)
				if strings.Contains(a.body, "client-1") || strings.Contains(a.body, "Example") {
					t.Errorf("the answer tells what is registered: %s", a.body)
				}
			}
			if d := s.decision(); d.Reason() != tt.reason || d.ClientID != tt.id || !strings.HasPrefix(d.Peer, "127.0.0.1:") {
				t.Errorf("decision: %+v", d)
			}
		})
	}
}

// The client is found by client_id, whatever the certificate says.
func TestClientIDDecides(t *testing.T) {
	t.Attr("requirement", "M-2-6")
	s := start(t)
	for _, id := range []string{"c-dn", "c-dn-2"} {
		s.post(t, fixture.Certs().L1, "client_id="+id+"&scope=read").ok(t, id, clientauth.TLSClientAuth, fixture.Certs().L1)
	}
}

// Nothing is carried from one connection to the next.
func TestEachConnectionProves(t *testing.T) {
	t.Attr("requirement", "M-2-2")
	s := start(t)
	c := fixture.Certs()
	s.post(t, c.L1, "client_id=c-dn&scope=read").ok(t, "c-dn", clientauth.TLSClientAuth, c.L1)
	s.post(t, nil, "client_id=c-dn&scope=read").ic(t)
	s.post(t, c.L1, "client_id=c-dn&scope=read").ok(t, "c-dn", clientauth.TLSClientAuth, c.L1)
}

// A stolen certificate is worth nothing without its key.
func TestWrongKey(t *testing.T) {
	c := fixture.Certs()
	s := start(t)
	for _, tt := range []struct {
		name, requirement, id string
		leaf                  *pkitest.Leaf
	}{
		{"PKI", "M-2.1-3", "c-dn", &pkitest.Leaf{Cert: c.L1.Cert, Key: c.L2.Key, Issuer: c.L1.Issuer}},
		{"self-signed", "M-2.2-2", "c-self", &pkitest.Leaf{Cert: c.S1.Cert, Key: c.S2.Key}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("requirement", tt.requirement)
			resp, err := s.client(t, tt.leaf).Do(s.request(t, "client_id="+tt.id))
			if err == nil {
				resp.Body.Close()
				t.Fatalf("status %d, want a TLS failure", resp.StatusCode)
			}
			if s.next != 0 || s.decision() != nil {
				t.Error("the request was looked at")
			}
		})
	}
}

// A certificate that comes in any other way than by the handshake is none.
func TestCertificateElsewhere(t *testing.T) {
	t.Attr("requirement", "M-1.2-1 H-4-2")
	c := fixture.Certs()
	s := start(t)
	value := url.QueryEscape(string(c.L1.CertPEM()))
	a := s.post(t, nil, "client_id=c-dn&client_certificate="+value,
		"Client-Cert", item(c.L1.Cert), "X-Forwarded-Client-Cert", `Cert="`+value+`"`, "Ssl-Client-Cert", value, "X-Ssl-Client-Cert", value)
	a.ic(t)
	if d := s.decision(); d.Reason() != decision.NoCertificate || len(d.Warnings) != 4 {
		t.Errorf("%+v", d)
	}
}

func TestClientIDPlaces(t *testing.T) {
	c := fixture.Certs()
	s := start(t)
	long := strings.Repeat("a", 513)
	tests := []struct {
		name, requirement string
		method, query     string
		contentType, body string
		header            []string
		want              decision.Reason
		status            int
		code              string
	}{
		{name: "none", requirement: "M-2-4", body: "scope=read", want: decision.NoClientID},
		{name: "none, certificate of nobody", requirement: "M-2-4", body: "grant_type=client_credentials", want: decision.NoClientID},
		{name: "empty", body: "client_id=", want: decision.NoClientID},
		{name: "no value", body: "client_id", want: decision.NoClientID},
		{name: "no body", want: decision.NoClientID},
		{name: "in other letters", body: "Client_Id=c-dn", want: decision.NoClientID},
		{name: "in the query", requirement: "M-2-5", query: "client_id=c-dn", body: "scope=read", want: decision.ClientIDMisplaced, code: "invalid_request"},
		{name: "in the query as well", requirement: "M-2-5", query: "client_id=c-dn", body: "client_id=c-dn", want: decision.ClientIDMisplaced, code: "invalid_request"},
		{name: "in the query, escaped", query: "a=b&client%5Fid=c-dn", body: "client_id=c-dn", want: decision.ClientIDMisplaced, code: "invalid_request"},
		{name: "in the query after a semicolon", query: "a=b;client_id=c-dn", body: "client_id=c-dn", want: decision.ClientIDMisplaced, code: "invalid_request"},
		{name: "twice", requirement: "M-2-5", body: "client_id=c-dn&client_id=c-dn", want: decision.ParameterRepeated, code: "invalid_request"},
		{name: "twice, once empty", body: "client_id=&client_id=c-dn", want: decision.ParameterRepeated, code: "invalid_request"},
		{name: "twice, once escaped", body: "client%5fid=c-dn&client_id=c-dns", want: decision.ParameterRepeated, code: "invalid_request"},
		{name: "in JSON", contentType: "application/json", body: `{"client_id":"c-dn"}`, want: decision.ClientIDMisplaced, code: "invalid_request"},
		{name: "in other JSON", contentType: "application/x+json; charset=utf-8", body: `{"client_id":"c-dn"}`, want: decision.ClientIDMisplaced, code: "invalid_request"},
		{name: "in a multipart body", contentType: "multipart/form-data; boundary=b", body: "--b\r\nContent-Disposition: form-data; name=\"client_id\"\r\n\r\nc-dn\r\n--b--\r\n", want: decision.NoClientID},
		{name: "without a content type", contentType: "-", body: "client_id=c-dn", want: decision.NoClientID},
		{name: "a broken content type", contentType: "application/x-www-form-urlencoded; =", body: "client_id=c-dn", want: decision.NoClientID},
		{name: "with GET", method: "GET", body: "client_id=c-dn", want: decision.NoClientID},
		{name: "with PUT", method: "PUT", body: "client_id=c-dn", want: decision.NoClientID},
		{name: "after a semicolon", body: "scope=read;client_id=c-dn", want: decision.RequestMalformed, code: "invalid_request"},
		{name: "beside a broken escape", body: "scope=%zz&client_id=c-dn", want: decision.RequestMalformed, code: "invalid_request"},
		{name: "with a broken escape in a name", body: "%=read&client_id=c-dn", want: decision.RequestMalformed, code: "invalid_request"},
		{name: "too long", body: "client_id=" + long, want: decision.UnknownClient},
		{name: "with a line feed", body: "client_id=c-dn%0A", want: decision.UnknownClient},
		{name: "not ASCII", body: "client_id=c-d%C3%B1", want: decision.UnknownClient},
		{name: "escaped", body: "client%5fid=c%2Ddn&scope=read", status: 200},
		{name: "with a charset", contentType: "application/x-www-form-urlencoded; charset=UTF-8", body: "client_id=c-dn&scope=read", status: 200},
		{name: "between empty parameters", body: "&&client_id=c-dn&&scope=read&", status: 200},
		{name: "another query", query: "a=b&%zz&x_client_id=c", body: "client_id=c-dn&scope=read", status: 200},

		{name: "with Basic", requirement: "O-2.3-3", body: "client_id=c-dn", header: []string{"Authorization", "basic Yy1kbjpz"}, want: decision.SeveralMethods, code: "invalid_request"},
		{name: "with a secret", body: "client_id=c-dn&client_secret=s", want: decision.SeveralMethods, code: "invalid_request"},
		{name: "with an assertion", body: "client_assertion=a&client_id=c-dn", want: decision.SeveralMethods, code: "invalid_request"},
		{name: "with a bearer token", body: "client_id=c-dn&scope=read", header: []string{"Authorization", "Bearer x"}, status: 200},

		{name: "the look-up fails", body: "client_id=c-broken", want: decision.LookupFailed, status: 503, code: "temporarily_unavailable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.requirement != "" {
				t.Attr("requirement", tt.requirement)
			}
			req := s.request(t, tt.body, tt.header...)
			req.URL.RawQuery = tt.query
			if tt.method != "" {
				req.Method = tt.method
			}
			switch tt.contentType {
			case "":
			case "-":
				req.Header.Del("Content-Type")
			default:
				req.Header.Set("Content-Type", tt.contentType)
			}
			before := s.next
			a := do(t, s.client(t, c.L1), req)
			switch {
			case tt.status == 200:
				a.ok(t, "c-dn", clientauth.TLSClientAuth, c.L1)
				return
			case tt.code == "":
				a.ic(t)
			case a.error() != tt.code || a.status != max(tt.status, 400):
				t.Errorf("%d %s, want %s", a.status, a.body, tt.code)
			}
			if d := s.decision(); d.Reason() != tt.want {
				t.Errorf("reason %s, want %s", d.Reason(), tt.want)
			}
			if s.next != before {
				t.Error("the next handler was called")
			}
		})
	}
}

// The form is bounded, with a length and without one.
func TestFormLimit(t *testing.T) {
	c := fixture.Certs()
	s := start(t)
	form := "client_id=c-dn&scope=read&fill="
	for _, tt := range []struct {
		name    string
		size    int
		chunked bool
		want    int
	}{
		{"at the limit", 64 << 10, false, 200}, {"at the limit, chunked", 64 << 10, true, 200},
		{"one more", 64<<10 + 1, false, 413}, {"one more, chunked", 64<<10 + 1, true, 413},
		{"a megabyte", 1 << 20, false, 413}, {"a megabyte, chunked", 1 << 20, true, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := s.request(t, form+strings.Repeat("a", tt.size-len(form)))
			if tt.chunked {
				req.ContentLength = -1
			}
			a := do(t, s.client(t, c.L1), req)
			if a.status != tt.want || (tt.want == 413) != (s.decision().Reason() == decision.RequestTooLarge) {
				t.Errorf("%d %.100s, want %d", a.status, a.body, tt.want)
			}
		})
	}
}

// A body that ends before its length is no form.
func TestBodyEndsEarly(t *testing.T) {
	s := start(t)
	r := httptest.NewRequest("POST", "/", strings.NewReader("client_id=c-dn"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.ContentLength = 20
	w := httptest.NewRecorder()
	s.Config.Handler.ServeHTTP(w, r)
	if w.Code != 400 || s.decision().Reason() != decision.RequestMalformed {
		t.Errorf("%d %s", w.Code, s.decision())
	}
}

// A handler before the middleware has parsed the form: its reading counts.
func TestFormParsedBefore(t *testing.T) {
	c := fixture.Certs()
	s := serve(t)
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		inner.ServeHTTP(w, r)
	})
	s.StartTLS()
	t.Cleanup(s.Close)
	s.post(t, c.L1, "client_id=c-dn&scope=read").ok(t, "c-dn", clientauth.TLSClientAuth, c.L1)
	for form, want := range map[string]decision.Reason{
		"client_id=c-dn&client_id=c-dn": decision.ParameterRepeated, "scope=read": decision.NoClientID,
		"client_id=c-dn&client_secret=x": decision.SeveralMethods,
	} {
		s.post(t, c.L1, form)
		if got := s.decision().Reason(); got != want {
			t.Errorf("%s: %s, want %s", form, got, want)
		}
	}
}

// Unknown client and wrong certificate cannot be told apart, and neither can anything
// else that has to do with a client.
func TestAnswersAreAlike(t *testing.T) {
	t.Attr("requirement", "M-2-13 M-2-10")
	c := fixture.Certs()
	s := start(t, challenge)
	want := s.post(t, c.L1, "client_id=nobody")
	want.ic(t)
	for name, got := range map[string]answer{
		"wrong certificate":       s.post(t, c.L2, "client_id=c-dn"),
		"unknown CA":              s.post(t, c.L1CAX, "client_id=c-dn"),
		"no certificate":          s.post(t, nil, "client_id=c-dn"),
		"wrong self-signed":       s.post(t, c.S2, "client_id=c-self"),
		"known to both":           s.post(t, c.L1, "client_id=c-twice"),
		"no client_id":            s.post(t, c.L1, "scope=read"),
		"unknown, no certificate": s.post(t, nil, "client_id=nobody"),
	} {
		if got.status != want.status || got.body != want.body || fmt.Sprint(got.header) != fmt.Sprint(want.header) {
			t.Errorf("%s: %d %v %s, want %d %v %s", name, got.status, got.header, got.body, want.status, want.header, want.body)
		}
	}
}

// A certificate that happens to be there does not hinder a client of another method,
// and a client of mutual TLS cannot use that other method.
func TestNextSchemeTries(t *testing.T) {
	c := fixture.Certs()
	s := start(t, challenge, func(cfg *httpauth.Config) {
		cfg.Refuse = func(w http.ResponseWriter, r *http.Request, f *httpauth.Refusal) { f.Continue(w, r) }
	})
	t.Run("secret beside a certificate", func(t *testing.T) {
		t.Attr("requirement", "M-2-12")
		for _, leaf := range []*pkitest.Leaf{nil, c.L2} {
			req := s.request(t, "client_id=c-sec&scope=read")
			req.SetBasicAuth("c-sec", "right")
			a := do(t, s.client(t, leaf), req)
			want := decision.UnknownClient
			if leaf == nil {
				want = decision.NoCertificate
			}
			if a.status != 200 || a.json["method"] != "client_secret_basic" || a.json["refused"] != string(want) || a.json["form"] != "c-sec" || a.json["scope"] != "read" {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
	})
	t.Run("no secret", func(t *testing.T) {
		s.post(t, c.L2, "client_id=c-sec").ic(t)
	})
	t.Run("wrong certificate", func(t *testing.T) {
		s.post(t, c.L2, "client_id=c-dn").ic(t)
	})
	t.Run("right certificate", func(t *testing.T) {
		a := s.post(t, c.L1, "client_id=c-dn&scope=read")
		a.ok(t, "c-dn", clientauth.TLSClientAuth, c.L1)
		if a.json["refused"] != nil {
			t.Errorf("a failure is recorded: %s", a.body)
		}
	})
}

func TestReplacedAnswer(t *testing.T) {
	s := start(t, func(cfg *httpauth.Config) {
		cfg.Refuse = func(w http.ResponseWriter, r *http.Request, f *httpauth.Refusal) {
			http.Error(w, f.Code+" "+string(f.Decision.Reason()), http.StatusTeapot)
		}
	})
	a := s.post(t, nil, "client_id=c-dn")
	if a.status != http.StatusTeapot || strings.TrimSpace(a.body) != "invalid_client no_certificate" || s.next != 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAlreadyAuthenticated(t *testing.T) {
	c := fixture.Certs()
	t.Run("by other middleware", func(t *testing.T) {
		s := start(t, func(cfg *httpauth.Config) {
			cfg.Authenticated = func(r *http.Request) bool { return r.Header.Get("X-Test") == "authenticated" }
		})
		if a := s.post(t, nil, "scope=read", "X-Test", "authenticated"); a.status != 200 || s.decision() != nil {
			t.Errorf("%d %s", a.status, a.body)
		}
		s.post(t, nil, "client_id=c-dn").ic(t)
	})
	t.Run("by itself", func(t *testing.T) {
		s := serve(t)
		cfg := settings(t)
		cfg.Subjects = func(context.Context, string) (clientauth.PKI, bool, error) {
			t.Error("asked again")
			return clientauth.PKI{}, false, nil
		}
		second, err := httpauth.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		first := settings(t)
		m, err := httpauth.New(first)
		if err != nil {
			t.Fatal(err)
		}
		s.Config.Handler = m.Handler(second.Handler(http.HandlerFunc(s.token)))
		s.StartTLS()
		t.Cleanup(s.Close)
		s.post(t, c.L1, "client_id=c-dn&scope=read").ok(t, "c-dn", clientauth.TLSClientAuth, c.L1)
	})
}

func TestVerbosity(t *testing.T) {
	c := fixture.Certs()
	tests := []struct {
		name      string
		verbosity httpauth.Verbosity
		check     func(t *testing.T, a answer)
		warns     bool
	}{
		{"normal", httpauth.Normal, func(t *testing.T, a answer) {
			a.ic(t)
			if len(a.json) != 2 {
				t.Errorf("%s", a.body)
			}
		}, false},
		{"minimal", httpauth.Minimal, func(t *testing.T, a answer) {
			if a.status != 401 || a.body != "" || a.header.Get("Content-Type") != "" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %v %q", a.status, a.header, a.body)
			}
		}, false},
		{"debug", httpauth.Debug, func(t *testing.T, a answer) {
			a.ic(t)
			var body struct {
				Decision struct {
					ClientID string `json:"client_id"`
					Checks   []decision.Check
				}
			}
			err := json.Unmarshal([]byte(strings.ReplaceAll(a.body, `"outcome":`, `"-":`)), &body)
			if err != nil || body.Decision.ClientID != "c-dn" || len(body.Decision.Checks) == 0 || !strings.Contains(a.body, fixture.SubjectDN) {
				t.Errorf("%s (%v)", a.body, err)
			}
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			s := start(t, challenge, func(cfg *httpauth.Config) {
				cfg.Verbosity = tt.verbosity
				cfg.Logger = slog.New(slog.NewJSONHandler(&log, nil))
			})
			if warned := strings.Contains(log.String(), `"level":"WARN"`); warned != tt.warns {
				t.Errorf("at start: %s", &log)
			}
			log.Reset()
			tt.check(t, s.post(t, c.L2, "client_id=c-dn&note=not-for-the-log"))
			s.Close() // then the record is written
			if got := log.String(); !strings.Contains(got, "subject_mismatch") || strings.Contains(got, "not-for-the-log") {
				t.Errorf("log: %s", got)
			}
		})
	}
}

func TestWrongSettings(t *testing.T) {
	verified := certsource.Verification{By: "edge", Anchors: "partners"}
	attributes, err := certsource.NewAttributeFields(certsource.AttributeFieldsConfig{Hop: loopback, Verification: verified, SANDNS: "X-DNS"})
	if err != nil {
		t.Fatal(err)
	}
	fingerprint, err := certsource.NewHeaderField(certsource.HeaderFieldConfig{Hop: loopback, Field: "X-Sum", Format: certsource.FormatSHA256})
	if err != nil {
		t.Fatal(err)
	}
	proxied, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: loopback, Verification: verified})
	if err != nil {
		t.Fatal(err)
	}
	pkiOnly := func(c *httpauth.Config) { c.Methods, c.Certificates = httpauth.PKI, nil }
	selfOnly := func(c *httpauth.Config) { c.Methods, c.Subjects, c.Paths = httpauth.SelfSigned, nil, nil }
	all := func(changes ...func(*httpauth.Config)) func(*httpauth.Config) {
		return func(c *httpauth.Config) {
			for _, change := range changes {
				change(c)
			}
		}
	}
	source := func(s certsource.Source) func(*httpauth.Config) { return func(c *httpauth.Config) { c.Source = s } }
	noPaths := func(c *httpauth.Config) { c.Paths = nil }
	tests := []struct {
		name   string
		change func(*httpauth.Config)
		ok     bool
	}{
		{"both", func(c *httpauth.Config) {}, true},
		{"PKI", pkiOnly, true},
		{"self-signed", selfOnly, true},
		{"attributes for PKI, verified by the proxy", all(pkiOnly, source(attributes), noPaths), true},
		{"the proxy verifies", all(pkiOnly, source(proxied), noPaths), true},
		{"fingerprints for self-signed", all(selfOnly, source(fingerprint)), true},
		{"nothing", func(c *httpauth.Config) { *c = httpauth.Config{} }, false},
		{"no methods", func(c *httpauth.Config) { c.Methods = httpauth.MethodsUnset }, false},
		{"unknown methods", func(c *httpauth.Config) { c.Methods = 7 }, false},
		{"no source", source(nil), false},
		{"the source of browsers", source(certsource.None{}), false},
		{"attributes for both", source(attributes), false},
		{"attributes for self-signed", all(selfOnly, source(attributes)), false},
		{"fingerprints for PKI", all(pkiOnly, source(fingerprint)), false},
		{"no anchors", noPaths, false},
		{"no look-up of subjects", func(c *httpauth.Config) { c.Subjects = nil }, false},
		{"no look-up of certificates", func(c *httpauth.Config) { c.Certificates = nil }, false},
		{"a look-up that is not used", func(c *httpauth.Config) { c.Methods = httpauth.PKI }, false},
		{"anchors that are not used", func(c *httpauth.Config) { c.Methods, c.Subjects = httpauth.SelfSigned, nil }, false},
		{"a negative limit", func(c *httpauth.Config) { c.MaxForm = -1 }, false},
		{"unknown verbosity", func(c *httpauth.Config) { c.Verbosity = 9 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "no anchors" {
				t.Attr("requirement", "M-7.4-1")
			}
			cfg := settings(t)
			tt.change(&cfg)
			m, err := httpauth.New(cfg)
			if (err == nil) != tt.ok || (m != nil) != tt.ok {
				t.Errorf("%v, want to start: %v", err, tt.ok)
			}
		})
	}
}

// 200 certificates in a chain: the handshake completes, and the client reads an OAuth
// error while the operator reads the number.
func TestLongChain(t *testing.T) {
	c := fixture.Certs()
	s := start(t)
	cert := c.L1.TLS()
	for len(cert.Certificate) < 200 {
		cert.Certificate = append(cert.Certificate, c.CA1i.Cert.Raw)
	}
	client := s.client(t, nil)
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert}
	a := do(t, client, s.request(t, "client_id=c-dn"))
	a.ic(t)
	failed, _ := s.decision().Failure()
	if failed.Reason != decision.ChainTooLong || !strings.Contains(failed.Found, "200") {
		t.Errorf("%+v", failed)
	}
}

// A connection that goes on, or that is resumed, is judged by what is trusted now.
func TestTrustChangesUnderAConnection(t *testing.T) {
	t.Attr("requirement", "T-8446-5")
	c := fixture.Certs()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, keepAlive := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, kept alive: %v", tls.VersionName(version), keepAlive), func(t *testing.T) {
				var paths *pki.Validator
				registered := certificates(c.S1)
				s := start(t, func(cfg *httpauth.Config) {
					paths = cfg.Paths.(*pki.Validator)
					cfg.Certificates = clientauth.Certificates(func(_ context.Context, id string) ([][]byte, error) {
						if id == "c-self" {
							return registered, nil
						}
						return nil, nil
					})
				})
				clients := map[string]*http.Client{}
				for id, leaf := range map[string]*pkitest.Leaf{"c-dn": c.L1, "c-self": c.S1} {
					clients[id] = s.client(t, leaf)
					transport := clients[id].Transport.(*http.Transport)
					transport.TLSClientConfig.MaxVersion = version
					transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
					transport.DisableKeepAlives = !keepAlive
				}
				post := func(id string) (answer, bool) {
					t.Helper()
					resp, err := clients[id].Do(s.request(t, "client_id="+id+"&scope=read"))
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					body, _ := io.ReadAll(resp.Body)
					a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
					json.Unmarshal(body, &a.json)
					return a, resp.TLS.DidResume
				}
				for id, leaf := range map[string]*pkitest.Leaf{"c-dn": c.L1, "c-self": c.S1} {
					post(id)
					a, resumed := post(id)
					method := map[string]string{"c-dn": clientauth.TLSClientAuth, "c-self": clientauth.SelfSignedTLSClientAuth}[id]
					a.ok(t, id, method, leaf)
					if resumed == keepAlive {
						t.Errorf("%s: resumed %v", id, resumed)
					}
				}
				if err := paths.Replace(pki.Set{Name: "ca1", Anchors: []*x509.Certificate{c.CA2.Cert}}); err != nil {
					t.Fatal(err)
				}
				registered = certificates(c.S2)
				for id, want := range map[string]decision.Reason{"c-dn": decision.UnknownAuthority, "c-self": decision.NotRegistered} {
					a, _ := post(id)
					a.ic(t)
					if got := s.decision().Reason(); got != want && !(id == "c-dn" && got == decision.ChainIncomplete) {
						t.Errorf("%s: %s, want %s", id, got, want)
					}
				}
			})
		}
	}
}

// listen returns a listener on a loopback address.
func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
