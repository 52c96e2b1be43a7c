package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
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

// record writes what there is to know of a request: who came with what to which route,
// and what came of it. Of the token there are its claims, and of the path not the query.
func (p *Proxy) record(x *exchange, start time.Time) {
	v := x.verdict
	failed := x.fault != nil
	if v.Allowed && !p.access && !failed && x.reason() == "" {
		return
	}
	ctx := x.in.Context()
	level, text := slog.LevelInfo, "request"
	if !v.Allowed {
		text = "request refused"
	} else if failed && x.status >= 500 {
		level = slog.LevelWarn
	}
	if !p.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 20)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if v.Route != nil {
		add("route", v.Route.Name)
	}
	add("method", clip(x.in.Method))
	add("host", clip(x.in.Host))
	if v.Path != "" {
		add("path", clip(v.Path))
	} else {
		add("path", clip(x.judged.Path))
	}
	attrs = append(attrs, slog.Int("status", x.status), slog.Int64("bytes", x.sent),
		slog.Float64("ms", float64(p.now().Sub(start).Microseconds())/1000))
	p.facts.describe(v, add)
	if !v.Allowed {
		attrs = append(attrs, slog.Any("decision", v.Decision))
	}
	add("ended", string(x.reason()))
	if failed && !errors.Is(x.fault, context.Canceled) {
		add("cause", clip(x.fault.Error()))
	}
	p.log.LogAttrs(ctx, level, text, attrs...)
}
