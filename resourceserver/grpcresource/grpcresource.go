// Package grpcresource protects a gRPC server with package resourceserver: a call passes
// if its access token is valid, has the scopes that its method needs, and is bound to the
// certificate that the call came with (RFC 8705, Section 3). It has the decision, the
// certificate sources and the settings of the [resourceserver.Verifier]; what is here is how
// gRPC asks and how it is answered.
//
// A method without a rule is refused. A stream ends when its token or its certificate does.
package grpcresource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
)

// Config holds the settings of an [Interceptor]. Without Methods every call is refused.
type Config struct {
	// Verifier judges the calls. Required. Its Source finds the certificate:
	// [certsource.TLS] on a server that ends TLS itself, with [credentials.NewTLS];
	// behind a proxy the preset of that proxy, which reads the metadata of the call.
	//
	// [certsource.TLS]: https://pkg.go.dev/github.com/certbound/certbound/certsource#TLS
	// [credentials.NewTLS]: https://pkg.go.dev/google.golang.org/grpc/credentials#NewTLS
	Verifier *resourceserver.Verifier
	// Methods says which scopes a call needs, all of them, by the name of the method
	// ("/agora.v1.Accounts/List") or of its service ("/agora.v1.Accounts/*"); the method
	// counts before the service. No scopes means that any accepted token will do.
	Methods map[string][]string
	// Exempt lists methods, in the same two forms, that need neither token nor
	// certificate, such as "/grpc.health.v1.Health/Check". None is exempt by itself, the
	// health service and reflection included.
	Exempt []string
	// AllowAnyMethod lets calls of methods without a rule pass with any accepted token.
	AllowAnyMethod bool

	// RecheckEvery is how often the token and the certificate of an open stream are
	// judged again, as a new call would be: a token that the issuer has revoked, or a
	// certificate that Config.CheckCertificate of the Verifier refuses, ends the stream
	// within this time, and so does an issuer that must be asked and cannot be. If zero,
	// 1 minute; if negative, only the end of the token and of the certificate count.
	RecheckEvery time.Duration
	// InsecureUnendingStreams lets a stream go on for as long as both sides like.
	InsecureUnendingStreams bool

	// Observer is told of the refusals that are made here: of a method without a rule and
	// of an expired certificate. Every other decision is for the Observer of the Verifier.
	Observer decision.Observer
	// Logger receives one record per refusal that is made here, per stream that is
	// ended, and per handler of a stream that panics. If nil, slog.Default.
	Logger *slog.Logger
}

// An Interceptor protects the methods of a server. It is safe for concurrent use.
type Interceptor struct {
	cfg      Config
	methods  map[string]rule // by full method
	services map[string]rule // by "/service/"
}

// A rule says what a method needs.
type rule struct {
	exempt bool
	scopes []string
}

// New returns an Interceptor. It reports every wrong setting at once.
func New(cfg Config) (*Interceptor, error) {
	i := &Interceptor{methods: make(map[string]rule), services: make(map[string]rule)}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("grpcresource: "+format, args...))
	}
	add := func(field, name string, r rule) {
		service, method, ok := split(name)
		switch {
		case !ok:
			fault("%s: expected /package.Service/Method or /package.Service/*, found %q", field, name)
			return
		case method == "*":
			name = service
		}
		table := i.methods
		if method == "*" {
			table = i.services
		}
		if _, twice := table[name]; twice {
			fault("%s: %q has two rules; keep one", field, name)
		}
		table[name] = r
	}
	if cfg.Verifier == nil {
		fault("Verifier: not set")
	}
	if len(cfg.Methods) == 0 && len(cfg.Exempt) == 0 && !cfg.AllowAnyMethod {
		fault("Methods: no rule, so that every call would be refused; name the methods with the scopes that they need")
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Methods)) {
		scopes := slices.Clone(cfg.Methods[name])
		for _, s := range scopes {
			if !isScope(s) {
				fault("Methods: %q: %q is not a scope (RFC 6749, Section 3.3)", name, s)
			}
		}
		add("Methods", name, rule{scopes: scopes})
	}
	for _, name := range cfg.Exempt {
		add("Exempt", name, rule{exempt: true})
	}
	if cfg.InsecureUnendingStreams && cfg.RecheckEvery > 0 {
		fault("RecheckEvery: without use beside InsecureUnendingStreams")
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if cfg.RecheckEvery == 0 {
		cfg.RecheckEvery = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Methods, cfg.Exempt = nil, nil // the tables have them
	i.cfg = cfg
	return i, nil
}

// ServerOptions returns the options of [grpc.NewServer] that put both interceptors into the
// chain. Those that are given in earlier options run before, and see what is refused.
func (i *Interceptor) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(i.Unary), grpc.ChainStreamInterceptor(i.Stream)}
}

// Check compares the rules with the services of a server, once all are registered: a method
// without a rule is one that nobody can call, and a rule without a method is a misspelled
// one. It reports everything at once.
func (i *Interceptor) Check(s interface {
	GetServiceInfo() map[string]grpc.ServiceInfo
}) error {
	methods := make(map[string]bool)
	services := make(map[string]bool)
	var faults []error
	for service, info := range s.GetServiceInfo() {
		services["/"+service+"/"] = true
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			methods[name] = true
			if _, ok := i.rule(name); !ok {
				faults = append(faults, fmt.Errorf("grpcresource: %s: a method without a rule; add it to Methods", name))
			}
		}
	}
	for name := range i.methods {
		if !methods[name] {
			faults = append(faults, fmt.Errorf("grpcresource: %s: a rule for a method that the server does not have", name))
		}
	}
	for name := range i.services {
		if !services[name] {
			faults = append(faults, fmt.Errorf("grpcresource: %s*: a rule for a service that the server does not have", name))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// rule returns the rule of a method, and false if there is none.
func (i *Interceptor) rule(fullMethod string) (rule, bool) {
	if r, ok := i.methods[fullMethod]; ok {
		return r, true
	}
	if r, ok := i.services[fullMethod[:strings.LastIndexByte(fullMethod, '/')+1]]; ok {
		return r, true
	}
	return rule{}, i.cfg.AllowAnyMethod
}

// Unary is a [grpc.UnaryServerInterceptor]. Handlers find the token and the certificate
// with the accessors of package resourceserver, such as [resourceserver.TokenFromContext].
//
// gRPC has read the message when an interceptor runs; [grpc.MaxRecvMsgSize] bounds what a
// caller without a token can make the server hold.
func (i *Interceptor) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	r, ok := i.rule(info.FullMethod)
	if ok && r.exempt {
		return handler(ctx, req)
	}
	access, err := i.judge(ctx, request(ctx, info.FullMethod), r, ok)
	if err != nil {
		err.tell(ctx)
		return nil, err
	}
	return handler(resourceserver.NewContext(ctx, access), req)
}

// split takes a rule's name apart: "/service/" and the method.
func split(name string) (service, method string, ok bool) {
	rest, ok := strings.CutPrefix(name, "/")
	if !ok {
		return "", "", false
	}
	n := strings.LastIndexByte(rest, '/')
	if n <= 0 || n == len(rest)-1 || strings.ContainsAny(rest[:n], "* ") {
		return "", "", false
	}
	service, method = name[:n+2], rest[n+1:]
	return service, method, method == "*" || !strings.ContainsAny(method, "* ")
}

// isScope reports whether s is a scope-token (RFC 6749, Section 3.3).
func isScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}
