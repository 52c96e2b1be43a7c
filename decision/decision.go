// Package decision holds the outcome of every judgement that Certbound makes: which
// checks were made, what each expected, what it found, and what to change. A
// [Decision] is built where the check is made and read by logs, metrics, explain
// and tests; nothing is ever derived from its text. The package imports nothing of
// ours.
package decision

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// An Outcome is the result of one check.
type Outcome uint8

// The outcomes. The zero value is Failed, so that a check that was never decided
// does not pass.
const (
	Failed Outcome = iota
	Passed
	Skipped // not made, by setting or because it does not apply
)

func (o Outcome) String() string {
	switch o {
	case Passed:
		return "passed"
	case Skipped:
		return "skipped"
	default:
		return "failed"
	}
}

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText has written. After an error o is Failed.
func (o *Outcome) UnmarshalText(text []byte) error {
	for _, known := range []Outcome{Failed, Passed, Skipped} {
		if string(text) == known.String() {
			*o = known
			return nil
		}
	}
	*o = Failed
	return fmt.Errorf("decision: outcome: expected failed, passed or skipped, found %q", clip(string(text)))
}

func clip(s string) string { return s[:min(len(s), 32)] }

// A Check is one thing that was looked at.
type Check struct {
	// Name says what was checked, from the constants of this package.
	Name string `json:"check"`
	// Rule is the specification that asks for it: "RFC 8705, Section 2.1".
	Rule string `json:"rule,omitempty"`
	// Outcome is what came out.
	Outcome Outcome `json:"outcome"`
	// Reason is set if and only if the check failed.
	Reason Reason `json:"reason,omitempty"`
	// Expected and Found are for the operator, never for the wire. They hold
	// names, thumbprints and numbers, never a secret, a token or a key.
	Expected string `json:"expected,omitempty"`
	Found    string `json:"found,omitempty"`
	// Fix says what to change. If empty on a failed check, [Reason.Fix] applies.
	Fix string `json:"fix,omitempty"`
}

// Names of checks, in the order in which they are made.
const (
	CheckRoute       = "route"        // what the configuration says about host, path and method
	CheckSource      = "source"       // how the certificate arrived
	CheckCertificate = "certificate"  // one was presented, and enough of it
	CheckClient      = "client"       // client_id and registration
	CheckMethod      = "method"       // the registered and the used authentication method
	CheckSecret      = "secret"       // client_secret_basic
	CheckAssertion   = "assertion"    // private_key_jwt
	CheckValidity    = "validity"     // notBefore, notAfter
	CheckChain       = "chain"        // path to an anchor of this client
	CheckPolicy      = "policy"       // keys, algorithms, EKU, key usage
	CheckRevocation  = "revocation"   // CRL, OCSP
	CheckSubject     = "subject"      // the one registered subject value
	CheckRegistered  = "registration" // one of the registered certificates
	CheckMetadata    = "metadata"     // of a registration
	CheckStatement   = "statement"    // the software statement of a registration
	CheckGrant       = "grant"        // grant type, scope, resource
	CheckBinding     = "binding"      // cnf against the certificate
	CheckToken       = "token"        // form, signature, dates
	CheckIssuer      = "issuer"
	CheckAudience    = "audience"
	CheckScope       = "scope"
	CheckRequest     = "request" // the authorization request
	CheckBrowser     = "browser" // cookies, and where a form came from
	CheckLogin       = "login"
	CheckConsent     = "consent"
)

// A Decision is one judgement. The zero value refuses. It is not safe for
// concurrent use while checks are added, and must not be changed afterwards.
type Decision struct {
	// Allowed is the result. It is true only after Allow with no failed check.
	Allowed bool `json:"allowed"`
	// ClientID, Method, Thumbprint, Subject and Via are what is known of the
	// caller. Subject is RFC 4514 text; Via is the certificate source.
	ClientID   string `json:"client_id,omitempty"`
	Method     string `json:"method,omitempty"`
	Thumbprint string `json:"x5t#S256,omitempty"`
	Subject    string `json:"subject,omitempty"`
	Via        string `json:"via,omitempty"`
	// Peer is the network peer, from the connection.
	Peer string `json:"peer,omitempty"`
	// Checks lists what was looked at, in order.
	Checks []Check `json:"checks"`
	// Warnings are findings that refuse nothing, such as a certificate header
	// on a listener that does not read it.
	Warnings []Check `json:"warnings,omitempty"`
}

// New returns a decision with room for the usual number of checks.
func New() *Decision { return &Decision{Checks: make([]Check, 0, 8)} }

// Pass records a check that passed. found may be empty.
func (d *Decision) Pass(name, rule, found string) {
	d.Checks = append(d.Checks, Check{Name: name, Rule: rule, Outcome: Passed, Found: found})
}

// Skip records a check that was not made, and why.
func (d *Decision) Skip(name, rule, why string) {
	d.Checks = append(d.Checks, Check{Name: name, Rule: rule, Outcome: Skipped, Found: why})
}

// Fail records a failed check and makes the decision a refusal for good.
func (d *Decision) Fail(c Check) {
	c.Outcome = Failed
	if c.Reason == "" {
		c.Reason = Unspecified
	}
	d.Allowed = false
	d.Checks = append(d.Checks, c)
}

// Allow makes the decision positive, unless a check has failed or none was made.
func (d *Decision) Allow() {
	_, failed := d.Failure()
	d.Allowed = !failed && len(d.Checks) > 0
}

// Failure returns the first failed check.
func (d *Decision) Failure() (Check, bool) {
	for _, c := range d.Checks {
		if c.Outcome == Failed {
			return c, true
		}
	}
	return Check{}, false
}

// Reason returns the reason of the first failed check, or the empty reason.
func (d *Decision) Reason() Reason {
	c, _ := d.Failure()
	return c.Reason
}

// HowToFix returns Fix, or the fix that belongs to the reason.
func (c Check) HowToFix() string {
	if c.Fix != "" {
		return c.Fix
	}
	return c.Reason.Fix()
}

// Bounds of what a decision adds to a log: of each text, in bytes, and of warnings. Nearly
// all of it can be made of what a stranger has sent.
const (
	maxLogged   = 1024
	maxWarnings = 8
)

// LogValue implements [slog.LogValuer]: the facts, every check, and the failed one once
// more by itself, so that a record can be searched. The group of a JSON log decodes into
// a Decision again. Long texts are cut, as are the lists.
func (d *Decision) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Bool("allowed", d.Allowed)}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, bounded(value)))
		}
	}
	add("client_id", d.ClientID)
	add("method", d.Method)
	add("x5t#S256", d.Thumbprint)
	add("subject", d.Subject)
	add("via", d.Via)
	add("peer", d.Peer)
	if c, ok := d.Failure(); ok {
		add("check", c.Name)
		add("reason", string(c.Reason))
		add("rule", c.Rule)
		add("expected", c.Expected)
		add("found", c.Found)
		add("fix", c.HowToFix())
	}
	if len(d.Checks) > 0 {
		attrs = append(attrs, slog.Any("checks", newCheckList(d.Checks)))
	}
	if len(d.Warnings) > 0 {
		add("warning", string(d.Warnings[0].Reason))
		add("warning_found", d.Warnings[0].Found)
		attrs = append(attrs, slog.Any("warnings", newCheckList(d.Warnings[:min(len(d.Warnings), maxWarnings)])))
		if more := len(d.Warnings) - maxWarnings; more > 0 {
			attrs = append(attrs, slog.Int("more_warnings", more))
		}
	}
	return slog.GroupValue(attrs...)
}

// A checkList is a list of checks in a log: an array in JSON, one line in text. The line
// leaves nothing out, since what strikes secrets out of logs looks at it.
type checkList []Check

func newCheckList(checks []Check) checkList {
	l := make(checkList, len(checks))
	for i, c := range checks {
		c.Expected, c.Found, c.Fix = bounded(c.Expected), bounded(c.Found), bounded(c.Fix)
		l[i] = c
	}
	return l
}

func (l checkList) String() string {
	var b strings.Builder
	for i, c := range l {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.Name + " " + c.Outcome.String())
		if c.Reason != "" {
			b.WriteString(" (" + string(c.Reason) + ")")
		}
		for _, part := range []struct{ label, text string }{{"expected", c.Expected}, {"found", c.Found}, {"fix", c.Fix}} {
			if part.text != "" {
				b.WriteString(" " + part.label + ": " + part.text)
			}
		}
	}
	return b.String()
}

func bounded(s string) string {
	if len(s) <= maxLogged {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogged], "") + "…"
}

// String returns the decision as text of several lines, for an operator.
func (d *Decision) String() string {
	var b strings.Builder
	if d.Allowed {
		b.WriteString("allowed\n")
	} else {
		b.WriteString("refused\n")
	}
	for _, c := range d.Checks {
		b.WriteString("  " + c.Outcome.String() + " " + c.Name)
		if c.Rule != "" {
			b.WriteString(" (" + c.Rule + ")")
		}
		b.WriteByte('\n')
		line := func(label, text string) {
			if text != "" {
				b.WriteString("    " + label + ": " + oneLine(text) + "\n")
			}
		}
		line("reason", string(c.Reason))
		line("expected", c.Expected)
		line("found", c.Found)
		if c.Outcome == Failed {
			line("fix", c.HowToFix())
		}
	}
	for _, w := range d.Warnings {
		b.WriteString("  warning " + w.Name + ": " + w.Reason.Summary())
		if w.Found != "" {
			b.WriteString(": " + oneLine(w.Found))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// oneLine quotes text that would not stay on its line, since names in certificates
// are chosen by others.
func oneLine(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// An Observer is told of each decision once, after it was made. It is called on
// the goroutine of the request and must not block or change d. It must be safe
// for concurrent use.
type Observer func(ctx context.Context, d *Decision)
