package pki

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki/subject"
)

// explain turns the refusal of crypto/x509 into one that names the certificate and
// the cause. It only ever refuses: nothing that it finds makes a path valid.
func (t *trust) explain(err error, chain Chain, now time.Time) *Error {
	e := t.cause(err, chain, now)
	e.Set, e.Err = t.name, err
	return e
}

func (t *trust) cause(err error, chain Chain, now time.Time) *Error {
	leaf := chain.Leaf
	if e := dates(leaf, now); e != nil {
		return e
	}
	if e := critical(leaf); e != nil {
		return e
	}
	// These come after a path was found.
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
			return t.usage(chain)
		case x509.CANotAuthorizedForThisName, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName, x509.TooManyConstraints:
			return &Error{Reason: decision.NameConstraint, Cert: leaf,
				Expected: "names that every CA of the path may issue", Found: cmp.Or(invalid.Detail, "others")}
		case x509.NoValidChains: // there were some, but none was valid for a policy
			return &Error{Reason: decision.CertificatePolicy, Cert: leaf,
				Expected: t.policy.policiesText(), Found: policiesFound(leaf)}
		}
	}
	w := walk{t: t, rest: chain.Rest, now: now, budget: 40, seen: []*x509.Certificate{leaf}}
	w.from(leaf)
	if w.best != nil {
		return w.best
	}
	return &Error{Reason: decision.PathInvalid, Cert: leaf,
		Expected: "a valid path to " + t.anchorNames(), Found: "none"}
}

func dates(cert *x509.Certificate, now time.Time) *Error {
	switch {
	case now.Before(cert.NotBefore):
		return &Error{Reason: decision.NotYetValid, Cert: cert,
			Expected: "a time from " + stamp(cert.NotBefore) + " on", Found: stamp(now)}
	case now.After(cert.NotAfter):
		return &Error{Reason: decision.Expired, Cert: cert,
			Expected: "a time up to " + stamp(cert.NotAfter), Found: stamp(now)}
	}
	return nil
}

func critical(cert *x509.Certificate) *Error {
	if len(cert.UnhandledCriticalExtensions) == 0 {
		return nil
	}
	return &Error{Reason: decision.CriticalExtension, Cert: cert,
		Expected: "critical extensions that are understood", Found: fmt.Sprintf("%v", cert.UnhandledCriticalExtensions)}
}

// usage finds the certificate whose extended key usage leaves no room for clients: the
// leaf, or a CA, since the usages of a CA limit what is below it.
func (t *trust) usage(chain Chain) *Error {
	fault := func(cert *x509.Certificate) *Error {
		return &Error{Reason: decision.ExtKeyUsage, Cert: cert,
			Expected: "extended key usage clientAuth, any, or none", Found: extKeyUsageText(cert)}
	}
	if !allowsClients(chain.Leaf) {
		return fault(chain.Leaf)
	}
	issuers := slices.Concat(chain.Rest, t.helpers, t.anchors)
	limits := func(cert *x509.Certificate) bool { return !allowsClients(cert) }
	direct := func(cert *x509.Certificate) bool {
		return limits(cert) && bytes.Equal(cert.RawSubject, chain.Leaf.RawIssuer)
	}
	for _, guilty := range []func(*x509.Certificate) bool{direct, limits} {
		if i := slices.IndexFunc(issuers, guilty); i >= 0 {
			return fault(issuers[i])
		}
	}
	return fault(chain.Leaf)
}

func (r rules) policiesText() string {
	if len(r.CertificatePolicies) == 0 {
		return "a path that is valid for a certificate policy, since a CA of it requires one"
	}
	return "a path that is valid for one of the certificate policies " + oidsText(r.CertificatePolicies)
}

func policiesFound(leaf *x509.Certificate) string {
	if len(leaf.Policies) == 0 {
		return "no certificate policy in the certificate"
	}
	return oidsText(leaf.Policies) + " in the certificate, but not for the whole path"
}

func oidsText(oids []x509.OID) string {
	const most = 5
	var names []string
	for i, oid := range oids {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(oids)-most))
			break
		}
		names = append(names, oid.String())
	}
	return strings.Join(names, ", ")
}

func allowsClients(cert *x509.Certificate) bool {
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range cert.ExtKeyUsage {
		if u == x509.ExtKeyUsageAny || u == x509.ExtKeyUsageClientAuth {
			return true
		}
	}
	return false
}

// A walk goes from the leaf towards the anchors as path building does and remembers
// what stood in the way at the place that is furthest from the leaf.
type walk struct {
	t      *trust
	rest   []*x509.Certificate
	now    time.Time
	budget int // what signature checks may still cost
	seen   []*x509.Certificate
	best   *Error
	depth  int // of best
}

func (w *walk) blame(depth int, e *Error) {
	if w.best == nil || depth > w.depth {
		w.best, w.depth = e, depth
	}
}

// from looks at the issuers of the last certificate that was seen.
func (w *walk) from(cert *x509.Certificate) {
	depth := len(w.seen)
	found := false
	for i, known := range [][]*x509.Certificate{w.t.anchors, w.t.helpers, w.rest} {
		for _, issuer := range known {
			if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) || w.saw(issuer) {
				continue
			}
			cost := 1
			if i == 2 {
				cost = 8 // the key is the stranger's choice, and may be slow
			}
			if w.budget -= cost; w.budget < 0 {
				return
			}
			found = true
			if e := w.link(cert, issuer); e != nil {
				w.blame(depth, e)
				continue
			}
			if i > 0 { // not an anchor
				w.seen = append(w.seen, issuer)
				w.from(issuer)
				w.seen = w.seen[:depth]
			}
		}
	}
	if !found {
		w.blame(depth, w.missing(cert))
	}
}

func (w *walk) saw(cert *x509.Certificate) bool {
	for _, s := range w.seen {
		if s.Equal(cert) {
			return true
		}
	}
	return false
}

// link returns what is wrong with issuer as the issuer of cert.
func (w *walk) link(cert, issuer *x509.Certificate) *Error {
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		_, insecure := errors.AsType[x509.InsecureAlgorithmError](err)
		_, constrained := errors.AsType[x509.ConstraintViolationError](err)
		switch {
		case constrained:
			return notCA(issuer)
		case insecure, errors.Is(err, x509.ErrUnsupportedAlgorithm):
			return weakSignature(cert, w.t.policy)
		case len(cert.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId):
			return &Error{Reason: decision.UnknownAuthority, Cert: cert,
				Expected: "a path to " + w.t.anchorNames(),
				Found:    "an issuer that has the name " + nameOf(issuer) + ", but another key"}
		}
		return &Error{Reason: decision.BadSignature, Cert: cert,
			Expected: "a signature by the key of " + nameOf(issuer), Found: "a signature that does not verify"}
	}
	if !isCA(issuer) {
		return notCA(issuer)
	}
	if e := dates(issuer, w.now); e != nil {
		return e
	}
	if e := critical(issuer); e != nil {
		return e
	}
	if below := len(w.seen) - 1; issuer.MaxPathLen >= 0 && below > issuer.MaxPathLen {
		return &Error{Reason: decision.NameConstraint, Cert: issuer,
			Expected: fmt.Sprintf("at most %d CAs below it (path length constraint)", issuer.MaxPathLen), Found: fmt.Sprint(below)}
	}
	return nil
}

// missing says what it means that no issuer of cert is known.
func (w *walk) missing(cert *x509.Certificate) *Error {
	e := &Error{Cert: cert, Expected: "a path to " + w.t.anchorNames()}
	switch {
	case bytes.Equal(cert.RawIssuer, cert.RawSubject) && len(w.seen) == 1:
		e.Reason, e.Found = decision.UnknownAuthority, "a self-signed certificate, which is not an anchor"
	case bytes.Equal(cert.RawIssuer, cert.RawSubject):
		e.Reason, e.Found = decision.UnknownAuthority, "a path that ends at "+nameOf(cert)+", which was presented, but is not an anchor"
	case len(w.seen) == 1:
		e.Reason = decision.ChainIncomplete
		e.Found = "the issuer " + issuerOf(cert) + ", which is not an anchor, not a helper and was not presented"
	default:
		e.Reason = decision.UnknownAuthority
		e.Found = "a path that ends at " + nameOf(cert) + ", whose issuer " + issuerOf(cert) + " is not an anchor"
	}
	return e
}

// anchorNames names the anchors of the set, or some of them.
func (t *trust) anchorNames() string {
	const most = 3
	names := make([]string, 0, most+1)
	for i, cert := range t.anchors {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(t.anchors)-most))
			break
		}
		names = append(names, nameOf(cert))
	}
	return "an anchor of the set: " + strings.Join(names, "; ")
}

// nameOf names a certificate in text for the operator. What a stranger wrote into it
// comes out escaped and cut.
func nameOf(cert *x509.Certificate) string {
	if bytes.Equal(cert.RawSubject, emptyName) {
		return fmt.Sprintf("with the empty subject and serial number %x", cert.SerialNumber)
	}
	return plain(subject.Of(cert))
}

func issuerOf(cert *x509.Certificate) string {
	name, err := subject.ParseDER(cert.RawIssuer)
	if err != nil {
		return "with a name that does not parse"
	}
	return plain(name.String())
}

var emptyName = []byte{0x30, 0x00}

// plain quotes s if it holds what a terminal or a log would not show as it is.
func plain(s string) string {
	s = cut(s)
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// maxFact bounds what an [Error] expects and finds, in bytes. Names, usages and extensions
// of a stranger's certificate stand there.
const maxFact = 1024

// fact bounds s.
func fact(s string) string {
	if len(s) > maxFact {
		return strings.ToValidUTF8(s[:maxFact], "") + "..." // a copy: s is not held
	}
	return s
}

func cut(s string) string {
	const most = 256
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
