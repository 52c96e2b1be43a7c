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
// means that a proxy is set up for another source, or that somebody is trying.
func Foreign(r *http.Request, configured ...string) []string {
	var found []string
	for name := range r.Header {
		if isForeign(name) && !slices.ContainsFunc(configured, func(c string) bool { return strings.EqualFold(c, name) }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func isForeign(name string) bool {
	if len(name) < len("client-cert") {
		return false
	}
	switch name[0] | 0x20 {
	case 'c', 's', 'x':
	default:
		return false
	}
	var buf [32]byte
	lower := buf[:min(len(name), len(buf))]
	for i := range lower {
		switch c := name[i]; {
		case c == '_':
			lower[i] = '-'
		case 'A' <= c && c <= 'Z':
			lower[i] = c | 0x20
		default:
			lower[i] = c
		}
	}
	for _, prefix := range foreign {
		if strings.HasPrefix(string(lower), prefix) { // no allocation: the conversion does not escape
			return true
		}
	}
	return false
}
