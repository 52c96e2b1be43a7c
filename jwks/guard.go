package jwks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// GuardConfig says which addresses may be dialled. The zero value allows public ones.
type GuardConfig struct {
	// AllowPrivate allows loopback, private, link-local and other special addresses.
	AllowPrivate bool
	// AllowHosts are exempt by name, with port or without. An IPv6 address stands
	// in brackets if it has a port.
	AllowHosts []string
	// RootCAs verifies servers. If nil, the system's.
	RootCAs *x509.CertPool
}

// A BlockedError reports a request that a client of [Guard] does not make.
type BlockedError struct {
	Host  string // as the URL names it
	Addr  string // what it resolved to, or empty
	Fault string
}

func (e *BlockedError) Error() string {
	if e.Addr != "" {
		return fmt.Sprintf("jwks: %s: %s: %s", e.Host, e.Addr, e.Fault)
	}
	return fmt.Sprintf("jwks: %s: %s", e.Host, e.Fault)
}

const maxRedirects = 3

// Guard returns a client for addresses that strangers may name: https only, TLS 1.2
// or better, no proxy, at most three redirects and none to another host or port. The
// address is checked when it is dialled, after the name was resolved, so that a name
// whose answer changes between check and use cannot pass. What is refused is a
// *[BlockedError]. Behind NAT64 the addresses of IPv4 hosts look internal; there, name
// the hosts in AllowHosts.
func Guard(cfg GuardConfig) *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		if !cfg.AllowPrivate && !cfg.allowed(addr) {
			d.ControlContext = func(_ context.Context, network, resolved string, _ syscall.RawConn) error {
				return checkAddr(addr, network, resolved)
			}
		}
		return d.DialContext(ctx, network, addr)
	}
	return &http.Client{
		Transport: httpsOnly{&http.Transport{
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
			switch {
			case len(via) > maxRedirects:
				return &BlockedError{Host: req.URL.Host, Fault: "more than three redirects"}
			case req.URL.Scheme != "https" || req.URL.Host != via[0].URL.Host || req.URL.User != nil:
				return &BlockedError{Host: req.URL.Host, Fault: "redirect away from https://" + via[0].URL.Host}
			}
			return nil
		},
		Timeout: 30 * time.Second,
	}
}

// allowed reports whether AllowHosts names addr, which is "host:port".
func (cfg GuardConfig) allowed(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(cfg.AllowHosts, func(h string) bool {
		return strings.EqualFold(h, host) || strings.EqualFold(h, net.JoinHostPort(host, port))
	})
}

type httpsOnly struct{ next *http.Transport }

func (t httpsOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, &BlockedError{Host: r.URL.Host, Fault: "not https"}
	}
	return t.next.RoundTrip(r)
}

// CloseIdleConnections lets [http.Client.CloseIdleConnections] through.
func (t httpsOnly) CloseIdleConnections() { t.next.CloseIdleConnections() }

func checkAddr(host, network, resolved string) error {
	if network != "tcp4" && network != "tcp6" {
		return &BlockedError{Host: host, Addr: resolved, Fault: "not TCP"}
	}
	addr, err := netip.ParseAddrPort(resolved)
	if err != nil || !public(addr.Addr()) {
		return &BlockedError{Host: host, Addr: resolved,
			Fault: "not a public address; if this host is meant, allow it by name"}
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

func public(a netip.Addr) bool {
	if a.Zone() != "" || a.Is4In6() || a.Is6() && !globalUnicast6.Contains(a) {
		return false
	}
	return a.IsValid() && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// CheckURL reports whether a key set may be fetched from a URL: https with a host, no
// user, no fragment, at most 2048 characters. It says nothing about the address behind
// the host, which is checked by [Guard] when it is dialled. Errors are of type *[Error].
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}

func parseURL(raw string) (*url.URL, error) {
	refuse := func(fault string) (*url.URL, error) { return nil, &Error{Key: -1, Fault: "url: " + fault} }
	if len(raw) > 2048 {
		return refuse("longer than 2048 characters")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return refuse("not a URL")
	case u.Scheme != "https":
		return refuse("the scheme is not https")
	case u.Hostname() == "" || u.Opaque != "":
		return refuse("no host")
	case u.User != nil:
		return refuse("a user or password in it")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return refuse("a fragment in it")
	}
	return u, nil
}

// cause strips what net/http puts around an error, since it repeats the URL.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
