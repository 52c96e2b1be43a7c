package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// A Front judges requests that a proxy asks about, and records what came of it. What it
// judges with can be exchanged while it serves. It is safe for concurrent use.
type Front struct {
	log     *slog.Logger
	access  bool
	narrow  bool
	now     func() time.Time
	facts   *factCache
	decider atomic.Pointer[Decider]
}

// FrontOptions are what stays when a front is reloaded.
type FrontOptions struct {
	// Logger receives one record for each request that is refused, and with AccessLog
	// for each one that is allowed. If nil, slog.Default.
	Logger    *slog.Logger
	AccessLog bool
	// Narrow leaves only refusals that every proxy can hand on: 401 with a challenge if
	// the client can do something about it, such as sending another token, and 403
	// otherwise. nginx knows no others; and 503 would be a question that was not
	// answered, after which some proxies can be told to let requests pass.
	Narrow bool
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// NewFront returns a front.
func NewFront(d *Decider, o FrontOptions) *Front {
	f := &Front{log: cmp.Or(o.Logger, slog.Default()), access: o.AccessLog, narrow: o.Narrow, now: o.Now, facts: newFactCache()}
	if f.now == nil {
		f.now = time.Now
	}
	f.decider.Store(d)
	return f
}

// Reload exchanges what requests are judged with from now on.
func (f *Front) Reload(d *Decider) { f.decider.Store(d) }

// Decider returns what requests are judged with. A caller keeps it for all of a request.
func (f *Front) Decider() *Decider { return f.decider.Load() }

// Decide judges a request, as [Decider.Decide] does, and records it.
func (f *Front) Decide(ctx context.Context, d *Decider, r Request) *Verdict {
	start := f.now()
	v := d.Decide(ctx, r)
	if f.narrow && !v.Allowed {
		v.narrow()
	}
	f.record(ctx, r, v, start)
	return v
}

// Refuse records a question that cannot be judged, and answers it with 403: nobody knows
// what is asked about, or the one who asks is not the proxy.
func (f *Front) Refuse(ctx context.Context, d *Decider, r Request, c decision.Check) *Verdict {
	start := f.now()
	v := d.refuse(ctx, &Verdict{decider: d}, r, http.StatusForbidden, c)
	d.finish(ctx, r, v)
	f.record(ctx, r, v, start)
	return v
}

func (f *Front) record(ctx context.Context, r Request, v *Verdict, start time.Time) {
	if v.Allowed && !f.access || !f.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	now := f.now()
	rec := newRecord(v, r)
	rec.attrs = append(rec.attrs, slog.Int("status", v.Status), milliseconds("duration_ms", now.Sub(start)))
	rec.describe(f.facts, v, now)
	rec.write(ctx, f.log, now, slog.LevelInfo, v.Allowed)
}

func (v *Verdict) narrow() {
	status := http.StatusForbidden
	failed, _ := v.Decision.Failure()
	if v.Status == http.StatusUnauthorized || v.Status == http.StatusBadRequest && failed.Name != decision.CheckRoute {
		status = http.StatusUnauthorized
		if v.Header.Get("WWW-Authenticate") == "" { // RFC 9110, Section 15.5.2
			v.Header.Set("WWW-Authenticate", `Bearer error="invalid_request"`)
		}
	} else if v.Status != http.StatusForbidden {
		v.setBody("forbidden", "")
	}
	v.Status = status
}

// Spells reports whether a field is one that some route sets, in a spelling that a program
// behind may take for it.
func (d *Decider) Spells(name string) bool {
	if len(name) > maxFieldName {
		return false
	}
	var one, other [maxFieldName]byte
	folded := appendFolded(one[:0], name)
	for _, field := range d.identity {
		if len(field) == len(name) && string(appendFolded(other[:0], field)) == string(folded) {
			return true
		}
	}
	return false
}

// Source returns where certificates come from.
func (d *Decider) Source() certsource.Source { return d.cfg.Source }

// CheckAsked returns an error if the source reads the certificate of the connection. Whoever
// asks about a request of somebody else shows its own there.
func (d *Decider) CheckAsked() error {
	src := certsource.Describe(d.cfg.Source)
	if len(src.Fields) == 0 && src.Most != certsource.KindNone {
		return fmt.Errorf("gateway: the source %s would take the proxy's certificate for the client's; choose what the proxy forwards it in", d.cfg.Source.Name())
	}
	return nil
}

// Fault records a panic, which is a fault of ours.
func (f *Front) Fault(ctx context.Context, fault string, stack []byte) {
	f.log.LogAttrs(ctx, slog.LevelError, "panic", slog.String("cause", clip(fault)), slog.String("stack", string(stack)))
}
