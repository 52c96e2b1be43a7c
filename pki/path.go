package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/certbound/certbound/decision"
)

// maxPaths bounds how many valid paths of one chain are tried. More than one exist
// if CAs have certified each other.
const maxPaths = 8

// judge is the cold path. The path is found by crypto/x509 (RFC 8705, Section 7.5:
// no home-made validation); what it does not check is checked on what it returns.
func (v *Validator) judge(ctx context.Context, t *trust, chain Chain, now time.Time) (*accepted, *Error) {
	intermediates := t.known
	if rest := t.linked(chain.Rest); len(rest) > 0 {
		intermediates = t.known.Clone()
		for _, cert := range rest {
			intermediates.AddCert(cert)
		}
	}
	leaf := chain.Leaf
	if len(t.policy.CertificatePolicies) > 0 {
		// By itself, VerifyOptions.CertificatePolicies lets a path without any policy
		// pass. The demand for one (initial-explicit-policy) has no option; a leaf that
		// makes it comes to the same in the end (RFC 5280, Section 6.1.5 (b)).
		explicit := *leaf
		explicit.RequireExplicitPolicy, explicit.RequireExplicitPolicyZero = 0, true
		leaf = &explicit
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots:               t.roots,
		Intermediates:       intermediates,
		CurrentTime:         now,
		KeyUsages:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CertificatePolicies: t.policy.CertificatePolicies,
	})
	if err != nil {
		return nil, t.explain(err, chain, now)
	}
	// One valid path is enough. The first fault is reported, since x509 returns
	// the most direct paths first.
	var first *Error
	for _, path := range paths[:min(len(paths), maxPaths)] {
		path[0] = chain.Leaf
		a, e := v.judgePath(ctx, t, path)
		if e == nil {
			return a, nil
		}
		if e.Set == "" {
			e.Set = t.name
		}
		if first == nil {
			first = e
		}
		if e.Cert == chain.Leaf {
			break // no other path has another leaf
		}
	}
	if first == nil { // x509 returned no path and no error
		first = &Error{Reason: decision.PathInvalid, Set: t.name, Cert: chain.Leaf}
	}
	return nil, first
}

// fewPresented is how many certificates behind the leaf path building is given as they
// are. Two make at most a handful of signature checks.
const fewPresented = 2

// linked returns those of the presented certificates that an anchor or a helper has
// signed, directly or through others of them. Path building starts at the leaf, so a
// stranger who sends ten CAs that have certified each other, with the slowest keys
// there are, would keep it busy for half a second. Seen from the anchors there is
// nothing to check. What is left out here can be in no valid path; whether a path of
// the others is valid, crypto/x509 says.
func (t *trust) linked(rest []*x509.Certificate) []*x509.Certificate {
	if len(rest) <= fewPresented {
		return rest
	}
	left := slices.Clone(rest)
	var found []*x509.Certificate
	checks := 4 * len(rest)
	for issuers := slices.Concat(t.anchors, t.helpers); len(issuers) > 0; {
		var next []*x509.Certificate
		left = slices.DeleteFunc(left, func(cert *x509.Certificate) bool {
			for _, issuer := range issuers {
				if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) || checks == 0 {
					continue
				}
				checks--
				if cert.CheckSignatureFrom(issuer) == nil {
					next = append(next, cert)
					return true
				}
			}
			return false
		})
		found = append(found, next...)
		issuers = next
	}
	return found
}

func (v *Validator) judgePath(ctx context.Context, t *trust, path []*x509.Certificate) (*accepted, *Error) {
	if e := t.policy.path(path); e != nil {
		return nil, e
	}
	a := &accepted{
		verdict: Verdict{Path: path, Until: path[0].NotAfter, Generation: t.generation},
		since:   path[0].NotBefore,
	}
	for _, cert := range path[1:] {
		if cert.NotAfter.Before(a.verdict.Until) {
			a.verdict.Until = cert.NotAfter
		}
		if cert.NotBefore.After(a.since) {
			a.since = cert.NotBefore
		}
	}
	if t.revocation == nil {
		return a, nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.RevocationTimeout)
	defer cancel()
	until, err := t.revocation.CheckRevocation(ctx, path)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok &&
			(e.Reason == decision.Revoked || e.Reason == decision.RevocationUnknown) {
			copied := *e // the checker may hand out the same one again
			return nil, &copied
		}
		return nil, &Error{Reason: decision.RevocationUnknown, Cert: path[0],
			Expected: "an answer of the revocation source", Found: "none", Err: err}
	}
	if !until.IsZero() && until.Before(a.verdict.Until) {
		a.verdict.Until = until
	}
	return a, nil
}
