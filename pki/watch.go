package pki

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/certbound/certbound/decision"
)

// WatchConfig holds the settings of a [FileWatcher].
type WatchConfig struct {
	// Sets are the anchor sets that come from files. At least one.
	Sets []FileSet
	// Interval is how often the files are read. If zero, one second.
	Interval time.Duration
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
	// Logger is told of every new and every broken file. If nil, slog.Default.
	Logger *slog.Logger
}

// A FileWatcher keeps the anchor sets of a [Validator] as their files are. It compares
// contents, so that it does not matter how a file changes: in place, by renaming, by
// a symbolic link that leads elsewhere (as in Kubernetes), over a network.
//
// A broken file at start is an error. A file that breaks later changes nothing: the
// old set stays in use, an error is logged once for each state of the files, and
// [FileWatcher.Err] returns it until the files are good again. It is safe for
// concurrent use.
type FileWatcher struct {
	validator *Validator
	cfg       WatchConfig

	mu   sync.Mutex
	sets []*watched
}

type watched struct {
	files FileSet
	// The digests of the contents that are in use, that failed, and that were
	// seen at the last look and not before.
	used, failed, pending [sha256.Size]byte
	err                   error // why the files on disk are not in use
}

// NewFileWatcher loads all sets into v. If one has a fault, it loads none and reports
// every fault, as by [FileSet.Load]; the process should not start then.
func NewFileWatcher(v *Validator, cfg WatchConfig) (*FileWatcher, error) {
	cfg.Interval = cmp.Or(cfg.Interval, time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	var faults []error
	if len(cfg.Sets) == 0 {
		faults = append(faults, &Error{Reason: decision.NoAnchors, Expected: "at least one anchor set from files", Found: "none"})
	}
	if cfg.Interval < 0 {
		faults = append(faults, &Error{Reason: decision.BadSetting, Expected: "a positive Interval", Found: cfg.Interval.String()})
	}
	w := &FileWatcher{validator: v, cfg: cfg}
	names := make(map[string]bool)
	var sets []Set
	for _, files := range cfg.Sets {
		if names[files.Name] {
			faults = append(faults, &Error{Reason: decision.BadSetting, Set: files.Name,
				Expected: "each name once", Found: "two sets with this name"})
			continue
		}
		names[files.Name] = true
		contents := files.read()
		s, err := files.parse(contents, cfg.Now())
		if err != nil {
			faults = append(faults, err)
			continue
		}
		sets = append(sets, s)
		w.sets = append(w.sets, &watched{files: files, used: contents.digest()})
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for _, s := range sets {
		if err := v.Replace(s); err != nil {
			return nil, err
		}
		w.warn(s)
	}
	return w, nil
}

// Run looks at the files until ctx ends; then it returns nil. A change counts when two
// looks in a row have found the same, so a file that is being written is left alone:
// it takes effect within two intervals.
func (w *FileWatcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(w.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			w.look(true)
		}
	}
}

// Reload looks at the files now, for a signal or a command, and returns what Err
// returns.
func (w *FileWatcher) Reload() error {
	w.look(false)
	return w.Err()
}

// Err returns why the files of some sets are not in use, or nil if all are.
func (w *FileWatcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var faults []error
	for _, s := range w.sets {
		if s.err != nil {
			faults = append(faults, fmt.Errorf("pki: anchor set %q: the files on disk are not in use: %w", s.files.Name, s.err))
		}
	}
	return errors.Join(faults...)
}

func (w *FileWatcher) look(patient bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sets {
		contents := s.files.read()
		digest := contents.digest()
		fresh := digest != s.pending
		s.pending = digest
		switch {
		case digest == s.used:
			if s.err != nil {
				w.cfg.Logger.Info("trust anchor files are back as they were", "set", s.files.Name)
			}
			s.err, s.failed = nil, [sha256.Size]byte{}
			continue
		case digest == s.failed, patient && fresh:
			continue
		}
		set, err := s.files.parse(contents, w.cfg.Now())
		if err == nil {
			err = w.validator.Replace(set)
		}
		if err != nil {
			s.failed, s.err = digest, err
			w.cfg.Logger.Error("trust anchor files are broken; the old anchors stay in use",
				"set", s.files.Name, "error", err)
			continue
		}
		s.used, s.failed, s.err = digest, [sha256.Size]byte{}, nil
		w.warn(set)
	}
}

// warn names anchors that have expired beside others that have not.
func (w *FileWatcher) warn(s Set) {
	now := w.cfg.Now()
	for _, cert := range s.Anchors {
		if now.After(cert.NotAfter) {
			w.cfg.Logger.Warn("trust anchor has expired", "set", s.Name, "anchor", nameOf(cert), "notAfter", cert.NotAfter)
		}
	}
}
