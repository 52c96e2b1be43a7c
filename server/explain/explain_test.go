package explain

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// A scene is a server with two anchor sets and its clients.
type scene struct {
	root, issuing, other *pkitest.CA
	leaf                 *pkitest.Leaf // of issuing
	server               *Server
}

func newScene(t *testing.T, source string, hop certsource.Hop) *scene {
	t.Helper()
	s := &scene{root: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root,O=Agora"}), other: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Partner Root"})}
	s.issuing = s.root.MustIntermediate(pkitest.CAOptions{Subject: "CN=Issuing,O=Agora"})
	s.leaf = s.issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing,O=Agora,C=GB", DNS: []string{"billing.example"}})
	sets := []pki.Set{{Name: "clients", Anchors: []*x509.Certificate{s.root.Cert}}, {Name: "partners", Anchors: []*x509.Certificate{s.other.Cert}}}
	paths, err := pki.NewValidator(pki.Config{Sets: sets, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.server = &Server{Paths: paths, Sets: sets, DefaultSet: "clients", SourceName: source, Place: func(key string) string { return "certbound.yaml:7" }}
	s.server.Source = certsource.TLS{}
	if source != "tls" {
		if s.server.Source, err = certsource.NewPreset(source, certsource.PresetConfig{Hop: hop}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func capture(h http.Header) *Capture {
	c := &Capture{}
	for name, values := range h {
		for _, v := range values {
			c.Fields = append(c.Fields, Field{Name: name, Value: v, Lines: 1})
		}
	}
	return c
}

func forward(preset string, leaf *x509.Certificate, chain ...*x509.Certificate) http.Header {
	all := certsource.Presets()
	return all[slices.IndexFunc(all, func(p certsource.Preset) bool { return p.Name == preset })].Forward(leaf, chain...)
}

func billing() *authserver.Client {
	return &authserver.Client{ID: "billing", AuthMethod: "tls_client_auth", SubjectDN: "CN=billing,O=Agora,C=GB"}
}

// Each reason, with what an operator has to change.
func TestExplain(t *testing.T) {
	unix := certsource.Hop{UnixSocket: true}
	s := newScene(t, "nginx", unix)
	presented := func(l *pkitest.Leaf) *certsource.Presented {
		return certsource.NewPresented("file", l.Cert, l.Chain()[1:])
	}
	alone := func(l *pkitest.Leaf) *certsource.Presented { return certsource.NewPresented("file", l.Cert, nil) }
	change := func(c *authserver.Client, f func(*authserver.Client)) *authserver.Client { f(c); return c }
	twice := forward("nginx", s.leaf.Cert)
	twice["X-Ssl-Client-Cert"] = append(twice["X-Ssl-Client-Cert"], "x")
	underscore := forward("nginx", s.leaf.Cert)
	underscore["X_ssl_client_cert"] = []string{"x"}
	connection := forward("nginx", s.leaf.Cert)
	connection["Connection"] = []string{"X-SSL-Client-Cert"}
	unverified := forward("nginx", s.leaf.Cert)
	delete(unverified, "X-Ssl-Client-Verify")
	spaces := forward("nginx", s.leaf.Cert)
	spaces["X-Ssl-Client-Cert"][0] = strings.ReplaceAll(spaces["X-Ssl-Client-Cert"][0], "%0A", " ")
	none := http.Header{"X-Ssl-Client-Verify": {"NONE"}}
	self := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=batch"})
	expired := s.issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing,O=Agora,C=GB", NotAfter: time.Now().Add(-time.Minute), NotBefore: time.Now().Add(-time.Hour)})
	server := s.issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing,O=Agora,C=GB", Server: true})
	partner := s.other.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing,O=Agora,C=GB"})

	tests := []struct {
		name   string
		in     Input
		reason decision.Reason
		where  string // of some change
		says   string // in that change, or, without where, in a note
	}{
		{"let in", Input{Presented: presented(s.leaf), Client: billing()}, "", "", ""},
		{"let in, through the proxy", Input{Capture: capture(forward("nginx", s.leaf.Cert)), Server: func() *Server {
			c := *s.server
			c.Sets = []pki.Set{{Name: "clients", Anchors: []*x509.Certificate{s.root.Cert}, Helpers: []*x509.Certificate{s.issuing.Cert}}}
			v, err := pki.NewValidator(pki.Config{Sets: c.Sets})
			if err != nil {
				t.Fatal(err)
			}
			c.Paths = v
			return &c
		}(), Client: billing()}, "", "", ""},
		{"no intermediate behind nginx", Input{Capture: capture(forward("nginx", s.leaf.Cert)), Client: billing()},
			decision.ChainIncomplete, "certbound.yaml:7 trust.sets[0].intermediates", "CN=Issuing,O=Agora"},
		{"no intermediate: the client can send it", Input{Presented: alone(s.leaf), Client: billing()}, decision.ChainIncomplete, "the client", "intermediates"},
		{"another CA", Input{Presented: presented(partner), Client: billing()}, decision.ChainIncomplete, "certbound.yaml:7 trust.sets[0].intermediates", "CN=Partner Root"},
		{"another set", Input{Presented: certsource.NewPresented("file", partner.Cert, []*x509.Certificate{s.other.Cert}), Client: billing()},
			decision.UnknownAuthority, "the registration of billing", "--anchor-set partners"},
		{"another set, declared", Input{Presented: certsource.NewPresented("file", partner.Cert, []*x509.Certificate{s.other.Cert}), Client: billing(), ClientPlace: Place{"clients[2]", "certbound.yaml:40"}},
			decision.UnknownAuthority, "certbound.yaml:40 clients[2].anchor_set", "partners"},
		{"another subject", Input{Presented: presented(s.leaf), Client: change(billing(), func(c *authserver.Client) { c.SubjectDN = "CN=other,O=Agora,C=GB" })},
			decision.SubjectMismatch, "the registration of billing", "certbound client update billing --dn CN=billing,O=Agora,C=GB"},
		{"reversed", Input{Presented: presented(s.leaf), Client: change(billing(), func(c *authserver.Client) { c.SubjectDN = "C=GB,O=Agora,CN=billing" })},
			decision.SubjectMismatch, "the registration of billing", "CN=billing,O=Agora,C=GB"},
		{"as OpenSSL prints it", Input{Presented: presented(s.leaf), Client: change(billing(), func(c *authserver.Client) { c.SubjectDN = "C = GB, O = Agora, CN = billing" })},
			decision.SubjectMismatch, "", "what is registered is the name as OpenSSL prints it (-nameopt oneline)"},
		{"another kind", Input{Presented: presented(s.leaf), Client: change(billing(), func(c *authserver.Client) { c.SubjectDN, c.SANURI = "", "https://x.example/" })},
			decision.SubjectAbsent, "the registration of billing", "--san-dns billing.example"},
		{"the chain, and the subject as well", Input{Presented: alone(s.leaf), Client: change(billing(), func(c *authserver.Client) { c.SubjectDN = "CN=x" })},
			decision.ChainIncomplete, "", "the subject would be refused as well"},
		{"a self-signed one for a client of a CA", Input{Presented: alone(self), Client: billing()},
			decision.UnknownAuthority, "the registration of billing", "--method self_signed_tls_client_auth"},
		{"one of a CA for a self-signed client", Input{Presented: presented(s.leaf), Client: &authserver.Client{ID: "batch", AuthMethod: "self_signed_tls_client_auth", JWKS: jwksOf(self)}},
			decision.NotRegistered, "", "for a certificate of a CA the method is tls_client_auth"},
		{"the registered one", Input{Presented: alone(self), Client: &authserver.Client{ID: "batch", AuthMethod: "self_signed_tls_client_auth", JWKS: jwksOf(self)}}, "", "", ""},
		{"not the registered one", Input{Presented: alone(pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=batch"})), Client: &authserver.Client{ID: "batch", AuthMethod: "self_signed_tls_client_auth", JWKS: jwksOf(self)}},
			decision.NotRegistered, "the registration of batch", "certbound client update batch --cert FILE"},
		{"a key set elsewhere", Input{Presented: alone(self), Client: &authserver.Client{ID: "batch", AuthMethod: "self_signed_tls_client_auth", JWKSURI: "https://batch.example/jwks"}}, "", "", ""},
		{"expired", Input{Presented: presented(expired), Client: billing()}, decision.Expired, "the CA", "dates"},
		{"a certificate for servers", Input{Presented: presented(server), Client: billing()}, decision.ExtKeyUsage, "the CA", "clientAuth"},
		{"nobody", Input{Presented: presented(s.leaf), ClientID: "biling"}, decision.UnknownClient, "the registrations", "certbound client add biling"},
		{"disabled", Input{Presented: presented(s.leaf), Client: change(billing(), func(c *authserver.Client) { c.Disabled = true })}, decision.ClientDisabled, "the registration of billing", "--enable"},
		{"another method", Input{Presented: presented(s.leaf), Client: &authserver.Client{ID: "x", AuthMethod: "client_secret_basic"}}, "", "", ""},
		{"a quote in an id", Input{Presented: presented(s.leaf), Client: change(billing(), func(c *authserver.Client) { c.ID, c.SubjectDN = "it's; rm -rf /", "CN=x" })},
			decision.SubjectMismatch, "the registration of it's; rm -rf /", `'it'\''s; rm -rf /'`},
		{"no client", Input{Presented: presented(s.leaf)}, "", "", ""},
		{"no client, no path", Input{Presented: alone(s.leaf)}, decision.ChainIncomplete, "certbound.yaml:7 trust.sets[0].intermediates", "CN=Issuing,O=Agora"},
		{"no client, self-signed", Input{Presented: alone(self)}, "", "", ""},

		{"twice", Input{Capture: capture(twice)}, decision.SourceRepeated, "nginx, see docs/proxies/nginx.conf", "proxy_set_header X-SSL-Client-Cert"},
		{"underscores", Input{Capture: capture(underscore)}, decision.SourceLookAlike, "nginx, see docs/proxies/nginx.conf", "underscores_in_headers off"},
		{"named in Connection", Input{Capture: capture(connection)}, decision.SourceHopByHop, "nginx, see docs/proxies/nginx.conf", "remove"},
		{"no word of verification", Input{Capture: capture(unverified)}, decision.SourceUnverified, "nginx, see docs/proxies/nginx.conf", "$ssl_client_verify"},
		{"spaces for line ends", Input{Capture: capture(spaces)}, decision.SourceHalfDecoded, "nginx, see docs/proxies/nginx.conf", "$ssl_client_escaped_cert"},
		{"no certificate", Input{Capture: capture(none)}, decision.NoCertificate, "nginx, see docs/proxies/nginx.conf", "ask clients"},
		{"another proxy than configured", Input{Capture: capture(forward("traefik", s.leaf.Cert))}, decision.NoCertificate, "certbound.yaml:7 listen.mtls.source", "source: traefik"},
		{"over several lines", Input{Capture: &Capture{Fields: []Field{{Name: "X-SSL-Client-Cert", Value: "-----BEGIN CERTIFICATE-----\n\tMII", Lines: 2}}}},
			decision.SourceMalformed, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.in.Server == nil {
				tt.in.Server = s.server
			}
			r, err := Explain(t.Context(), tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Decision.Reason(); got != tt.reason || r.Refused() != (tt.reason != "") {
				t.Fatalf("%s, want %s\n%s", got, tt.reason, r.Decision)
			}
			if r.Refused() && len(r.Changes) == 0 {
				t.Error("nothing to change")
			}
			if !r.Refused() && !r.Decision.Allowed {
				t.Errorf("neither refused nor allowed:\n%s", r.Decision)
			}
			found := tt.where == "" && (tt.says == "" || slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, tt.says) }))
			for _, c := range r.Changes {
				found = found || tt.where != "" && c.Where == tt.where && strings.Contains(c.What+"\n"+c.Line, tt.says)
			}
			if !found {
				t.Errorf("nothing says %q at %q: %+v %q", tt.says, tt.where, r.Changes, r.Notes)
			}
		})
	}
}

func jwksOf(l *pkitest.Leaf) []byte {
	der := base64.StdEncoding.EncodeToString(l.Cert.Raw)
	pub, err := l.Cert.PublicKey.(interface{ Bytes() ([]byte, error) }).Bytes()
	if err != nil {
		panic(err)
	}
	coordinate := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	return fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","x":%q,"y":%q,"x5c":[%q]}]}`, coordinate(pub[1:33]), coordinate(pub[33:]), der)
}

// The path says where each certificate came from, and which one is missing.
func TestPath(t *testing.T) {
	s := newScene(t, "tls", certsource.Hop{})
	roles := func(in Input) string {
		in.Client, in.Server = billing(), s.server
		r, err := Explain(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, step := range r.Path {
			out = append(out, step.Role+" "+step.Name)
		}
		return strings.Join(out, " | ")
	}
	if got, want := roles(Input{Presented: certsource.NewPresented("file", s.leaf.Cert, s.leaf.Chain()[1:])}), "leaf CN=billing,O=Agora,C=GB | presented CN=Issuing,O=Agora | anchor CN=Root,O=Agora"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := roles(Input{Presented: certsource.NewPresented("file", s.leaf.Cert, nil)}), "leaf CN=billing,O=Agora,C=GB | missing CN=Issuing,O=Agora"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The peer is judged where it is given and the configuration has addresses.
func TestPeer(t *testing.T) {
	s := newScene(t, "nginx", certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.3.0/28")}, UnixSocket: true, InsecurePrivateNetwork: true})
	for peer, want := range map[string]decision.Reason{"": "", "10.0.3.4": "", "10.0.3.4:5000": "", "192.0.2.1:5000": decision.SourceUntrusted, "[2001:db8::1]:1": decision.SourceUntrusted} {
		c := capture(forward("nginx", s.leaf.Cert))
		c.Peer = peer
		in := Input{Capture: c, Server: &Server{Source: s.server.Source, SourceName: "nginx"}}
		r, err := Explain(t.Context(), in)
		if err != nil || r.Decision.Reason() != want {
			t.Errorf("%q: %s, want %s, %v", peer, r.Decision.Reason(), want, err)
		}
		if want != "" && !strings.Contains(r.Changes[0].What, peer) {
			t.Errorf("%q: %+v", peer, r.Changes)
		}
	}
}

// The spellings of the name are there where it has to be compared or registered, and
// nowhere else.
func TestNamesWhereTheyAreTheQuestion(t *testing.T) {
	s := newScene(t, "tls", certsource.Hop{})
	presented := certsource.NewPresented("file", s.leaf.Cert, s.leaf.Chain()[1:])
	alone := certsource.NewPresented("file", s.leaf.Cert, nil)
	other := billing()
	other.SubjectDN = "CN=other"
	for _, tt := range []struct {
		name string
		in   Input
		want bool
	}{
		{"nobody is registered yet", Input{Presented: presented}, true},
		{"a client that is not known", Input{Presented: presented, ClientID: "x"}, true},
		{"another name", Input{Presented: presented, Client: other}, true},
		{"no path, and another name", Input{Presented: alone, Client: other}, true},
		{"no path", Input{Presented: alone, Client: billing()}, false},
		{"no path, and no client", Input{Presented: alone}, false},
		{"let in", Input{Presented: presented, Client: billing()}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Server = s.server
			r, err := Explain(t.Context(), tt.in)
			if err != nil || (len(r.Names) == 7) != tt.want || (len(r.Names) == 0) == tt.want {
				t.Errorf("%d names, %v", len(r.Names), err)
			}
			if r.Decision.Subject != "CN=billing,O=Agora,C=GB" {
				t.Errorf("subject %q", r.Decision.Subject)
			}
		})
	}
}

// From the log the same is said as of the request itself.
func TestRecord(t *testing.T) {
	rec := &Record{ID: "1", Decision: refusal()}
	r, err := Explain(t.Context(), Input{Record: rec, Client: billing()})
	if err != nil || !r.Refused() || len(r.Names) != 7 || r.Source != "nginx" {
		t.Fatalf("%+v %v", r, err)
	}
	if c := r.Changes[0]; c.Line != "certbound client update billing --dn CN=mallory,O=Agora" {
		t.Errorf("%+v", r.Changes)
	}
	other := pkitest.MustSelfSigned(pkitest.LeafOptions{})
	r, err = Explain(t.Context(), Input{Record: rec, Presented: certsource.NewPresented("file", other.Cert, nil)})
	if err != nil || !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "not the one of the request") }) || r.Certificate != nil {
		t.Errorf("%+v %v", r, err)
	}
}

// A grant that was refused names the member of the registration, and quotes what the
// client has asked for.
func TestRecordOfGrant(t *testing.T) {
	for _, tt := range []struct {
		check decision.Check
		place Place
		where string
		line  string
	}{
		{decision.Check{Reason: decision.ScopeNotAllowed, Expected: "read", Found: "write"}, Place{},
			"the registration of billing", "certbound client update billing --scope 'read write'"},
		{decision.Check{Reason: decision.ScopeNotAllowed, Found: "$(id)"}, Place{},
			"the registration of billing", "certbound client update billing --scope '$(id)'"},
		{decision.Check{Reason: decision.ScopeNotAllowed, Expected: "read", Found: "write"}, Place{"clients[0]", "certbound.yaml:9"},
			"certbound.yaml:9 clients[0].scope", ""},
		{decision.Check{Reason: decision.ResourceNotAllowed, Expected: "https://a.example", Found: "https://b.example"}, Place{"clients[0]", "certbound.yaml:9"},
			"tokens.resources", ""},
	} {
		tt.check.Name, tt.check.Outcome = decision.CheckGrant, decision.Failed
		d := &decision.Decision{ClientID: "billing", Checks: []decision.Check{tt.check}}
		r, err := Explain(t.Context(), Input{Record: &Record{ID: "1", Decision: d}, Client: billing(), ClientPlace: tt.place})
		if err != nil || len(r.Changes) != 2 {
			t.Fatalf("%+v %v", r, err)
		}
		if c := r.Changes[0]; c.Where != tt.where || c.Line != tt.line {
			t.Errorf("%+v, want %s and %s", c, tt.where, tt.line)
		}
	}
}

// An unknown preset, and one that lacks a setting, are errors and not findings.
func TestPresetErrors(t *testing.T) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
	for _, preset := range []string{"no-such", "xfcc"} {
		if r, err := Explain(t.Context(), Input{Capture: capture(forward("xfcc", leaf.Cert)), Preset: preset}); err == nil || r != nil {
			t.Errorf("%s: %+v", preset, r)
		}
	}
	r, err := Explain(t.Context(), Input{Capture: capture(forward("xfcc", leaf.Cert)), Preset: "xfcc", TrustedHops: 1})
	if err != nil || r.Thumbprint == "" {
		t.Errorf("%+v %v", r, err)
	}
}

// A field under a name that nobody knows is found by its value.
func TestRenamedField(t *testing.T) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
	pem := string(pkitest.PEM(leaf.Cert))
	for want, value := range map[string]string{
		"header-escaped-pem": strings.ReplaceAll(url.QueryEscape(pem), "+", "%20"),
		"header-der":         base64.StdEncoding.EncodeToString(leaf.Cert.Raw),
		"header-pem":         strings.ReplaceAll(strings.TrimSpace(pem), "\n", " "),
	} {
		got := Detect(t.Context(), capture(http.Header{"X-Our-Own": {value}}))
		if len(got) == 0 || got[0].Preset != want || got[0].Fit != Fits || got[0].Field != "X-Our-Own" {
			t.Errorf("%s: %+v", want, got)
		}
	}
	if got := Detect(t.Context(), capture(http.Header{"Authorization": {"Bearer " + strings.Repeat("A", 300)}, "User-Agent": {"curl"}})); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// The lines that are shown stand in the files of docs/proxies.
func TestProxyLines(t *testing.T) {
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for name, lines := range proxyLines {
		p, ok := presetNamed(name)
		if !ok {
			t.Errorf("%s: no such preset", name)
			continue
		}
		stem := strings.TrimSuffix(p.Config, filepath.Ext(p.Config))
		files, err := filepath.Glob("../../docs/proxies/" + stem + "*")
		if err != nil || len(files) == 0 {
			t.Errorf("%s: no file: %v", name, err)
		}
		var text string
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			text += squeeze(string(data)) + "\n"
		}
		for _, line := range []string{lines.send, lines.verify, lines.remove} {
			if !strings.Contains(text, squeeze(line)) {
				t.Errorf("%s: %q is not in %s", name, line, files)
			}
		}
	}
}
