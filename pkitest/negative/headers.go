package negative

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/certbound/certbound/pkitest"
)

// A forgery is what a proxy would have written about a certificate.
type forgery struct {
	name   string
	fields map[string]string
}

// forgeries returns the forms in which the known proxies hand over a certificate.
func (target Target) forgeries(cert *x509.Certificate) []forgery {
	der := base64.StdEncoding.EncodeToString(cert.Raw)
	bytes := ":" + der + ":"
	pem := string(pkitest.PEM(cert))
	escaped := url.QueryEscape(pem)
	spaces := strings.ReplaceAll(strings.TrimSpace(pem), "\n", " ")
	hash := sha256.Sum256(cert.Raw)
	dn := cert.Subject.String()
	all := []forgery{
		{"RFC 9440", map[string]string{"Client-Cert": bytes}},
		{"nginx", map[string]string{"X-SSL-Client-Cert": escaped, "X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": dn}},
		{"ingress-nginx", map[string]string{"ssl-client-cert": escaped, "ssl-client-verify": "SUCCESS", "ssl-client-subject-dn": dn}},
		{"Apache", map[string]string{"SSL_CLIENT_CERT": spaces, "SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_S_DN": dn}},
		{"HAProxy", map[string]string{"X-SSL-Client-Cert": der, "X-SSL-Client-Verify": "0", "X-SSL-Client-DN": dn, "X-SSL-Client-SHA256": hex.EncodeToString(hash[:])}},
		{"Envoy", map[string]string{"X-Forwarded-Client-Cert": "Hash=" + hex.EncodeToString(hash[:]) + `;Cert="` + escaped + `";Subject="` + strings.ReplaceAll(dn, `"`, `\"`) + `"`}},
		{"Traefik", map[string]string{"X-Forwarded-Tls-Client-Cert": der}},
		{"AWS load balancer", map[string]string{"X-Amzn-Mtls-Clientcert-Leaf": escaped, "X-Amzn-Mtls-Clientcert": escaped, "X-Amzn-Mtls-Clientcert-Subject": dn}},
		{"CloudFront", map[string]string{"CloudFront-Viewer-Cert-Pem": escaped, "CloudFront-Viewer-Cert-Present": "1"}},
		{"Google Cloud", map[string]string{"X-Client-Cert-Leaf": bytes, "X-Client-Cert-Present": "true", "X-Client-Cert-Chain-Verified": "true"}},
		{"Azure App Service", map[string]string{"X-ARR-ClientCert": der}},
		{"Azure Application Gateway", map[string]string{"X-Client-Certificate": escaped, "X-Client-Certificate-Verification": "SUCCESS"}},
		{"Cloudflare", map[string]string{"Cf-Client-Cert-Der-Base64": der, "Cf-Cert-Verified": "true", "Cf-Cert-Presented": "true"}},
		{"Kong", map[string]string{"X-Client-Cert": escaped}},
	}
	for _, name := range target.HeaderNames {
		for form, value := range map[string]string{"a byte sequence": bytes, "base64": der, "escaped PEM": escaped, "PEM with spaces": spaces, "a subject": dn} {
			all = append(all, forgery{name + " as " + form, map[string]string{name: value}})
		}
	}
	return all
}

// headers are requests that claim, in a field of a proxy, a certificate that was not shown.
func (target Target) headers() []attack {
	victim := target.good().Cert
	forms := target.forgeries(victim)
	mallory := target.CA.MustLeaf(nobody())
	shape := func(number int, name, sent string, o *offer, change func(http.Header, forgery)) attack {
		return attack{number, name, "the client's certificate " + sent + ", in the form of each known proxy in turn", noToken, func(p *prober) error {
			for _, f := range forms {
				h := http.Header{}
				change(h, f)
				if err := refused(p.token(o, request{header: h})); err != nil {
					return &formError{f.name, err}
				}
			}
			return nil
		}}
	}
	plain := func(h http.Header, f forgery) {
		for name, value := range f.fields {
			h.Set(name, value)
		}
	}
	spelled := func(spell func(string) string) func(http.Header, forgery) {
		return func(h http.Header, f forgery) {
			for name, value := range f.fields {
				h[spell(name)] = []string{value} // as it is, in HTTP/1.1
			}
		}
	}
	all := []attack{
		shape(2, "forged header, no certificate", "in a header field, from a client without one", nil, plain),
		shape(2, "forged header, another certificate", "in a header field, from a client with another one of the same CA", of(mallory), plain),
		shape(2, "forged header, twice", "in a header field that stands twice", of(mallory), func(h http.Header, f forgery) {
			for name, value := range f.fields {
				h[http.CanonicalHeaderKey(name)] = []string{value, value}
			}
		}),
		shape(19, "forged header with underscores", "in a header field that is written with underscores", nil, spelled(func(s string) string { return strings.ReplaceAll(s, "-", "_") })),
		shape(19, "forged header in upper case", "in a header field in upper case", nil, spelled(strings.ToUpper)),
		shape(19, "forged header in lower case", "in a header field in lower case", nil, spelled(strings.ToLower)),
		{26, "forged headers, all at once", "the client's certificate in every known header field at once", noToken, func(p *prober) error {
			// Some proxies use the same field; once the first form stands in it, and once
			// the last.
			backwards := slices.Clone(forms)
			slices.Reverse(backwards)
			for _, forms := range [][]forgery{forms, backwards} {
				h := http.Header{}
				for _, f := range forms {
					plain(h, f)
				}
				for _, o := range []*offer{nil, of(mallory)} {
					if err := refused(p.token(o, request{header: h})); err != nil {
						return err
					}
				}
			}
			return nil
		}},
	}
	named := shape(19, "forged header that Connection names", "in a header field that stands in Connection as well", nil, func(h http.Header, f forgery) {
		plain(h, f)
		h.Set("Connection", strings.Join(slices.Sorted(maps.Keys(f.fields)), ", "))
	})
	next := named.try
	named.try = func(p *prober) error {
		if p.by.http2 {
			return nil // HTTP/2 has no Connection; the row of HTTP/1.1 is the proof
		}
		return next(p)
	}
	return append(all, named)
}

// A formError says in which form an attack has worked.
type formError struct {
	form string
	err  error
}

func (e *formError) Error() string { return "in the form of " + e.form + ": " + e.err.Error() }
func (e *formError) Unwrap() error { return e.err }
