package main

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/revocation"
	"github.com/certbound/certbound/server/telemetry"
)

// checkers are the revocation checkers by the name of their anchor set. Together they
// are the [authserver.RevocationList].
type checkers map[string]*revocation.Checker

// withRevocation gives each set its checker. file is a [config.File] or another kind that
// has sets.
func withRevocation(file interface {
	Checkers(*slog.Logger, func(http.RoundTripper) http.RoundTripper) (map[string]*revocation.Checker, error)
}, sets []pki.FileSet, logger *slog.Logger, metrics *telemetry.Metrics, otlp *telemetry.OTLP) (checkers, error) {
	all, err := file.Checkers(logger, otlp.Wrap("revocation"))
	if err != nil {
		return nil, err
	}
	for i := range sets {
		if c := all[sets[i].Name]; c != nil {
			sets[i].Revocation = c
			metrics.Revocation(sets[i].Name, c.Status)
		}
	}
	return all, nil
}

// KnownRevoked reports whether a list of any set has the certificate.
func (all checkers) KnownRevoked(issuerKeyID, serial string) bool {
	for _, c := range all {
		if c.KnownRevoked(issuerKeyID, serial) {
			return true
		}
	}
	return false
}

// Generation changes when one of the lists has changed: none of the numbers ever falls.
func (all checkers) Generation() (sum uint64) {
	for _, c := range all {
		sum += c.Generation()
	}
	return sum
}

// run keeps the lists fresh until ctx ends.
func (all checkers) run(ctx context.Context) {
	var tasks sync.WaitGroup
	for _, c := range all {
		tasks.Go(func() { _ = c.Run(ctx) })
	}
	tasks.Wait()
}

// status is the body of /revocation.
func (all checkers) status() any {
	rows := []sourceRow{}
	for _, set := range slices.Sorted(maps.Keys(all)) {
		rows = append(rows, sourceRows(set, all[set].Status())...)
	}
	return rows
}

// revocationAges says how old what is known of the revocations of a set is. Each record of
// the gateway asks, so it looks once a second.
type revocationAges struct {
	all checkers

	mu     sync.Mutex
	looked map[string]time.Time
	asOf   map[string]time.Time
}

// of returns the moment of the oldest list in use, or of the last answer of a responder if
// there is no list. It is zero if there is neither.
func (a *revocationAges) of(set string) time.Time {
	c := a.all[set]
	if c == nil {
		return time.Time{}
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.looked[set]) < time.Second {
		return a.asOf[set]
	}
	if a.looked == nil {
		a.looked, a.asOf = map[string]time.Time{}, map[string]time.Time{}
	}
	a.looked[set], a.asOf[set] = now, knownAsOf(c.Status())
	return a.asOf[set]
}

func knownAsOf(sources []revocation.SourceStatus) (asOf time.Time) {
	var answered time.Time
	for _, s := range sources {
		switch {
		case s.Kind == "ocsp":
			if s.Fetched.After(answered) {
				answered = s.Fetched
			}
		case s.State != "good" && s.State != "stale" || s.Delta:
		case asOf.IsZero() || s.ThisUpdate.Before(asOf):
			asOf = s.ThisUpdate
		}
	}
	if asOf.IsZero() {
		return answered
	}
	return asOf
}
