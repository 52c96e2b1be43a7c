package certsource

import (
	"net/http"
	"slices"
	"strings"
)

// foreign holds the beginnings of the fields in which proxies and clouds forward client
// certificates (docs/spec/proxies.md), in lower case and with hyphens.
var foreign = []string{
	"cert-chain-",
	"cf-cert-",
	"cf-client-cert-",
	"client-cert",
	"client-to-edge",
	"cloudfront-viewer-cert-",
	"ssl-client-",
	"x-amzn-mtls-clientcert",
	"x-arr-clientcert",
	"x-client-cert",
	"x-forwarded-client-cert",
	"x-forwarded-tls-client-cert",
	"x-ssl-cert",
	"x-ssl-client-",
	"x-ssl-issuer",
}

// Foreign returns the names of the known certificate fields of r that the configured
// source does not read (see [Description].Fields), sorted, as they stand in r.Header.
// Spellings with underscores count too. Such a field is never used; that it is there
// means that a proxy is set up for another source, or that somebody is trying. They are for
// logs, so there are 32 at most, and of a long one the beginning.
func Foreign(r *http.Request, configured ...string) []string {
	var found []string
	for name := range r.Header {
		if isForeign(name) && !slices.ContainsFunc(configured, func(c string) bool { return strings.EqualFold(c, name) }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	if len(found) > maxForeign {
		found = slices.Clone(found[:maxForeign])
	}
	for i := range found {
		found[i] = shortName(found[i])
	}
	return found
}

const maxForeign = 32

// shortName bounds the name of a field for a log. A stranger can send one as long as all
// the header may be.
func shortName(name string) string {
	if len(name) > maxFieldName {
		return name[:maxFieldName] + "…" // names are ASCII
	}
	return name
}

// IsCertificateField reports whether a header field has the name of one in which some
// proxy or cloud forwards client certificates, in any spelling. A proxy removes all of
// them from what a client sends (RFC 9440, Section 2.4).
func IsCertificateField(name string) bool { return isForeign(name) }

func isForeign(name string) bool {
	if len(name) < len("x-ssl-cert") {
		return false
	}
	// Two letters tell nearly every other field from these, and this runs for each
	// field of each request.
	switch [2]byte{name[0] | 0x20, name[1] | 0x20} {
	case [2]byte{'c', 'e'}, [2]byte{'c', 'f'}, [2]byte{'c', 'l'}, [2]byte{'s', 's'}, [2]byte{'x', '-'}, [2]byte{'x', '_' | 0x20}:
	default:
		return false
	}
	var buf [32]byte
	n := copy(buf[:], name)
	for i, c := range buf[:n] {
		switch {
		case c == '_':
			buf[i] = '-'
		case 'A' <= c && c <= 'Z':
			buf[i] = c | 0x20
		}
	}
	lower := string(buf[:n])
	return slices.ContainsFunc(foreign, func(prefix string) bool { return strings.HasPrefix(lower, prefix) })
}
