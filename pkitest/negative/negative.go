// Package negative comes to an OAuth deployment with mutual TLS (RFC 8705) as attackers
// came to others, and wants to be refused. It runs against anything that has a token
// endpoint and perhaps resources, in a test of yours:
//
//	func TestNegative(t *testing.T) {
//		negative.Run(t, negative.Target{
//			TokenURL: "https://mtls.as.example/token", Resources: []string{"https://api.example/"},
//			ClientID: "billing", CA: ca, Client: pkitest.LeafOptions{Subject: "CN=billing,O=Agora"},
//		})
//	}
//
// The deployment trusts a CA of the test ([pkitest.CA]), which issues good certificates
// and bad ones. Each attack is a subtest with the number and name of a published advisory
// or defect; its failure says what was sent, what should have happened and what did. The
// good client is asked for a token before and after, since a deployment that refuses
// everybody would pass otherwise.
//
// What shows only inside a deployment is not here: whether it starts with a broken file of
// anchors, what it writes to its log, and which of its switches turn off which check.
//
// Run it against a test deployment: some hundred requests are refused, and the log of the
// deployment and its alerts will show that.
package negative

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/pkitest"
)

// A Target is a deployment and a client of it.
type Target struct {
	// TokenURL is the token endpoint for clients with certificates. Required.
	TokenURL string
	// PublicURL is any URL of the same deployment at a host that does not ask for a
	// certificate. If empty, attacks that cross hosts are left out.
	PublicURL string
	// Resources are URLs that answer 2xx to a GET with a token of this client and its
	// certificate, and the client's tokens are bound to certificates. If empty, attacks
	// with stolen tokens are left out.
	Resources []string

	// ClientID is a client that is registered for tls_client_auth. Required.
	ClientID string
	// Registered is the member of its registration, of RFC 8705, Section 2.1.2, such as
	// tls_client_auth_san_dns. If empty, tls_client_auth_subject_dn.
	Registered string
	// CA issues certificates that the deployment trusts for this client: a root, or an
	// intermediate below a trusted root. Required.
	CA *pkitest.CA
	// Client describes the certificate of the client: with it, CA issues one that
	// authenticates ClientID. It should have more than one RDN.
	Client pkitest.LeafOptions
	// Params are further parameters of the token request, such as scope and resource.
	// grant_type and client_id are set here.
	Params url.Values

	// SelfSignedID is a client that is registered for self_signed_tls_client_auth with
	// the certificate SelfSigned. If empty, attacks on such a client are left out.
	SelfSignedID string
	SelfSigned   *pkitest.Leaf

	// HeaderNames are fields in which proxies of this deployment hand over certificates,
	// beside those that are tried anyway.
	HeaderNames []string
	// ReplaceAnchors makes the deployment trust exactly these certificates for the
	// client, and returns when it does. If nil, attacks with old sessions are left out.
	ReplaceAnchors func(t *testing.T, anchors []*x509.Certificate)

	// CanaryAddress is where the suite listens for requests that a certificate has lured
	// the deployment into: a host and port that the deployment can reach. If empty, a
	// port of 127.0.0.1, for a deployment on the same machine.
	CanaryAddress string
	// CanaryWait is how long it listens. If zero, one second.
	CanaryWait time.Duration

	// RootCAs verifies the deployment. If nil, the system's.
	RootCAs *x509.CertPool
	// DialContext opens connections, if the names of the deployment do not lead to it. If
	// nil, as [net.Dialer] does.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one request. If zero, 20 seconds.
	Timeout time.Duration
}

// The members of a registration.
const (
	subjectDN = "tls_client_auth_subject_dn"
	sanDNS    = "tls_client_auth_san_dns"
	sanURI    = "tls_client_auth_san_uri"
	sanIP     = "tls_client_auth_san_ip"
	sanEmail  = "tls_client_auth_san_email"
)

func (target Target) check() (Target, error) {
	var wrong []string
	for name, text := range map[string]string{"TokenURL": target.TokenURL, "PublicURL": target.PublicURL} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
			wrong = append(wrong, name+" is not an https URL")
		}
	}
	for _, text := range target.Resources {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
			wrong = append(wrong, "one of Resources is not an https URL")
		}
	}
	if target.TokenURL == "" || target.ClientID == "" || target.CA == nil {
		wrong = append(wrong, "TokenURL, ClientID and CA are required")
	}
	target.Registered = cmp.Or(target.Registered, subjectDN)
	switch target.Registered {
	case subjectDN, sanDNS, sanURI, sanIP, sanEmail:
	default:
		wrong = append(wrong, "Registered is no member of RFC 8705, Section 2.1.2")
	}
	if (target.SelfSignedID == "") != (target.SelfSigned == nil) {
		wrong = append(wrong, "SelfSignedID and SelfSigned belong together")
	}
	target.CanaryAddress = cmp.Or(target.CanaryAddress, "127.0.0.1:0")
	target.CanaryWait = cmp.Or(target.CanaryWait, time.Second)
	target.Timeout = cmp.Or(target.Timeout, 20*time.Second)
	if len(wrong) > 0 {
		return target, fmt.Errorf("negative: target: %s", strings.Join(wrong, "; "))
	}
	return target, nil
}

// An attack is one row of the matrix.
type attack struct {
	// number is that of the advisory in the list of attacks; 0 if it is a rule of RFC
	// 5280 or RFC 8705 without one.
	number int
	name   string
	sent   string // what the attacker does
	want   string // what has to happen
	// try returns why the deployment has not withstood.
	try func(p *prober) error
}

func (a attack) title() string {
	if a.number == 0 {
		return a.name
	}
	return fmt.Sprintf("attack %d/%s", a.number, a.name)
}

// A protocol is a version of TLS with one of HTTP.
type protocol struct {
	version uint16
	http2   bool
}

func (p protocol) String() string {
	if p.http2 {
		return tls.VersionName(p.version) + " HTTP/2"
	}
	return tls.VersionName(p.version) + " HTTP/1.1"
}

var protocols = []protocol{
	{tls.VersionTLS12, false}, {tls.VersionTLS12, true}, {tls.VersionTLS13, false}, {tls.VersionTLS13, true},
}

// Run runs every attack that the target has settings for, by each protocol that it speaks
// (TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2): a policy that is missing on one of them is a hole
// like any other. What is left out is logged.
func Run(t *testing.T, target Target) {
	t.Helper()
	target, err := target.check()
	if err != nil {
		t.Fatal(err)
	}
	attacks, leftOut, err := target.attacks()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range leftOut {
		t.Log("left out: " + text)
	}
	spoken := 0
	var fault error
	for _, by := range protocols {
		p := &prober{target: target, by: by}
		if fault = p.speaks(); fault != nil {
			t.Logf("left out: %s, which the deployment does not speak", by)
			continue
		}
		spoken++
		t.Run(by.String(), func(t *testing.T) {
			t.Attr("attack", "10")
			if err := p.control(); err != nil {
				t.Fatalf("the good client does not get through, so that nothing can be learned from refusals: %v", err)
			}
			for _, a := range attacks {
				t.Run(a.title(), func(t *testing.T) {
					if a.number != 0 {
						t.Attr("attack", fmt.Sprint(a.number))
					}
					if err := a.try(p); err != nil {
						t.Errorf("sent: %s\nexpected: %s\nfound: %v", a.sent, a.want, err)
					}
				})
			}
			if err := p.control(); err != nil {
				t.Errorf("after the attacks, the good client does not get through: %v", err)
			}
			if target.ReplaceAnchors != nil {
				t.Run("attack 5/session from before a change of trust", func(t *testing.T) {
					t.Attr("attack", "5 6")
					for _, err := range p.oldSessions(t) {
						t.Errorf("sent: a token request on a connection, a session and a handshake, after the anchors were replaced\nexpected: %s\nfound: %v", noToken, err)
					}
				})
			}
		})
	}
	if spoken == 0 {
		t.Errorf("the deployment speaks neither TLS 1.2 nor TLS 1.3, or it cannot be reached; for a CA of your own set RootCAs: %v", fault)
	}
}

// attacks returns the matrix, and what is not in it for want of settings.
func (target Target) attacks() (all []attack, leftOut []string, err error) {
	defer func() {
		// A certificate that pkitest cannot make is a fault of the settings.
		if p := recover(); p != nil {
			all, err = nil, fmt.Errorf("negative: making certificates: %v", p)
		}
	}()
	all = append(all, target.paths()...)
	all = append(all, target.names()...)
	all = append(all, target.headers()...)
	all = append(all, target.luring())
	if target.SelfSigned != nil {
		all = append(all, target.selfSigned()...)
	} else {
		leftOut = append(leftOut, "a self-signed client (SelfSignedID and SelfSigned)")
	}
	if target.PublicURL != "" {
		all = append(all, target.hosts()...)
	} else {
		leftOut = append(leftOut, "crossing from a host without certificates (PublicURL)")
	}
	if len(target.Resources) > 0 {
		all = append(all, target.tokens()...)
	} else {
		leftOut = append(leftOut, "stolen tokens (Resources)")
	}
	if target.ReplaceAnchors == nil {
		leftOut = append(leftOut, "sessions from before a change of trust (ReplaceAnchors)")
	}
	return all, leftOut, nil
}
