package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// Spans are made here and not by otelhttp: that one notes the whole URL of outgoing
// requests, and a query can hold a token (RFC 6750, Section 2.3).

// Names of attributes, beside those of the semantic conventions of OpenTelemetry.
const (
	attrListener   = "certbound.listener"
	attrRoute      = "certbound.route"
	attrOutcome    = "certbound.outcome" // allowed or refused
	attrReason     = "certbound.reason"
	attrClient     = "certbound.client_id"
	attrMethod     = "certbound.auth_method"
	attrThumbprint = "certbound.x5t_s256"
	attrSource     = "certbound.source"
	eventCheck     = "certbound.check"
)

// traces reports whether spans are made.
func (o *OTLP) makesSpans() bool { return o != nil && o.tracer != nil }

// Logger returns a logger that adds the trace and the span to records of requests.
func (o *OTLP) Logger(l *slog.Logger) *slog.Logger {
	if !o.makesSpans() {
		return l
	}
	return slog.New(traceLog{l.Handler()})
}

type traceLog struct{ slog.Handler }

func (h traceLog) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(spanAttrs(ctx)...)
	return h.Handler.Handle(ctx, r)
}

// LogLater implements [LaterHandler].
func (h traceLog) LogLater(ctx context.Context, now time.Time, text string, attrs []slog.Attr) error {
	if l, ok := h.Handler.(LaterHandler); ok {
		return l.LogLater(ctx, now, text, slices.Concat(attrs, spanAttrs(ctx)))
	}
	r := slog.NewRecord(now, slog.LevelInfo, text, 0)
	r.AddAttrs(attrs...)
	return h.Handle(ctx, r)
}

func spanAttrs(ctx context.Context) []slog.Attr {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return nil
	}
	return []slog.Attr{slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String())}
}

func (h traceLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceLog{h.Handler.WithAttrs(attrs)}
}
func (h traceLog) WithGroup(name string) slog.Handler { return traceLog{h.Handler.WithGroup(name)} }

// begin begins a server span.
func (o *OTLP) begin(ctx context.Context, name string, carrier propagation.TextMapCarrier, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attrs...)}
	parent := o.w3c.Extract(ctx, carrier)
	if !o.fresh {
		return o.tracer.Start(parent, name, options...)
	}
	if sc := trace.SpanContextFromContext(parent); sc.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: sc}))
	}
	return o.tracer.Start(ctx, name, append(options, trace.WithNewRoot())...)
}

// Handler makes a span of each request to a listener, such as "mtls".
func (o *OTLP) Handler(listener string, next http.Handler) http.Handler {
	return o.handler(listener, next, true)
}

// Bare is [OTLP.Handler] for a handler that says by itself what it has answered (see
// [OTLP.Answered]) and gets the ResponseWriter of the server as it is.
func (o *OTLP) Bare(listener string, next http.Handler) http.Handler {
	return o.handler(listener, next, false)
}

func (o *OTLP) handler(listener string, next http.Handler, notes bool) http.Handler {
	if !o.makesSpans() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := methodOf(r.Method)
		ctx, span := o.begin(r.Context(), method+" "+listener, propagation.HeaderCarrier(r.Header),
			attribute.String(attrListener, listener), attribute.String("http.request.method", method),
			attribute.String("url.path", clip(r.URL.Path)), attribute.String("network.protocol.version", strconv.Itoa(r.ProtoMajor)+"."+strconv.Itoa(r.ProtoMinor)),
			attribute.String("client.address", certsource.Peer(r.Context())))
		noted := &response{ResponseWriter: w, status: http.StatusOK}
		if notes {
			w = noted
		}
		defer func() {
			fault := recover()
			if fault != nil && !noted.written {
				noted.status = http.StatusInternalServerError
			}
			if notes {
				answered(span, noted.status)
			}
			span.End()
			if fault != nil {
				panic(fault) // net/http ends the connection and logs it
			}
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Answered notes the status of an answer on the span of ctx. It is nil if there are no
// spans.
func (o *OTLP) Answered() func(ctx context.Context, status int) {
	if !o.makesSpans() {
		return nil
	}
	return func(ctx context.Context, status int) { answered(trace.SpanFromContext(ctx), status) }
}

// answered notes the status of an answer.
func answered(span trace.Span, status int) {
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= 500 {
		span.SetStatus(otelcodes.Error, "")
	}
}

// methodOf keeps the set of methods closed.
func methodOf(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return m
	}
	return "_OTHER"
}

// Endpoint gives the span of a request the name of the endpoint, where [Handler] stands
// before an authorization server.
func (o *OTLP) Endpoint(next http.Handler) http.Handler {
	if !o.makesSpans() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
			endpoint := endpointOf(r.URL.Path)
			span.SetName(methodOf(r.Method) + " " + endpoint)
			span.SetAttributes(attribute.String("http.route", endpoint))
		}
		next.ServeHTTP(w, r)
	})
}

// Route gives the span of ctx the name of a route, from the configuration.
func (o *OTLP) Route(ctx context.Context, method, name, path string) {
	if !o.makesSpans() {
		return
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetName(methodOf(method) + " " + name)
		span.SetAttributes(attribute.String(attrRoute, name), attribute.String("http.route", path))
	}
}

// Observer notes decisions on the span of the request: what was decided, and each check
// as an event. It is nil if there are no spans.
func (o *OTLP) Observer() decision.Observer {
	if !o.makesSpans() {
		return nil
	}
	return func(ctx context.Context, d *decision.Decision) {
		span := trace.SpanFromContext(ctx)
		if !span.IsRecording() {
			return
		}
		var attrs []attribute.KeyValue
		add := func(key, value string) {
			if value == "" {
				return
			}
			if suspicious(value) {
				value = Redact(value)
			}
			attrs = append(attrs, attribute.String(key, clip(value)))
		}
		add(attrOutcome, map[bool]string{true: "allowed", false: "refused"}[d.Allowed])
		add(attrReason, string(d.Reason()))
		add(attrClient, d.ClientID)
		add(attrMethod, d.Method)
		add(attrThumbprint, d.Thumbprint)
		add(attrSource, d.Via)
		span.SetAttributes(attrs...)
		for _, c := range d.Checks {
			attrs = nil
			add("check", c.Name)
			add("outcome", c.Outcome.String())
			add("reason", string(c.Reason))
			add("rule", c.Rule)
			add("expected", c.Expected)
			add("found", c.Found)
			span.AddEvent(eventCheck, trace.WithAttributes(attrs...))
		}
	}
}

// Transport makes a span of each outgoing request, up to the header of the answer, and
// sends the trace along. name says what is asked for, such as "introspection".
func (o *OTLP) Transport(name string, next http.RoundTripper) http.RoundTripper {
	if !o.makesSpans() {
		return next
	}
	if next == nil {
		next = http.DefaultTransport
	}
	return &tracedTransport{o, name, next}
}

// Wrap is [OTLP.Transport] with its name given before. It is nil if there are no spans.
func (o *OTLP) Wrap(name string) func(http.RoundTripper) http.RoundTripper {
	if !o.makesSpans() {
		return nil
	}
	return func(next http.RoundTripper) http.RoundTripper { return o.Transport(name, next) }
}

// Client is [OTLP.Transport] for a whole client, which is copied.
func (o *OTLP) Client(name string, c *http.Client) *http.Client {
	if !o.makesSpans() {
		return c
	}
	traced := *c
	traced.Transport = o.Transport(name, c.Transport)
	return &traced
}

type tracedTransport struct {
	o    *OTLP
	name string
	next http.RoundTripper
}

func (t *tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := t.o.tracer.Start(r.Context(), t.name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", methodOf(r.Method)), attribute.String("server.address", r.URL.Hostname()),
		attribute.String("url.scheme", r.URL.Scheme)))
	defer span.End()
	if port, err := strconv.Atoi(r.URL.Port()); err == nil {
		span.SetAttributes(attribute.Int("server.port", port))
	}
	out := r.Clone(ctx)
	out.Header.Del("Tracestate")
	t.o.w3c.Inject(ctx, propagation.HeaderCarrier(out.Header))
	resp, err := t.next.RoundTrip(out)
	if err != nil {
		span.SetStatus(otelcodes.Error, clip(Redact(withoutURL(err))))
		return resp, err
	}
	answered(span, resp.StatusCode)
	if resp.Request == out {
		resp.Request = r
	}
	return resp, nil
}

// CloseIdleConnections is for [http.Client].
func (t *tracedTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// withoutURL returns the text of an error without the URL, whose query can hold a token.
func withoutURL(err error) string {
	if e, ok := err.(*url.Error); ok {
		err = e.Err
	}
	return err.Error()
}

// Unary makes a span of each call of a gRPC server, or is nil.
func (o *OTLP) Unary() grpc.UnaryServerInterceptor {
	if !o.makesSpans() {
		return nil
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		ctx, span := o.begin(ctx, strings.TrimPrefix(info.FullMethod, "/"), metadataCarrier(md), attribute.String("rpc.system", "grpc"))
		defer span.End()
		resp, err := next(ctx, req)
		if err != nil {
			span.SetStatus(otelcodes.Error, "")
		}
		return resp, err
	}
}

type metadataCarrier metadata.MD

func (c metadataCarrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) == 1 {
		return v[0]
	}
	return ""
}
func (c metadataCarrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c metadataCarrier) Keys() []string        { return nil }

func clip(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}
