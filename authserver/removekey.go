package authserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// RemoveKey deletes a signing key at once, such as one that has leaked: every token that it
// has signed is worthless from then on, here when the running servers have read their keys
// again, and at resource servers when they have fetched the key set again. If it was the
// key that signs, a new one is made that signs at once, and its key id is returned. A key
// that is not there is [ErrNotFound].
func (s *Server) RemoveKey(ctx context.Context, kid string) (made string, err error) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	ks, err := s.loadKeys(ctx)
	if err != nil {
		return "", err
	}
	stored, err := s.cfg.Store.SigningKeys(ctx)
	if err != nil {
		return "", fmt.Errorf("authserver: signing keys: %w", err)
	}
	if !slices.ContainsFunc(stored, func(k SigningKey) bool { return k.KID == kid }) {
		return "", fmt.Errorf("authserver: signing key %q: %w", kid, ErrNotFound)
	}
	active := ks.pick(s.cfg.SigningAlg, s.cfg.Now())
	// First the removal: whatever fails after it, the thief has nothing any more, and a
	// server without a key makes itself one.
	if err := s.cfg.Store.DeleteSigningKey(ctx, kid); err != nil {
		return "", fmt.Errorf("authserver: delete signing key: %w", err)
	}
	s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "signing key removed, and with it every token that it has signed", slog.String("kid", kid))
	for range 4 {
		if ks, err = s.loadKeys(ctx); err != nil {
			return "", err
		}
		s.keys.Store(ks)
		if active == nil || active.KID != kid {
			return "", nil
		}
		now := s.cfg.Now()
		// Not an older key that is published still: it was replaced when its time was over.
		k, err := s.makeKey(now, now.Add(-keyMargin))
		if err != nil {
			return "", err
		}
		switch err := s.cfg.Store.AddSigningKey(ctx, k, ks.newest); {
		case errors.Is(err, ErrConflict): // another process was faster
			continue
		case err != nil:
			return "", fmt.Errorf("authserver: add signing key: %w", err)
		}
		if ks, err = s.loadKeys(ctx); err != nil {
			return "", err
		}
		s.keys.Store(ks)
		return k.KID, nil
	}
	return "", fmt.Errorf("authserver: add signing key: %w", ErrConflict)
}
