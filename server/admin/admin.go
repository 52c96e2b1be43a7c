// Package admin is the operator's listener: is the process alive, can it serve, and its
// metrics. It takes no certificates, because probes have none, and tells more than a
// stranger should know: bind it to an address that only the operator reaches.
//
//	GET /livez       200 while the process runs
//	GET /readyz      200 if every check passes, otherwise 503; both as JSON
//	GET /metrics     for Prometheus
//	GET /revocation  the state of CRLs and OCSP responders, as JSON
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// A Check says whether something that requests need is there. It must respect ctx.
type Check struct {
	Name string // "store", "signing keys"
	Run  func(ctx context.Context) error
}

// Config holds the settings of a [Handler].
type Config struct {
	// Checks decide about readiness. Without any, the process is ready until it
	// stops.
	Checks []Check
	// Timeout bounds all checks together. If zero, 2 s.
	Timeout time.Duration
	// Fresh is how long an answer serves further probes, so that they are no load
	// however many there are. If zero, 500 ms.
	Fresh time.Duration
	// Metrics serves /metrics. If nil, 404.
	Metrics http.Handler
	// Revocation returns the body of /revocation. If nil, 404.
	Revocation func() any
	// Logger is told when readiness changes. If nil, slog.Default.
	Logger *slog.Logger
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// A Handler serves the operator's listener. It is safe for concurrent use.
type Handler struct {
	cfg      Config
	mux      *http.ServeMux
	stopping atomic.Bool

	turn chan struct{} // holds one value while the checks run, so that they run once
	at   time.Time
	last Readiness
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready bool `json:"ready"`
	// Stopping is set when the server was told to stop.
	Stopping bool `json:"stopping,omitempty"`
	// Checks has "ok" or the error for each check.
	Checks map[string]string `json:"checks,omitempty"`
}

// New returns a handler.
func New(cfg Config) *Handler {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.Fresh <= 0 {
		cfg.Fresh = 500 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux(), turn: make(chan struct{}, 1)}
	h.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]bool{"alive": true})
	})
	h.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready := h.Ready(r.Context())
		status := http.StatusOK
		if !ready.Ready {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, ready)
	})
	if cfg.Metrics != nil {
		h.mux.Handle("GET /metrics", cfg.Metrics)
	}
	if cfg.Revocation != nil {
		h.mux.HandleFunc("GET /revocation", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, cfg.Revocation())
		})
	}
	return h
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Stop makes the server unready for good. Call it before the listeners close, so that a
// load balancer has gone when they do.
func (h *Handler) Stop() { h.stopping.Store(true) }

// Ready runs the checks, or returns the result of a moment ago.
func (h *Handler) Ready(ctx context.Context) Readiness {
	if h.stopping.Load() {
		return Readiness{Stopping: true}
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done(): // the probe has gone
		return Readiness{}
	}
	now := h.cfg.Now()
	if age := now.Sub(h.at); !h.at.IsZero() && age >= 0 && age < h.cfg.Fresh {
		return h.last
	}
	// Not the context of the probe alone: others wait for the same answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.Timeout)
	defer cancel()
	r := Readiness{Ready: true, Checks: make(map[string]string, len(h.cfg.Checks))}
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(h.cfg.Checks))
	for _, c := range h.cfg.Checks {
		go func() { results <- result{c.Name, c.Run(ctx)} }()
		r.Checks[c.Name] = errNoAnswer.Error()
	}
	for range h.cfg.Checks {
		select {
		case got := <-results:
			r.Checks[got.name] = "ok"
			if got.err != nil {
				r.Checks[got.name], r.Ready = got.err.Error(), false
			}
			continue
		case <-ctx.Done(): // a check that does not respect it
			r.Ready = false
		}
		break
	}
	if first := h.at.IsZero(); r.Ready != h.last.Ready || first {
		level, text := slog.LevelInfo, "admin: ready"
		if !r.Ready {
			level, text = slog.LevelError, "admin: not ready"
		}
		h.cfg.Logger.Log(ctx, level, text, "checks", r.Checks)
	}
	h.at, h.last = h.cfg.Now(), r
	return r
}

var errNoAnswer = errors.New("no answer in time")

func answer(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil { // maps of text cannot fail
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}
