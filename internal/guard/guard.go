// Package guard makes HTTP clients for addresses that strangers may name, so that
// nobody can have us talk to what lies behind our firewall.
package guard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Config says which addresses may be dialled. Without Blocked it is of no use.
type Config struct {
	// AllowPrivate allows loopback, private, link-local and other special addresses.
	AllowPrivate bool
	// AllowHosts are exempt by name, with port or without. An IPv6 address stands
	// in brackets if it has a port.
	AllowHosts []string
	// AllowHTTP allows http beside https, for what is signed itself.
	AllowHTTP bool
	// RootCAs verifies servers. If nil, the system's.
	RootCAs *x509.CertPool
	// Blocked makes the error for a request that is not made. addr is what host
	// resolved to, or empty. Required.
	Blocked func(host, addr, fault string) error
}

const maxRedirects = 3

// Client returns a client that speaks TLS 1.2 or better, uses no proxy and follows at
// most three redirects and none to another scheme, host or port. The address is
// checked when it is dialled, after the name was resolved, so that a name whose answer
// changes between check and use cannot pass.
func Client(cfg Config) *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		if !cfg.AllowPrivate && !cfg.allowed(addr) {
			d.ControlContext = func(_ context.Context, network, resolved string, _ syscall.RawConn) error {
				return cfg.check(addr, network, resolved)
			}
		}
		return d.DialContext(ctx, network, addr)
	}
	return &http.Client{
		Transport: schemes{cfg, &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  5 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
			MaxIdleConns:           32,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
			DisableCompression:     true, // limits count what is read
		}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			first := via[0].URL
			switch {
			case len(via) > maxRedirects:
				return cfg.Blocked(req.URL.Host, "", "more than three redirects")
			case req.URL.Scheme != first.Scheme || req.URL.Host != first.Host || req.URL.User != nil:
				return cfg.Blocked(req.URL.Host, "", "redirect away from "+first.Scheme+"://"+first.Host)
			}
			return nil
		},
		Timeout: 30 * time.Second,
	}
}

// allowed reports whether AllowHosts names addr, which is "host:port".
func (cfg Config) allowed(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(cfg.AllowHosts, func(h string) bool {
		return strings.EqualFold(h, host) || strings.EqualFold(h, net.JoinHostPort(host, port))
	})
}

type schemes struct {
	cfg  Config
	next *http.Transport
}

func (t schemes) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && (r.URL.Scheme != "http" || !t.cfg.AllowHTTP) {
		if r.Body != nil {
			r.Body.Close()
		}
		fault := "not https"
		if t.cfg.AllowHTTP {
			fault = "neither http nor https"
		}
		return nil, t.cfg.Blocked(r.URL.Host, "", fault)
	}
	return t.next.RoundTrip(r)
}

// CloseIdleConnections lets [http.Client.CloseIdleConnections] through.
func (t schemes) CloseIdleConnections() { t.next.CloseIdleConnections() }

func (cfg Config) check(host, network, resolved string) error {
	if network != "tcp4" && network != "tcp6" {
		return cfg.Blocked(host, resolved, "not TCP")
	}
	addr, err := netip.ParseAddrPort(resolved)
	if err != nil || !Public(addr.Addr()) {
		return cfg.Blocked(host, resolved, "not a public address; if this host is meant, allow it by name")
	}
	return nil
}

// special are the ranges of the IANA special-purpose registries that are not reached
// over the public internet, and those that lead to an IPv4 address inside: a gateway
// would unwrap it behind our back.
var special = func() (p []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"2001::/23",                  // Teredo, ORCHID, benchmarking
		"2001:db8::/32", "3fff::/20", // documentation
		"2002::/16", // 6to4
	} {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}()

// globalUnicast6 is all that is assigned for the public internet: not ::/3 with the
// loopback, IPv4-mapped and NAT64 (64:ff9b::/96) addresses, not fc00::/7, fe80::/10 and ff00::/8.
var globalUnicast6 = netip.MustParsePrefix("2000::/3")

// Public reports whether an address belongs to the public internet.
func Public(a netip.Addr) bool {
	if a.Zone() != "" || a.Is4In6() || a.Is6() && !globalUnicast6.Contains(a) {
		return false
	}
	return a.IsValid() && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}
