package authserver

import (
	"context"
	"net/http"
)

// A Server is an authorization server. It is safe for concurrent use.
type Server struct {
	cfg Config
}

// New returns a server, or reports every wrong setting at once as joined errors of
// type *[SettingError]. It does not touch the store.
func New(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg}, nil
}

// Handler serves the conventional, browser-facing endpoints. It has no certificate
// source at all: a certificate or a header there counts as none.
func (s *Server) Handler() http.Handler { panic("contract") }

// MTLSHandler serves the same endpoints with the certificate source of the
// configuration, below the path of MTLSBaseURL, or of the issuer if there is none.
func (s *Server) MTLSHandler() http.Handler { panic("contract") }

// Run does what has to be done in the background until ctx ends: it makes and
// rotates signing keys, follows changes of clients (so that they count within one
// second) and sweeps expired records. It returns an error only if the store cannot
// be used at the start. Without Run, every request reads the store.
func (s *Server) Run(ctx context.Context) error { panic("contract") }

// RotateKey makes a new signing key, which signs after KeyRotation.Prepublish, and
// returns its key id.
func (s *Server) RotateKey(ctx context.Context) (kid string, err error) { panic("contract") }

// Rules returns the rules for registrations.
func (s *Server) Rules() Rules { return s.cfg.Rules() }

// ClientChanged forgets what is cached of clients, for callers that change the
// store in the same process and do not want to wait for Run.
func (s *Server) ClientChanged(ids ...string) { panic("contract") }
