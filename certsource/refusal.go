package certsource

import (
	"cmp"
	"errors"

	"github.com/certbound/certbound/decision"
)

// Check returns the failed check that belongs to an error of a source.
func Check(err error) decision.Check {
	c := decision.Check{Name: decision.CheckSource, Rule: "RFC 9440, Section 4", Outcome: decision.Failed, Found: err.Error()}
	if errors.Is(err, ErrNoCertificate) {
		c.Name, c.Rule, c.Found = decision.CheckCertificate, "RFC 8705, Section 2", ""
		c.Reason = decision.NoCertificate
		return c
	}
	if e, ok := errors.AsType[*ParseError](err); ok {
		c.Reason = cmp.Or(e.Reason, decision.SourceMalformed)
		c.Found = e.Field + ": " + e.Fault
		return c
	}
	if e, ok := errors.AsType[*UntrustedPeerError](err); ok {
		c.Reason = decision.SourceUntrusted
		c.Found = e.Field + " from " + e.Peer + ": " + e.Why
		return c
	}
	c.Reason = decision.HookFailed // an error of a source of the caller's
	return c
}
