// Package doctor looks at a running deployment from outside, as its clients and its enemies
// do: metadata, TLS settings, who is asked for a certificate, what resumption does to
// identities, and whether anything lets a forged certificate header through.
//
// It sends requests, changes nothing, and knows no secret of the deployment but, perhaps, a
// probe credential (package probe), without which the server tells nobody what it believed.
package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/internal/metadata"
)

// An Outcome is what a look has found.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Problem Outcome = "problem"
	Note    Outcome = "note"    // could be better, and does no harm as it is
	Skipped Outcome = "skipped" // could not be looked at; Found says why
)

// Checks are the names of the looks, in their order.
const (
	CheckMetadata          = "metadata"           // RFC 8414 and OpenID Connect Discovery
	CheckAliases           = "aliases"            // mtls_endpoint_aliases
	CheckEndpoints         = "endpoints"          // they answer as endpoints do
	CheckKeys              = "keys"               // jwks_uri
	CheckServerCertificate = "server-certificate" // valid for the name, and for a while
	CheckVersions          = "tls-versions"       //
	CheckSuites            = "tls-suites"         //
	CheckAsks              = "asks"               // who is asked for a certificate, and how
	CheckDemands           = "demands"            // TLS must not refuse what OAuth judges
	CheckProbe             = "probe"              // the credential counts
	CheckArrives           = "arrives"            // the certificate of the client reaches the server
	CheckResumption        = "resumption"         // a resumed session keeps the identity
	CheckIdentities        = "identities"         // two clients stay two
	CheckTickets           = "tickets"            // a session of one host is worth nothing at the other
	CheckForged            = "forged"             // a header of a stranger is not believed
	CheckStripped          = "stripped"           // and does not even arrive, behind a proxy
	CheckAuthority         = "authority"          // SNI and Host
	CheckClock             = "clock"              //
)

// A Finding is the outcome of one look at one place.
type Finding struct {
	Check   string  `json:"check"`
	Outcome Outcome `json:"outcome"`
	// Where is a host and port, or a URL.
	Where string `json:"where,omitempty"`
	Found string `json:"found"`
	// Expected and Fix are set for a problem and for a note.
	Expected string `json:"expected,omitempty"`
	Fix      string `json:"fix,omitempty"`
	// Rule is the specification that asks for it.
	Rule string `json:"rule,omitempty"`
	// Details are the single cases, such as the headers that got through.
	Details []string `json:"details,omitempty"`
}

// A Report is everything that was found.
type Report struct {
	Issuer string `json:"issuer"`
	// Public and MTLS are the hosts with their ports.
	Public   string    `json:"public"`
	MTLS     []string  `json:"mtls"`
	Time     time.Time `json:"time"`
	Findings []Finding `json:"findings"`
	Problems int       `json:"problems"`
	Notes    int       `json:"notes"`
	Skipped  int       `json:"skipped"`
}

// Config holds the settings.
type Config struct {
	// Issuer is the issuer identifier. Required.
	Issuer string
	// RootCAs vouch for the servers. If nil, the system's.
	RootCAs *x509.CertPool
	// Credential is a probe credential. Without one, whatever needs to know what the
	// server believed is left out. It is sent only to a server whose certificate is
	// valid.
	Credential string
	// Timeout bounds one connection or request. If zero, 10 seconds.
	Timeout time.Duration
	// Dial connects. If nil, a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// ErrIssuer reports an issuer that is not a URL that can be looked at.
var ErrIssuer = errors.New("doctor: the issuer must be an https URL without query and fragment")

// A target is a host that is looked at.
type target struct {
	address string // host:port
	name    string // of TLS
	mtls    bool
	// leaf is the certificate of the server, if it is valid for the name; only then is
	// the credential sent there.
	leaf *x509.Certificate
	// best is the highest version, h2 says whether it speaks HTTP/2.
	versions []uint16
	h2       bool
	answers  bool // it speaks TLS at all
	probes   bool // it takes the credential
}

// authority is the Host of requests: with the port, unless it is 443.
func (t *target) authority() string {
	host, port, _ := net.SplitHostPort(t.address)
	if port == "443" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return t.address
}

type doctor struct {
	cfg     Config
	report  *Report
	client  *http.Client
	doc     *metadata.Document
	public  *target
	mtls    []*target
	a, b    *identity
	fetches []clockReading
}

// Run looks at everything. The error is ErrIssuer, or that ctx has ended.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	d, err := newDoctor(cfg)
	if err != nil {
		return nil, err
	}
	defer d.client.CloseIdleConnections()
	d.metadata(ctx)
	for _, t := range d.targets() {
		d.serverCertificate(ctx, t)
	}
	d.endpoints(ctx)
	for _, t := range d.targets() {
		d.versions(ctx, t)
		d.suites(ctx, t)
	}
	for _, t := range d.targets() {
		d.asks(ctx, t)
	}
	for _, t := range d.mtls {
		d.demands(ctx, t)
	}
	d.authorities(ctx)
	d.tickets(ctx)
	d.probes(ctx)
	d.clock()
	return d.finish(ctx)
}

func newDoctor(cfg Config) (*doctor, error) {
	if err := metadata.CheckIssuer(cfg.Issuer); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	u, err := url.Parse(cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a, err := newIdentity("CN=certbound doctor A")
	if err != nil {
		return nil, err
	}
	b, err := newIdentity("CN=certbound doctor B")
	if err != nil {
		return nil, err
	}
	d := &doctor{cfg: cfg, a: a, b: b, public: targetOf(u, false)}
	d.report = &Report{Issuer: cfg.Issuer, Public: d.public.address, MTLS: []string{}, Time: cfg.Now().UTC(), Findings: []Finding{}}
	d.client = &http.Client{Timeout: cfg.Timeout, Transport: &http.Transport{
		DialContext:         cfg.Dial,
		TLSClientConfig:     &tls.Config{RootCAs: cfg.RootCAs},
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: cfg.Timeout,
		DisableKeepAlives:   true,
	}}
	return d, nil
}

func targetOf(u *url.URL, mtls bool) *target {
	port := cmp.Or(u.Port(), "443")
	return &target{address: net.JoinHostPort(u.Hostname(), port), name: strings.TrimSuffix(u.Hostname(), "."), mtls: mtls}
}

// targets are the public host and those of the aliases, each once.
func (d *doctor) targets() []*target {
	out := []*target{d.public}
	for _, t := range d.mtls {
		if t != d.public {
			out = append(out, t)
		}
	}
	return out
}

func (d *doctor) ok(check, where, found string) {
	d.report.Findings = append(d.report.Findings, Finding{Check: check, Outcome: OK, Where: where, Found: found})
}

func (d *doctor) skip(check, where, why string) {
	d.report.Findings = append(d.report.Findings, Finding{Check: check, Outcome: Skipped, Where: where, Found: why})
}

func (d *doctor) problem(f Finding) {
	f.Outcome = Problem
	d.report.Findings = append(d.report.Findings, f)
}

func (d *doctor) note(f Finding) {
	f.Outcome = Note
	d.report.Findings = append(d.report.Findings, f)
}

// order of the checks in a report.
var order = []string{
	CheckMetadata, CheckAliases, CheckEndpoints, CheckKeys, CheckServerCertificate, CheckVersions, CheckSuites, CheckAsks,
	CheckDemands, CheckAuthority, CheckTickets, CheckProbe, CheckArrives, CheckResumption, CheckIdentities, CheckForged, CheckStripped, CheckClock,
}

func (d *doctor) finish(ctx context.Context) (*Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("doctor: stopped: %w", err)
	}
	for _, t := range d.mtls {
		d.report.MTLS = append(d.report.MTLS, t.address)
	}
	slices.SortStableFunc(d.report.Findings, func(a, b Finding) int {
		return slices.Index(order, a.Check) - slices.Index(order, b.Check)
	})
	for _, f := range d.report.Findings {
		switch f.Outcome {
		case Problem:
			d.report.Problems++
		case Note:
			d.report.Notes++
		case Skipped:
			d.report.Skipped++
		}
	}
	return d.report, nil
}

func bounded(s string) string {
	if len(s) <= 200 {
		return s
	}
	return strings.ToValidUTF8(s[:200], "") + "…"
}

// Probe only looks whether forged certificate headers get through, at the issuer's host
// and at the base URLs of mutual TLS, which may be empty. It is for a server that watches
// its own public addresses. cfg.Credential is required.
func Probe(ctx context.Context, cfg Config, bases ...string) (*Report, error) {
	d, err := newDoctor(cfg)
	if err != nil {
		return nil, err
	}
	defer d.client.CloseIdleConnections()
	for _, base := range bases {
		u, err := url.Parse(base)
		if base == "" || err != nil {
			continue
		}
		t := targetOf(u, true)
		if t.address == d.public.address {
			t = d.public
		}
		d.mtls = append(d.mtls, t)
	}
	for _, t := range d.targets() {
		d.serverCertificate(ctx, t)
		d.greet(ctx, t)
		if t.probes {
			d.forge(ctx, t)
		}
	}
	return d.finish(ctx)
}
