package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
)

// A Target is where the allowed requests of a route go, and how.
type Target struct {
	Upstream *Upstream
	// Host is the Host that the upstream sees. If empty, the client's.
	Host string
	// PassToken sends the Authorization field on. Otherwise it is removed: what the
	// upstream has to know is said in the identity.
	PassToken bool
	// MaxBody bounds the body of a request, in bytes. If zero, it is not bounded; it is
	// never held in memory.
	MaxBody int64
	// WebSocket lets a request become a WebSocket. Otherwise, and for every other
	// protocol, Upgrade is removed.
	WebSocket bool
	// Recheck is how often a request that is still going on is judged again. If
	// zero, 10 s; if negative, never.
	Recheck time.Duration
	// InsecureOutliveToken lets streams go on when the token has ended, or the
	// certificate that it is bound to.
	InsecureOutliveToken bool
	// Stall is how long the client may take to send or to receive the next part of a
	// body. If zero, 60 s.
	Stall time.Duration
}

// ProxyConfig holds the settings of a [Proxy].
type ProxyConfig struct {
	Decider *Decider
	// Targets has each route of the Decider. Required.
	Targets map[*Route]*Target
}

// A Proxy is the reverse proxy. Its settings can be exchanged while it serves. It is safe
// for concurrent use.
type Proxy struct {
	log     *slog.Logger
	options ProxyOptions
	access  bool
	metrics *Metrics
	now     func() time.Time
	facts   *factCache
	state   atomic.Pointer[state]
}

// state is everything that a reload exchanges.
type state struct {
	decider *Decider
	targets map[*Route]*forwarder
}

// A forwarder is a target in working order.
type forwarder struct {
	Target
	proxy   *httputil.ReverseProxy
	metrics *routeMetrics
}

// ProxyOptions are what stays when the settings change.
type ProxyOptions struct {
	// Logger receives one record for each request that is refused, and with AccessLog
	// for each one that is allowed. If nil, slog.Default.
	Logger    *slog.Logger
	AccessLog bool
	// Metrics counts. If nil, nobody does.
	Metrics *Metrics
	// Transport is put around what sends requests upstream, such as for traces. If nil,
	// nothing is.
	Transport func(http.RoundTripper) http.RoundTripper
	// Answered is told the status of each answer, with the context of the request. If nil,
	// nobody is.
	Answered func(ctx context.Context, status int)
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// NewProxy returns a proxy.
func NewProxy(cfg ProxyConfig, o ProxyOptions) (*Proxy, error) {
	p := &Proxy{log: cmp.Or(o.Logger, slog.Default()), options: o, access: o.AccessLog, metrics: o.Metrics, now: o.Now, facts: newFactCache()}
	if p.now == nil {
		p.now = time.Now
	}
	if err := p.Reload(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload exchanges the settings. Requests that are under way end as they began, but for
// their next judgement (see [Target].Recheck), which is by the new ones. After an error
// the old settings stay.
func (p *Proxy) Reload(cfg ProxyConfig) error {
	s := &state{decider: cfg.Decider, targets: make(map[*Route]*forwarder, len(cfg.Targets))}
	if cfg.Decider == nil {
		return errors.New("gateway: Decider: not set")
	}
	for _, route := range cfg.Decider.cfg.Routes {
		t := cfg.Targets[route]
		if t == nil || t.Upstream == nil {
			return fmt.Errorf("gateway: route %s: no upstream", route.Name)
		}
		f := &forwarder{Target: *t, metrics: p.metrics.route(route.Name)}
		f.Recheck = cmp.Or(f.Recheck, 10*time.Second)
		f.Stall = cmp.Or(f.Stall, 60*time.Second)
		f.proxy = &httputil.ReverseProxy{
			Transport:      p.transport(t.Upstream),
			BufferPool:     buffers{},
			Rewrite:        rewrite,
			ModifyResponse: modifyResponse,
			ErrorHandler:   answerError,
			// What is worth a record has one of ours.
			ErrorLog: log.New(discard{}, "", 0),
		}
		s.targets[route] = f
	}
	p.state.Store(s)
	return nil
}

func (p *Proxy) transport(u *Upstream) http.RoundTripper {
	if p.options.Transport == nil {
		return u.transport
	}
	return p.options.Transport(u.transport)
}

func (p *Proxy) answered(x *exchange) {
	if p.options.Answered != nil {
		p.options.Answered(x.in.Context(), x.status)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// buffers are for the copying of bodies.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (buffers) Get() []byte  { return bufferPool.Get().(*[32 << 10]byte)[:] }
func (buffers) Put(b []byte) { bufferPool.Put((*[32 << 10]byte)(b)) }

// Decider returns the decider in use, for the other fronts.
func (p *Proxy) Decider() *Decider { return p.state.Load().decider }

// ServeHTTP judges a request and forwards it, or refuses it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := p.state.Load()
	if h := s.decider.Metadata(r.Host, r.URL.Path); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	start := p.now()
	x := &exchange{w: w, in: r, proxy: p, judged: s.decider.RequestOf(r)}
	x.verdict = s.decider.Decide(r.Context(), x.judged)
	if !x.verdict.Allowed {
		x.status = x.verdict.Status
		x.verdict.Write(w)
		p.answered(x)
		p.record(x, start)
		return
	}
	x.target = s.targets[x.verdict.Route]
	x.target.metrics.begin()
	defer func() {
		fault := recover()
		x.cut = fault != nil
		x.target.metrics.end(x.status, p.now().Sub(start))
		p.answered(x)
		p.record(x, start)
		if fault != nil {
			panic(fault) // net/http cuts off what has begun
		}
	}()
	x.forward(start)
}

// An exchange is one request on its way through, and its context.
type exchange struct {
	context.Context
	cancel context.CancelCauseFunc

	proxy   *Proxy
	w       http.ResponseWriter
	in      *http.Request
	judged  Request
	verdict *Verdict
	target  *forwarder

	status   int
	sent     int64
	began    bool // the header is out
	deadline time.Time
	fault    error // why there is no whole answer
	cut      bool  // the answer has begun, and has no end
	// upstreamID is the id that an upstream, which checks itself, has given to its refusal.
	upstreamID string

	timer *time.Timer
}

type exchangeKey struct{}

func (x *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return x
	}
	return x.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

func (x *exchange) forward(start time.Time) {
	// The listener has bounded everything up to here. From here on bodies take as long as
	// they take, if they go on.
	control := http.NewResponseController(x.w)
	control.SetReadDeadline(time.Time{})
	control.SetWriteDeadline(time.Time{})
	r := x.in
	if x.target.MaxBody > 0 {
		if r.ContentLength > x.target.MaxBody {
			x.fail(http.StatusRequestEntityTooLarge, errors.New("the body is larger than the limit"))
			return
		}
		r.Body = http.MaxBytesReader(x.w, r.Body, x.target.MaxBody)
	}
	if r.Body != nil && r.Body != http.NoBody {
		body := &slowBody{ReadCloser: r.Body, x: x}
		r.Body = body
		defer body.abandon()
	}
	if r.Header["Upgrade"] != nil && !x.isWebSocket() {
		// Above all h2c: its requests would pass by us.
		delete(r.Header, "Upgrade")
	}
	r.Trailer = nil
	x.Context, x.cancel = context.WithCancelCause(r.Context())
	defer x.cancel(nil)
	x.guard(start)
	defer x.unguard()
	x.target.proxy.ServeHTTP(x, r.WithContext(x))
}

func (x *exchange) isWebSocket() bool {
	r := x.in
	return x.target.WebSocket && r.ProtoMajor == 1 && r.Method == http.MethodGet && r.ContentLength == 0 &&
		len(r.Header["Upgrade"]) == 1 && strings.EqualFold(r.Header["Upgrade"][0], "websocket")
}

// rewrite makes the request to the upstream. Hop-by-hop fields are gone already, with
// everything that the client has named in Connection, so that nothing set here is lost.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	v, t, out := x.verdict, x.target, pr.Out
	v.decider.Strip(out.Header)
	for name := range out.Header {
		if forRequestID(name) {
			delete(out.Header, name)
		}
	}
	out.Header[resourceserver.RequestIDHeader] = []string{v.ID}
	path, err := url.PathUnescape(v.Path)
	if err != nil { // a normal path is well-formed
		x.cancel(err)
	}
	out.URL = &url.URL{Scheme: t.Upstream.scheme, Host: t.Upstream.host, Path: path, RawPath: v.Path, RawQuery: pr.In.URL.RawQuery}
	out.Host = cmp.Or(t.Host, pr.In.Host)
	if !t.PassToken {
		delete(out.Header, "Authorization")
	}
	pr.SetXForwarded()
	if v.Presented != nil { // TLS ended before us
		out.Header["X-Forwarded-Proto"] = []string{"https"}
	}
	if err := v.Route.Identity.set(out.Header, v); err != nil {
		x.cancel(err)
	}
}

// modifyResponse removes from an answer what is between the gateway and the upstream.
func modifyResponse(resp *http.Response) error {
	x := exchangeOf(resp.Request.Context())
	x.clean(resp.Header)
	if id := resp.Header[resourceserver.RequestIDHeader]; id != nil {
		x.upstreamID = id[0] // it leads to the upstream's own record, and ours has it, too
	} else {
		resp.Header[resourceserver.RequestIDHeader] = []string{x.verdict.ID}
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.status, x.began = resp.StatusCode, true
		return nil
	}
	if resp.ContentLength < 0 || resp.ProtoMajor > 1 || resp.Trailer != nil {
		resp.Body = &trailerBody{resp.Body, resp, x}
	}
	if x.verdict.Token != nil && resp.Header["Cache-Control"] == nil {
		resp.Header["Cache-Control"] = []string{"no-store"}
	}
	return nil
}

// clean removes the fields that never stand in an answer (RFC 9440, Sections 2.2 and
// 2.3), with those that say who the caller is, and hides from caches that the answer
// depends on a field that the client cannot see (Section 2.4).
func (x *exchange) clean(h http.Header) {
	x.verdict.decider.Strip(h)
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); strings.EqualFold(name, fieldClientCert) || strings.EqualFold(name, fieldClientCertChain) {
				h["Vary"] = []string{"*"}
				return
			}
		}
	}
}

// A trailerBody cleans the trailer, which is there when the body has ended.
type trailerBody struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	resp *http.Response
	x    *exchange
}

func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil {
		b.x.clean(b.resp.Trailer)
	}
	return n, err
}

func (b *trailerBody) Close() error {
	err := b.body.Close()
	b.x.clean(b.resp.Trailer)
	return err
}

// answerError answers a request to which the upstream has none.
func answerError(_ http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	if cause := context.Cause(x); cause != nil && x.in.Context().Err() == nil {
		err = cause // one of ours
	}
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	_, ended := errors.AsType[*EndedError](err)
	timeout, isTimeout := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	switch {
	case tooLarge:
		x.fail(http.StatusRequestEntityTooLarge, err)
	case ended:
		x.w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="the access token has expired"`)
		x.fail(http.StatusUnauthorized, err)
	case x.in.Context().Err() != nil:
		x.status, x.fault = statusClientGone, context.Canceled
	case isTimeout && timeout.Timeout():
		x.fail(http.StatusGatewayTimeout, err)
	default:
		x.fail(http.StatusBadGateway, err)
	}
}

// statusClientGone is for the log: nobody was there to be answered.
const statusClientGone = 499

// fail answers in place of the upstream. The cause is for the log.
func (x *exchange) fail(status int, err error) {
	x.fault = err
	v := &Verdict{Status: status, Header: http.Header{"Cache-Control": {"no-store"}, resourceserver.RequestIDHeader: {x.verdict.ID}}}
	v.setBody(strings.ToLower(strings.ReplaceAll(http.StatusText(status), " ", "_")), "")
	x.status = status
	v.Write(x.w)
}

// reason returns the reason for which a stream was ended, or "".
func (x *exchange) reason() decision.Reason {
	if x.Context == nil {
		return ""
	}
	if e, ok := errors.AsType[*EndedError](context.Cause(x)); ok {
		return e.Reason
	}
	return ""
}
