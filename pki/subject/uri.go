package subject

import (
	"strings"
)

const upperHex = "0123456789ABCDEF"

// splitURI cuts an absolute URI into its parts (RFC 3986, Appendix B). fault says why s
// is none.
func splitURI(s string) (u uri, fault string) {
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '%':
			if i+2 >= len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
				return uri{}, "a percent sign without two hex digits"
			}
		case isAlphaNumeric(c):
		case strings.IndexByte("-._~:/?#[]@!$&'()*+,;=", c) < 0:
			return uri{}, "a character that a URI cannot hold; write it percent-encoded"
		}
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || !isAlpha(scheme[0]) {
		return uri{}, "not an absolute URI: it has no scheme"
	}
	for i := range len(scheme) {
		if c := scheme[i]; !isAlphaNumeric(c) && strings.IndexByte("+-.", c) < 0 {
			return uri{}, "not an absolute URI: it has no scheme"
		}
	}
	if rest == "" {
		return uri{}, "nothing after the scheme"
	}
	u.scheme = scheme
	if rest, u.fragment, ok = strings.Cut(rest, "#"); ok {
		u.fragment = "#" + u.fragment
	}
	if rest, u.query, ok = strings.Cut(rest, "?"); ok {
		u.query = "?" + u.query
	}
	if strings.HasPrefix(rest, "//") {
		u.hasAuthority = true
		rest = rest[2:]
		end := strings.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		u.authority, rest = rest[:end], rest[end:]
	}
	u.path = rest
	return u, ""
}

type uri struct {
	scheme, authority, path, query, fragment string
	hasAuthority                             bool
}

var defaultPorts = map[string]string{"http": "80", "https": "443", "ftp": "21", "ldap": "389"}

// normalizeURI applies RFC 5280, Section 7.4: letter case of scheme and host,
// percent-encoding, dot segments, and for http, https, ftp and ldap the default port and
// the empty path.
func normalizeURI(s string) (string, bool) {
	u, fault := splitURI(s)
	if fault != "" {
		return "", false
	}
	u.scheme = strings.ToLower(u.scheme)
	port, schemeBased := defaultPorts[u.scheme]
	var b strings.Builder
	b.WriteString(u.scheme)
	b.WriteByte(':')
	path := normalizePercent(u.path)
	if u.hasAuthority {
		user, host := "", u.authority
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			user, host = normalizePercent(host[:i+1]), host[i+1:]
		}
		if i := strings.LastIndexByte(host, ':'); i >= 0 && schemeBased && strings.IndexByte(host[i:], ']') < 0 {
			if p := host[i+1:]; p == "" || p == port {
				host = host[:i]
			}
		}
		b.WriteString("//")
		b.WriteString(user)
		// Decoding can give letters, lowering can lower the hex digits of what stays
		// encoded: hence in this order, and encoded again.
		b.WriteString(normalizePercent(strings.ToLower(normalizePercent(host))))
		if schemeBased && path == "" {
			path = "/"
		}
	}
	if strings.HasPrefix(path, "/") {
		path = removeDots(path)
		if !u.hasAuthority && strings.HasPrefix(path, "//") {
			return "", false // would become an authority
		}
	}
	b.WriteString(path)
	b.WriteString(normalizePercent(u.query))
	b.WriteString(normalizePercent(u.fragment))
	return b.String(), true
}

// normalizePercent decodes what needs no encoding and writes the rest in upper case
// (RFC 3986, Section 6.2.2).
func normalizePercent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+2 >= len(s) {
			b.WriteByte(s[i])
			continue
		}
		c := byte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		if isAlphaNumeric(c) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
		i += 2
	}
	return b.String()
}

// removeDots applies RFC 3986, Section 5.2.4, to a path that begins with a slash.
func removeDots(path string) string {
	var out []string
	parts := strings.Split(path[1:], "/")
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case ".", "..":
			if part == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, part)
		}
	}
	return "/" + strings.Join(out, "/")
}

func unhex(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
