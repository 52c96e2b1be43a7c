package authserver

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/pki/subject"
)

// nearExpiry is when the end of a certificate is worth a warning.
const nearExpiry = 14 * 24 * time.Hour

// CertificateAdvice says what is odd about a certificate that a client is registered
// with or for: what will surprise later, in sentences for the operator. The certificate
// is not validated. An empty answer is no promise.
func CertificateAdvice(c *Client, leaf *x509.Certificate, now time.Time) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	const stamp = "2006-01-02 15:04:05 UTC"
	switch left := leaf.NotAfter.Sub(now); {
	case left < 0:
		add("the certificate expired on %s", leaf.NotAfter.UTC().Format(stamp))
	case now.Before(leaf.NotBefore):
		add("the certificate is not valid before %s", leaf.NotBefore.UTC().Format(stamp))
	case left < nearExpiry:
		add("the certificate expires in %s, on %s", leftText(left), leaf.NotAfter.UTC().Format(stamp))
	}
	if c.Method() == clientauth.TLSClientAuth {
		usages, fits := extKeyUsages(leaf)
		switch {
		case len(usages) == 0:
			add("the certificate has no extended key usage: an anchor set with require_ext_key_usage refuses it")
		case !fits:
			add("the certificate lacks the extended key usage clientAuth (it has %s): the server will refuse it", strings.Join(usages, ", "))
		}
		if leaf.BasicConstraintsValid && leaf.IsCA {
			add("this is a CA certificate: the server will refuse it unless the anchor set has allow_ca_leaf")
		}
	}
	if k, ok := leaf.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
		add("the RSA key has only %d bits: the server will refuse it", k.N.BitLen())
	}
	return out
}

// nameAdvice warns of a certificate whose names say more, or less, than the registered
// value.
func nameAdvice(c *Client, leaf *x509.Certificate) []string {
	described, err := subject.Describe(leaf)
	if err != nil {
		return nil
	}
	kind, value := c.Subject()
	var out, others []string
	for _, d := range described {
		if d.Kind == subject.SANDNS && strings.HasPrefix(d.Value, "*") {
			out = append(out, fmt.Sprintf("the certificate has the wildcard %s: matching takes it literally, and whoever else has this certificate is the same client", clip(d.Value, 256)))
		}
		if d.Value != "" && (d.Kind != kind || d.Value != value) && len(others) < 10 {
			others = append(others, string(d.Kind)+" "+clip(d.Value, 256))
		}
	}
	if len(others) > 0 {
		out = append(out, fmt.Sprintf("the certificate has more than one name; registered is %s; in its place could be: %s", kind, strings.Join(others, ", ")))
	}
	return out
}

// leftText is a time in the largest unit that is not silly.
func leftText(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f minutes", max(d.Minutes(), 1))
}

var extKeyUsageNames = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny: "anyExtendedKeyUsage", x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth",
	x509.ExtKeyUsageCodeSigning: "codeSigning", x509.ExtKeyUsageEmailProtection: "emailProtection",
	x509.ExtKeyUsageTimeStamping: "timeStamping", x509.ExtKeyUsageOCSPSigning: "OCSPSigning",
}

// extKeyUsages returns the names of the extended key usages, and whether they allow
// client authentication.
func extKeyUsages(leaf *x509.Certificate) (names []string, fits bool) {
	for _, u := range leaf.ExtKeyUsage {
		name, ok := extKeyUsageNames[u]
		if !ok {
			name = fmt.Sprintf("usage %d", u)
		}
		names = append(names, name)
		fits = fits || u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny
	}
	for _, oid := range leaf.UnknownExtKeyUsage {
		names = append(names, oid.String())
	}
	return names, fits
}
