package clientauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// AuthenticateSelfSigned checks p against the registration of a
// self_signed_tls_client_auth client and records each check in d: certificate,
// registration, validity. Errors are of type *[Error]; d then has the same check as
// its failure. It does not call d.Allow.
//
// The presented certificate has to be one of the registered ones, octet by octet. No
// path is validated, and a certificate of a CA is just a certificate. A fingerprint
// from a trusted hop is enough if it is the SHA-256 of a registered certificate, which
// is the same comparison; attributes never are.
func (a *Authenticator) AuthenticateSelfSigned(ctx context.Context, d *decision.Decision, p *certsource.Presented, reg SelfSigned) error {
	if err := begin(d, SelfSignedTLSClientAuth, p); err != nil {
		return err
	}
	if p.Kind() == certsource.KindAttributes {
		return notEnough(d, p, "the certificate, or its SHA-256", "names only", "")
	}
	d.Pass(decision.CheckCertificate, ruleCertificate, d.Thumbprint)

	der := reg.find(p, reg.Certificates)
	var fetchErr error
	registered := reg.Certificates
	if der == nil && reg.Refetch != nil {
		registered, fetchErr = reg.Refetch(ctx)
		if fetchErr == nil {
			der = reg.find(p, registered)
		} else {
			registered = reg.Certificates
		}
	}
	if der == nil {
		return refuse(d, p, reg.missing(p, registered, fetchErr), fetchErr)
	}
	d.Pass(decision.CheckRegistered, ruleRegistration, d.Thumbprint)

	if reg.InsecureIgnoreValidity {
		d.Skip(decision.CheckValidity, ruleValidity, "switched off for this client")
		return nil
	}
	leaf := p.Leaf()
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(der); err != nil {
			return refuse(d, p, decision.Check{
				Name: decision.CheckValidity, Rule: ruleValidity, Reason: decision.CertificateUnparsed,
				Expected: "a registered certificate whose dates can be read", Found: err.Error(),
			}, err)
		}
	}
	return a.validity(d, p, leaf)
}

// find returns the registered certificate that p is, or nil.
func (reg SelfSigned) find(p *certsource.Presented, registered [][]byte) []byte {
	leaf := p.Leaf()
	if leaf == nil {
		for _, der := range registered {
			if certbound.ThumbprintDER(der) == p.Thumbprint() {
				return der
			}
		}
		return nil
	}
	for _, der := range registered {
		if bytes.Equal(der, leaf.Raw) {
			return der
		}
	}
	if reg.InsecureMatchKey {
		for _, der := range registered {
			if sameKey(der, leaf) {
				return der
			}
		}
	}
	return nil
}

// sameKey reports whether a registered certificate has the public key of leaf. Parsing the
// certificates of a large key set for each refusal takes longer than all the rest, so only
// one that holds the octets of the key is parsed.
func sameKey(der []byte, leaf *x509.Certificate) bool {
	if !bytes.Contains(der, leaf.RawSubjectPublicKeyInfo) {
		return false
	}
	c, err := x509.ParseCertificate(der)
	return err == nil && bytes.Equal(c.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo)
}

// missing says why p is none of the registered certificates.
func (reg SelfSigned) missing(p *certsource.Presented, registered [][]byte, fetchErr error) decision.Check {
	c := decision.Check{
		Name: decision.CheckRegistered, Rule: ruleRegistration, Reason: decision.NotRegistered,
		Found: p.Thumbprint(),
	}
	const shown = 4
	thumbprints := make([]string, 0, shown)
	for _, der := range registered[:min(len(registered), shown)] {
		thumbprints = append(thumbprints, certbound.EncodeThumbprint(sha256.Sum256(der)))
	}
	c.Expected = strings.Join(thumbprints, ", ")
	if more := len(registered) - shown; more > 0 {
		c.Expected += " or one of " + strconv.Itoa(more) + " more"
	}
	switch {
	case fetchErr != nil:
		c.Reason = decision.KeySetUnavailable
		c.Found += fmt.Sprintf("; newer certificates could not be read: %v", fetchErr)
	case len(registered) == 0:
		c.Reason, c.Expected = decision.KeySetEmpty, "a registered certificate"
	case p.Leaf() != nil:
		for _, der := range registered {
			if sameKey(der, p.Leaf()) {
				c.Found += ", which has the same key as a registered certificate but is another certificate"
				c.Fix = "register this certificate too; the whole certificate is compared, not its key"
				break
			}
		}
	}
	return c
}

// validity checks the dates of one certificate (notes Q10).
func (a *Authenticator) validity(d *decision.Decision, p *certsource.Presented, cert *x509.Certificate) error {
	now := a.cfg.Now()
	c := decision.Check{Name: decision.CheckValidity, Rule: ruleValidity}
	switch {
	case now.Before(cert.NotBefore):
		c.Reason = decision.NotYetValid
		c.Expected = "notBefore at or before " + now.UTC().Format(time.RFC3339)
		c.Found = cert.NotBefore.UTC().Format(time.RFC3339)
	case now.After(cert.NotAfter):
		c.Reason = decision.Expired
		c.Expected = "notAfter at or after " + now.UTC().Format(time.RFC3339)
		c.Found = cert.NotAfter.UTC().Format(time.RFC3339)
	default:
		d.Pass(decision.CheckValidity, ruleValidity, "")
		return nil
	}
	return refuse(d, p, c, nil)
}
