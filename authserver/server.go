package authserver

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
)

// A Server is an authorization server. It is safe for concurrent use.
type Server struct {
	cfg   Config
	rules Rules
	// grants is the store of the flows with a person in them, or nil if they are off.
	grants GrantStore
	authn  *clientauth.Authenticator

	// What follows from the settings.
	binds           bool // tokens may be bound
	basic           bool // client_secret_basic is on
	declared        map[string]*registered
	quoted          map[string]string // resources as JSON
	defaultAudience []string
	jsonIssuer      string
	origin          string // of the issuer, as browsers write it
	tokenURLs       []string
	assertionAlgs   []jose.SignatureAlgorithm
	metadata        []byte
	challengeBasic  []string
	challengeBearer []string

	registry registry     // of clients that register themselves
	requests requestLimit // on what strangers can make it keep

	clients clientCache
	keyMu   sync.Mutex
	keys    atomic.Pointer[keySet]

	certMu  sync.Mutex
	certs   lru[string, time.Time]
	revoked revokedCertificates

	slowSecrets atomic.Bool // some client has a slow hash
	slowSlot    chan struct{}
	secretKey   [32]byte
	secretMu    sync.Mutex
	secrets     lru[[32]byte, struct{}]
}

// New returns a server, or reports every wrong setting at once as joined errors of
// type *[SettingError]. It does not touch the store.
func New(cfg Config) (*Server, error) {
	cfg.AuthMethods, cfg.Scopes, cfg.Resources = slices.Clone(cfg.AuthMethods), slices.Clone(cfg.Scopes), slices.Clone(cfg.Resources)
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:             cfg,
		rules:           cfg.Rules(),
		authn:           clientauth.New(clientauth.Config{Paths: cfg.Paths, Now: cfg.Now}),
		binds:           cfg.bindsTokens(),
		basic:           slices.Contains(cfg.AuthMethods, ClientSecretBasic),
		declared:        make(map[string]*registered, len(cfg.Clients)),
		quoted:          make(map[string]string, len(cfg.Resources)),
		defaultAudience: []string{cfg.DefaultResource},
		jsonIssuer:      quote(cfg.Issuer),
		origin:          origin(cfg.Issuer),
		challengeBasic:  []string{`Basic realm="` + cfg.Issuer + `", charset="UTF-8"`},
		challengeBearer: []string{`Bearer realm="` + cfg.Issuer + `"`},
		slowSlot:        make(chan struct{}, 1),
	}
	if cfg.Authorization.Enabled {
		s.grants = cfg.Store.(GrantStore) // check has made sure
		s.quoted[cfg.Issuer] = s.jsonIssuer
	}
	if cfg.Registration.Enabled {
		s.registry.store = cfg.Store.(GrantStore) // as above
	}
	for _, r := range cfg.Resources {
		s.quoted[r] = quote(r)
	}
	for _, alg := range cfg.AssertionAlgs {
		s.assertionAlgs = append(s.assertionAlgs, jose.SignatureAlgorithm(alg))
	}
	for _, base := range []string{cfg.Issuer, cfg.MTLSBaseURL} {
		if base != "" {
			s.tokenURLs = append(s.tokenURLs, join(base, "/token"))
			if s.grants != nil { // RFC 9126, Section 2
				s.tokenURLs = append(s.tokenURLs, join(base, "/par"))
			}
		}
	}
	s.clients.known.limit = cfg.CacheSize
	s.clients.absent.limit = min(cfg.CacheSize, negativeClients)
	s.certs.limit = certificateMemory
	s.secrets.limit = 1000
	rand.Read(s.secretKey[:])
	for _, c := range cfg.Clients {
		own := *c
		s.declared[c.ID] = s.prepare(&own)
	}
	var err error
	if s.metadata, err = s.buildMetadata(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler serves the conventional, browser-facing endpoints: it alone has the
// authorization endpoint and the pages. It has no certificate
// source at all: a certificate or a header there counts as none.
func (s *Server) Handler() http.Handler {
	h := s.newHandler(s.cfg.Issuer, nil)
	if s.grants != nil {
		s.addBrowserRoutes(h)
	}
	return h
}

// MTLSHandler serves the same endpoints with the certificate source of the
// configuration, below the path of MTLSBaseURL, or of the issuer if there is none.
// While MTLS is off, it reads no certificate either.
func (s *Server) MTLSHandler() http.Handler {
	base := s.cfg.MTLSBaseURL
	def(&base, s.cfg.Issuer)
	var source func(*http.Request) (*certsource.Presented, error)
	var fields []string
	switch {
	case !s.cfg.MTLS.Enabled:
	case s.cfg.MTLS.Certificate != nil:
		source = hookSource(s.cfg.MTLS.Certificate)
	default:
		source = s.cfg.Source.Certificate
		fields = certsource.Describe(s.cfg.Source).Fields
	}
	h := s.newHandler(base, source)
	h.fields = fields
	if _, ok := s.cfg.Authorization.Login.(*LoginHook); ok && s.grants != nil {
		h.routes[basePath(base)+hookPath] = route{name: "login challenge", post: (*exchange).loginChallenge}
	}
	return h
}

// Rules returns the rules for registrations.
func (s *Server) Rules() Rules { return s.rules }

// ClientChanged forgets what is cached of clients, for callers that change the
// store in the same process and do not want to wait for Run.
func (s *Server) ClientChanged(ids ...string) { s.clients.forget(ids, false) }

// How often Run looks, and how long a cache may be used without having looked.
const (
	pollEvery   = 400 * time.Millisecond
	staleAfter  = 5 * time.Second
	keysEvery   = 10 * time.Second
	sweepEvery  = time.Minute
	sweepLimit  = 1000
	sweepRounds = 20
	searchEvery = time.Second
	maxChanges  = 1000
)

// Run does what has to be done in the background until ctx ends: it makes and
// rotates signing keys, follows changes of clients (so that they count within one
// second) and sweeps expired records. It returns an error only if the store cannot
// be used at the start. Without Run, every request reads the store.
func (s *Server) Run(ctx context.Context) error {
	var since int64
	started := time.Now()
	_, err := s.refreshKeys(ctx, "")
	if err == nil {
		_, since, _, err = s.cfg.Store.ClientChanges(ctx, 0, 1)
	}
	if err == nil {
		err = s.followRevoked(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	defer s.revoked.stop()
	s.clients.forget(nil, true)
	s.clients.current(started.Add(staleAfter))
	defer s.clients.current(time.Time{})

	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		every(ctx, keysEvery, func() {
			if _, err := s.refreshKeys(ctx, ""); err != nil && ctx.Err() == nil {
				s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "signing keys cannot be refreshed", slog.Any("cause", err))
			}
		})
	})
	tasks.Go(func() { every(ctx, sweepEvery, func() { s.sweep(ctx) }) })
	if list := s.cfg.RevocationList; list != nil {
		tasks.Go(func() { s.runSearch(ctx, list) })
	}
	failing, failingRevoked := false, false
	every(ctx, pollEvery, func() {
		err := s.followRevoked(ctx)
		if err != nil && !failingRevoked && ctx.Err() == nil {
			s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "revocations cannot be followed", slog.Any("cause", err))
		}
		failingRevoked = err != nil
		started := time.Now()
		ids, last, complete, err := s.cfg.Store.ClientChanges(ctx, since, maxChanges)
		if err != nil {
			if !failing && ctx.Err() == nil {
				s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "changes of clients cannot be followed", slog.Any("cause", err))
			}
			failing = true
			return
		}
		failing, since = false, last
		s.clients.forget(ids, !complete)
		s.clients.current(started.Add(staleAfter))
	})
	return nil
}

// runSearch searches whenever the lists of issuers have changed.
func (s *Server) runSearch(ctx context.Context, list RevocationList) {
	var done uint64
	first, failing := true, false
	search := func() {
		generation := list.Generation()
		if generation == done && !first {
			return
		}
		err := s.searchRevoked(ctx, list)
		if err == nil {
			done, first = generation, false
		} else if !failing && ctx.Err() == nil {
			s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "certificates cannot be compared with revocation lists", slog.Any("cause", err))
		}
		failing = err != nil
	}
	search()
	every(ctx, searchEvery, search)
}

// every calls work again and again until ctx ends.
func every(ctx context.Context, d time.Duration, work func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			work()
		}
	}
}

// sweep leaves a margin: what has expired by our clock may not have by that of another
// process, which would take a used assertion for a new one, or a revoked token for valid.
func (s *Server) sweep(ctx context.Context) {
	before := s.cfg.Now().Add(-keyMargin)
	s.revoked.sweep(before)
	for range sweepRounds { // a backlog waits for the next minute
		n, err := s.cfg.Store.Sweep(ctx, before, sweepLimit)
		if err != nil {
			if ctx.Err() == nil {
				s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "expired records cannot be swept", slog.Any("cause", err))
			}
			return
		}
		if n < sweepLimit {
			return
		}
	}
}
