package authserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pki/subject"
)

// certificateMemory bounds how many certificates a process remembers to have saved.
const certificateMemory = 100_000

// rememberCertificate saves what a later revocation needs to find the tokens that are
// bound to a certificate, before the first of them is issued. TokensUntil is rounded
// up to a whole day, so that a certificate causes one write a day and not one for
// each token.
func (s *Server) rememberCertificate(ctx context.Context, p *certsource.Presented, clientID string, now, expires time.Time) error {
	thumbprint := p.Thumbprint()
	s.certMu.Lock()
	until, ok := s.certs.get(thumbprint)
	s.certMu.Unlock()
	if ok && !until.Before(expires) {
		return nil
	}
	rec := CertificateRecord{Thumbprint: thumbprint, ClientID: clientID, FirstSeen: now}
	rec.TokensUntil = expires.Truncate(24 * time.Hour).Add(24 * time.Hour)
	identify(&rec, p)
	if leaf := p.Leaf(); leaf != nil {
		rec.Subject = clip(subject.Of(leaf), 1024)
		rec.NotAfter = leaf.NotAfter
	}
	renewed, err := s.renewal(ctx, rec)
	if err == nil {
		err = s.cfg.Store.SaveCertificate(ctx, rec)
	}
	if err != nil {
		return err
	}
	if renewed != nil {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "client now uses new certificate", slog.String("client_id", clientID),
			slog.String("x5t#S256", thumbprint), slog.Time("not_after", rec.NotAfter),
			slog.String("previous_x5t#S256", renewed.Thumbprint), slog.Time("previous_not_after", renewed.NotAfter))
		if s.cfg.OnRenewal != nil {
			s.cfg.OnRenewal(*renewed, rec)
		}
	}
	s.certMu.Lock()
	s.certs.put(thumbprint, rec.TokensUntil)
	s.certMu.Unlock()
	return nil
}

// renewal returns the certificate that a client was seen with last, if it comes with
// another that nobody has seen yet.
func (s *Server) renewal(ctx context.Context, rec CertificateRecord) (*CertificateRecord, error) {
	_, err := s.cfg.Store.Certificate(ctx, rec.Thumbprint)
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	last, err := s.cfg.Store.ClientCertificates(ctx, rec.ClientID, 1)
	if err != nil || len(last) == 0 {
		return nil, err
	}
	return &last[0], nil
}

// identify fills in what a revocation names a certificate by. Of a fingerprint it is not
// known.
func identify(rec *CertificateRecord, p *certsource.Presented) {
	leaf := p.Leaf()
	if leaf == nil {
		return
	}
	rec.Serial = boundedID(leaf.SerialNumber.Text(16))
	if len(leaf.AuthorityKeyId) > 0 {
		rec.IssuerKeyID = boundedID(hex.EncodeToString(leaf.AuthorityKeyId))
		return
	}
	// Of what the certificate itself says only: the rest of the chain is for the peer to
	// choose, and who is revoked would choose another.
	sum := sha256.Sum256(leaf.RawIssuer)
	rec.IssuerKeyID = hex.EncodeToString(sum[:])
}

// boundedID returns an identifier as a [CertificateRecord] holds it. RFC 5280 has 20 octets
// for a serial number; a client that needs no CA may write any number into its certificate.
func boundedID(id string) string {
	if len(id) <= maxRecordID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

const maxRecordID = 128
