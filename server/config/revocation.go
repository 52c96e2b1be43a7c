package config

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/revocation"
)

// revocation returns the settings of the checker of a set.
func (f *File) revocation(s AnchorSet) revocation.Config {
	r := s.Revocation
	failure := map[string]revocation.Failure{"accept": revocation.FailOpen}
	cfg := revocation.Config{
		Set: s.Name, Mode: revocation.Mode(r.Mode),
		ListsFromCertificates: r.CRLFromCertificates,
		Responders:            r.OCSP, RespondersFromCertificates: r.OCSPFromCertificates,
		Nonce: revocation.Nonce(r.OCSPNonce), UseGET: r.OCSPGet, MaxAge: time.Duration(r.OCSPMaxAge),
		OnUnknown: failure[r.OnUnknown], OnStale: failure[r.OnStale], OnUnreachable: failure[r.OnUnreachable],
		MaxStale: time.Duration(r.MaxStale), InsecureLeafOnly: r.InsecureLeafOnly,
		MaxBytes: int64(r.MaxBytes), Wait: time.Duration(r.Wait), Refresh: time.Duration(r.Refresh), Retry: time.Duration(r.Retry),
		AllowHosts: r.AllowHosts,
	}
	fetched := r.CRLFromCertificates
	for _, name := range r.CRL {
		if strings.Contains(name, "://") {
			fetched = true
		} else if name != "" {
			name = f.Path(Path(name))
		}
		cfg.Lists = append(cfg.Lists, name)
	}
	if fetched {
		cfg.Folder = f.Path(f.Trust.RevocationFolder)
	}
	return cfg
}

// unchecked stands where a program has forgotten to put a checker in: then nobody passes,
// rather than everybody.
type unchecked struct{ set string }

func (u unchecked) CheckRevocation(context.Context, []*x509.Certificate) (time.Time, error) {
	return time.Time{}, &pki.Error{Reason: decision.RevocationUnknown, Set: u.set,
		Expected: "the revocation checker of the configuration", Found: "none in this program"}
}

func (unchecked) Generation() uint64 { return 0 }

// Checkers returns the revocation checkers by the name of their anchor set. A set with
// mode off has none. Whoever uses [File.FileSets] puts them in; otherwise such a set
// refuses everybody. It reads lists; fetching is for their Run. wrap, if there is one, is
// put around what fetches (see [revocation.Config].Wrap).
func (f *File) Checkers(logger *slog.Logger, wrap func(http.RoundTripper) http.RoundTripper) (map[string]*revocation.Checker, error) {
	return f.checkers(func(cfg *revocation.Config) bool {
		cfg.Logger, cfg.Wrap = logger, wrap
		return true
	})
}

// checkers makes the checker of each set whose settings change accepts; the others have
// nil.
func (f *File) checkers(change func(*revocation.Config) bool) (map[string]*revocation.Checker, error) {
	out := make(map[string]*revocation.Checker)
	for i, s := range f.Trust.Sets {
		if s.Revocation.Mode == string(revocation.Off) {
			continue
		}
		key := fmt.Sprintf("trust.sets[%d].revocation", i)
		cfg := f.revocation(s)
		roots, err := f.pool(key+".root_cas", s.Revocation.RootCAs)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = roots
		if !change(&cfg) {
			out[s.Name] = nil
			continue
		}
		files := f.fileSet(s)
		cfg.Issuers = func() []*x509.Certificate {
			set, err := files.Load(time.Now())
			if err != nil {
				return nil // pki says so; the lists in use are verified already
			}
			return append(set.Anchors, set.Helpers...)
		}
		if out[s.Name], err = revocation.New(cfg); err != nil {
			return nil, fmt.Errorf("config: %s: %w", key, err)
		}
	}
	return out, nil
}

// ListsAtHand returns checkers that know the lists in files, and those that a server has
// fetched and kept, and ask nobody. They refuse what no such list says anything of, whatever
// the settings are. A set that has revocation checks and no lists has nil.
func (f *File) ListsAtHand(logger *slog.Logger) (map[string]*revocation.Checker, error) {
	return f.checkers(func(cfg *revocation.Config) bool {
		if len(cfg.Lists) == 0 && !cfg.ListsFromCertificates {
			return false
		}
		cfg.Mode, cfg.Responders, cfg.RespondersFromCertificates = revocation.CRL, nil, false
		cfg.OnUnknown, cfg.OnStale, cfg.OnUnreachable = revocation.FailClosed, revocation.FailClosed, revocation.FailClosed
		cfg.Logger = logger
		cfg.Wrap = func(http.RoundTripper) http.RoundTripper { return nobody{} }
		if _, err := os.Stat(cfg.Folder); err != nil {
			cfg.Folder = "" // it is for a server to make it
		}
		return true
	})
}

// ListsAtHand is [File.ListsAtHand] for a gateway.
func (f *GatewayFile) ListsAtHand(logger *slog.Logger) (map[string]*revocation.Checker, error) {
	return f.server().ListsAtHand(logger)
}

// nobody can be asked over it.
type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("config: nothing is fetched here")
}

// Checkers is [File.Checkers] for a gateway.
func (f *GatewayFile) Checkers(logger *slog.Logger, wrap func(http.RoundTripper) http.RoundTripper) (map[string]*revocation.Checker, error) {
	return f.server().Checkers(logger, wrap)
}

// revocationRules asks the room itself what is wrong.
func (c *checker) revocationRules() {
	keys := map[string]string{"Mode": "mode", "Lists": "crl", "Responders": "ocsp", "Nonce": "ocsp_nonce", "MaxBytes and MaxSources": "max_bytes"}
	for i, s := range c.file.Trust.Sets {
		for _, err := range unjoin(c.file.revocation(s).Validate()) {
			e, ok := errors.AsType[*revocation.SettingError](err)
			if !ok {
				continue
			}
			key := fmt.Sprintf("trust.sets[%d].revocation", i)
			if name := keys[e.Setting]; name != "" {
				key += "." + name
			}
			expected := strings.NewReplacer("ListsFromCertificates", "crl_from_certificates",
				"RespondersFromCertificates", "ocsp_from_certificates").Replace(e.Expected)
			c.fault(key, "", "expected %s, found %s", expected, e.Found)
		}
	}
}
