package clientauth

import (
	"context"
	"errors"
	"strconv"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
)

// AuthenticatePKI checks p against the registration of a tls_client_auth client and
// records each check in d: certificate, chain (with policy and revocation), subject.
// Errors are of type *[Error]; d then has the same check as its failure. It does not
// call d.Allow.
//
// If p.VerifiedBy is set, the operator has said that a proxy validates paths. The check
// of the chain is then recorded as skipped; the dates of the certificate are still
// looked at. Attributes are enough only in that case, a fingerprint never is, since it
// has no subject.
func (a *Authenticator) AuthenticatePKI(ctx context.Context, d *decision.Decision, p *certsource.Presented, reg PKI) error {
	if err := begin(d, TLSClientAuth, p); err != nil {
		return err
	}
	switch p.Kind() {
	case certsource.KindFingerprint:
		return notEnough(d, p, "the certificate, or its names from a proxy that verifies", "a fingerprint", "")
	case certsource.KindAttributes:
		if p.VerifiedBy == "" {
			return notEnough(d, p, "names that the proxy has verified", "names without a word of the proxy that the certificate is genuine",
				"let the proxy refuse certificates that it cannot verify, and say so in the Verification of the source; or let it forward the whole certificate")
		}
		d.Pass(decision.CheckCertificate, ruleCertificate, "attributes")
		d.Skip(decision.CheckChain, ruleChain, p.VerifiedBy)
		return a.subjectOfAttributes(d, p, reg)
	}
	leaf := p.Leaf()
	d.Pass(decision.CheckCertificate, ruleCertificate, d.Thumbprint)
	switch {
	case p.VerifiedBy != "":
		d.Skip(decision.CheckChain, ruleChain, p.VerifiedBy)
		if err := a.validity(d, p, leaf); err != nil {
			return err
		}
	case a.cfg.Paths == nil:
		return refuse(d, p, decision.Check{
			Name: decision.CheckChain, Rule: ruleChain, Reason: decision.NoAnchors,
			Expected: "trust anchors", Found: "no validator is configured",
		}, nil)
	default:
		_, err := a.cfg.Paths.Verify(ctx, reg.AnchorSet, pki.Chain{Leaf: leaf, Rest: p.Chain(), Digest: p.Digest()})
		if err != nil {
			return refuse(d, p, pathCheck(err), err)
		}
		d.Pass(decision.CheckChain, ruleChain, reg.AnchorSet)
	}

	match := reg.Expected.Match
	if reg.SoleEntry {
		match = reg.Expected.MatchSole
	}
	if err := match(leaf); err != nil {
		return refuse(d, p, subjectCheck(reg, err), err)
	}
	d.Pass(decision.CheckSubject, ruleSubject, reg.Expected.Value())
	return nil
}

// subjectOfAttributes matches names that a proxy has extracted, kind by kind.
func (a *Authenticator) subjectOfAttributes(d *decision.Decision, p *certsource.Presented, reg PKI) error {
	names := p.Attributes()
	var err error
	if reg.Expected.Kind() == subject.DN {
		err = matchDN(reg.Expected, names)
	} else {
		values := map[subject.Kind][]string{
			subject.SANDNS: names.SANDNS, subject.SANURI: names.SANURI,
			subject.SANIP: names.SANIP, subject.SANEmail: names.SANEmail,
		}[reg.Expected.Kind()]
		if reg.SoleEntry && len(values) > 1 {
			return refuse(d, p, decision.Check{
				Name: decision.CheckSubject, Rule: ruleSubject, Reason: decision.SubjectMismatch,
				Expected: string(reg.Expected.Kind()) + " " + strconv.Quote(reg.Expected.Value()) + ", alone of its kind",
				Found:    strconv.Itoa(len(values)) + " entries",
			}, nil)
		}
		err = reg.Expected.MatchText(values)
	}
	if err != nil {
		return refuse(d, p, subjectCheck(reg, err), err)
	}
	d.Pass(decision.CheckSubject, ruleSubject, reg.Expected.Value())
	return nil
}

// matchDN parses the one subject by the syntax that the source declares. Text that can
// be read in two ways does not parse.
func matchDN(e subject.Expected, names *certsource.Attributes) error {
	switch {
	case len(names.SubjectDN) == 0:
		return &subject.MismatchError{Reason: decision.SubjectAbsent, Expected: e.Value(), Found: "no subject from the proxy"}
	case len(names.SubjectDN) > 1:
		return &subject.MismatchError{Reason: decision.SubjectMismatch, Expected: e.Value(), Found: "more than one subject from the proxy"}
	}
	var parse func(string) (subject.Name, error)
	switch names.DNSyntax {
	case certsource.DNSyntaxLDAP:
		parse = subject.ParseName
	case certsource.DNSyntaxLegacy:
		parse = subject.ParseLegacy
	default:
		return &subject.MismatchError{Reason: decision.SubjectMismatch, Expected: e.Value(), Found: "a subject in a syntax that the source does not declare"}
	}
	name, err := parse(names.SubjectDN[0])
	if err != nil {
		return err
	}
	return e.MatchName(name)
}

// pathCheck turns an error of the validator into the check that it failed.
func pathCheck(err error) decision.Check {
	c := decision.Check{Name: decision.CheckChain, Rule: ruleChain, Reason: decision.PathInvalid}
	e, ok := errors.AsType[*pki.Error](err)
	if !ok {
		c.Reason, c.Found = decision.HookFailed, err.Error() // a validator of the caller's
		return c
	}
	c.Reason, c.Expected, c.Found = e.Reason, e.Expected, e.Found
	switch e.Reason {
	case decision.Expired, decision.NotYetValid:
		c.Name, c.Rule = decision.CheckValidity, ruleValidity
	case decision.ExtKeyUsage, decision.KeyUsage, decision.LeafIsCA, decision.WeakKey, decision.WeakSignature:
		c.Name, c.Rule = decision.CheckPolicy, "RFC 8705, Section 7.5"
	case decision.Revoked, decision.RevocationUnknown:
		c.Name = decision.CheckRevocation
	}
	return c
}

// subjectCheck turns an error of package subject into the check that it failed.
func subjectCheck(reg PKI, err error) decision.Check {
	c := decision.Check{
		Name: decision.CheckSubject, Rule: ruleSubject, Reason: decision.SubjectMismatch,
		Expected: string(reg.Expected.Kind()) + " " + strconv.Quote(reg.Expected.Value()),
	}
	if reg.Expected.Kind() == "" {
		c.Reason, c.Expected = decision.ClientMisconfig, "one registered subject value"
		c.Found = "none"
		return c
	}
	if e, ok := errors.AsType[*subject.MismatchError](err); ok {
		// Quoted as what was found is, so that one can be held against the other.
		c.Reason, c.Expected, c.Found = e.Reason, strconv.Quote(e.Expected), e.Found
		if e.Hint != "" {
			c.Found += " (" + e.Hint + ")"
		}
		return c
	}
	c.Found = err.Error()
	return c
}
