package authserver

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strconv"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
)

var errHookPEM = errors.New("authserver: hook Certificate: not PEM of 1 to 10 certificates")

// hookSource turns the hook Certificate into a source.
func hookSource(hook func(*http.Request) (HookCertificate, error)) func(*http.Request) (*certsource.Presented, error) {
	return func(r *http.Request) (*certsource.Presented, error) {
		hc, err := hook(r)
		if err != nil {
			return nil, err
		}
		if hc.Certificate == nil && len(hc.PEM) > 0 {
			if hc, err = parseHookPEM(hc.PEM); err != nil {
				return nil, err
			}
		}
		if hc.Certificate == nil {
			return nil, certsource.ErrNoCertificate
		}
		return certsource.NewPresented("hook", hc.Certificate, hc.Chain), nil
	}
}

func parseHookPEM(data []byte) (hc HookCertificate, err error) {
	if len(data) > 64<<10 {
		return hc, errHookPEM
	}
	for range 10 {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return HookCertificate{}, errHookPEM
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return HookCertificate{}, errHookPEM
		}
		if hc.Certificate == nil {
			hc.Certificate = cert
		} else {
			hc.Chain = append(hc.Chain, cert)
		}
	}
	if block, _ := pem.Decode(data); block != nil || hc.Certificate == nil {
		return HookCertificate{}, errHookPEM
	}
	return hc, nil
}

// authenticateHooked is clientauth's AuthenticatePKI with one part or both replaced
// by a hook. The part that has no hook stays what it was.
func (x *exchange) authenticateHooked(c *registered) error {
	ctx, d, hooks, p := x.ctx(), x.d, &x.s.cfg.MTLS, x.presented
	leaf := p.Leaf()
	if leaf == nil {
		check := decision.Check{Name: decision.CheckCertificate, Rule: "RFC 8705, Section 2.1", Reason: decision.NoCertificate}
		if p.Kind() != certsource.KindNone {
			check.Reason, check.Expected, check.Found = decision.NotEnough, "the whole certificate", p.Kind().String()
		}
		return x.failed(check, nil)
	}
	d.Pass(decision.CheckCertificate, "RFC 8705, Section 2.1", p.Thumbprint())

	kind, value := c.Subject()
	q := HookQuestion{ClientID: c.ID, Certificate: leaf, Chain: p.Chain(), AnchorSet: c.pki.AnchorSet, Property: string(kind), Expected: value}
	if hook := hooks.CertificateAuthorized; hook != nil {
		if err := x.ask(ctx, decision.CheckChain, "CertificateAuthorized", hook, q); err != nil {
			return err
		}
	} else {
		if x.s.cfg.Paths == nil {
			return x.failed(decision.Check{Name: decision.CheckChain, Rule: "RFC 8705, Section 2.1", Reason: decision.NoAnchors}, nil)
		}
		_, err := x.s.cfg.Paths.Verify(ctx, c.pki.AnchorSet, pki.Chain{Leaf: leaf, Rest: p.Chain(), Digest: p.Digest()})
		if err != nil {
			check := decision.Check{Name: decision.CheckChain, Rule: "RFC 8705, Section 2.1", Reason: decision.PathInvalid, Found: err.Error()}
			if pe, ok := errors.AsType[*pki.Error](err); ok {
				check.Reason, check.Expected, check.Found = pe.Reason, pe.Expected, pe.Found
			}
			return x.failed(check, err)
		}
		d.Pass(decision.CheckChain, "RFC 5280, Section 6", c.pki.AnchorSet)
	}
	if hook := hooks.CertificateSubjectMatches; hook != nil {
		return x.ask(ctx, decision.CheckSubject, "CertificateSubjectMatches", hook, q)
	}
	match := c.pki.Expected.Match
	if c.pki.SoleEntry {
		match = c.pki.Expected.MatchSole
	}
	if err := match(leaf); err != nil {
		check := decision.Check{Name: decision.CheckSubject, Rule: "RFC 8705, Section 2.1.2", Reason: decision.SubjectMismatch, Expected: value}
		if me, ok := errors.AsType[*subject.MismatchError](err); ok {
			check.Reason, check.Expected, check.Found = me.Reason, strconv.Quote(me.Expected), me.Found
		}
		return x.failed(check, err)
	}
	d.Pass(decision.CheckSubject, "RFC 8705, Section 2.1.2", value)
	return nil
}

func (x *exchange) ask(ctx context.Context, check, name string, hook func(context.Context, HookQuestion) (bool, error), q HookQuestion) error {
	ok, err := hook(ctx, q)
	switch {
	case err != nil:
		return x.failed(decision.Check{Name: check, Reason: decision.HookFailed, Found: name + ": " + err.Error()}, err)
	case !ok:
		return x.failed(decision.Check{Name: check, Reason: decision.HookRefused, Expected: q.Expected, Found: name + " said no"}, nil)
	}
	x.d.Pass(check, "hook "+name, "")
	return nil
}

func (x *exchange) failed(c decision.Check, err error) error {
	x.d.Fail(c)
	return &clientauth.Error{Check: c, Err: err}
}
