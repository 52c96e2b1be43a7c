package gateway

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxPath bounds a path, in bytes as sent.
const maxPath = 8 << 10

// Faults of a path. Two programs could take such a path for two different things, and one
// of them would be the one that is protected.
var (
	errPathForm      = errors.New("the path does not begin with a slash, or is too long")
	errPathEscape    = errors.New("a percent sign in the path is not followed by two hexadecimal digits, or escapes a percent sign that begins another escape")
	errPathCharacter = errors.New("the path has an encoded slash, backslash or control character, a semicolon, a character that is not ASCII, or an encoded one that is not UTF-8")
	errPathSegment   = errors.New("the path has an empty segment, or a dot segment")
)

// NormalPath returns an escaped path, as it stands in a request line without its query,
// in the one form in which it is compared with routes and sent upstream: unreserved
// characters are not escaped (RFC 3986, Section 6.2.2.2), all others that need it are,
// with upper-case digits. A normal path is its own normal path.
//
// What programs take for different things is refused, not repaired: an encoded slash,
// backslash or control character, a percent sign that is encoded twice, dot segments and
// empty ones, semicolons, bytes that are not ASCII, and encoded ones that are not UTF-8,
// such as the long forms of a dot. Case is not touched; an upstream
// that does not mind the case needs its routes spelled out.
func NormalPath(escaped string) (string, error) {
	if escaped == "" || escaped[0] != '/' || len(escaped) > maxPath {
		return "", errPathForm
	}
	if !plainPath(escaped) {
		var err error
		if escaped, err = rewritePath(escaped); err != nil {
			return "", err
		}
	}
	for rest := escaped[1:]; ; {
		segment, after, more := strings.Cut(rest, "/")
		if segment == "." || segment == ".." || segment == "" && more {
			return "", errPathSegment
		}
		if !more {
			return escaped, nil
		}
		rest = after
	}
}

// plainPath reports whether nothing has to be rewritten or refused.
func plainPath(s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}

// plain are the characters of a path but % and ; (RFC 3986, Section 3.3).
var plain = func() (t [256]bool) {
	t = unreserved
	for _, c := range []byte("!$&'()*+,=:@/") {
		t[c] = true
	}
	return t
}()

var unreserved = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") {
		t[c] = true
	}
	return t
}()

func rewritePath(s string) (string, error) {
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			out = append(out, c)
			continue
		}
		if c == '%' {
			high, low := hexAt(s, i+1), hexAt(s, i+2)
			if high < 0 || low < 0 {
				return "", errPathEscape
			}
			i += 2
			c = byte(high<<4 | low)
			switch {
			case unreserved[c]:
				out = append(out, c)
				continue
			case c < 0x20 || c == 0x7f || c == '/' || c == '\\' || c == ';':
				return "", errPathCharacter
			}
		} else if c <= 0x20 || c >= 0x7f || c == '\\' || c == ';' || c == '?' || c == '#' {
			return "", errPathCharacter
		}
		out = append(out, '%', digits[c>>4], digits[c&15])
	}
	if plain, err := url.PathUnescape(string(out)); err != nil || !utf8.ValidString(plain) {
		return "", errPathCharacter
	}
	// In the result, since the digits may have been escaped themselves: %25%32%65.
	s = string(out)
	for i := range len(s) {
		if strings.HasPrefix(s[i:], "%25") && hexAt(s, i+3) >= 0 && hexAt(s, i+4) >= 0 {
			return "", errPathEscape
		}
	}
	return s, nil
}

// hexAt returns the value of a hexadecimal digit, or -1.
func hexAt(s string, i int) int {
	if i >= len(s) {
		return -1
	}
	switch c := s[i]; {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
