package negative

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/pkitest"
)

// A deployment is a small one: a token endpoint and a resource, on one listener. Each flaw
// is one that somebody had.
type deployment struct {
	mu      sync.Mutex
	anchors *x509.CertPool
	want    []byte // the registered subject
	tokens  map[string]string
	flaw    string
	known   map[string]bool // verdicts and tokens that a careless cache has
}

func (d *deployment) valid(cert *x509.Certificate, rest []*x509.Certificate) bool {
	pool := x509.NewCertPool()
	for _, c := range rest {
		pool.AddCert(c)
	}
	if d.flaw == "verdicts for ever" && d.known[thumb(cert)] {
		return true
	}
	usage := x509.ExtKeyUsageClientAuth
	if d.flaw == "any usage" {
		usage = x509.ExtKeyUsageAny
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: d.anchors, Intermediates: pool, KeyUsages: []x509.ExtKeyUsage{usage}})
	ok := err == nil && (d.flaw == "any leaf" || !cert.IsCA && cert.KeyUsage&x509.KeyUsageDigitalSignature != 0) &&
		cert.PublicKeyAlgorithm != x509.RSA
	if d.flaw == "no validation" {
		ok = true
	}
	d.known[thumb(cert)] = ok
	return ok
}

func (d *deployment) named(cert *x509.Certificate, rest []*x509.Certificate) bool {
	want := string(d.want)
	switch d.flaw {
	case "any certificate of the chain":
		return slices.ContainsFunc(append(rest, cert), func(c *x509.Certificate) bool { return string(c.RawSubject) == want })
	case "text":
		parsed, err := x509.ParseCertificate(cert.Raw)
		return err == nil && strings.Contains(strings.ToLower(parsed.Subject.String()), "cn=billing")
	case "text to the NUL":
		cn, _, _ := strings.Cut(cert.Subject.CommonName, "\x00")
		return cn == "billing"
	}
	return string(cert.RawSubject) == want
}

func thumb(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (d *deployment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	peer := r.TLS.PeerCertificates
	if d.flaw == "header" {
		if text, err := url.QueryUnescape(r.Header.Get("X-SSL-Client-Cert")); err == nil {
			if b, _ := pem.Decode([]byte(text)); b != nil {
				if c, err := x509.ParseCertificate(b.Bytes); err == nil {
					peer = []*x509.Certificate{c}
				}
			}
		}
	}
	refuse := func(status int) { w.WriteHeader(status) }
	if r.URL.Path == "/api" {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		bound, ok := d.tokens[token]
		switch {
		case d.flaw == "resource without a check of the token":
		case !ok:
			refuse(http.StatusUnauthorized)
			return
		case d.flaw == "bearer":
		case d.flaw == "answers by token" && d.known["token "+token]:
		case len(peer) == 0 || thumb(peer[0]) != bound:
			refuse(http.StatusUnauthorized)
			return
		}
		d.known["token "+token] = true
		_, _ = io.WriteString(w, "ok")
		return
	}
	if len(peer) == 0 {
		refuse(map[bool]int{true: http.StatusInternalServerError, false: http.StatusUnauthorized}[d.flaw == "fails"])
		return
	}
	if d.flaw == "fetches what it is told" {
		for _, address := range peer[0].CRLDistributionPoints {
			if resp, err := http.Get(address); err == nil {
				resp.Body.Close()
			}
		}
	}
	if r.Method != http.MethodPost || !d.valid(peer[0], peer[1:]) || !d.named(peer[0], peer[1:]) {
		refuse(http.StatusUnauthorized)
		return
	}
	token := thumb(peer[0])[:20] + time.Now().Format("150405.000000000")
	d.tokens[token] = thumb(peer[0])
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer"})
}

// start runs a deployment with a flaw and returns it as a target.
func start(t *testing.T, flaw string) Target {
	t.Helper()
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Clients,O=Agora"})
	client := pkitest.LeafOptions{Subject: "CN=billing,OU=apps,O=Agora"}
	d := &deployment{anchors: ca.Pool(), want: ca.MustLeaf(client).Cert.RawSubject, tokens: map[string]string{}, known: map[string]bool{}, flaw: flaw}
	servers := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Servers"})
	s := httptest.NewUnstartedServer(d)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{servers.MustLeaf(pkitest.LeafOptions{Server: true}).TLS()}, ClientAuth: tls.RequestClientCert}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return Target{
		TokenURL: s.URL + "/token", PublicURL: s.URL + "/metadata", Resources: []string{s.URL + "/api"},
		ClientID: "billing", CA: ca, Client: client, RootCAs: servers.Pool(), CanaryWait: 50 * time.Millisecond,
		ReplaceAnchors: func(_ *testing.T, anchors []*x509.Certificate) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.anchors = x509.NewCertPool()
			for _, c := range anchors {
				d.anchors.AddCert(c)
			}
		},
	}
}

// A deployment without a flaw withstands everything.
func TestSound(t *testing.T) { Run(t, start(t, "")) }

// Each flaw is found, by the attack that is named after it.
func TestFlawsAreFound(t *testing.T) {
	for flaw, want := range map[string][]string{
		"any certificate of the chain":          {"attack 1/the victim's certificate behind another", "attack 1/intermediate with the victim's name"},
		"any leaf":                              {"attack 1/a CA with the victim's name", "key usage without digitalSignature"},
		"any usage":                             {"attack 15/for servers only"},
		"no validation":                         {"unknown CA", "self-signed", "expired", "attack 13/same serial number, issuer and key identifier"},
		"text":                                  {"attack 12/an RDN more at the top", "attack 14/a longer value", "attack 16/the subject as a value", "attack 17/the CN in an OU"},
		"text to the NUL":                       {"attack 14/NUL in a value", "attack 14/NUL at the end of a value"},
		"header":                                {"attack 2/forged header, no certificate", "attack 2/forged header, another certificate", "attack 26/forged headers, all at once"},
		"fetches what it is told":               {"attack 3/addresses in an untrusted certificate"},
		"verdicts for ever":                     {"attack 5"},
		"bearer":                                {"attack 24/token without a certificate", "attack 24/token with another certificate", "attack 22/one token with several certificates, warm cache"},
		"answers by token":                      {"attack 22/one token with several certificates, warm cache"},
		"resource without a check of the token": {"attack 24/no token", "attack 23/token that was changed"},
		"fails":                                 {"no certificate"}, // 500 is no refusal
	} {
		t.Run(flaw, func(t *testing.T) {
			target, err := start(t, flaw).check()
			if err != nil {
				t.Fatal(err)
			}
			attacks, leftOut, err := target.attacks()
			if err != nil || len(leftOut) != 1 { // there is no self-signed client
				t.Fatal(leftOut, err)
			}
			p := &prober{target: target, by: protocol{tls.VersionTLS13, false}}
			if err := p.control(); err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, a := range attacks {
				if a.try(p) != nil {
					title, _, _ := strings.Cut(a.title(), " at https")
					found = append(found, title)
				}
			}
			if len(p.oldSessions(t)) > 0 {
				found = append(found, "attack 5")
			}
			for _, title := range want {
				if !slices.Contains(found, title) {
					t.Errorf("not found: %s; found: %q", title, found)
				}
			}
		})
	}
}

// A deployment that refuses everybody, or that cannot be reached, has passed nothing.
func TestControl(t *testing.T) {
	target, err := start(t, "").check()
	if err != nil {
		t.Fatal(err)
	}
	p := &prober{target: target, by: protocol{tls.VersionTLS13, true}}
	p.target.Client.Subject = "CN=somebody else"
	if err := p.control(); err == nil {
		t.Error("the good client is not told from a bad one")
	}
	p.target = target
	p.target.TokenURL = "https://127.0.0.1:1/token"
	if err := refused(p.token(nil, request{})); err == nil {
		t.Error("a closed port has refused an attack")
	}
	if p.speaks() == nil {
		t.Error("a closed port speaks TLS")
	}
	if err := refused(answer{err: context.DeadlineExceeded}); err == nil {
		t.Error("a deployment that hangs has refused an attack")
	}
}

func TestTargetFaults(t *testing.T) {
	ca := pkitest.MustCA(pkitest.CAOptions{})
	good := Target{TokenURL: "https://as.example/token", ClientID: "x", CA: ca}
	if _, err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Target){
		"no CA":            func(x *Target) { x.CA = nil },
		"no client":        func(x *Target) { x.ClientID = "" },
		"http":             func(x *Target) { x.TokenURL = "http://as.example/token" },
		"resource":         func(x *Target) { x.Resources = []string{"/api"} },
		"registered":       func(x *Target) { x.Registered = "subject" },
		"half of a client": func(x *Target) { x.SelfSignedID = "y" },
		"public is no URL": func(x *Target) { x.PublicURL = "as.example" },
	} {
		x := good
		change(&x)
		if _, err := x.check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
