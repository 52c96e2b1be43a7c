package grpcresource_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/resourceserver/grpcresource"
)

const (
	issuer   = "https://as.test"
	resource = "https://rs.test"
	host     = "rs.test"

	unaryCall    = "/grpc.testing.TestService/UnaryCall"
	bidiCall     = "/grpc.testing.TestService/FullDuplexCall"
	downCall     = "/grpc.testing.TestService/StreamingOutputCall"
	upCall       = "/grpc.testing.TestService/StreamingInputCall"
	emptyCall    = "/grpc.testing.TestService/EmptyCall"
	healthCall   = "/grpc.health.v1.Health/Check"
	secretAnswer = "secret content"
)

// pki holds the certificates; the resource server knows none of the CAs of clients.
type pki struct {
	servers            *pkitest.CA
	right, wrong, self *pkitest.Leaf
}

// Servers' certificates are good at the time of a bubble, too, which is the year 2000.
var begin, end = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)

func serverCertificate() tls.Certificate {
	return certs().servers.MustLeaf(pkitest.LeafOptions{Server: true, DNS: []string{host}, NotBefore: begin, NotAfter: end}).TLS()
}

var certs = sync.OnceValue(func() *pki {
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Clients"})
	return &pki{
		servers: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Servers", NotBefore: begin, NotAfter: end}),
		right:   ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-1"}),
		wrong:   ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-2"}),
		self:    pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=client-1"}),
	}
})

// service is an API. Its streams echo until somebody ends them.
type service struct {
	grpc_testing.UnimplementedTestServiceServer
	bidi func(grpc_testing.TestService_FullDuplexCallServer) error
}

func answer(ctx context.Context) *grpc_testing.Payload {
	token, _ := resourceserver.TokenFromContext(ctx)
	p, _ := resourceserver.PresentedFromContext(ctx)
	return &grpc_testing.Payload{Body: []byte(secretAnswer + " for " + token.ClientID + " with " + p.Thumbprint())}
}

func (service) EmptyCall(context.Context, *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return new(grpc_testing.Empty), nil
}

func (service) UnaryCall(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Payload: answer(ctx)}, nil
}

func (service) StreamingOutputCall(_ *grpc_testing.StreamingOutputCallRequest, s grpc_testing.TestService_StreamingOutputCallServer) error {
	return s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: answer(s.Context())})
}

func (service) StreamingInputCall(s grpc_testing.TestService_StreamingInputCallServer) error {
	for {
		if _, err := s.Recv(); err == io.EOF {
			answer(s.Context())
			return s.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: 1})
		} else if err != nil {
			return err
		}
	}
}

func (s service) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	if s.bidi != nil {
		return s.bidi(stream)
	}
	return echo(stream)
}

func echo(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: answer(stream.Context())}); err != nil {
			return err
		}
	}
}

// A world is a gRPC server on a listener that asks for a certificate and demands nothing.
type world struct {
	t        testing.TB
	key      jose.SigningKey
	verifier *resourceserver.Verifier
	i        *grpcresource.Interceptor
	server   *grpc.Server
	listen   net.Listener
	dial     func(context.Context, string) (net.Conn, error)
	conns    []*grpc.ClientConn
	stop     func() // ends what runs; a bubble has to before it ends

	mu        sync.Mutex
	decisions []*decision.Decision
	log       strings.Builder
	tokens    []string
}

type settings struct {
	verifier resourceserver.Config
	grpc     grpcresource.Config
	service  service
	creds    credentials.TransportCredentials
	options  []grpc.ServerOption // before ours
	listener net.Listener
	dial     func(context.Context, string) (net.Conn, error)
}

func newWorld(t testing.TB, change func(*settings)) *world {
	w := &world{t: t}
	key := pkitest.MustKey(pkitest.P256)
	w.key = jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jwks.Parse(set, jwks.Strict)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(w, nil))
	observer := func(_ context.Context, d *decision.Decision) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.decisions = append(w.decisions, d)
	}
	s := settings{
		verifier: resourceserver.Config{
			Resource: resource, Issuer: issuer, Source: certsource.TLS{},
			Keys: resourceserver.Keys{Set: keys}, Observer: observer, Logger: logger,
		},
		grpc: grpcresource.Config{
			Methods: map[string][]string{
				"/grpc.testing.TestService/*": {"read"},
				emptyCall:                     {"read", "admin"},
			},
			Exempt:   []string{healthCall},
			Observer: observer, Logger: logger,
		},
		creds: credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{serverCertificate()},
			ClientAuth:   tls.RequestClientCert,
		}),
	}
	if change != nil {
		change(&s)
	}
	if w.verifier, err = resourceserver.New(s.verifier); err != nil {
		t.Fatal(err)
	}
	s.grpc.Verifier = w.verifier
	if w.i, err = grpcresource.New(s.grpc); err != nil {
		t.Fatal(err)
	}
	options := s.options
	if s.creds != nil {
		options = append(options, grpc.Creds(s.creds))
	}
	w.server = grpc.NewServer(append(options, w.i.ServerOptions()...)...)
	grpc_testing.RegisterTestServiceServer(w.server, s.service)
	grpc_health_v1.RegisterHealthServer(w.server, health.NewServer())
	w.listen, w.dial = s.listener, s.dial
	if w.listen == nil {
		if w.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	served, listen := make(chan error, 1), w.listen
	go func() { served <- w.server.Serve(listen) }()
	stopped := sync.OnceFunc(func() {
		w.server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	w.stop = func() {
		for _, c := range w.conns {
			c.Close()
		}
		stopped()
	}
	t.Cleanup(func() {
		w.stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, token := range w.tokens {
			if signature := token[strings.LastIndexByte(token, '.')+1:]; strings.Contains(w.log.String(), signature) {
				t.Error("a token stands in the log")
			}
		}
	})
	return w
}

// Write takes the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) last() *decision.Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.decisions) == 0 {
		return decision.New()
	}
	return w.decisions[len(w.decisions)-1]
}

// connect returns a connection with a certificate, or none. Each has TLS sessions of its
// own unless change says otherwise.
func (w *world) connect(leaf *pkitest.Leaf, change func(*tls.Config)) *grpc.ClientConn {
	w.t.Helper()
	conf := &tls.Config{RootCAs: certs().servers.Pool(), ServerName: host}
	if leaf != nil {
		cert := leaf.TLS()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	if change != nil {
		change(conf)
	}
	return w.connectWith(grpc.WithTransportCredentials(credentials.NewTLS(conf)))
}

func (w *world) connectWith(options ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	if w.dial != nil {
		options = append(options, grpc.WithContextDialer(w.dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+w.listen.Addr().String(), options...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.conns = append(w.conns, conn)
	return conn
}

// token returns a good token; changed replaces some claims, nil removes.
func (w *world) token(changed map[string]any) string {
	w.t.Helper()
	now := time.Now()
	c := map[string]any{
		"iss": issuer, "sub": "client-1", "client_id": "client-1", "aud": resource, "jti": "j1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "read write",
	}
	maps.Copy(c, changed)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	signer, err := jose.NewSigner(w.key, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.tokens = append(w.tokens, token)
	w.mu.Unlock()
	return token
}

func cnf(leaf *pkitest.Leaf) map[string]any {
	return map[string]any{"cnf": map[string]any{"x5t#S256": certbound.Thumbprint(leaf.Cert)}}
}

func with(m map[string]any, name string, value any) map[string]any {
	out := map[string]any{name: value}
	maps.Copy(out, m)
	out[name] = value
	return out
}

func bearer(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// A reply is what a caller reads.
type reply struct {
	code    codes.Code
	message string
	trailer metadata.MD
	header  metadata.MD
	body    string
}

func replyOf(err error, header, trailer metadata.MD, body string) reply {
	s := status.Convert(err)
	return reply{s.Code(), s.Message(), trailer, header, body}
}

// call calls a method, whichever kind it is.
func call(ctx context.Context, conn grpc.ClientConnInterface, method string, options ...grpc.CallOption) reply {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var header, trailer metadata.MD
	options = append(options, grpc.Header(&header), grpc.Trailer(&trailer))
	c := grpc_testing.NewTestServiceClient(conn)
	body, err := "", error(nil)
	switch method {
	case unaryCall:
		var out *grpc_testing.SimpleResponse
		out, err = c.UnaryCall(ctx, new(grpc_testing.SimpleRequest), options...)
		body = string(out.GetPayload().GetBody())
	case emptyCall:
		_, err = c.EmptyCall(ctx, new(grpc_testing.Empty), options...)
	case healthCall:
		_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, new(grpc_health_v1.HealthCheckRequest), options...)
	case downCall:
		s, e := c.StreamingOutputCall(ctx, new(grpc_testing.StreamingOutputCallRequest), options...)
		if err = e; err == nil {
			for {
				out, e := s.Recv()
				if e != nil {
					if err = e; errors.Is(e, io.EOF) {
						err = nil
					}
					break
				}
				body = string(out.GetPayload().GetBody())
			}
		}
	case upCall:
		s, e := c.StreamingInputCall(ctx, options...)
		if err = e; err == nil {
			s.Send(new(grpc_testing.StreamingInputCallRequest)) // its failure is told by CloseAndRecv
			var out *grpc_testing.StreamingInputCallResponse
			if out, err = s.CloseAndRecv(); out.GetAggregatedPayloadSize() == 1 {
				body = secretAnswer
			}
		}
	case bidiCall:
		s, e := c.FullDuplexCall(ctx, options...)
		if err = e; err == nil {
			s.Send(new(grpc_testing.StreamingOutputCallRequest)) // its failure is told by Recv
			var out *grpc_testing.StreamingOutputCallResponse
			if out, err = s.Recv(); err == nil {
				body = string(out.GetPayload().GetBody())
				s.CloseSend()
				if _, err = s.Recv(); errors.Is(err, io.EOF) {
					err = nil
				}
			}
		}
	}
	return replyOf(err, header, trailer, body)
}

// challenge returns the challenge of the trailer, or of the header. Where it is in both,
// both have to say the same.
func challenge(r reply) string {
	h, t := strings.Join(r.header.Get("www-authenticate"), "\n"), strings.Join(r.trailer.Get("www-authenticate"), "\n")
	if h != "" && t != "" && h != t {
		return "two challenges"
	}
	return cmp.Or(t, h)
}

func (w *world) wantOK(t *testing.T, r reply) {
	t.Helper()
	if r.code != codes.OK || !strings.Contains(r.body, secretAnswer) {
		t.Errorf("%s %q, reason %q; want OK and the content", r.code, r.message, w.last().Reason())
	}
}

// wantIT checks for invalid_token, and the reason that the operator sees.
func (w *world) wantIT(t *testing.T, r reply, reason decision.Reason) {
	t.Helper()
	if r.code != codes.Unauthenticated || strings.Count(challenge(r), `error="invalid_token"`) != 1 {
		t.Errorf("%s, challenge %q; want Unauthenticated, invalid_token", r.code, challenge(r))
	}
	if strings.Contains(r.body, secretAnswer) {
		t.Error("the refusal has the content")
	}
	if got := w.last().Reason(); got != reason {
		t.Errorf("reason %q, want %q", got, reason)
	}
}

func (w *world) wantCH(t *testing.T, r reply) {
	t.Helper()
	if r.code != codes.Unauthenticated || challenge(r) != "Bearer" {
		t.Errorf("%s, challenge %q; want Unauthenticated with a bare challenge", r.code, challenge(r))
	}
	if strings.Contains(r.body, secretAnswer) {
		t.Error("the refusal has the content")
	}
}
