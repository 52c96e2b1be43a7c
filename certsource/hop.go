package certsource

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/certbound/certbound"
)

// A Hop says which peers are the trusted proxy. The zero value is nobody, and no
// source starts with it. A peer is judged by its connection (see [ConnContext]), never
// by a header and never by r.RemoteAddr, which middleware rewrites.
//
// A TCP peer has to meet every one of Prefixes and Thumbprints that is set. Without
// TLS it must have a loopback address, unless InsecurePrivateNetwork is set: whoever
// can write on the way can be anyone (RFC 9440, Section 4).
type Hop struct {
	// Prefixes are the addresses of the proxy.
	Prefixes []netip.Prefix
	// Thumbprints pin the proxy's own TLS client certificate, by x5t#S256. That
	// certificate is never taken for the client's.
	Thumbprints []string
	// UnixSocket trusts every peer that connects over a unix socket; who can, is
	// for the permissions of the socket to say.
	UnixSocket bool
	// InsecurePrivateNetwork allows the hop over plain HTTP from an address that
	// is not a loopback address (RFC 9440, Section 4).
	InsecurePrivateNetwork bool
}

// Validate reports every setting with which the hop must not be used.
func (h Hop) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("certsource: hop: "+format, args...))
	}
	if len(h.Prefixes) == 0 && len(h.Thumbprints) == 0 && !h.UnixSocket {
		fault("no trusted peer: a certificate field must name the proxy that sets it, by address prefix, " +
			"certificate thumbprint or unix socket, and that proxy must remove the field from what clients send")
	}
	for _, p := range h.Prefixes {
		switch {
		case !p.IsValid():
			fault("prefix %v: not valid", p)
		case p.Bits() == 0:
			fault("prefix %v: trusts every peer; name the addresses of the proxy", p)
		case p.Addr().Is4In6():
			fault("prefix %v: an IPv4-mapped prefix matches nothing; write it as IPv4", p)
		}
	}
	for _, t := range h.Thumbprints {
		if sum, err := base64.RawURLEncoding.Strict().DecodeString(t); err != nil || len(sum) != 32 || len(t) != certbound.ThumbprintLen {
			fault("thumbprint %q: expected the x5t#S256 of the proxy's certificate, 43 characters of base64url", t)
		}
	}
	if h.InsecurePrivateNetwork && len(h.Prefixes) == 0 {
		fault("InsecurePrivateNetwork without prefixes: a peer without TLS is known by its address only")
	}
	return errors.Join(errs...)
}

// refuse says why the peer of r is not the proxy, or returns "".
func (h Hop) refuse(r *http.Request) (why string) {
	c := connOf(r.Context())
	switch {
	case c == nil:
		return "the connection is not known; set http.Server.ConnContext to certsource.ConnContext"
	case c.unix:
		if !h.UnixSocket {
			return "it connects over a unix socket, and those are not trusted"
		}
		return ""
	case !c.addr.IsValid():
		return "its network is not TCP and not a unix socket"
	case len(h.Prefixes) == 0 && len(h.Thumbprints) == 0:
		return "only unix sockets are trusted"
	case len(h.Prefixes) > 0 && !slices.ContainsFunc(h.Prefixes, func(p netip.Prefix) bool { return p.Contains(c.addr) }):
		return "its address is in none of the trusted prefixes"
	case r.TLS == nil && !c.addr.IsLoopback() && !h.InsecurePrivateNetwork:
		return "it speaks plain HTTP from an address that is not loopback; use TLS, or set InsecurePrivateNetwork"
	}
	if len(h.Thumbprints) > 0 {
		p, err := TLS{}.Certificate(r)
		if err != nil {
			return "it has no TLS client certificate, and the proxy's is pinned"
		}
		if !slices.Contains(h.Thumbprints, p.Thumbprint()) {
			return "its TLS client certificate is not one of the pinned ones"
		}
	}
	return ""
}

// A Verification says that the proxy validates paths in our place. The zero value
// says that it does not, and is the safe one: a proxy that also serves self-signed or
// public clients forwards certificates of any issuer.
type Verification struct {
	// By names the proxy, for the records: "edge-1".
	By string
	// Anchors says which CAs it enforces. Required with By: whoever relies on the
	// proxy has to know what for.
	Anchors string
	// Field, if set, is a header field in which the proxy states the outcome for
	// each request, such as X-SSL-Client-Verify. Any other value than Success
	// means that this certificate was not verified.
	Field string
	// Success is the value that means verified: "SUCCESS" with nginx, "0" with
	// HAProxy. Required with Field.
	Success string
}

func (v Verification) validate() error {
	var errs []error
	if (v.By == "") != (v.Anchors == "") {
		errs = append(errs, errors.New("certsource: verification: By and Anchors belong together: name the proxy that verifies, and the CAs that it enforces"))
	}
	if (v.Field == "") != (v.Success == "") {
		errs = append(errs, errors.New("certsource: verification: Field and Success belong together"))
	}
	if v.Field != "" && v.By == "" {
		errs = append(errs, errors.New("certsource: verification: Field without By and Anchors"))
	}
	return errors.Join(errs...)
}

func (v Verification) text() string {
	if v.By == "" {
		return ""
	}
	return v.By + " (anchors: " + v.Anchors + ")"
}

// verified reports whether the proxy has verified the certificate of r.
func (v Verification) verified(r *http.Request) bool {
	if v.By == "" {
		return false
	}
	if v.Field == "" {
		return true
	}
	values := r.Header[http.CanonicalHeaderKey(v.Field)]
	return len(values) == 1 && values[0] == v.Success
}
