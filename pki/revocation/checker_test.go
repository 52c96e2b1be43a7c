package revocation_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/revocation"
	"github.com/certbound/certbound/pkitest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A world is a CA with its revocations on a server, and a leaf.
type world struct {
	ca    *pkitest.CA
	leaf  *pkitest.Leaf
	other *pkitest.Leaf // of the same CA
	*pkitest.Revocations
	crl, ocsp string // URLs
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{ca: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA1,O=Example"})}
	w.Revocations = pkitest.NewRevocations(w.ca)
	mux := http.NewServeMux()
	mux.Handle("/crl", w.CRLHandler())
	mux.Handle("/ocsp", w.OCSPHandler(pkitest.OCSPOptions{}))
	mux.Handle("/ocsp/", w.OCSPHandler(pkitest.OCSPOptions{}))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	w.crl, w.ocsp = s.URL+"/crl", s.URL+"/ocsp"
	w.leaf, w.other = w.ca.MustLeaf(pkitest.LeafOptions{}), w.ca.MustLeaf(pkitest.LeafOptions{})
	return w
}

// path is that of a leaf that the root signs directly, on which others failed
// (keycloak/keycloak#19853).
func (w *world) path() []*x509.Certificate { return pathOf(w.leaf) }

func pathOf(l *pkitest.Leaf) []*x509.Certificate {
	path := []*x509.Certificate{l.Cert}
	for ca := l.Issuer; ca != nil; ca = ca.Parent {
		path = append(path, ca.Cert)
	}
	return path
}

func newChecker(t testing.TB, cfg revocation.Config) *revocation.Checker {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	if cfg.Wait == 0 {
		cfg.Wait = 20 * time.Second
	}
	c, err := revocation.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// check returns the reason of a refusal, or "" for a certificate that is accepted.
func check(t testing.TB, c *revocation.Checker, path []*x509.Certificate) decision.Reason {
	t.Helper()
	_, err := c.CheckRevocation(t.Context(), path)
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*pki.Error](err)
	if !ok {
		t.Fatalf("undeclared error %T: %v", err, err)
	}
	t.Log(e)
	return e.Reason
}

func want(t testing.TB, c *revocation.Checker, path []*x509.Certificate, reason decision.Reason) {
	t.Helper()
	if got := check(t, c, path); got != reason {
		t.Errorf("reason %q, want %q", got, reason)
	}
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func TestNewReportsEveryFault(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    revocation.Config
		faults int
	}{
		{"nothing", revocation.Config{}, 1},
		{"off", revocation.Config{Mode: revocation.Off}, 0},
		{"off, with lists", revocation.Config{Mode: revocation.Off, Lists: []string{"a.crl"}}, 1},
		{"no source", revocation.Config{Mode: revocation.CRL}, 1},
		{"no sources", revocation.Config{Mode: revocation.OCSPThenCRL}, 2},
		{"from certificates", revocation.Config{Mode: revocation.OCSPThenCRL, ListsFromCertificates: true, RespondersFromCertificates: true}, 0},
		{"a list that is missing", revocation.Config{Mode: revocation.CRL, Lists: []string{filepath.Join(t.TempDir(), "none")}}, 0},
		{"bad URLs", revocation.Config{Mode: revocation.OCSPThenCRL, Lists: []string{"ldap://a/b", "http://u:p@a/", ""}, Responders: []string{"ftp://x"}}, 4},
		{"numbers", revocation.Config{Mode: revocation.Off, Wait: -1, MaxBytes: -1, OnStale: 7, Nonce: "maybe"}, 4},
		{"a folder that is a file", revocation.Config{Mode: revocation.Off, Folder: "list_test.go"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Logger = quiet
			c, err := revocation.New(tt.cfg)
			if tt.faults == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			joined, ok := err.(interface{ Unwrap() []error })
			if c != nil || !ok || len(joined.Unwrap()) != tt.faults {
				t.Fatalf("%v, %v; want %d faults", c, err, tt.faults)
			}
			for _, err := range joined.Unwrap() {
				if _, ok := errors.AsType[*revocation.SettingError](err); !ok {
					t.Errorf("undeclared error %T", err)
				}
			}
		})
	}
}

// Whether revocation is checked is the server's decision; when it is, it counts.
func TestModes(t *testing.T) {
	t.Attr("requirement", "M-2.1-6")
	for _, mode := range []revocation.Mode{revocation.Off, revocation.CRL, revocation.OCSP, revocation.OCSPThenCRL} {
		for _, failure := range []revocation.Failure{revocation.FailClosed, revocation.FailOpen} {
			t.Run(fmt.Sprint(mode, " ", failure), func(t *testing.T) {
				w := newWorld(t)
				w.Revoke(w.leaf.Cert, 1)
				cfg := revocation.Config{Set: "clients", Mode: mode, OnUnreachable: failure, OnUnknown: failure, OnStale: failure, Logger: quiet}
				if mode == revocation.CRL || mode == revocation.OCSPThenCRL {
					cfg.Lists = []string{w.crl}
				}
				if mode == revocation.OCSP || mode == revocation.OCSPThenCRL {
					cfg.Responders = []string{w.ocsp}
				}
				judge := func(l *pkitest.Leaf) decision.Reason {
					v, err := pki.NewValidator(pki.Config{Logger: quiet, Sets: []pki.Set{{Name: "clients",
						Anchors: []*x509.Certificate{w.ca.Cert}, Revocation: newChecker(t, cfg)}}})
					if err != nil {
						t.Fatal(err)
					}
					_, err = v.Verify(t.Context(), "clients", pki.Chain{Leaf: l.Cert})
					if e, ok := errors.AsType[*pki.Error](err); ok {
						return e.Reason
					}
					return ""
				}
				expect := func(when string, l *pkitest.Leaf, reason decision.Reason) {
					if got := judge(l); got != reason {
						t.Errorf("%s: reason %q, want %q", when, got, reason)
					}
				}
				revoked, unavailable := decision.Revoked, decision.RevocationUnknown
				if mode == revocation.Off {
					revoked = ""
				}
				if failure == revocation.FailOpen || mode == revocation.Off {
					unavailable = ""
				}
				expect("good", w.other, "")
				expect("revoked", w.leaf, revoked)
				w.Fail(pkitest.Down)
				expect("unavailable", w.other, unavailable)
			})
		}
	}
}

// Each fault of a CRL server: what a checker makes of it that has no list yet, and one
// that has a valid list. No request hangs, nothing is wrongly accepted, and nobody is
// refused under fail open.
func TestCRLFaults(t *testing.T) {
	t.Attr("requirement", "C-6.3-1")
	for _, tt := range []struct {
		fault     pkitest.Fault
		unusable  bool // by OnUnreachable; otherwise by OnStale
		wantState string
	}{
		{pkitest.Down, true, "missing"}, {pkitest.Slow, true, "missing"}, {pkitest.Truncated, true, "missing"},
		{pkitest.Huge, true, "missing"}, {pkitest.Garbage, true, "missing"}, {pkitest.FromFuture, true, "missing"},
		{pkitest.WrongSigner, true, "unverified"}, {pkitest.Corrupt, true, "unverified"}, {pkitest.Stale, false, "stale"},
	} {
		t.Run(tt.fault.String(), func(t *testing.T) {
			w := newWorld(t)
			w.Revoke(w.other.Cert, 1)
			cfg := revocation.Config{Mode: revocation.CRL, Lists: []string{w.crl}, MaxBytes: 1 << 20}
			if tt.fault == pkitest.Slow {
				cfg.Wait = 50 * time.Millisecond
			}
			before := newChecker(t, cfg)
			want(t, before, w.path(), "")
			w.Fail(tt.fault)

			closed := newChecker(t, cfg)
			want(t, closed, w.path(), decision.RevocationUnknown)
			if tt.fault != pkitest.Slow {
				requests := w.Requests()
				want(t, closed, w.path(), decision.RevocationUnknown)
				if w.Requests() != requests {
					t.Error("asked again at once after a failure")
				}
				if s := closed.Status(); len(s) != 1 || s[0].State != tt.wantState || tt.unusable && s[0].Err == nil {
					t.Errorf("status %+v", s)
				}
			}
			cfg.OnUnreachable, cfg.OnStale = revocation.FailOpen, revocation.FailClosed
			if !tt.unusable {
				cfg.OnUnreachable, cfg.OnStale = revocation.FailClosed, revocation.FailOpen
			}
			want(t, newChecker(t, cfg), w.path(), "")
			// The other switches do not open this one.
			cfg.OnUnreachable, cfg.OnStale, cfg.OnUnknown = cfg.OnStale, cfg.OnUnreachable, revocation.FailOpen
			want(t, newChecker(t, cfg), w.path(), decision.RevocationUnknown)

			// A valid list stays in use, whatever comes after it.
			want(t, before, w.path(), "")
			want(t, before, pathOf(w.other), decision.Revoked)
			if tt.fault == pkitest.Slow {
				return
			}
			ctx, cancel := context.WithCancel(t.Context())
			attempts := w.Requests()
			done := make(chan error)
			cfg.Refresh, cfg.Retry, cfg.Poll = time.Millisecond, time.Millisecond, time.Millisecond
			cfg.OnUnreachable, cfg.OnStale, cfg.OnUnknown = 0, 0, 0
			w.Fail(pkitest.NoFault)
			running := newChecker(t, cfg)
			want(t, running, w.path(), "")
			w.Fail(tt.fault)
			go func() { done <- running.Run(ctx) }()
			for w.Requests() < attempts+5 {
				time.Sleep(time.Millisecond)
			}
			cancel()
			<-done
			want(t, running, w.path(), "")
			want(t, running, pathOf(w.other), decision.Revoked)
		})
	}
	t.Run("revoked, in a stale list", func(t *testing.T) {
		w := newWorld(t)
		w.Revoke(w.leaf.Cert, 1)
		w.Fail(pkitest.Stale)
		c := newChecker(t, revocation.Config{Mode: revocation.CRL, Lists: []string{w.crl}, OnStale: revocation.FailOpen})
		want(t, c, w.path(), decision.Revoked)
		want(t, c, pathOf(w.other), "")
	})
	t.Run("staler than allowed", func(t *testing.T) {
		w := newWorld(t)
		w.Fail(pkitest.Stale)
		cfg := revocation.Config{Mode: revocation.CRL, Lists: []string{w.crl}, OnStale: revocation.FailOpen, MaxStale: 48 * time.Hour}
		want(t, newChecker(t, cfg), w.path(), "")
		cfg.MaxStale = time.Hour
		want(t, newChecker(t, cfg), w.path(), decision.RevocationUnknown)
	})
	t.Run("a list of another CA", func(t *testing.T) {
		w, other := newWorld(t), newWorld(t)
		other.ca = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA2"})
		file := filepath.Join(t.TempDir(), "other.crl")
		write(t, file, other.ca.MustCRL())
		cfg := revocation.Config{Mode: revocation.CRL, Lists: []string{file}, Issuers: func() []*x509.Certificate {
			return []*x509.Certificate{other.ca.Cert}
		}}
		want(t, newChecker(t, cfg), w.path(), decision.RevocationUnknown)
		cfg.OnUnknown = revocation.FailOpen
		want(t, newChecker(t, cfg), w.path(), "")
	})
}

// Each fault of an OCSP responder.
func TestOCSPFaults(t *testing.T) {
	const unknown, stale, unreachable = "unknown", "stale", "unreachable"
	for _, tt := range []struct {
		fault pkitest.Fault
		kind  string
		nonce revocation.Nonce
	}{
		{pkitest.Down, unreachable, ""}, {pkitest.Slow, unreachable, ""}, {pkitest.Truncated, unreachable, ""},
		{pkitest.Huge, unreachable, ""}, {pkitest.Garbage, unreachable, ""}, {pkitest.FromFuture, unreachable, ""},
		{pkitest.WrongSigner, unreachable, ""}, {pkitest.Corrupt, unreachable, ""}, {pkitest.Unsigned, unreachable, ""},
		{pkitest.WrongSerial, unreachable, ""}, {pkitest.WrongIssuer, unreachable, ""}, {pkitest.TryLater, unreachable, ""},
		{pkitest.WrongNonce, unreachable, revocation.NonceSend}, {pkitest.NoNonce, unreachable, revocation.NonceRequire},
		{pkitest.Stale, stale, ""}, {pkitest.SaysUnknown, unknown, ""}, {pkitest.Unauthorized, unknown, ""},
	} {
		t.Run(tt.fault.String(), func(t *testing.T) {
			w := newWorld(t)
			cfg := revocation.Config{Mode: revocation.OCSP, Responders: []string{w.ocsp}, Nonce: tt.nonce}
			if tt.fault == pkitest.Slow {
				cfg.Wait = 50 * time.Millisecond
			}
			want(t, newChecker(t, cfg), w.path(), "")
			w.Fail(tt.fault)
			want(t, newChecker(t, cfg), w.path(), decision.RevocationUnknown)
			for _, kind := range []string{unknown, stale, unreachable} {
				cfg.OnUnknown, cfg.OnStale, cfg.OnUnreachable = 0, 0, 0
				switch kind {
				case unknown:
					cfg.OnUnknown = revocation.FailOpen
				case stale:
					cfg.OnStale = revocation.FailOpen
				case unreachable:
					cfg.OnUnreachable = revocation.FailOpen
				}
				reason := decision.RevocationUnknown
				if kind == tt.kind {
					reason = ""
				}
				want(t, newChecker(t, cfg), w.path(), reason)
			}
		})
	}
	t.Run("a responder that ignores the nonce is fine if none is required", func(t *testing.T) {
		w := newWorld(t)
		w.Fail(pkitest.NoNonce)
		want(t, newChecker(t, revocation.Config{Mode: revocation.OCSP, Responders: []string{w.ocsp}, Nonce: revocation.NonceSend}), w.path(), "")
	})
	t.Run("the second responder answers", func(t *testing.T) {
		w, down := newWorld(t), newWorld(t)
		down.Fail(pkitest.Down)
		w.Revoke(w.other.Cert, 4)
		c := newChecker(t, revocation.Config{Mode: revocation.OCSP, Responders: []string{down.ocsp, w.ocsp}})
		want(t, c, w.path(), "")
		want(t, c, pathOf(w.other), decision.Revoked)
		if down.Requests() != 1 {
			t.Errorf("%d requests to the responder that is down", down.Requests())
		}
	})
	t.Run("OCSP then CRL", func(t *testing.T) {
		w := newWorld(t)
		w.Revoke(w.other.Cert, 1)
		for _, fault := range []pkitest.Fault{pkitest.TryLater, pkitest.Unauthorized, pkitest.SaysUnknown, pkitest.Unsigned} {
			w.Fail(fault)
			c := newChecker(t, revocation.Config{Mode: revocation.OCSPThenCRL, Responders: []string{w.ocsp}, Lists: []string{w.crl}})
			want(t, c, w.path(), "")
			want(t, c, pathOf(w.other), decision.Revoked)
		}
	})
	t.Run("OCSP then CRL accepts only what both policies accept", func(t *testing.T) {
		w := newWorld(t)
		empty := filepath.Join(t.TempDir(), "none.crl")
		w.Fail(pkitest.SaysUnknown)
		cfg := revocation.Config{Mode: revocation.OCSPThenCRL, Responders: []string{w.ocsp}, Lists: []string{empty}, OnUnreachable: revocation.FailOpen}
		want(t, newChecker(t, cfg), w.path(), decision.RevocationUnknown)
		cfg.OnUnknown = revocation.FailOpen
		want(t, newChecker(t, cfg), w.path(), "")
	})
}

// A delegated responder counts only if the CA itself has certified it for OCSP.
func TestDelegatedResponder(t *testing.T) {
	w := newWorld(t)
	stranger := pkitest.MustCA(pkitest.CAOptions{RawSubject: w.ca.Cert.RawSubject})
	below := w.ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=Below"})
	for _, tt := range []struct {
		name   string
		signer *pkitest.Leaf
		ok     bool
	}{
		{"certified", w.ca.MustOCSPSigner(nil), true},
		{"Ed25519", w.ca.MustOCSPSigner(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.Ed25519 }), true},
		{"RSA", w.ca.MustOCSPSigner(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.RSA2048 }), true},
		{"without the extended key usage", w.ca.MustOCSPSigner(func(o *pkitest.LeafOptions) { o.ExtKeyUsage = nil }), false},
		{"any extended key usage", w.ca.MustOCSPSigner(func(o *pkitest.LeafOptions) { o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), false},
		{"a client of the CA", w.other, false},
		{"expired", w.ca.MustOCSPSigner(func(o *pkitest.LeafOptions) {
			o.NotBefore, o.NotAfter = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
		}), false},
		{"of another CA with the same name", stranger.MustOCSPSigner(nil), false},
		{"of a CA below", below.MustOCSPSigner(nil), false},
		{"self-signed", pkitest.MustSelfSigned(pkitest.LeafOptions{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}), false},
		{"without nocheck", w.ca.MustOCSPSigner(func(o *pkitest.LeafOptions) { o.Extra = nil }), false},
	} {
		for _, byKey := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " ", byKey), func(t *testing.T) {
				s := httptest.NewServer(w.OCSPHandler(pkitest.OCSPOptions{Signer: tt.signer, ByKey: byKey}))
				t.Cleanup(s.Close)
				reason := decision.RevocationUnknown
				if tt.ok {
					reason = ""
				}
				for _, get := range []bool{false, true} {
					want(t, newChecker(t, revocation.Config{Mode: revocation.OCSP, Responders: []string{s.URL}, UseGET: get}), w.path(), reason)
				}
			})
		}
	}
	t.Run("without nocheck, but a CRL says that it is valid", func(t *testing.T) {
		w := newWorld(t)
		signer := w.ca.MustOCSPSigner(func(o *pkitest.LeafOptions) { o.Extra = nil })
		s := httptest.NewServer(w.OCSPHandler(pkitest.OCSPOptions{Signer: signer}))
		t.Cleanup(s.Close)
		file := filepath.Join(t.TempDir(), "ca.crl")
		write(t, file, w.ca.MustCRL())
		cfg := revocation.Config{Mode: revocation.OCSPThenCRL, Responders: []string{s.URL}, Lists: []string{file},
			Issuers: func() []*x509.Certificate { return []*x509.Certificate{w.ca.Cert} }}
		c := newChecker(t, cfg)
		want(t, c, w.path(), "")
		if st := c.Status()[1]; st.Kind != "ocsp" || st.State != "good" {
			t.Errorf("the responder was not believed: %+v", st)
		}
		write(t, file, w.ca.MustCRL(signer.Cert.SerialNumber))
		c = newChecker(t, cfg)
		want(t, c, w.path(), "") // by the list
		if st := c.Status()[1]; st.State != "failing" {
			t.Errorf("a revoked responder was believed: %+v", st)
		}
	})
}

// An answer is used until its nextUpdate or MaxAge; once revoked, revoked.
func TestOCSPAnswersAreKept(t *testing.T) {
	w := newWorld(t)
	clock := now
	c := newChecker(t, revocation.Config{Mode: revocation.OCSP, Responders: []string{w.ocsp}, MaxAge: 10 * time.Minute, Now: func() time.Time { return clock }})
	until, err := c.CheckRevocation(t.Context(), w.path())
	if err != nil || until.After(clock.Add(10*time.Minute)) || until.Before(clock.Add(9*time.Minute)) {
		t.Fatalf("until %v, %v", until, err)
	}
	want(t, c, w.path(), "")
	if w.Requests() != 1 {
		t.Errorf("%d requests", w.Requests())
	}
	w.Revoke(w.leaf.Cert, 1)
	clock = clock.Add(11 * time.Minute)
	want(t, c, w.path(), decision.Revoked)
	w.Fail(pkitest.Down)
	clock = clock.Add(24 * time.Hour)
	want(t, c, w.path(), decision.Revoked)
}

// Of many who need the same list or answer, one asks, and nobody waits longer than Wait.
func TestFirstNeedIsShared(t *testing.T) {
	for name, mode := range map[string]revocation.Mode{"CRL": revocation.CRL, "OCSP": revocation.OCSP} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := revocation.Config{Mode: mode, Lists: []string{w.crl}}
			if mode == revocation.OCSP {
				cfg.Lists, cfg.Responders = nil, []string{w.ocsp}
			}
			c := newChecker(t, cfg)
			var wait sync.WaitGroup
			var refused atomic.Int32
			for range 100 {
				wait.Go(func() {
					if _, err := c.CheckRevocation(t.Context(), w.path()); err != nil {
						refused.Add(1)
					}
				})
			}
			wait.Wait()
			if refused.Load() != 0 || w.Requests() != 1 {
				t.Errorf("%d refused, %d requests", refused.Load(), w.Requests())
			}
		})
	}
}

func TestDeltaLists(t *testing.T) {
	w := newWorld(t)
	base := func(o pkitest.CRLOptions) []byte { return w.ca.MustCRLWith(o) }
	leaf, other := w.leaf.Cert.SerialNumber, w.other.Cert.SerialNumber
	n := func(i int64) *big.Int { return big.NewInt(i) }
	past := pkitest.CRLOptions{Number: n(11), Base: n(10), ThisUpdate: now.Add(-48 * time.Hour), NextUpdate: now.Add(-24 * time.Hour)}
	with := func(o pkitest.CRLOptions, reason int, serials ...*big.Int) pkitest.CRLOptions {
		o.Serials, o.ReasonCode = serials, reason
		return o
	}
	complete := pkitest.CRLOptions{Number: n(10)}
	delta := pkitest.CRLOptions{Number: n(11), Base: n(10)}
	for _, tt := range []struct {
		name  string
		lists [][]byte
		want  decision.Reason // for the leaf
	}{
		{"nothing in either", [][]byte{base(complete), base(delta)}, ""},
		{"revoked in the base", [][]byte{base(with(complete, 1, leaf)), base(delta)}, decision.Revoked},
		{"revoked in the delta", [][]byte{base(complete), base(with(delta, 1, leaf))}, decision.Revoked},
		{"taken off the list", [][]byte{base(with(complete, 6, leaf)), base(with(delta, 8, leaf))}, ""},
		{"another one taken off", [][]byte{base(with(complete, 6, leaf, other)), base(with(delta, 8, other))}, decision.Revoked},
		{"taken off by a stale delta", [][]byte{base(with(complete, 6, leaf)), base(with(past, 8, leaf))}, decision.Revoked},
		{"stale delta", [][]byte{base(complete), base(past)}, decision.RevocationUnknown},
		{"revoked in a stale delta", [][]byte{base(complete), base(with(past, 1, leaf))}, decision.Revoked},
		{"without a base", [][]byte{base(delta)}, decision.RevocationUnknown},
		{"without a base, revoked", [][]byte{base(with(delta, 1, leaf))}, decision.Revoked},
		{"for a newer base", [][]byte{base(complete), base(pkitest.CRLOptions{Number: n(13), Base: n(12)})}, decision.RevocationUnknown},
		{"older than the complete list", [][]byte{base(pkitest.CRLOptions{Number: n(12)}), base(with(delta, 1, leaf))}, ""},
		{"the newest that fits", [][]byte{base(complete), base(delta), base(with(pkitest.CRLOptions{Number: n(12), Base: n(10)}, 1, leaf))}, decision.Revoked},
		{"of another scope", [][]byte{base(complete), base(pkitest.CRLOptions{Number: n(11), Base: n(10), Serials: []*big.Int{leaf}, CAOnly: true})}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, der := range tt.lists {
				write(t, filepath.Join(dir, fmt.Sprint(i, ".crl")), der)
			}
			c := newChecker(t, revocation.Config{Mode: revocation.CRL, Lists: []string{dir}})
			want(t, c, w.path(), tt.want)
		})
	}
}

func TestPartitionedLists(t *testing.T) {
	ca := pkitest.MustCA(pkitest.CAOptions{})
	in := func(uris ...string) *pkitest.Leaf {
		return ca.MustLeaf(pkitest.LeafOptions{Template: func(c *x509.Certificate) { c.CRLDistributionPoints = uris }})
	}
	const one, two = "http://crl.example/1", "http://crl.example/2"
	first, second, none := in(one), in(two), in()
	sub := ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=Sub"})
	below := sub.MustLeaf(pkitest.LeafOptions{})
	of := func(uri string, leaf *pkitest.Leaf) []byte {
		return ca.MustCRLWith(pkitest.CRLOptions{DistributionPoints: []string{uri}, Serials: []*big.Int{leaf.Cert.SerialNumber}})
	}
	unknown := decision.RevocationUnknown
	for _, tt := range []struct {
		name  string
		lists [][]byte
		leaf  *pkitest.Leaf
		want  decision.Reason
	}{
		{"its own, revoked", [][]byte{of(one, first), of(two, second)}, first, decision.Revoked},
		{"its own, good", [][]byte{of(one, none), of(two, none)}, second, ""},
		{"only the other one", [][]byte{of(two, second)}, first, unknown},
		{"a certificate without distribution point", [][]byte{of(one, none)}, none, unknown},
		{"users only", [][]byte{ca.MustCRLWith(pkitest.CRLOptions{UserOnly: true})}, none, ""},
		{"CAs only", [][]byte{ca.MustCRLWith(pkitest.CRLOptions{CAOnly: true})}, none, unknown},
		{"users only, for the CA of the path", [][]byte{sub.MustCRL(), ca.MustCRLWith(pkitest.CRLOptions{UserOnly: true})}, below, unknown},
		{"all", [][]byte{sub.MustCRL(), ca.MustCRLWith(pkitest.CRLOptions{CAOnly: true})}, below, ""},
		{"the CA is revoked", [][]byte{sub.MustCRL(), ca.MustCRL(sub.Cert.SerialNumber)}, below, decision.Revoked},
		{"indirect", [][]byte{ca.MustCRLWith(pkitest.CRLOptions{Indirect: true})}, none, unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, der := range tt.lists {
				write(t, filepath.Join(dir, fmt.Sprint(i, ".crl")), der)
			}
			want(t, newChecker(t, revocation.Config{Mode: revocation.CRL, Lists: []string{dir}}), pathOf(tt.leaf), tt.want)
		})
	}
	t.Run("the leaf only", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "sub.crl")
		write(t, file, sub.MustCRL())
		cfg := revocation.Config{Mode: revocation.CRL, Lists: []string{file}}
		want(t, newChecker(t, cfg), pathOf(below), unknown)
		cfg.InsecureLeafOnly = true
		want(t, newChecker(t, cfg), pathOf(below), "")
	})
}

// Who answers in the place of a source cannot take back what is known: neither by an
// older list of the CA, nor by one for other certificates.
func TestListsDoNotGoBack(t *testing.T) {
	w := newWorld(t)
	leaf := w.leaf.Cert.SerialNumber
	var served atomic.Pointer[[]byte]
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(*served.Load()) }))
	t.Cleanup(s.Close)
	current := w.ca.MustCRLWith(pkitest.CRLOptions{Number: big.NewInt(10), Serials: []*big.Int{leaf}})
	for name, der := range map[string][]byte{
		"lower number":  w.ca.MustCRLWith(pkitest.CRLOptions{Number: big.NewInt(9)}),
		"older":         w.ca.MustCRLWith(pkitest.CRLOptions{Number: big.NewInt(10), ThisUpdate: now.Add(-5 * time.Hour)}),
		"another scope": w.ca.MustCRLWith(pkitest.CRLOptions{Number: big.NewInt(11), CAOnly: true}),
		"a delta list":  w.ca.MustCRLWith(pkitest.CRLOptions{Number: big.NewInt(11), Base: big.NewInt(10)}),
		"another CA":    pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Other"}).MustCRL(),
	} {
		t.Run(name, func(t *testing.T) {
			served.Store(&current)
			clock := now
			c := newChecker(t, revocation.Config{Mode: revocation.CRL, Lists: []string{s.URL}, OnUnknown: revocation.FailOpen, OnUnreachable: revocation.FailOpen,
				Refresh: time.Millisecond, Retry: time.Millisecond, Poll: time.Millisecond, Now: func() time.Time { return clock }})
			want(t, c, w.path(), decision.Revoked)
			served.Store(&der)
			clock = clock.Add(time.Hour)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go c.Run(ctx)
			for c.Status()[0].Failures == 0 {
				time.Sleep(time.Millisecond)
			}
			want(t, c, w.path(), decision.Revoked)
			if st := c.Status()[0]; st.Number != "10" || st.Err == nil {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// What was fetched is there after a restart, and is believed only if it still verifies.
func TestListsAreKeptOverARestart(t *testing.T) {
	w := newWorld(t)
	w.Revoke(w.other.Cert, 1)
	dir := filepath.Join(t.TempDir(), "kept")
	cfg := revocation.Config{Mode: revocation.CRL, Lists: []string{w.crl}, Folder: dir, Retry: time.Nanosecond, Refresh: time.Nanosecond, Poll: time.Millisecond}
	want(t, newChecker(t, cfg), w.path(), "")
	kept, _ := filepath.Glob(filepath.Join(dir, "*.crl"))
	if len(kept) != 1 {
		t.Fatalf("kept: %v", kept)
	}
	t.Run("the server is down", func(t *testing.T) {
		w.Fail(pkitest.Down)
		c := newChecker(t, cfg)
		want(t, c, w.path(), "")
		want(t, c, pathOf(w.other), decision.Revoked)
		w.Fail(pkitest.NoFault)
	})
	t.Run("the next fetch is conditional", func(t *testing.T) {
		w := newWorld(t)
		cfg := cfg
		cfg.Lists, cfg.Folder = []string{w.crl}, filepath.Join(t.TempDir(), "kept")
		cfg.Issuers = func() []*x509.Certificate { return []*x509.Certificate{w.ca.Cert} }
		want(t, newChecker(t, cfg), w.path(), "")
		c := newChecker(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.Run(ctx)
		for w.NotModified() == 0 {
			time.Sleep(time.Millisecond)
		}
		want(t, c, w.path(), "")
	})
	for name, spoil := range map[string]func([]byte) []byte{
		"corrupt":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"empty":     func([]byte) []byte { return nil },
		"forged": func([]byte) []byte {
			return pkitest.MustCA(pkitest.CAOptions{RawSubject: w.ca.Cert.RawSubject}).MustCRL()
		},
	} {
		t.Run("the file is "+name, func(t *testing.T) {
			der, err := os.ReadFile(kept[0])
			if err != nil {
				t.Fatal(err)
			}
			write(t, kept[0], spoil(append([]byte(nil), der...)))
			defer write(t, kept[0], der)
			w.Fail(pkitest.Down)
			want(t, newChecker(t, cfg), pathOf(w.other), decision.RevocationUnknown)
			w.Fail(pkitest.NoFault)
			want(t, newChecker(t, cfg), pathOf(w.other), decision.Revoked)
		})
	}
	t.Run("the disk takes nothing", func(t *testing.T) {
		c := newChecker(t, cfg)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		w.Revoke(w.leaf.Cert, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		want(t, c, pathOf(w.other), decision.Revoked)
		go c.Run(ctx)
		for check(t, c, w.path()) != decision.Revoked {
			time.Sleep(time.Millisecond)
		}
		if st := c.Status()[0]; st.StoreErr == nil || st.State != "good" {
			t.Errorf("status %+v", st)
		}
	})
}

// Files are picked up when they change; a broken one keeps the list that is in use.
func TestFilesChange(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crl")
	write(t, file, w.ca.MustCRL())
	write(t, filepath.Join(dir, ".hidden"), []byte("no list"))
	clock := now
	c := newChecker(t, revocation.Config{Mode: revocation.CRL, Lists: []string{dir}, Poll: time.Millisecond, Now: func() time.Time { return clock }})
	want(t, c, w.path(), "")
	generation := c.Generation()
	// look makes one round.
	look := func() {
		clock = clock.Add(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c.Run(ctx)
	}
	look()
	if c.Generation() != generation {
		t.Error("the generation changes without a new list")
	}
	whole := w.ca.MustCRL(w.leaf.Cert.SerialNumber)
	for _, broken := range [][]byte{whole[:len(whole)/2], nil, []byte("<html>")} {
		write(t, file, broken)
		look()
		want(t, c, w.path(), "")
		if c.Status()[0].Err == nil {
			t.Error("a broken file is not reported")
		}
	}
	write(t, file, whole)
	look()
	want(t, c, w.path(), decision.Revoked)
	if c.Generation() == generation {
		t.Error("the generation stays with a new list")
	}
	if st := c.Status()[0]; st.Err != nil || st.Entries != 1 {
		t.Errorf("status %+v", st)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	look()
	want(t, c, w.path(), decision.RevocationUnknown)
}

// A clock that jumps back does not stop the fetches; one that jumps ahead makes lists
// stale, which the policy decides.
func TestClockJumps(t *testing.T) {
	w := newWorld(t)
	var shift atomic.Int64
	c := newChecker(t, revocation.Config{Mode: revocation.CRL, Lists: []string{w.crl}, Retry: time.Nanosecond, Poll: time.Millisecond,
		Now: func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }})
	shift.Store(int64(12 * time.Hour))
	want(t, c, w.path(), "")
	shift.Store(0) // the next fetch is now 13 hours away
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := w.Requests()
	go c.Run(ctx)
	for w.Requests() == before {
		time.Sleep(time.Millisecond)
	}
	want(t, c, w.path(), "")
	shift.Store(int64(72 * time.Hour))
	want(t, c, w.path(), decision.RevocationUnknown)
	shift.Store(0)
	want(t, c, w.path(), "")
}

// Keycloak fetched the distribution point of a certificate before it trusted it: whoever
// could connect could have it request any address. Here a stranger sends certificates
// that name a canary as distribution point and responder; it stays silent. A certificate
// with a valid path may cause the request, but not to an address inside.
func TestAttackRevocationSourceOfAnUntrustedCertificate(t *testing.T) {
	t.Attr("attack", "3")
	var seen atomic.Int32
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	t.Cleanup(canary.Close)
	trusted, stranger := newWorld(t), newWorld(t)
	naming := func(ca *pkitest.CA) *pkitest.Leaf {
		return ca.MustLeaf(pkitest.LeafOptions{Template: func(c *x509.Certificate) {
			c.CRLDistributionPoints, c.OCSPServer = []string{canary.URL + "/crl"}, []string{canary.URL + "/ocsp"}
			c.IssuingCertificateURL = []string{canary.URL + "/ca"}
		}})
	}
	validator := func(allow ...string) *pki.Validator {
		v, err := pki.NewValidator(pki.Config{Logger: quiet, Sets: []pki.Set{{Name: "clients", Anchors: []*x509.Certificate{trusted.ca.Cert},
			Revocation: newChecker(t, revocation.Config{Mode: revocation.OCSPThenCRL, ListsFromCertificates: true, RespondersFromCertificates: true, AllowHosts: allow})}}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	host, _ := url.Parse(canary.URL)
	expired := trusted.ca.MustLeaf(pkitest.LeafOptions{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour), Template: func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{canary.URL + "/crl"}
	}})
	for name, leaf := range map[string]*pkitest.Leaf{
		"of a stranger's CA with a trusted name": naming(stranger.ca), "expired": expired,
		"with a broken signature": {Cert: pkitest.CorruptSignature(naming(trusted.ca).Cert)},
		"issued by a client":      naming(trusted.leaf.AsCA()),
	} {
		_, err := validator(host.Host).Verify(t.Context(), "clients", pki.Chain{Leaf: leaf.Cert, Rest: []*x509.Certificate{stranger.ca.Cert}})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := seen.Load(); n != 0 {
		t.Fatalf("the canary saw %d requests because of untrusted certificates", n)
	}
	// With a valid path, but an address inside.
	_, err := validator().Verify(t.Context(), "clients", pki.Chain{Leaf: naming(trusted.ca).Cert})
	if _, ok := errors.AsType[*revocation.BlockedError](err); !ok {
		t.Errorf("not blocked: %v", err)
	}
	if n := seen.Load(); n != 0 {
		t.Fatalf("the canary saw %d requests", n)
	}
	if validator(host.Host).Verify(t.Context(), "clients", pki.Chain{Leaf: naming(trusted.ca).Cert}); seen.Load() == 0 {
		t.Error("a trusted certificate causes no request: the test shows nothing")
	}
}

// Keycloak's "accept any host name" turned off the check of the chain as well. Each
// switch here that relaxes something is tried against everything that it is not for.
func TestAttackOneSwitchTurnsOffAnotherCheck(t *testing.T) {
	t.Attr("attack", "4")
	w, stranger := newWorld(t), newWorld(t)
	w.Revoke(w.leaf.Cert, 1)
	yesterday := pkitest.LeafOptions{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour)}
	caLeaf := w.ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=CA as client", Template: func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}})
	certs := map[string]struct {
		cert   *x509.Certificate
		reason decision.Reason
		fault  pkitest.Fault
		for_   string // the switch that is for it
	}{
		"stranger":        {stranger.leaf.Cert, decision.UnknownAuthority, 0, ""},
		"bad signature":   {pkitest.CorruptSignature(w.other.Cert), decision.BadSignature, 0, ""},
		"expired":         {w.ca.MustLeaf(yesterday).Cert, decision.Expired, 0, ""},
		"server only":     {w.ca.MustLeaf(pkitest.LeafOptions{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}).Cert, decision.ExtKeyUsage, 0, ""},
		"key usage":       {w.ca.MustLeaf(pkitest.LeafOptions{KeyUsage: x509.KeyUsageKeyEncipherment}).Cert, decision.KeyUsage, 0, ""},
		"weak key":        {w.ca.MustLeaf(pkitest.LeafOptions{KeyType: pkitest.RSA1024}).Cert, decision.WeakKey, 0, "MinRSABits"},
		"CA as leaf":      {caLeaf.Cert, decision.LeafIsCA, 0, "AllowCALeaf"},
		"revoked":         {w.leaf.Cert, decision.Revoked, 0, ""},
		"stale list":      {w.other.Cert, decision.RevocationUnknown, pkitest.Stale, "OnStale"},
		"no list":         {w.other.Cert, decision.RevocationUnknown, pkitest.Down, "OnUnreachable"},
		"forged list":     {w.other.Cert, decision.RevocationUnknown, pkitest.WrongSigner, "OnUnreachable"},
		"list of another": {w.other.Cert, decision.RevocationUnknown, pkitest.NoFault, "OnUnknown"},
	}
	elsewhere := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Elsewhere"})
	foreign := filepath.Join(t.TempDir(), "foreign.crl")
	write(t, foreign, elsewhere.MustCRL())
	switches := map[string]func(*revocation.Config, *pki.Policy){
		"none":             func(*revocation.Config, *pki.Policy) {},
		"OnUnknown":        func(c *revocation.Config, _ *pki.Policy) { c.OnUnknown = revocation.FailOpen },
		"OnStale":          func(c *revocation.Config, _ *pki.Policy) { c.OnStale = revocation.FailOpen },
		"OnUnreachable":    func(c *revocation.Config, _ *pki.Policy) { c.OnUnreachable = revocation.FailOpen },
		"InsecureLeafOnly": func(c *revocation.Config, _ *pki.Policy) { c.InsecureLeafOnly = true },
		"AllowCALeaf":      func(_ *revocation.Config, p *pki.Policy) { p.AllowCALeaf = true },
		"AllowPinnedLeaf":  func(_ *revocation.Config, p *pki.Policy) { p.AllowPinnedLeaf = true },
		"MaxChain":         func(_ *revocation.Config, p *pki.Policy) { p.MaxChain = 10 },
	}
	for sw, turn := range switches {
		for name, tt := range certs {
			t.Run(sw+"/"+name, func(t *testing.T) {
				w.Fail(tt.fault)
				cfg := revocation.Config{Mode: revocation.CRL, Lists: []string{w.crl},
					Issuers: func() []*x509.Certificate { return []*x509.Certificate{elsewhere.Cert} }}
				if tt.for_ == "OnUnknown" {
					cfg.Lists = []string{foreign}
				}
				var policy pki.Policy
				turn(&cfg, &policy)
				v, err := pki.NewValidator(pki.Config{Logger: quiet, Sets: []pki.Set{{Name: "clients",
					Anchors: []*x509.Certificate{w.ca.Cert}, Policy: policy, Revocation: newChecker(t, cfg)}}})
				if err != nil {
					t.Fatal(err)
				}
				_, err = v.Verify(t.Context(), "clients", pki.Chain{Leaf: tt.cert})
				if sw == tt.for_ {
					if err != nil {
						t.Errorf("the switch does not do what it is for: %v", err)
					}
					return
				}
				if e, ok := errors.AsType[*pki.Error](err); !ok || e.Reason != tt.reason {
					t.Errorf("got %v, want %s", err, tt.reason)
				}
			})
		}
	}
}

// The state of each source, as metrics and the command line show it.
func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.Revoke(w.leaf.Cert, 1)
	dir := t.TempDir()
	good, missing, broken := filepath.Join(dir, "good.crl"), filepath.Join(dir, "missing.crl"), filepath.Join(dir, "broken.crl")
	write(t, good, w.ca.MustCRL())
	write(t, broken, []byte("no list"))
	c := newChecker(t, revocation.Config{Mode: revocation.OCSPThenCRL, Lists: []string{good, missing, broken, w.crl}, Responders: []string{w.ocsp},
		Issuers: func() []*x509.Certificate { return []*x509.Certificate{w.ca.Cert} }})
	states := func() map[string]string {
		out := make(map[string]string)
		for _, s := range c.Status() {
			out[filepath.Base(s.Name)] = s.Kind + " " + s.State
		}
		return out
	}
	expect := map[string]string{"good.crl": "file good", "missing.crl": "file missing", "broken.crl": "file missing", "crl": "url missing", "ocsp": "ocsp unused"}
	if got := states(); !maps.Equal(got, expect) {
		t.Errorf("got %v, want %v", got, expect)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go c.Run(ctx)
	want(t, c, pathOf(w.other), "")
	// A list counts as soon as it is verified; a moment later the attempt has ended.
	attempted := func(s revocation.SourceStatus) bool { return s.Name == w.crl && s.Successes+s.Failures > 0 }
	for states()["crl"] != "url good" || !slices.ContainsFunc(c.Status(), attempted) {
		time.Sleep(time.Millisecond)
	}
	if got := states()["ocsp"]; got != "ocsp good" {
		t.Errorf("responder is %s", got)
	}
	for _, s := range c.Status() {
		if s.Name == w.crl && (s.Entries != 1 || s.Number == "" || s.Issuer == "" || s.NextUpdate.Before(now) || s.NextFetch.IsZero() || s.Successes != 1) {
			t.Errorf("status %+v", s)
		}
	}
}

// Tokens are found by issuer and serial number alone: the certificate is not there.
func TestKnownRevoked(t *testing.T) {
	w, stranger := newWorld(t), newWorld(t)
	held := w.ca.MustLeaf(pkitest.LeafOptions{})
	n := func(i int64) *big.Int { return big.NewInt(i) }
	dir := t.TempDir()
	write(t, filepath.Join(dir, "base.crl"), w.ca.MustCRLWith(pkitest.CRLOptions{Number: n(1), Serials: []*big.Int{w.leaf.Cert.SerialNumber, held.Cert.SerialNumber}}))
	write(t, filepath.Join(dir, "delta.crl"), w.ca.MustCRLWith(pkitest.CRLOptions{Number: n(2), Base: n(1), ReasonCode: 8, Serials: []*big.Int{held.Cert.SerialNumber}}))
	c := newChecker(t, revocation.Config{Mode: revocation.CRL, Lists: []string{dir}, Issuers: func() []*x509.Certificate { return []*x509.Certificate{w.ca.Cert} }})
	keyID := func(l *pkitest.Leaf) string { return fmt.Sprintf("%x", l.Cert.AuthorityKeyId) }
	name := func(l *pkitest.Leaf) string { return fmt.Sprintf("%x", sha256.Sum256(l.Cert.RawIssuer)) }
	serial := func(l *pkitest.Leaf) string { return l.Cert.SerialNumber.Text(16) }
	for _, tt := range []struct {
		name           string
		issuer, serial string
		want           bool
	}{
		{"by key id", keyID(w.leaf), serial(w.leaf), true},
		{"by name", name(w.leaf), serial(w.leaf), true},
		{"not listed", keyID(w.other), serial(w.other), false},
		{"taken off the list", keyID(held), serial(held), false},
		{"the serial number of another CA", keyID(stranger.leaf), serial(w.leaf), false},
		{"not a number", keyID(w.leaf), "x", false},
		{"nothing", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.KnownRevoked(tt.issuer, tt.serial); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// The cold verdict: what a path costs whose answer is not in the cache of pki.
func BenchmarkCheckRevocation(b *testing.B) {
	w := newWorld(b)
	c := newChecker(b, revocation.Config{Mode: revocation.CRL, Lists: []string{w.crl}})
	path := w.path()
	want(b, c, path, "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.CheckRevocation(context.Background(), path); err != nil {
			b.Fatal(err)
		}
	}
}
