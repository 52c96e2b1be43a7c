package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/memo"
	"github.com/certbound/certbound/pki/subject"
)

// facts are what the log says of a certificate.
type facts struct{ subject, serial, issuerKey string }

// A factCache keeps them, since names are slow to print.
type factCache struct{ memo *memo.Memo[facts] }

func newFactCache() *factCache { return &factCache{memo.New[facts](1 << 20)} }

func (c *factCache) of(p *certsource.Presented) facts {
	leaf := p.Leaf()
	if leaf == nil {
		return facts{}
	}
	if f, ok := c.memo.Get(p.Thumbprint()); ok {
		return f
	}
	f := facts{
		subject: clip(subject.Of(leaf)), serial: clip(leaf.SerialNumber.Text(16)),
		issuerKey: clip(hex.EncodeToString(leaf.AuthorityKeyId)),
	}
	c.memo.Put(p.Thumbprint(), f, 2*sha256.Size+len(f.subject)+len(f.serial)+len(f.issuerKey))
	return f
}

// A record is what the log says of one decision: who came with what to which route, and what
// came of it (docs/gateway.md has the table). Of the token there are its claims, and of the
// URL not the query.
type record struct {
	text  string
	attrs []slog.Attr
}

// Outcomes of a request.
const (
	outcomeAllowed = "allowed"
	outcomeRefused = "refused"
	outcomeEnded   = "ended"   // it was allowed, and then no more
	outcomeFailed  = "failed"  // it was allowed, and there was no answer of the upstream, or no whole one
	outcomeAborted = "aborted" // it was allowed, and the client has gone
)

func newRecord(v *Verdict, r Request) *record {
	rec := records.Get().(*record)
	rec.text, rec.attrs = "request", rec.attrs[:0]
	outcome := outcomeAllowed
	if !v.Allowed {
		rec.text, outcome = "request refused", outcomeRefused
	}
	rec.add("request_id", v.ID)
	rec.add("outcome", outcome)
	if v.Route != nil {
		rec.add("route", v.Route.Name)
		rec.add("rule", v.decider.rules[v.Route])
	}
	rec.add("method", clip(r.Method))
	rec.add("host", clip(r.Host))
	rec.add("path", clip(cmp.Or(v.Path, r.Path)))
	return rec
}

// outcomeAt is where the outcome stands in the attributes.
const outcomeAt = 1

func (rec *record) add(key, value string) {
	if value != "" {
		rec.attrs = append(rec.attrs, slog.String(key, value))
	}
}

// milliseconds returns a length of time as a number, to be added up and compared.
func milliseconds(key string, d time.Duration) slog.Attr {
	return slog.Float64(key, float64(d.Microseconds())/1000)
}

// describe tells of the token and the certificate of a request, and of how old what is known
// of them is.
func (rec *record) describe(facts *factCache, v *Verdict, now time.Time) {
	if t := cmp.Or(v.Token, v.Refused); t != nil {
		rec.add("client_id", clip(t.ClientID))
		rec.add("sub", clip(t.Subject))
		rec.add("jti", clip(t.ID))
	}
	rec.add("x5t#S256", v.Presented.Thumbprint())
	f := facts.of(v.Presented)
	rec.add("subject", f.subject)
	rec.add("serial", f.serial)
	rec.add("issuer_key_id", f.issuerKey)
	d := v.Decision
	rec.add("via", d.Via)
	if fields := v.decider.fields; len(fields) > 0 {
		rec.add("field", fields[0])
	}
	rec.add("presented", v.Presented.Kind().String())
	rec.add("peer", d.Peer)
	if v.TrustGeneration > 0 {
		rec.attrs = append(rec.attrs, slog.Uint64("trust_generation", v.TrustGeneration))
	}
	if !v.RevocationAsOf.IsZero() {
		rec.attrs = append(rec.attrs, milliseconds("revocation_age_ms", now.Sub(v.RevocationAsOf)))
	}
	if v.Route != nil && v.Route.CertificateAsOf != nil && v.Presented != nil {
		if asOf := v.Route.CertificateAsOf(); !asOf.IsZero() {
			rec.attrs = append(rec.attrs, milliseconds("certificate_revocation_age_ms", now.Sub(asOf)))
		}
	}
	if !v.Allowed {
		rec.attrs = append(rec.attrs, slog.Any("decision", d))
	} else if len(d.Warnings) > 0 {
		rec.add("warning", string(d.Warnings[0].Reason))
		rec.add("warning_found", clip(d.Warnings[0].Found))
	}
}

// record writes the record of a request that came to the proxy.
func (p *Proxy) record(x *exchange, start time.Time) {
	v := x.verdict
	outcome := x.outcome()
	if outcome == outcomeAllowed && !p.access {
		return
	}
	ctx := x.in.Context()
	level := slog.LevelInfo
	if outcome == outcomeFailed && (x.status >= 500 || x.cut) {
		level = slog.LevelWarn
	}
	if !p.log.Enabled(ctx, level) {
		return
	}
	now := p.now()
	rec := newRecord(v, x.judged)
	rec.attrs[outcomeAt] = slog.String("outcome", outcome)
	rec.attrs = append(rec.attrs, slog.Int("status", x.status), slog.Int64("bytes", x.sent), milliseconds("duration_ms", now.Sub(start)))
	rec.describe(p.facts, v, now)
	rec.add("ended", string(x.reason()))
	if x.fault != nil && !errors.Is(x.fault, context.Canceled) {
		rec.add("cause", clip(x.fault.Error()))
	}
	rec.add("upstream_request_id", clip(x.upstreamID))
	rec.write(ctx, p.log, now, level, outcome == outcomeAllowed)
}

// A laterHandler is one of package telemetry. It writes several records at once.
type laterHandler interface {
	LogLater(ctx context.Context, now time.Time, text string, attrs []slog.Attr) error
}

// write is LogAttrs without a look at who calls, which nobody prints. The record of a request
// that was refused, or did not end well, is written at once. The handler counts what it
// cannot write. rec must not be used any more.
func (rec *record) write(ctx context.Context, log *slog.Logger, now time.Time, level slog.Level, later bool) {
	h := log.Handler()
	if l, ok := h.(laterHandler); ok && later {
		_ = l.LogLater(ctx, now, rec.text, rec.attrs)
	} else {
		r := slog.NewRecord(now, level, rec.text, 0)
		r.AddAttrs(rec.attrs...)
		_ = h.Handle(ctx, r)
	}
	clear(rec.attrs)
	records.Put(rec)
}

// records are for the next requests: each has a kilobyte and more.
var records = sync.Pool{New: func() any { return &record{attrs: make([]slog.Attr, 0, 28)} }}

func (x *exchange) outcome() string {
	switch {
	case !x.verdict.Allowed:
		return outcomeRefused
	case x.reason() != "":
		return outcomeEnded
	case x.fault != nil && errors.Is(x.fault, context.Canceled), x.cut && x.in.Context().Err() != nil:
		return outcomeAborted
	case x.fault != nil || x.cut:
		return outcomeFailed
	}
	return outcomeAllowed
}
