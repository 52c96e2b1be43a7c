package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// bothLogs returns what the handler writes of a record, and what slog's own does.
func bothLogs(t testing.TB, r slog.Record) (ours, theirs string) {
	t.Helper()
	options := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: redactAttr}
	var a, b bytes.Buffer
	if err := newJSONHandler(&a, options).Handle(context.Background(), r.Clone()); err != nil {
		t.Error(err)
	}
	if err := slog.NewJSONHandler(&b, options).Handle(context.Background(), r.Clone()); err != nil {
		t.Error(err)
	}
	if r.Level == slog.LevelInfo {
		var later bytes.Buffer
		h := newJSONHandler(&later, options)
		if err := h.LogLater(context.Background(), r.Time, r.Message, slices.Collect(r.Attrs)); err != nil {
			t.Error(err)
		}
		if err := h.out.close(); err != nil || later.String() != a.String() {
			t.Errorf("written at once %s, and later %s: %v", a.String(), later.String(), err)
		}
	}
	return a.String(), b.String()
}

func TestJSONHandlerWritesWhatSlogDoes(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 30, 1, 120_000_000, time.FixedZone("", 3600))
	for _, tt := range []struct {
		name  string
		at    time.Time
		level slog.Level
		text  string
		attrs []slog.Attr
		plain bool // written by ours
	}{
		{"access log", at, slog.LevelInfo, "request", []slog.Attr{
			slog.String("path", "/orders/1"), slog.Int("status", 200), slog.Float64("ms", 1.234), slog.Uint64("n", math.MaxUint64), slog.Bool("b", true),
			slog.String("peer", "127.0.0.1:4711"), slog.String("x5t#S256", "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"),
		}, true},
		{"nothing", at, slog.LevelWarn, "", nil, true},
		{"whole and small numbers", at, slog.LevelInfo, "x", []slog.Attr{slog.Float64("a", 5), slog.Float64("b", 0), slog.Float64("c", -0.001), slog.Int64("d", math.MinInt64)}, true},
		{"numbers with an exponent", at, slog.LevelInfo, "x", []slog.Attr{slog.Float64("a", 1e-9), slog.Float64("b", 1e300), slog.Float64("c", math.Copysign(0, -1))}, false},
		{"no number", at, slog.LevelInfo, "x", []slog.Attr{slog.Float64("a", math.NaN()), slog.Float64("b", math.Inf(-1))}, false},
		{"text that is escaped", at, slog.LevelInfo, "x", []slog.Attr{slog.String("a", "ä\x00\"\\\x7f<\u2028\xff")}, false},
		{"text that is escaped in the message", at, slog.LevelInfo, "a\nb", nil, false},
		{"a token", at, slog.LevelInfo, "x", []slog.Attr{slog.String("a", "Bearer abcdefgh12345")}, false},
		{"a name of secrets", at, slog.LevelInfo, "x", []slog.Attr{slog.String("Client-Secret", "hunter2")}, false},
		{"other kinds", at, slog.LevelInfo, "x", []slog.Attr{slog.Duration("d", time.Second), slog.Any("e", errors.New("x")), slog.Group("g", slog.Int("a", 1)), {}}, false},
		{"another level", at, slog.LevelError, "x", nil, false},
		{"no time", time.Time{}, slog.LevelInfo, "x", nil, false},
		{"a year of five digits", at.AddDate(9000, 0, 0), slog.LevelInfo, "x", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := slog.NewRecord(tt.at, tt.level, tt.text, 0)
			r.AddAttrs(tt.attrs...)
			ours, theirs := bothLogs(t, r)
			if ours != theirs {
				t.Errorf("written  %sexpected %s", ours, theirs)
			}
			if _, ok := appendRecord(new([]byte), r.Time, r.Level, r.Message, r.Attrs); ok != tt.plain {
				t.Errorf("written without slog: %v, want %v", ok, tt.plain)
			}
		})
	}
}

func TestJSONHandlerWithAttributes(t *testing.T) {
	var a bytes.Buffer
	log := slog.New(newJSONHandler(&a, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: redactAttr}))
	log.Info("no")
	log.With("listener", "mtls").WithGroup("g").Warn("yes", "n", 1, "token", "x")
	if got, want := a.String(), `"msg":"yes","listener":"mtls","g":{"n":1,"token":"[redacted]"}}`+"\n"; !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("written %q, want one line that ends in %q", got, want)
	}
}

// Whatever stands in a record, the line is slog's.
func FuzzJSONHandler(f *testing.F) {
	f.Add("request", "path", "/orders", int64(200), 1.25, int64(1764000000))
	f.Add("x", "token", "eyJhbGciOi.e30.x", int64(-1), 1e-7, int64(0))
	f.Add("a\"b", "k_ey", "https://u:p@h/ \u2028", int64(0), 1e21, int64(-62135596801))
	f.Add("\xff", "\u212aey", "cbt_abcdefghijk", int64(0), 123456789.125, int64(253402300800))
	f.Fuzz(func(t *testing.T, text, key, value string, n int64, x float64, at int64) {
		if at < -1<<40 || at > 1<<40 {
			return
		}
		r := slog.NewRecord(time.Unix(at, n&0x3fffffff).UTC(), slog.LevelInfo, text, 0)
		r.AddAttrs(slog.String(key, value), slog.Int64("n", n), slog.Float64("x", x))
		if ours, theirs := bothLogs(t, r); ours != theirs {
			t.Errorf("written  %sexpected %s", ours, theirs)
		}
		// The quick look sees a secret wherever it stands.
		for _, secret := range []string{
			jwt, pem, "cbt_0123456789abcdef", "cbp_0123456789abcdef", "BEARER abcdefgh", "basic abcdefgh", "DPoP abcdefgh", "client_secret=x",
			"Client_Assertion=x", "access_token=x", "code_verifier=x", `"d" : "abcdefgh"`, `"qi":"abcdefgh"`, "https://u:p@h",
		} {
			if !suspicious(value + " " + secret + " " + value) {
				t.Errorf("%q is not seen within %q", secret, value)
			}
		}
	})
}

// BenchmarkAccessLog is a record of the gateway's access log, beside slog's own handler.
func BenchmarkAccessLog(b *testing.B) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: redactAttr}
	for name, h := range map[string]slog.Handler{"ours": newJSONHandler(io.Discard, options), "slog": slog.NewJSONHandler(io.Discard, options)} {
		b.Run(name, func(b *testing.B) {
			attrs := []slog.Attr{slog.Int("status", 200), slog.Float64("ms", 0.412)}
			for i, v := range []string{"orders", "GET", "api.example", "/orders/1", "client-1", "client-1", "WbA3mQ0eS5yV8uK2nR7xTg", "CN=client-1,O=Agora,C=GB",
				"3a5f9c", "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2", "tls", "192.0.2.7:4711"} {
				attrs = append(attrs, slog.String(fmt.Sprint("key_", i), v))
			}
			b.ReportAllocs()
			later, _ := h.(LaterHandler)
			for b.Loop() {
				if later != nil {
					_ = later.LogLater(b.Context(), time.Now(), "request", attrs)
					continue
				}
				slog.New(h).LogAttrs(b.Context(), slog.LevelInfo, "request", attrs...)
			}
		})
	}
}
