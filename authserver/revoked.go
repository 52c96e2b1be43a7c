package authserver

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// A RevocationList knows which certificates their issuers have revoked. It finds the
// tokens of a certificate that never comes back; one that does come is judged by the
// [pki.RevocationChecker] of its anchor set. It must be safe for concurrent use.
type RevocationList interface {
	// KnownRevoked reports whether a list at hand has the certificate. It asks nobody.
	// Issuer and serial number are those of a [CertificateRecord].
	KnownRevoked(issuerKeyID, serial string) bool
	// Generation changes when an answer may have changed.
	Generation() uint64
}

// revokedCertificates follow the store, so that a token request reads nothing. Like the
// cache of clients they are used only while somebody follows.
type revokedCertificates struct {
	mu    sync.RWMutex
	until time.Time
	feed  string
	since int64
	// names are thumbprints and, with serials counting them, issuer/serial.
	names   map[string]time.Time // until when; zero is without an end
	serials int
}

// followRevoked reads what has changed since it was last called.
func (s *Server) followRevoked(ctx context.Context) error {
	started := time.Now()
	r := &s.revoked
	for {
		r.mu.RLock()
		since := r.since
		r.mu.RUnlock()
		page, err := s.cfg.Store.Revocations(ctx, since, maxChanges)
		if err != nil {
			return err
		}
		r.mu.Lock()
		if page.Feed != r.feed || page.Last < since {
			// Another store, or an older state of it: what is known is not of it.
			again := r.feed != ""
			r.feed, r.since, r.names, r.serials = page.Feed, 0, make(map[string]time.Time), 0
			if again {
				r.until = time.Time{}
				r.mu.Unlock()
				continue
			}
		}
		for _, e := range page.Entries {
			r.apply(e)
		}
		more := len(page.Entries) == maxChanges
		if !more {
			r.until = started.Add(staleAfter)
		}
		r.mu.Unlock()
		if !more {
			return nil
		}
	}
}

func (r *revokedCertificates) apply(e Revocation) {
	r.since = e.Number
	if e.JTI != "" {
		return
	}
	name := e.Certificate.Thumbprint
	if name == "" {
		name = serialName(e.Certificate.IssuerKeyID, e.Certificate.Serial)
	}
	_, had := r.names[name]
	if e.Restored {
		delete(r.names, name)
	} else {
		r.names[name] = e.Expires
	}
	if _, has := r.names[name]; had != has && strings.Contains(name, "/") {
		if has {
			r.serials++
		} else {
			r.serials--
		}
	}
}

// sweep forgets what has expired.
func (r *revokedCertificates) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, until := range r.names {
		if !until.IsZero() && until.Before(now) {
			delete(r.names, name)
			if strings.Contains(name, "/") {
				r.serials--
			}
		}
	}
}

// stop ends the use of what is known, since nobody follows any more.
func (r *revokedCertificates) stop() {
	r.mu.Lock()
	r.until = time.Time{}
	r.mu.Unlock()
}

// serialName has a slash, which is in no thumbprint.
func serialName(issuerKeyID, serial string) string { return issuerKeyID + "/" + serial }

// isRevoked reports whether the certificate of a request is revoked by name.
func (s *Server) isRevoked(ctx context.Context, p *certsource.Presented) (bool, error) {
	thumbprint := p.Thumbprint()
	if thumbprint == "" {
		return false, nil // names only: nothing to compare
	}
	r := &s.revoked
	r.mu.RLock()
	current := time.Now().Before(r.until)
	_, revoked := r.names[thumbprint]
	bySerial := r.serials > 0
	r.mu.RUnlock()
	if current && (revoked || !bySerial) {
		return revoked, nil
	}
	var rec CertificateRecord
	identify(&rec, p)
	if current {
		r.mu.RLock()
		defer r.mu.RUnlock()
		_, revoked = r.names[serialName(rec.IssuerKeyID, rec.Serial)]
		return revoked, nil
	}
	_, err := s.cfg.Store.CertificateRevoked(ctx, thumbprint, rec.IssuerKeyID, rec.Serial)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// checkRevoked refuses a certificate that is revoked by name, however genuine it is.
func (x *exchange) checkRevoked() error {
	revoked, err := x.s.isRevoked(x.ctx(), x.presented)
	if err != nil {
		return &unavailableError{decision.CheckRevocation, err}
	}
	if revoked {
		return x.failed(revokedCheck(x.presented), nil)
	}
	return nil
}

func revokedCheck(p *certsource.Presented) decision.Check {
	return decision.Check{Name: decision.CheckRevocation, Rule: "RFC 8705, Section 7.4", Reason: decision.Revoked,
		Found: p.Thumbprint() + " is on this server's list",
		Fix:   "issue a new certificate; 'certbound trust revoked list' shows who revoked this one, and 'trust revoke --undo' restores it"}
}

// noteRevoked remembers that a certificate was found revoked by its issuer, if tokens may
// be bound to it: they end with it.
func (s *Server) noteRevoked(ctx context.Context, thumbprint, how string) {
	rec, err := s.cfg.Store.Certificate(ctx, thumbprint)
	if errors.Is(err, ErrNotFound) {
		return // no token is bound to it
	}
	if err == nil {
		_, err = s.cfg.Store.CertificateRevoked(ctx, thumbprint, "", "")
		if err == nil {
			return
		}
		if errors.Is(err, ErrNotFound) {
			err = s.cfg.Store.RevokeCertificate(ctx, RevokedCertificate{
				Thumbprint: thumbprint, IssuerKeyID: rec.IssuerKeyID, Serial: rec.Serial, Note: how, At: s.cfg.Now(),
				Expires: s.revokedUntil(rec),
			})
		}
	}
	if err != nil {
		// It is refused all the same, and the next time is another chance.
		s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "a revoked certificate cannot be recorded; its tokens stay valid",
			slog.String("x5t#S256", thumbprint), slog.Any("cause", err))
		return
	}
	s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "certificate revoked, and the tokens that are bound to it", slog.String("x5t#S256", thumbprint),
		slog.String("client_id", rec.ClientID), slog.String("subject", rec.Subject), slog.String("how", how))
}

// revokedUntil says when a record can be forgotten: the certificate has expired by then,
// and so has every token.
func (s *Server) revokedUntil(rec *CertificateRecord) time.Time {
	if rec.NotAfter.IsZero() { // a fingerprint: who knows
		return time.Time{}
	}
	until := rec.NotAfter.Add(s.cfg.MaxTokenLifetime)
	if rec.TokensUntil.After(until) {
		until = rec.TokensUntil
	}
	return until.Add(24 * time.Hour)
}

// searchRevoked looks, when the lists of issuers have changed, for certificates that
// tokens are bound to.
func (s *Server) searchRevoked(ctx context.Context, list RevocationList) error {
	for after := ""; ; {
		page, err := s.cfg.Store.Certificates(ctx, after, maxChanges)
		if err != nil {
			return err
		}
		for _, rec := range page {
			if rec.Serial != "" && list.KnownRevoked(rec.IssuerKeyID, rec.Serial) {
				s.noteRevoked(ctx, rec.Thumbprint, "its issuer has revoked it")
			}
			after = rec.Thumbprint
		}
		if len(page) < maxChanges {
			return nil
		}
	}
}

// RecordIDs returns issuer key id and serial number of a certificate as a
// [CertificateRecord] has them.
func RecordIDs(p *certsource.Presented) (issuerKeyID, serial string) {
	var rec CertificateRecord
	identify(&rec, p)
	return rec.IssuerKeyID, rec.Serial
}
