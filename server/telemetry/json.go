package telemetry

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// A jsonHandler writes what slog.JSONHandler writes, with the options of the logger, octet
// for octet. A flat record of plain values it writes itself, in a fraction of the time:
// the access log has one of these for each request, and a gateway spent an eighth of its
// time on them. Everything else it hands on.
type jsonHandler struct {
	least slog.Leveler
	out   *gatherer
	slow  slog.Handler
}

func newJSONHandler(w io.Writer, options *slog.HandlerOptions) *jsonHandler {
	out := &gatherer{w: w}
	return &jsonHandler{options.Level, out, slog.NewJSONHandler(out, options)}
}

func (h *jsonHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least.Level() }

// WithAttrs and WithGroup are for records that are rare.
func (h *jsonHandler) WithAttrs(attrs []slog.Attr) slog.Handler { return h.slow.WithAttrs(attrs) }
func (h *jsonHandler) WithGroup(name string) slog.Handler       { return h.slow.WithGroup(name) }

var recordPool = sync.Pool{New: func() any { return new(make([]byte, 0, 1024)) }}

func (h *jsonHandler) Handle(ctx context.Context, r slog.Record) error {
	p := recordPool.Get().(*[]byte)
	defer recordPool.Put(p)
	b, ok := appendRecord(p, r.Time, r.Level, r.Message, r.Attrs)
	if !ok {
		return h.slow.Handle(ctx, r)
	}
	_, err := h.out.Write(b)
	return err
}

// LogLater implements [LaterHandler].
func (h *jsonHandler) LogLater(ctx context.Context, now time.Time, text string, attrs []slog.Attr) error {
	p := recordPool.Get().(*[]byte)
	defer recordPool.Put(p)
	b, ok := appendRecord(p, now, slog.LevelInfo, text, slices.Values(attrs))
	if !ok {
		r := slog.NewRecord(now, slog.LevelInfo, text, 0)
		r.AddAttrs(attrs...)
		return h.slow.Handle(ctx, r)
	}
	return h.out.later(b, now)
}

// appendRecord returns the line of a record, in a buffer of the pool, or reports that it is
// not a plain one.
func appendRecord(buf *[]byte, now time.Time, level slog.Level, text string, attrs iter.Seq[slog.Attr]) (b []byte, ok bool) {
	if now.IsZero() || now.Year() < 0 || now.Year() > 9999 {
		return nil, false
	}
	b = (*buf)[:0]
	defer func() {
		if cap(b) <= 16<<10 {
			*buf = b
		}
	}()
	b = append(b, `{"time":"`...)
	b = now.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","level":"`...)
	switch level {
	case slog.LevelInfo:
		b = append(b, "INFO"...)
	case slog.LevelWarn:
		b = append(b, "WARN"...)
	default:
		return b, false
	}
	b = append(b, `","msg":`...)
	if b, ok = appendText(b, text, true); !ok {
		return b, false
	}
	for a := range attrs {
		if a.Key == "" || secretName(a.Key) {
			return b, false
		}
		b = append(b, ',')
		if b, ok = appendText(b, a.Key, false); !ok {
			return b, false
		}
		b = append(b, ':')
		switch a.Value.Kind() {
		case slog.KindString:
			b, ok = appendText(b, a.Value.String(), true)
		case slog.KindInt64:
			b = strconv.AppendInt(b, a.Value.Int64(), 10)
		case slog.KindUint64:
			b = strconv.AppendUint(b, a.Value.Uint64(), 10)
		case slog.KindBool:
			b = strconv.AppendBool(b, a.Value.Bool())
		case slog.KindFloat64:
			// In this range encoding/json has no exponent.
			if f := a.Value.Float64(); f == 0 && !math.Signbit(f) || 1e-6 <= math.Abs(f) && math.Abs(f) < 1e21 {
				b = strconv.AppendFloat(b, f, 'f', -1, 64)
			} else {
				ok = false
			}
		default:
			ok = false
		}
		if !ok {
			return b, false
		}
	}
	return append(b, "}\n"...), true
}

// appendText appends a JSON string, or reports that something in it has to be escaped, or
// with value that it may be a secret.
func appendText(b []byte, s string, value bool) ([]byte, bool) {
	mark := false
	for i := range len(s) {
		if c := s[i]; !harmless[c] {
			if needsEscape(c) {
				return b, false
			}
			mark = value
		}
	}
	if mark && suspicious(s) {
		return b, false
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"'), true
}

func needsEscape(c byte) bool { return c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' }

// harmless are the bytes that need no further look.
var harmless = func() (t [256]bool) {
	for c := range t {
		t[c] = !needsEscape(byte(c)) && !telling[c]
	}
	return t
}()
