package telemetry_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/server/telemetry"
)

// What is exported is decided by the settings, then by the standard variables; with
// neither, nothing is.
func TestWhatIsExported(t *testing.T) {
	tests := []struct {
		name    string
		cfg     telemetry.OTLPConfig
		env     map[string]string
		spans   bool
		running bool
		fails   bool
	}{
		{name: "nothing set"},
		{name: "off by setting", cfg: telemetry.OTLPConfig{Protocol: "off"}, env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		{name: "on by setting", cfg: telemetry.OTLPConfig{Protocol: "grpc", Endpoint: "http://127.0.0.1:1"}, spans: true, running: true},
		{name: "switched off for all", cfg: telemetry.OTLPConfig{Protocol: "grpc"}, env: map[string]string{"OTEL_SDK_DISABLED": "true"}},
		{name: "metrics only", cfg: telemetry.OTLPConfig{Protocol: "http", NoTraces: true, Endpoint: "http://127.0.0.1:1"}, running: true},
		{name: "an endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, spans: true, running: true},
		{name: "an endpoint for metrics", env: map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/v1/metrics"}, running: true},
		{name: "an exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, spans: true, running: true},
		{name: "no exporter for traces", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, running: true},
		{name: "an exporter that is not there", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, fails: true},
		{name: "a protocol that is not there", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, fails: true},
		{name: "a sample that is none", cfg: telemetry.OTLPConfig{Protocol: "grpc", Sample: "a tenth"}, fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "10")
			cfg := tt.cfg
			cfg.Metrics, cfg.Fallback = telemetry.New("test"), "certbound-test"
			o, err := telemetry.StartOTLP(t.Context(), cfg)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if (o != nil) != tt.running || (o.Observer() != nil) != tt.spans {
				t.Errorf("running %v, spans %v; expected %v and %v", o != nil, o.Observer() != nil, tt.running, tt.spans)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if o != nil && !tt.fails && tt.spans {
				o.Shutdown(ctx)
			}
		})
	}
}

func TestParseSample(t *testing.T) {
	for text, want := range map[string]float64{"100%": 1, "0%": 0, "10%": 0.1, "0.5%": 0.005} {
		if got, err := telemetry.ParseSample(text); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10", "%", "-1%", "101%", "NaN%", "Inf%", "1 %"} {
		if got, err := telemetry.ParseSample(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

type plainHandler struct{}

func (*plainHandler) ServeHTTP(http.ResponseWriter, *http.Request) {}

// Switched off, nothing stands in the way of a request: each part is what it was before.
func TestOffAddsNothing(t *testing.T) {
	var off *telemetry.OTLP
	h, rt := &plainHandler{}, &http.Transport{}
	if off.Handler("mtls", h) != http.Handler(h) || off.Bare("mtls", h) != http.Handler(h) || off.Endpoint(h) != http.Handler(h) {
		t.Error("there is a handler around the handler")
	}
	c := &http.Client{Transport: rt}
	if off.Transport("x", rt) != http.RoundTripper(rt) || off.Client("x", c) != c || off.Wrap("x") != nil {
		t.Error("there is a transport around the transport")
	}
	if off.Observer() != nil || off.Unary() != nil || off.Answered() != nil {
		t.Error("somebody is told of decisions")
	}
	l := slog.New(slog.DiscardHandler)
	if off.Logger(l) != l {
		t.Error("there is a logger around the logger")
	}
	if n := testing.AllocsPerRun(100, func() { off.Route(t.Context(), "GET", "orders", "/") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	off.Shutdown(t.Context())
}

type echo struct{ header http.Header }

func (e *echo) RoundTrip(r *http.Request) (*http.Response, error) {
	e.header = r.Header
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// A request is not changed by the one that traces it, and a traceparent of the caller's
// does not go on beside our own.
func TestTransportLeavesTheRequestAlone(t *testing.T) {
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "10")
	o, err := telemetry.StartOTLP(t.Context(), telemetry.OTLPConfig{
		Protocol: "http", Endpoint: "http://127.0.0.1:1", NoMetrics: true, Metrics: telemetry.New("test"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Shutdown(context.Background()) })
	sent := &echo{}
	r := httptest.NewRequest("GET", "https://api.example/?access_token=x", nil)
	r.Header["Traceparent"] = []string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	resp, err := o.Transport("upstream", sent).RoundTrip(r)
	if err != nil || resp.Request != r {
		t.Fatalf("%v %v", resp, err)
	}
	if r.Header.Get("Traceparent") != "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" {
		t.Error("the header of the caller was changed")
	}
	if got := sent.header["Traceparent"]; len(got) != 1 || got[0] == r.Header.Get("Traceparent") {
		t.Errorf("sent on is %q", got)
	}
}

// The cost of spans: off is a handler by itself.
func BenchmarkOTLP(b *testing.B) {
	run := func(b *testing.B, o *telemetry.OTLP) {
		observe := o.Observer()
		d := decision.New()
		for _, name := range []string{"source", "token", "binding", "audience", "scope"} {
			d.Pass(name, "RFC 8705", "")
		}
		d.Allow()
		h := o.Handler("mtls", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if observe != nil {
				observe(r.Context(), d)
			}
		}))
		r := httptest.NewRequest("GET", "/", nil)
		w := httptest.NewRecorder()
		b.ReportAllocs()
		for b.Loop() {
			h.ServeHTTP(w, r)
		}
	}
	b.Run("off", func(b *testing.B) { run(b, nil) })
	for _, sample := range []string{"0%", "100%"} {
		b.Run("on "+sample, func(b *testing.B) {
			b.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "10")
			o, err := telemetry.StartOTLP(b.Context(), telemetry.OTLPConfig{
				Protocol: "http", Endpoint: "http://127.0.0.1:1", NoMetrics: true, Sample: sample, Metrics: telemetry.New("test"), Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			run(b, o)
			o.Shutdown(b.Context())
		})
	}
}
