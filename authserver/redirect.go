package authserver

import (
	"slices"
	"strings"
)

// maxURI bounds the URIs that a request brings, in bytes.
const maxURI = 2048

// matchRedirect reports whether a request may be answered at uri: it is one of the
// registered URIs, octet for octet (RFC 9700, Section 4.1.3). The one exception is the
// port of a loopback address, which an app learns only when it listens (RFC 8252,
// Section 7.3). What could be read as another URI by somebody else is never one of
// them, not even if it is registered.
func matchRedirect(registered []string, uri string) bool {
	if uri == "" || len(uri) > maxURI {
		return false
	}
	for i := range len(uri) {
		if c := uri[i]; c <= 0x20 || c >= 0x7f || c == '#' || c == '\\' || c == '"' || c == '<' || c == '>' {
			return false
		}
	}
	if slices.Contains(registered, uri) {
		return true
	}
	host, rest, ok := splitLoopback(uri)
	return ok && slices.ContainsFunc(registered, func(r string) bool {
		h, other, ok := splitLoopback(r)
		return ok && h == host && other == rest
	})
}

// splitLoopback takes an http URI of a loopback address literal apart and drops its
// port. Names such as localhost are not among them (RFC 8252, Section 8.3).
func splitLoopback(uri string) (host, rest string, ok bool) {
	rest, ok = strings.CutPrefix(uri, "http://")
	if !ok {
		return "", "", false
	}
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		after, ok := strings.CutPrefix(rest, host)
		if !ok {
			continue
		}
		if digits, ok := strings.CutPrefix(after, ":"); ok {
			n, port := 0, 0
			for n < len(digits) && n < 5 && '0' <= digits[n] && digits[n] <= '9' {
				port = port*10 + int(digits[n]-'0')
				n++
			}
			if n == 0 || port == 0 || port > 65535 || digits[0] == '0' {
				return "", "", false
			}
			after = digits[n:]
		}
		if after == "" || after[0] == '/' || after[0] == '?' {
			return host, after, true
		}
	}
	return "", "", false
}

// redirectScheme returns the scheme of a registered redirect URI.
func redirectScheme(uri string) string {
	scheme, _, _ := strings.Cut(uri, ":")
	return strings.ToLower(scheme)
}
