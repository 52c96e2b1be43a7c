// Package listen opens the listeners of a server: their addresses, TLS settings, server
// certificates and limits, and their orderly end.
//
// A [Server] that asks for certificates and one that does not share nothing: each has
// its own tls.Config and its own ticket keys, so that a session of one is worth nothing
// at the other (RFC 8446, Section 4.6.1).
package listen

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/certbound/certbound/certsource"
)

// Faults of an [AddressError].
var (
	ErrInUse      = errors.New("in use by another process")
	ErrNotAllowed = errors.New("not allowed to listen there")
	ErrNoAddress  = errors.New("this machine has no such address")
	ErrAddress    = errors.New("cannot listen there")
)

// An AddressError is an address that cannot be opened.
type AddressError struct {
	Address string
	// Setting is what the operator has to change: a flag or a key of the
	// configuration.
	Setting string
	// Fault is one of the errors of this package.
	Fault error
	Err   error
}

func (e *AddressError) Error() string {
	s := "listen: " + e.Address + ": " + e.Fault.Error()
	if e.Fault == ErrAddress {
		s += ": " + e.Err.Error()
	}
	return s + ": " + e.Fix()
}

// Fix says what to change.
func (e *AddressError) Fix() string {
	switch e.Fault {
	case ErrInUse:
		return "stop the other process, or choose another port with " + e.Setting
	case ErrNotAllowed:
		return "choose a port above 1023 with " + e.Setting
	default:
		return "set " + e.Setting + " to host:port with an address of this machine"
	}
}

// Unwrap returns the fault and the cause.
func (e *AddressError) Unwrap() []error { return []error{e.Fault, e.Err} }

// Open opens an address, "host:port", or "unix:" and the path of a socket. The umask says
// who may connect to the socket; one that a killed process has left is replaced. setting is named in the error, which is of type
// *[AddressError].
func Open(address, setting string) (net.Listener, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		removeStale(path)
	}
	l, err := net.Listen(network, address)
	if err == nil {
		return l, nil
	}
	e := &AddressError{Address: address, Setting: setting, Fault: ErrAddress, Err: err}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Fault = ErrInUse
	case errors.Is(err, syscall.EACCES):
		e.Fault = ErrNotAllowed
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Fault = ErrNoAddress
	}
	return nil, e
}

// removeStale removes a socket on which nobody listens.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // if it stays, the address is in use
	}
}

// Config holds the settings of a [Server].
type Config struct {
	// Name is for logs: "public", "mtls".
	Name string
	// Handler serves the requests. It is called only if the TLS server name is the
	// Host (see [certsource.RequireAuthority]), or with AnyHost. Required.
	Handler http.Handler
	// AnyHost serves requests for every Host, whatever the TLS server name: for one
	// proxy, which asks about requests for other hosts in their own words.
	AnyHost bool
	// Pair is the server's certificate. If nil, the listener speaks plain HTTP, for
	// a proxy on the same machine.
	Pair *Pair
	// H2C lets a listener of plain HTTP speak HTTP/2 too, with a peer that knows it does
	// (RFC 9113, Section 3.3). A request to change to it, Upgrade: h2c, is never followed.
	H2C bool
	// AskForCertificate asks clients for a certificate and demands none: it is
	// judged by the application, for each request. Without it a client is never
	// asked, so that browsers show no dialogue.
	AskForCertificate bool
	// OnlyAESGCM leaves under TLS 1.2 the suites with ECDHE and AES-GCM alone, without
	// ChaCha20 (FAPI 2.0 Security Profile, Section 5.2.2). TLS 1.3 is as without it.
	OnlyAESGCM bool
	// TicketRotation is how long a ticket key encrypts session tickets; it opens
	// them for as long again. If zero, 12 h; at most 84 h, since a session may live
	// for a week (RFC 8446, Section 4.6.1).
	TicketRotation time.Duration
	// MaxConnections bounds the connections at a time; those above are closed at
	// once. If zero, 10,000.
	MaxConnections int
	// Timeouts, each with a default if zero: the handshake and the header of a
	// request 10 s, a whole request 30 s, its answer 60 s, silence between two
	// requests 2 min.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// MaxHeaderBytes bounds the header of a request. If zero, 128 KiB: a proxy
	// sends a certificate chain in it.
	MaxHeaderBytes int
	// ProxyProtocol are the load balancers whose connections begin with a header of the
	// PROXY protocol, version 1 or 2, that names the peer. From these it is demanded;
	// from everybody else it is not understood. If empty, from nobody.
	ProxyProtocol []netip.Prefix
	// Logger is told of failed handshakes (debug) and of refused connections
	// (warning). If nil, slog.Default.
	Logger *slog.Logger
}

const (
	defaultRotation = 12 * time.Hour
	maxRotation     = 84 * time.Hour
)

// A Server serves one handler on one listener.
type Server struct {
	cfg   Config
	http  *http.Server
	tls   *tls.Config // nil for plain HTTP
	keys  [][32]byte  // for tickets: of Serve alone
	stats stats
}

type stats struct{ open, refused atomic.Int64 }

// New returns a server, or reports every wrong setting.
func New(cfg Config) (*Server, error) {
	cfg.TicketRotation = cmp.Or(cfg.TicketRotation, defaultRotation)
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 10_000)
	cfg.MaxHeaderBytes = cmp.Or(cfg.MaxHeaderBytes, 128<<10)
	cfg.ReadHeaderTimeout = cmp.Or(cfg.ReadHeaderTimeout, 10*time.Second)
	cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, 30*time.Second)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, 60*time.Second)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, 2*time.Minute)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	var faults []error
	wrong := func(field, expected string, found any) {
		faults = append(faults, fmt.Errorf("listen: %s: %s: expected %s, found %v", cmp.Or(cfg.Name, "server"), field, expected, found))
	}
	if cfg.Handler == nil {
		wrong("Handler", "a handler", "none")
	}
	if cfg.TicketRotation < 0 || cfg.TicketRotation > maxRotation {
		wrong("TicketRotation", "at most "+maxRotation.String(), cfg.TicketRotation)
	}
	if cfg.MaxConnections < 0 {
		wrong("MaxConnections", "a positive number", cfg.MaxConnections)
	}
	if cfg.MaxHeaderBytes < 0 {
		wrong("MaxHeaderBytes", "a positive number", cfg.MaxHeaderBytes)
	}
	for _, t := range []struct {
		field string
		value time.Duration
	}{
		{"ReadHeaderTimeout", cfg.ReadHeaderTimeout}, {"ReadTimeout", cfg.ReadTimeout},
		{"WriteTimeout", cfg.WriteTimeout}, {"IdleTimeout", cfg.IdleTimeout},
	} {
		if t.value < 0 {
			wrong(t.field, "a positive duration", t.value)
		}
	}
	if cfg.AskForCertificate && cfg.Pair == nil {
		wrong("AskForCertificate", "a Pair, since plain HTTP has no client certificates", "none")
	}
	if cfg.H2C && cfg.Pair != nil {
		wrong("H2C", "no Pair, since over TLS ALPN chooses HTTP/2", "one")
	}
	for _, p := range cfg.ProxyProtocol {
		if !p.IsValid() || p.Bits() == 0 {
			wrong("ProxyProtocol", "the addresses of load balancers", p)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	s := &Server{cfg: cfg}
	if cfg.Pair != nil {
		s.tls = TLSConfig(cfg.Pair, cfg.AskForCertificate)
		if cfg.OnlyAESGCM {
			onlyAESGCM(s.tls)
		}
		if err := rotateTickets(s.tls, &s.keys); err != nil {
			return nil, err
		}
	}
	handler := cfg.Handler
	if !cfg.AnyHost {
		handler = certsource.RequireAuthority(handler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(cfg.Pair != nil)
	protocols.SetUnencryptedHTTP2(cfg.H2C)
	s.http = &http.Server{
		Handler:           handler,
		ConnContext:       certsource.ConnContext,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		ErrorLog:          log.New(serverLog{cfg.Logger.With("listener", cfg.Name)}, "", 0),
	}
	return s, nil
}

// A serverLog is what net/http tells. Handshakes fail all day on a public port, and who looks
// for one raises the level; but a handler that panics is a fault of ours, which a stranger
// may have found.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	level, text := slog.LevelDebug, strings.TrimSuffix(string(line), "\n")
	if strings.HasPrefix(text, "http: panic serving") || strings.HasPrefix(text, "http2: panic serving") {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, text)
	return len(line), nil
}

// Serve serves on l until Shutdown, after which it returns [http.ErrServerClosed].
func (s *Server) Serve(l net.Listener) error {
	if len(s.cfg.ProxyProtocol) > 0 {
		l = newProxied(l, s.cfg.ProxyProtocol, s.cfg.Logger.With("listener", s.cfg.Name))
	}
	l = &limited{Listener: l, limit: int64(s.cfg.MaxConnections), stats: &s.stats, log: s.cfg.Logger.With("listener", s.cfg.Name)}
	if s.tls == nil {
		return s.http.Serve(l)
	}
	// Not ServeTLS: it serves with a copy of the tls.Config, which would not see the
	// ticket keys change.
	done := make(chan struct{})
	defer close(done)
	go s.rotate(done)
	return s.http.Serve(tls.NewListener(l, s.tls))
}

// rotate changes the ticket keys until done.
func (s *Server) rotate(done <-chan struct{}) {
	tick := time.NewTicker(s.cfg.TicketRotation)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if err := rotateTickets(s.tls, &s.keys); err != nil {
				s.cfg.Logger.Error("listen: the ticket keys could not be changed", "listener", s.cfg.Name, "error", err)
			}
		}
	}
}

// Shutdown stops listening and waits for the requests that are being served, until ctx
// ends; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// Stats returns the connections that are open, and those that were refused because
// there were too many.
func (s *Server) Stats() (open, refused int64) { return s.stats.open.Load(), s.stats.refused.Load() }

// Name returns the name for logs and metrics.
func (s *Server) Name() string { return s.cfg.Name }
