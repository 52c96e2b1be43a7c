// Package httpauth is mutual-TLS client authentication (RFC 8705, Section 2) as
// net/http middleware, for any server that authenticates OAuth 2.0 clients: put it
// before the token endpoint, and the handler finds the client in the context.
//
//	auth, err := httpauth.New(httpauth.Config{
//		Methods:  httpauth.PKI,
//		Source:   certsource.TLS{},
//		Paths:    validator,
//		Subjects: clientauth.SubjectDNs("partners", lookup),
//	})
//	srv := &http.Server{
//		Handler:     auth.Handler(token),
//		ConnContext: certsource.ConnContext,
//		TLSConfig:   &tls.Config{ClientAuth: tls.RequestClientCert, …},
//	}
//
// The listener asks for a certificate and demands nothing, so that a client without a
// usable one reads an OAuth error and not a TLS alert. Where the listener serves more
// than one host name, put [certsource.RequireAuthority] in front.
package httpauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
)

// Methods says which authentication methods are allowed.
type Methods uint8

// There is no default: which clients may come is for the operator to say.
const (
	MethodsUnset Methods = iota
	// PKI allows tls_client_auth.
	PKI
	// SelfSigned allows self_signed_tls_client_auth.
	SelfSigned
	// Both allows the two. Which one applies to a client is decided by the look-up
	// that knows it, never by what its certificate looks like; a client that both
	// know is refused.
	Both
)

// Verbosity says what the answer to a refused request tells.
type Verbosity uint8

const (
	// Normal answers with an error code and a sentence that is the same for every
	// reason (RFC 6749, Section 5.2).
	Normal Verbosity = iota
	// Minimal answers with the status alone.
	Minimal
	// Debug adds the [decision.Decision], registered values included. It tells a
	// stranger what to forge; [New] logs a warning.
	Debug
)

// Config holds the settings of a [Middleware]. The zero value is refused.
type Config struct {
	// Methods are the allowed methods. Required.
	Methods Methods
	// Source is where the certificate comes from. Required.
	Source certsource.Source
	// Subjects knows the clients of tls_client_auth. Required with PKI and Both.
	Subjects clientauth.SubjectLookup
	// Certificates knows the clients of self_signed_tls_client_auth. Required
	// with SelfSigned and Both.
	Certificates clientauth.CertificateLookup
	// Paths validates the paths of tls_client_auth. Required with PKI and Both,
	// unless the source says that its proxy verifies.
	Paths clientauth.PathValidator

	// Authenticated says that other middleware has already authenticated the
	// client of r, which then passes through. A request that a Middleware has
	// authenticated passes anyway.
	Authenticated func(r *http.Request) bool
	// Refuse answers a request that is not authenticated. If nil,
	// [Refusal.Respond]; [Refusal.Continue] lets the next handler try.
	Refuse func(w http.ResponseWriter, r *http.Request, refusal *Refusal)
	// Verbosity is what Respond tells. If zero, Normal.
	Verbosity Verbosity
	// Challenge is the WWW-Authenticate of a 401, such as `Basic realm="as"` where
	// some clients use a secret. If empty, invalid_client has status 400, since
	// every 401 needs a challenge and mutual TLS has none (RFC 9110, Section
	// 15.5.2; RFC 6749, Section 5.2).
	Challenge string

	// MaxForm bounds the request body, in bytes. If zero, 64 KiB.
	MaxForm int64
	// Observer is told of each decision. May be nil.
	Observer decision.Observer
	// Logger receives one record for each refused request. If nil, slog.Default.
	Logger *slog.Logger
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// A Middleware authenticates clients. It is safe for concurrent use.
type Middleware struct {
	cfg    Config
	auth   *clientauth.Authenticator
	fields []string // the header fields of the source
}

// New reports every wrong setting at once.
func New(cfg Config) (*Middleware, error) {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("httpauth: "+format, args...))
	}
	m := &Middleware{cfg: cfg, auth: clientauth.New(clientauth.Config{Paths: cfg.Paths, Now: cfg.Now})}
	pki, selfSigned := cfg.Methods == PKI || cfg.Methods == Both, cfg.Methods == SelfSigned || cfg.Methods == Both
	if !pki && !selfSigned {
		fault("Methods: not set; choose PKI, SelfSigned or Both, there is no default")
	} else {
		need := func(name string, allowed, set bool) {
			switch {
			case allowed && !set:
				fault("%s: not set, and the methods need it", name)
			case !allowed && set:
				fault("%s: set, but its method is not allowed", name)
			}
		}
		need("Subjects", pki, cfg.Subjects != nil)
		need("Certificates", selfSigned, cfg.Certificates != nil)
		if !pki {
			need("Paths", false, cfg.Paths != nil)
		}
	}
	switch {
	case cfg.Source == nil:
		fault("Source: not set; there is no default, certsource.TLS{} reads the TLS connection")
	default:
		d := certsource.Describe(cfg.Source)
		m.fields = d.Fields
		switch {
		case d.Most == certsource.KindNone:
			fault("Source: %s never has a certificate", cfg.Source.Name())
		case d.Most == certsource.KindAttributes && selfSigned:
			fault("Source: %s has names only, which never authenticate a self-signed client", cfg.Source.Name())
		case d.Most == certsource.KindFingerprint && pki:
			fault("Source: %s has fingerprints only, which have no subject", cfg.Source.Name())
		}
		if pki && cfg.Paths == nil && d.VerifiedBy == "" {
			fault("Paths: not set, and no proxy is said to verify; without trust anchors nobody is genuine")
		}
	}
	if cfg.MaxForm < 0 {
		fault("MaxForm: negative")
	}
	if cfg.Verbosity > Debug {
		fault("Verbosity: unknown")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if m.cfg.MaxForm == 0 {
		m.cfg.MaxForm = 64 << 10
	}
	if m.cfg.Logger == nil {
		m.cfg.Logger = slog.Default()
	}
	if m.cfg.Refuse == nil {
		m.cfg.Refuse = func(w http.ResponseWriter, r *http.Request, f *Refusal) { f.Respond(w, r) }
	}
	if cfg.Verbosity == Debug {
		m.cfg.Logger.Warn("httpauth: verbosity debug tells every client why it was refused and what is registered; use it while setting up only")
	}
	return m, nil
}

// A Client is an authenticated client.
type Client struct {
	ID     string
	Method string // clientauth.TLSClientAuth or clientauth.SelfSignedTLSClientAuth
	// Presented is the certificate. A token can be bound to it, unless its kind is
	// certsource.KindAttributes.
	Presented *certsource.Presented
	Decision  *decision.Decision
}

type (
	clientKey  struct{}
	refusalKey struct{}
)

// ClientFromContext returns the client that a [Middleware] has authenticated.
func ClientFromContext(ctx context.Context) (*Client, bool) {
	c, ok := ctx.Value(clientKey{}).(*Client)
	return c, ok
}

// RefusalFromContext returns the failure that [Refusal.Continue] has recorded, for the
// handler that ends the chain of schemes.
func RefusalFromContext(ctx context.Context) (*Refusal, bool) {
	f, ok := ctx.Value(refusalKey{}).(*Refusal)
	return f, ok
}

// Handler returns next with client authentication in front.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := ClientFromContext(r.Context()); ok || m.cfg.Authenticated != nil && m.cfg.Authenticated(r) {
			next.ServeHTTP(w, r)
			return
		}
		d := &decision.Decision{Checks: make([]decision.Check, 0, 4)} // as many as a client that is let in has
		form := form{body: r.Body}
		client := m.authenticate(w, r, d, &form)
		if m.cfg.Observer != nil {
			m.cfg.Observer(r.Context(), d)
		}
		if client == nil {
			m.cfg.Logger.InfoContext(r.Context(), "client not authenticated", "decision", d)
			f := newRefusal(m, next, d)
			r := r.WithContext(r.Context())
			r.Body = form.body
			m.cfg.Refuse(w, r, f)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), clientKey{}, client))
		r.Body = form.body
		// The answer depends on the certificate, which no cache sees (RFC 9440,
		// Section 2.4). A handler that knows better replaces it.
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// authenticate returns the client, or nil when d has a failed check.
func (m *Middleware) authenticate(w http.ResponseWriter, r *http.Request, d *decision.Decision, form *form) *Client {
	ctx := r.Context()
	d.Peer = certsource.Peer(ctx)
	if names := certsource.Foreign(r, m.fields...); names != nil {
		for _, name := range names {
			d.Warnings = append(d.Warnings, decision.Check{
				Name: decision.CheckSource, Outcome: decision.Skipped,
				Reason: decision.SourceForeignHeader, Found: name,
			})
		}
	}

	presented, err := m.cfg.Source.Certificate(r)
	missing := errors.Is(err, certsource.ErrNoCertificate)
	if err != nil && !missing {
		d.Via = m.cfg.Source.Name()
		d.Fail(certsource.Check(err))
		return nil
	}
	if c := form.read(w, r, m.cfg.MaxForm); c.Name != "" {
		d.Fail(c)
		return nil
	}
	d.ClientID = form.clientID
	if missing { // before the look-up, so that strangers cause none
		d.Via = m.cfg.Source.Name()
		d.Fail(certsource.Check(err))
		return nil
	}

	reg, ok := m.lookup(ctx, d, form.clientID)
	if !ok {
		return nil
	}
	if form.other != "" {
		d.Fail(decision.Check{
			Name: decision.CheckMethod, Rule: "RFC 6749, Section 2.3", Reason: decision.SeveralMethods,
			Expected: "the certificate alone", Found: form.other + " beside it",
		})
		return nil
	}
	if reg.pki {
		err = m.auth.AuthenticatePKI(ctx, d, presented, reg.subject)
	} else {
		err = m.auth.AuthenticateSelfSigned(ctx, d, presented, reg.certificates)
	}
	if err != nil {
		return nil
	}
	d.Allow()
	return &Client{ID: form.clientID, Method: d.Method, Presented: presented, Decision: d}
}

type registration struct {
	pki          bool
	subject      clientauth.PKI
	certificates clientauth.SelfSigned
}

// lookup finds the one registration of a client. With both methods it asks both
// look-ups, since only that finds a client that stands in both.
func (m *Middleware) lookup(ctx context.Context, d *decision.Decision, id string) (reg registration, ok bool) {
	var known bool
	var err error
	if m.cfg.Subjects != nil {
		if reg.subject, reg.pki, err = m.cfg.Subjects(ctx, id); err != nil {
			return reg, failLookup(d, err)
		}
	}
	if m.cfg.Certificates != nil {
		if reg.certificates, known, err = m.cfg.Certificates(ctx, id); err != nil {
			return reg, failLookup(d, err)
		}
	}
	switch {
	case reg.pki && known:
		d.Fail(decision.Check{
			Name: decision.CheckClient, Rule: "RFC 8705, Section 2", Reason: decision.AmbiguousClient,
			Expected: "a client of one method", Found: "known to both look-ups",
		})
	case !reg.pki && !known:
		d.Fail(decision.Check{
			Name: decision.CheckClient, Rule: "RFC 8705, Section 2", Reason: decision.UnknownClient,
			Expected: "a registered client_id",
		})
	default:
		d.Pass(decision.CheckClient, "RFC 8705, Section 2", "")
		return reg, true
	}
	return reg, false
}

func failLookup(d *decision.Decision, err error) bool {
	d.Fail(decision.Check{
		Name: decision.CheckClient, Reason: decision.LookupFailed,
		Expected: "a registration that can be read", Found: err.Error(),
	})
	return false
}
