package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metricsservice "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traceservice "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// A receiver takes OTLP over gRPC and over HTTP, as a collector does.
type receiver struct {
	traceservice.UnimplementedTraceServiceServer
	grpc, http string // URLs

	mu      sync.Mutex
	spans   []receivedSpan
	metrics map[string]map[string]bool // names by service
}

type receivedSpan struct {
	service string
	*tracepb.Span
}

type metricsReceiver struct {
	metricsservice.UnimplementedMetricsServiceServer
	r *receiver
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{metrics: map[string]map[string]bool{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	traceservice.RegisterTraceServiceServer(s, r)
	metricsservice.RegisterMetricsServiceServer(s, metricsReceiver{r: r})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, req *http.Request) {
		m := &traceservice.ExportTraceServiceRequest{}
		if !decode(w, req, m) {
			return
		}
		_, _ = r.Export(req.Context(), m)
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, req *http.Request) {
		m := &metricsservice.ExportMetricsServiceRequest{}
		if !decode(w, req, m) {
			return
		}
		_, _ = metricsReceiver{r: r}.Export(req.Context(), m)
	})
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	r.grpc, r.http = "http://"+l.Addr().String(), h.URL
	return r
}

func decode(w http.ResponseWriter, req *http.Request, m proto.Message) bool {
	data, err := io.ReadAll(req.Body)
	if err == nil {
		err = proto.Unmarshal(data, m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	return true
}

func (r *receiver) Export(_ context.Context, req *traceservice.ExportTraceServiceRequest) (*traceservice.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				r.spans = append(r.spans, receivedSpan{value(rs.Resource.Attributes, "service.name"), s})
			}
		}
	}
	return &traceservice.ExportTraceServiceResponse{}, nil
}

func (m metricsReceiver) Export(_ context.Context, req *metricsservice.ExportMetricsServiceRequest) (*metricsservice.ExportMetricsServiceResponse, error) {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	for _, rm := range req.ResourceMetrics {
		service := value(rm.Resource.Attributes, "service.name")
		if m.r.metrics[service] == nil {
			m.r.metrics[service] = map[string]bool{}
		}
		for _, sm := range rm.ScopeMetrics {
			for _, metric := range sm.Metrics {
				if hasPoints(metric) {
					m.r.metrics[service][metric.Name] = true
				}
			}
		}
	}
	return &metricsservice.ExportMetricsServiceResponse{}, nil
}

// hasPoints leaves out what has counted nothing yet.
func hasPoints(m *metricspb.Metric) bool {
	return slices.ContainsFunc(m.GetSum().GetDataPoints(), func(p *metricspb.NumberDataPoint) bool { return p.GetAsDouble() > 0 || p.GetAsInt() > 0 }) ||
		slices.ContainsFunc(m.GetHistogram().GetDataPoints(), func(p *metricspb.HistogramDataPoint) bool { return p.Count > 0 }) ||
		len(m.GetGauge().GetDataPoints()) > 0
}

func value(attrs []*commonpb.KeyValue, key string) string {
	for _, a := range attrs {
		if a.Key == key {
			if s, ok := a.Value.Value.(*commonpb.AnyValue_StringValue); ok {
				return s.StringValue
			}
			return fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return ""
}

// find returns a span of a trace by service and name.
func (r *receiver) find(trace, service, name string, also ...string) *tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if hex.EncodeToString(s.TraceId) == trace && s.service == service && s.Name == name &&
			(len(also) == 0 || value(s.Attributes, also[0]) == also[1]) {
			return s.Span
		}
	}
	return nil
}

func (r *receiver) describe() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, s := range r.spans {
		fmt.Fprintf(&b, "%x %s %s %v\n", s.TraceId, s.service, s.Name, s.Attributes)
	}
	return b.String()
}

func eventually(t *testing.T, what string, holds func() bool, otherwise func() string) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s\n%s", what, otherwise())
		}
	}
}

// One call of an API is one trace: the gateway, its question to the authorization server,
// that server's answer, and the request to the API. What checks were made stands in it,
// and no token.
func TestOneTrace(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100") // ms; the programs inherit it
	otlp := newReceiver(t)
	certs := fixture.Certs()
	server := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{publicHost, mtlsHost, "localhost"}, Server: true})
	gw := certs.CA1.MustLeaf(pkitest.LeafOptions{Subject: "CN=gateway,O=Example"})
	rememberKey(gw)
	dir := folder(t, settings{clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read write}
- {client_id: c-rs, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "CN=gateway,O=Example", may_introspect: true}
`, files: map[string][]byte{"server.pem": server.ChainPEM(), "server.key": server.KeyPEM()},
		more: `telemetry: {otlp: grpc, endpoint: "` + otlp.grpc + `", interval: 1s}`})
	w := newWorld(serve(t, dir))
	var upstream atomic.Value
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		upstream.Store(r.Header.Get("Traceparent"))
		_, _ = io.WriteString(rw, apiText)
	}))
	t.Cleanup(api.Close)
	_, mtls, err := net.SplitHostPort(w.mtls)
	if err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, w, api.URL, func(g *gatewayProcess) {
		write(t, g.dir, "gw.pem", gw.ChainPEM())
		write(t, g.dir, "gw.key", gw.KeyPEM())
		g.config = strings.Replace(g.config, "root_cas: [servers.pem]", `root_cas: [servers.pem], introspection: always, introspector: {client_id: c-rs, certificate: gw.pem, key: gw.key, endpoint: "https://localhost:`+mtls+`/introspect"}`, 1) +
			`telemetry: {otlp: http, endpoint: "` + otlp.http + `", interval: 1s, service: edge}` + "\n"
	})
	token := w.token(t, w.as(t, w.L1), "c-dn", "scope", "read").AccessToken()
	if token == "" {
		t.Fatal("no token")
	}
	call := func(leaf *pkitest.Leaf, trace string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+rsHost+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
		return fixture.Do(t, w.as(t, leaf), req).Status
	}
	const good, stolen = "4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4737"
	if status := call(w.L1, good); status != 200 {
		t.Fatalf("status %d\n%s", status, tail(g.log.String()))
	}
	if status := call(w.L2, stolen); status != 401 {
		t.Errorf("a stolen token: status %d", status)
	}
	var edge, asking, asked, up, refused *tracepb.Span
	eventually(t, "all spans", func() bool {
		edge, asking, up = otlp.find(good, "edge", "GET orders"), otlp.find(good, "edge", "introspection"), otlp.find(good, "edge", "upstream")
		asked, refused = otlp.find(good, "certbound-serve", "POST introspect"), otlp.find(stolen, "edge", "GET orders")
		return edge != nil && asking != nil && up != nil && asked != nil && refused != nil
	}, otlp.describe)

	id := hex.EncodeToString
	if id(edge.ParentSpanId) != "00f067aa0ba902b7" {
		t.Errorf("the gateway's span has the parent %x, not the caller's", edge.ParentSpanId)
	}
	for name, pair := range map[string][2]*tracepb.Span{
		"the question": {asking, edge}, "the answer": {asked, asking}, "the request upstream": {up, edge},
	} {
		if id(pair[0].ParentSpanId) != id(pair[1].SpanId) {
			t.Errorf("%s is no child: parent %x, expected %x", name, pair[0].ParentSpanId, pair[1].SpanId)
		}
	}
	if got, want := upstream.Load(), "00-"+good+"-"+id(up.SpanId)+"-01"; got != want {
		t.Errorf("the API has seen traceparent %v, expected %s", got, want)
	}
	for key, want := range map[string]string{
		"certbound.route": "orders", "certbound.outcome": "allowed", "certbound.client_id": "c-dn", "http.response.status_code": "200",
		"certbound.x5t_s256": certbound.Thumbprint(w.L1.Cert), "http.request.method": "GET",
	} {
		if got := value(edge.Attributes, key); got != want {
			t.Errorf("%s is %q, expected %q", key, got, want)
		}
	}
	if got := value(refused.Attributes, "certbound.reason"); got != "binding_mismatch" {
		t.Errorf("the reason of the refusal is %q", got)
	}
	failed := slices.ContainsFunc(refused.Events, func(e *tracepb.Span_Event) bool {
		return e.Name == "certbound.check" && value(e.Attributes, "check") == "binding" && value(e.Attributes, "outcome") == "failed"
	})
	if !failed || len(refused.Events) < 2 {
		t.Errorf("the checks are not events: %v", refused.Events)
	}
	g.eventually(t, "a record of the gateway has the trace", func() bool { return strings.Contains(g.log.String(), `"trace_id":"`+good+`"`) })
	eventually(t, "metrics of both", func() bool {
		otlp.mu.Lock()
		defer otlp.mu.Unlock()
		return otlp.metrics["edge"]["certbound_decisions_total"] && otlp.metrics["edge"]["certbound_gateway_request_duration_seconds"] &&
			otlp.metrics["certbound-serve"]["certbound_decisions_total"] && otlp.metrics["certbound-serve"]["certbound_request_duration_seconds"]
	}, func() string { otlp.mu.Lock(); defer otlp.mu.Unlock(); return fmt.Sprint(otlp.metrics) })
	checkLog(t, otlp.describe())
}

// A receiver that is down, or takes a connection and never answers, neither delays a
// request nor the end of the program for long.
func TestReceiverDown(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, endpoint := range map[string]string{"down": "http://127.0.0.1:1", "silent": "http://" + silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
			t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
			t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
			t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "500")
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint) // by environment alone
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
			p := serve(t, folder(t, settings{clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read write}` + "\n"}))
			w := newWorld(p)
			c := w.as(t, w.L1)
			for range 30 { // more than the queue takes
				if a := w.token(t, c, "c-dn"); a.Status != 200 {
					t.Fatalf("status %d: %s", a.Status, a.Text)
				}
			}
			p.eventually(t, "failures are counted", func() bool {
				return p.metrics(t)[`certbound_otlp_export_failures_total{signal="traces"}`] > 0
			})
			p.logged(t, "the OTLP receiver does not take what is sent")
			p.stop(t)
		})
	}
}
