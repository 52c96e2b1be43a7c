package telemetry

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"
)

// Protocols of [OTLPConfig].
const (
	OTLPAuto = "auto" // as the environment says: off, unless it names an endpoint or an exporter
	OTLPOff  = "off"
	OTLPGRPC = "grpc"
	OTLPHTTP = "http" // protobuf over HTTP
)

// OTLPConfig holds the settings of an [OTLP]. What is left out is as the standard
// environment variables of OpenTelemetry say, which the SDK reads itself.
type OTLPConfig struct {
	// Protocol is one of the constants of this package. If empty, OTLPAuto.
	Protocol string
	// Endpoint is the URL of the receiver, without the path of a signal. If empty,
	// OTEL_EXPORTER_OTLP_ENDPOINT, or the port of the protocol at localhost.
	Endpoint string
	// NoTraces and NoMetrics leave out one of the two.
	NoTraces, NoMetrics bool
	// Sample is the part of traces that is recorded, such as "10%", where the caller has
	// not decided. If empty, OTEL_TRACES_SAMPLER, or all.
	Sample string
	// IgnoreParent begins a new trace for each request and links it to the caller's, for a
	// server whose callers must not choose what is recorded.
	IgnoreParent bool
	// Interval is the time between two exports of metrics. If zero,
	// OTEL_METRIC_EXPORT_INTERVAL, or a minute.
	Interval time.Duration
	// TLS is for an https receiver. If nil, the system's roots and no certificate.
	TLS *tls.Config
	// Service is the name of the service. If empty, OTEL_SERVICE_NAME, or Fallback.
	Service, Fallback string
	Version           string
	// Metrics are exported, too, beside [Metrics.Handler]. Required.
	Metrics *Metrics
	// Logger is told when the receiver cannot be reached, and when it can again. If nil,
	// slog.Default.
	Logger *slog.Logger
}

// ParseSample reads a part in percent, as [OTLPConfig] has it, and returns it as a ratio.
func ParseSample(text string) (float64, error) {
	number, ok := strings.CutSuffix(text, "%")
	ratio, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(ratio >= 0 && ratio <= 100) {
		return 0, fmt.Errorf("telemetry: sample: expected a part in percent from 0%% to 100%%, such as 10%% or 0.1%%, found %q", text)
	}
	return ratio / 100, nil
}

// An OTLP sends traces and metrics to a receiver of the OpenTelemetry protocol. Its nil
// value does nothing, and wraps nothing: who has it switched off pays nothing. Exporting
// happens in the background with bounded queues; what does not fit is dropped, and no
// request ever waits for the receiver or fails because of it. It is safe for concurrent use.
type OTLP struct {
	log     *slog.Logger
	traces  *sdktrace.TracerProvider
	metrics *metric.MeterProvider
	tracer  trace.Tracer
	fresh   bool
	w3c     propagation.TraceContext
}

// chosen is what settings and environment come to.
type chosen struct{ traces, metrics string } // protocols, or ""

// choose decides which signals are exported, and how.
func (cfg *OTLPConfig) choose() (chosen, error) {
	if cfg.Protocol == OTLPOff || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return chosen{}, nil
	}
	signal := func(name string, none bool) (string, error) {
		if none {
			return "", nil
		}
		exporter := os.Getenv("OTEL_" + name + "_EXPORTER")
		if cfg.Protocol != OTLPGRPC && cfg.Protocol != OTLPHTTP {
			endpoint := cmp.Or(cfg.Endpoint, os.Getenv("OTEL_EXPORTER_OTLP_"+name+"_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
			switch {
			case exporter == "none" || exporter == "" && endpoint == "":
				return "", nil
			case exporter != "" && exporter != "otlp":
				return "", fmt.Errorf("telemetry: OTEL_%s_EXPORTER: expected otlp or none, found %q", name, exporter)
			}
		}
		switch protocol := cfg.Protocol; protocol {
		case OTLPGRPC, OTLPHTTP:
			return protocol, nil
		case "", OTLPAuto:
		default:
			return "", fmt.Errorf("telemetry: protocol: expected auto, off, grpc or http, found %q", protocol)
		}
		switch v := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+name+"_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); v {
		case "", "http/protobuf":
			return OTLPHTTP, nil
		case "grpc":
			return OTLPGRPC, nil
		default:
			return "", fmt.Errorf("telemetry: OTEL_EXPORTER_OTLP_PROTOCOL: expected grpc or http/protobuf, found %q", v)
		}
	}
	var c chosen
	var err1, err2 error
	c.traces, err1 = signal("TRACES", cfg.NoTraces)
	c.metrics, err2 = signal("METRICS", cfg.NoMetrics)
	return c, errors.Join(err1, err2)
}

// StartOTLP begins to export, or returns nil if nothing is to be exported. It does not
// connect: a receiver that is down hinders no start. The caller calls Shutdown.
func StartOTLP(ctx context.Context, cfg OTLPConfig) (*OTLP, error) {
	use, err := cfg.choose()
	if err != nil || use == (chosen{}) {
		return nil, err
	}
	logger := cmp.Or(cfg.Logger, slog.Default())
	// What the SDK has to say comes without a way to whoever began it.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.Warn("telemetry", slog.String("cause", Redact(err.Error())))
	}))
	attrs := resource.NewSchemaless(attribute.String("service.name", cfg.Fallback), attribute.String("service.version", cfg.Version))
	env, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	res, err := resource.Merge(attrs, env)
	if err == nil && cfg.Service != "" {
		res, err = resource.Merge(res, resource.NewSchemaless(attribute.String("service.name", cfg.Service)))
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	failures := cfg.Metrics.exports()
	o := &OTLP{log: logger, fresh: cfg.IgnoreParent}
	if use.traces != "" {
		exporter, err := cfg.traceExporter(ctx, use.traces)
		if err != nil {
			return nil, fmt.Errorf("telemetry: traces: %w", err)
		}
		options := []sdktrace.TracerProviderOption{
			sdktrace.WithResource(res),
			sdktrace.WithBatcher(&spanExporter{exporter, report{log: logger, signal: "traces", failed: failures.WithLabelValues("traces")}}),
		}
		if cfg.Sample != "" {
			ratio, err := ParseSample(cfg.Sample)
			if err != nil {
				return nil, err
			}
			options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))))
		}
		o.traces = sdktrace.NewTracerProvider(options...)
		o.tracer = o.traces.Tracer("github.com/certbound/certbound", trace.WithInstrumentationVersion(cfg.Version))
	}
	if use.metrics != "" {
		exporter, err := cfg.metricExporter(ctx, use.metrics)
		if err != nil {
			o.Shutdown(ctx)
			return nil, fmt.Errorf("telemetry: metrics: %w", err)
		}
		options := []metric.PeriodicReaderOption{metric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(cfg.Metrics.registry)))}
		if cfg.Interval > 0 {
			options = append(options, metric.WithInterval(cfg.Interval))
		}
		reader := metric.NewPeriodicReader(&metricExporter{exporter, report{log: logger, signal: "metrics", failed: failures.WithLabelValues("metrics")}}, options...)
		o.metrics = metric.NewMeterProvider(metric.WithResource(res), metric.WithReader(reader))
	}
	return o, nil
}

// at returns the URL of a signal over HTTP, which is below that of the receiver.
func at(endpoint, path string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	return u.JoinPath(path).String()
}

func (cfg *OTLPConfig) traceExporter(ctx context.Context, protocol string) (sdktrace.SpanExporter, error) {
	if protocol == OTLPGRPC {
		var o []otlptracegrpc.Option
		if cfg.Endpoint != "" {
			o = append(o, otlptracegrpc.WithEndpointURL(cfg.Endpoint))
		}
		if cfg.TLS != nil {
			o = append(o, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(cfg.TLS)))
		}
		return otlptrace.New(ctx, otlptracegrpc.NewClient(o...))
	}
	var o []otlptracehttp.Option
	if cfg.Endpoint != "" {
		o = append(o, otlptracehttp.WithEndpointURL(at(cfg.Endpoint, "v1/traces")))
	}
	if cfg.TLS != nil {
		o = append(o, otlptracehttp.WithTLSClientConfig(cfg.TLS))
	}
	return otlptrace.New(ctx, otlptracehttp.NewClient(o...))
}

func (cfg *OTLPConfig) metricExporter(ctx context.Context, protocol string) (metric.Exporter, error) {
	if protocol == OTLPGRPC {
		var o []otlpmetricgrpc.Option
		if cfg.Endpoint != "" {
			o = append(o, otlpmetricgrpc.WithEndpointURL(cfg.Endpoint))
		}
		if cfg.TLS != nil {
			o = append(o, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(cfg.TLS)))
		}
		return otlpmetricgrpc.New(ctx, o...)
	}
	var o []otlpmetrichttp.Option
	if cfg.Endpoint != "" {
		o = append(o, otlpmetrichttp.WithEndpointURL(at(cfg.Endpoint, "v1/metrics")))
	}
	if cfg.TLS != nil {
		o = append(o, otlpmetrichttp.WithTLSClientConfig(cfg.TLS))
	}
	return otlpmetrichttp.New(ctx, o...)
}

// flushFor bounds how long the end of the process waits for the receiver.
const flushFor = 5 * time.Second

// Shutdown sends what is left, for five seconds at most. That the receiver does not take
// it is told to the log, and is no fault of the program.
func (o *OTLP) Shutdown(ctx context.Context) {
	if o == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushFor)
	defer cancel()
	var errs []error
	if o.traces != nil {
		errs = append(errs, o.traces.Shutdown(ctx))
	}
	if o.metrics != nil {
		errs = append(errs, o.metrics.Shutdown(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		o.log.Warn("telemetry: what was left at the end is lost", slog.String("cause", Redact(err.Error())))
	}
}

// Evidence exports how much of the evidence is lost. It is called once.
func (m *Metrics) Evidence(dropped func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "certbound_evidence_dropped_total", Help: "Requests of which no certificate could be kept, since too many waited or the folder could not be written.",
	}, func() float64 { return float64(dropped()) }))
}

func (m *Metrics) exports() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certbound_otlp_export_failures_total", Help: "Batches that the OTLP receiver has not taken, and that are lost, by signal.",
	}, []string{"signal"})
	m.registry.MustRegister(v)
	return v
}

// A report tells once that exporting fails, and once that it works again: a receiver can
// be down for days.
type report struct {
	log    *slog.Logger
	signal string
	failed prometheus.Counter
	down   atomic.Bool
}

func (r *report) outcome(err error) {
	if err != nil {
		r.failed.Inc()
		if !r.down.Swap(true) {
			r.log.Warn("telemetry: the OTLP receiver does not take what is sent; it is dropped until it does",
				slog.String("signal", r.signal), slog.String("cause", Redact(err.Error())))
		}
		return
	}
	if r.down.Swap(false) {
		r.log.Info("telemetry: the OTLP receiver is back", slog.String("signal", r.signal))
	}
}

type spanExporter struct {
	sdktrace.SpanExporter
	report report
}

func (e *spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	e.report.outcome(e.SpanExporter.ExportSpans(ctx, spans))
	return nil
}

type metricExporter struct {
	metric.Exporter
	report report
}

func (e *metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	e.report.outcome(e.Exporter.Export(ctx, m))
	return nil
}
