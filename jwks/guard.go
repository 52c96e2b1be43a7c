package jwks

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/certbound/certbound/internal/guard"
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

// Guard returns a client for addresses that strangers may name: https only, TLS 1.2
// or better, no proxy, at most three redirects and none to another host or port. The
// address is checked when it is dialled, after the name was resolved, so that a name
// whose answer changes between check and use cannot pass. What is refused is a
// *[BlockedError]. Behind NAT64 the addresses of IPv4 hosts look internal; there, name
// the hosts in AllowHosts.
func Guard(cfg GuardConfig) *http.Client {
	return guard.Client(guard.Config{
		AllowPrivate: cfg.AllowPrivate, AllowHosts: cfg.AllowHosts, RootCAs: cfg.RootCAs,
		Blocked: func(host, addr, fault string) error {
			return &BlockedError{Host: host, Addr: addr, Fault: fault}
		},
	})
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
