package certsource

import (
	"net/http"
	"net/netip"
	"strings"
)

// RequireAuthority answers 421 (Misdirected Request) when the name that the client
// asked for in TLS is not the host that it asks for in HTTP. It belongs before every
// handler of a TLS listener that shares its port, or its server certificate, with
// another one: otherwise a connection that was made without a certificate, for one
// host, can carry requests for the host that asks for one (RFC 9110, Section 15.5.20;
// RFC 9113, Section 9.1.1).
//
// Host names compare without regard to case, port and one trailing dot; there are no
// wildcards. A connection without server name serves address literals only. Requests
// without TLS pass, as do those of a proxy that speaks plain HTTP; behind a proxy
// that speaks TLS to us, the proxy has to make this check.
func RequireAuthority(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && !sameAuthority(r.TLS.ServerName, r.Host) {
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, "misdirected request: the TLS server name and the Host differ", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sameAuthority reports whether the Host field names the TLS server name.
func sameAuthority(serverName, host string) bool {
	if literal, ok := strings.CutPrefix(host, "["); ok {
		address, port, ok := strings.Cut(literal, "]")
		if !ok || port != "" && port[0] != ':' {
			return false
		}
		return serverName == "" && isAddress(address)
	}
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if strings.IndexByte(host, ':') != i {
			return false // an IPv6 literal needs brackets
		}
		name = host[:i]
	}
	if serverName == "" {
		// Clients do not send address literals as server name (RFC 6066, Section 3).
		return isAddress(name)
	}
	return equalFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(serverName, "."))
}

// equalFold compares ASCII without regard to case; unlike [strings.EqualFold] it does
// not take the Kelvin sign for a k.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
