package authserver

import (
	"bytes"
	"slices"
	"time"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki/subject"
)

// A Rotation says which of a client's two registered identities are accepted at a time.
// At every time at least one is.
type Rotation struct {
	Current, Next bool
}

// Rotation returns what is accepted at a time. Without a next subject value or
// certificate that is the current one, always: RFC 8705, Section 2.1.2, has exactly one.
// With one there are up to three times: the current one alone until NextNotBefore, both
// until CurrentNotAfter, and then the next alone, whether anybody has closed the rotation
// with [Client.Promote] or not. Where the two dates are the same there is no overlap,
// and each time has exactly one.
func (c *Client) Rotation(now time.Time) Rotation {
	if !c.hasNext() {
		return Rotation{Current: true}
	}
	return Rotation{
		Current: c.CurrentNotAfter.IsZero() || now.Before(c.CurrentNotAfter),
		Next:    !now.Before(c.NextNotBefore),
	}
}

// hasNext reports whether a next identity is registered.
func (c *Client) hasNext() bool {
	return c.NextSubject != "" || c.NextAnchorSet != "" || len(c.NextJWKS) > 0
}

// Promote makes the next identity the current one and ends the rotation. The old one is
// not accepted any more. Without a next identity it does nothing.
func (c *Client) Promote() {
	if c.NextSubject != "" {
		c.SubjectDN, c.SANDNS, c.SANURI, c.SANIP, c.SANEmail = "", "", "", "", ""
		if field, ok := c.member(c.NextSubjectKind).(*string); ok {
			*field = c.NextSubject
		}
		if c.NextSubjectKind == string(subject.DN) {
			c.SoleEntry = false
		}
	}
	if c.NextAnchorSet != "" {
		c.AnchorSet = c.NextAnchorSet
	}
	if len(c.NextJWKS) > 0 {
		c.JWKS = c.NextJWKS
	}
	c.CancelRotation()
}

// CancelRotation forgets the next identity. The current one stays.
func (c *Client) CancelRotation() {
	c.NextSubjectKind, c.NextSubject, c.NextAnchorSet, c.NextJWKS = "", "", "", nil
	c.NextNotBefore, c.CurrentNotAfter = time.Time{}, time.Time{}
}

// rotation checks the members of a rotation.
func (v *validation) rotation() {
	c, m := v.c, v.c.Method()
	isPKI, isSelf := m == clientauth.TLSClientAuth, m == clientauth.SelfSignedTLSClientAuth
	if c.NextSubject != "" || c.NextSubjectKind != "" {
		_, current := c.Subject()
		kinds := subject.Kinds()
		switch {
		case !isPKI:
			v.fault("certbound_next_subject", "means something only with tls_client_auth, but the method is %s", m)
		case c.NextSubject == "" || !slices.Contains(kinds, subject.Kind(c.NextSubjectKind)):
			v.fault("certbound_next_subject_kind", "expected any of %v, with certbound_next_subject, found %q with %q", kinds, c.NextSubjectKind, c.NextSubject)
		default:
			if _, err := subject.New(subject.Kind(c.NextSubjectKind), c.NextSubject); err != nil {
				v.fault("certbound_next_subject", "%v", err)
			}
			if kind, _ := c.Subject(); string(kind) == c.NextSubjectKind && current == c.NextSubject && c.NextAnchorSet == "" {
				v.fault("certbound_next_subject", "is the current value; a certificate with the same subject needs no registration")
			}
			if c.SoleEntry && c.NextSubjectKind == string(subject.DN) {
				v.fault("certbound_next_subject_kind", "certbound_sole_san means something only with a subject alternative name")
			}
		}
	}
	if set := c.NextAnchorSet; set != "" {
		switch {
		case !isPKI:
			v.fault("certbound_next_anchor_set", "means something only with tls_client_auth, but the method is %s", m)
		case v.r.HasAnchorSet != nil && !v.r.HasAnchorSet(set):
			v.fault("certbound_next_anchor_set", "there is no anchor set %q", set)
		}
	}
	if len(c.NextJWKS) > 0 {
		set, err := jwks.Parse(c.NextJWKS, jwks.Strict)
		switch {
		case !isSelf:
			v.fault("certbound_next_jwks", "means something only with self_signed_tls_client_auth, but the method is %s", m)
		case c.JWKSURI != "":
			v.fault("certbound_next_jwks", "does not go with jwks_uri: publish the next certificate there")
		case err != nil:
			v.fault("certbound_next_jwks", "%v", err)
		case len(set.Certificates) == 0:
			v.fault("certbound_next_jwks", "no key has x5c, whose first entry is the certificate (RFC 8705, Section 2.2.2)")
		case bytes.Equal(c.NextJWKS, c.JWKS):
			v.fault("certbound_next_jwks", "is the current key set")
		}
	}
	switch {
	case !c.hasNext() && !(c.NextNotBefore.IsZero() && c.CurrentNotAfter.IsZero()):
		v.fault("certbound_current_not_after", "means something only with a next subject value, anchor set or key set; to refuse a client there is certbound_disabled")
	case !c.CurrentNotAfter.IsZero() && c.CurrentNotAfter.Before(c.NextNotBefore):
		v.fault("certbound_current_not_after", "ends at %s, before the next begins at %s: between them nothing would be accepted",
			c.CurrentNotAfter.UTC().Format(time.RFC3339), c.NextNotBefore.UTC().Format(time.RFC3339))
	}
}
