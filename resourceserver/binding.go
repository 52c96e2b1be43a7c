package resourceserver

import (
	"context"
	"errors"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// binding compares the token's confirmation with the certificate of this request (RFC
// 8705, Sections 3 and 6.2). It is made for every request; nothing of it is cached.
func (v *Verifier) binding(ctx context.Context, d *decision.Decision, token *Token, p *certsource.Presented) *Error {
	if v.cfg.Binding == InsecureIgnoreBinding {
		d.Skip(decision.CheckBinding, ruleBinding, "by setting, nobody compares")
		return nil
	}
	c := decision.Check{Name: decision.CheckBinding, Rule: ruleBinding}
	if err := token.confirmationFault; err != nil {
		c.Reason, c.Found = decision.BindingMalformed, err.Error()
		return fail(d, c, err)
	}
	cnf := token.Confirmation
	if cnf.X5TS256 == "" && cnf.JKT == "" && v.cfg.IgnoreUnknownConfirmation {
		cnf = certbound.Confirmation{}
	}
	err := cnf.VerifyThumbprint(p.Thumbprint())
	switch {
	case err == nil:
		if check := v.cfg.CheckCertificate; check != nil {
			if err := check(ctx, p); err != nil {
				return fail(d, decision.Check{
					Name: decision.CheckPolicy, Rule: "RFC 8705, Section 6.2",
					Reason: decision.HookRefused, Found: err.Error(),
				}, err)
			}
		}
		d.Pass(decision.CheckBinding, ruleBinding, p.Thumbprint())
		return nil
	case errors.Is(err, certbound.ErrNotBound) && v.cfg.Binding == WhenPresent:
		d.Skip(decision.CheckBinding, ruleBinding, "the token is not bound, which is allowed by setting")
		return nil
	case errors.Is(err, certbound.ErrNotBound):
		c.Reason, c.Expected, c.Found = decision.NotBound, "cnf with x5t#S256", "none"
	case errors.Is(err, certbound.ErrUnknownMethod):
		c.Reason, c.Expected, c.Found = decision.BindingUncheckable, "x5t#S256 and no jkt", "another member of cnf"
	case errors.Is(err, certbound.ErrNoCertificate):
		c.Reason, c.Expected, c.Found = decision.NoCertificate, clip(cnf.X5TS256), "no certificate"
		if p.Kind() != certsource.KindNone {
			c.Reason, c.Found = decision.NotEnough, "only "+p.Kind().String()
		}
	default:
		c.Reason, c.Expected, c.Found = decision.BindingMismatch, clip(cnf.X5TS256), p.Thumbprint()
	}
	return fail(d, c, err)
}
