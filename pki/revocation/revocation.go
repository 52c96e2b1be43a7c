// Package revocation says whether the certificates of a valid path are revoked, from
// CRLs (RFC 5280, Section 5) and OCSP (RFC 6960).
//
// A [Checker] is the revocation of one anchor set. It is asked only about paths that
// are valid: an untrusted certificate never causes a request. Lists are read in the
// background ([Checker.Run]); where one is missing at first need it is fetched once,
// for all who wait, and not for long. Then the policy decides: what cannot be found out
// is refused, unless the operator has said otherwise for that kind of failure.
//
// What is known to be revoked stays revoked, however old the list and whatever the
// policy.
package revocation

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/flight"
	"github.com/certbound/certbound/internal/guard"
	"github.com/certbound/certbound/pki"
)

// A Mode says where answers come from.
type Mode string

// The modes. There is no default: who wants no check says so.
const (
	Off         Mode = "off"
	CRL         Mode = "crl"
	OCSP        Mode = "ocsp"
	OCSPThenCRL Mode = "ocsp_then_crl" // CRLs where OCSP has no answer
)

// A Failure says what becomes of a certificate about which nothing could be found out.
type Failure uint8

const (
	FailClosed Failure = iota // it is refused
	FailOpen                  // it is accepted
)

// A Nonce says whether OCSP requests have a nonce (RFC 9654). Most responders sign
// their answers in advance and cannot repeat it.
type Nonce string

const (
	NonceOff     Nonce = "off"     // also the zero value
	NonceSend    Nonce = "send"    // an answer with another nonce is refused, one without is not
	NonceRequire Nonce = "require" // an answer without it is refused
)

// Config holds the settings of a [Checker].
type Config struct {
	// Set is the name of the anchor set, for errors and logs.
	Set string
	// Mode is required.
	Mode Mode

	// Lists are files, folders (of which every file counts whose name does not
	// begin with a dot) and URLs (http or https) of CRLs in DER or PEM. Delta lists
	// stand beside their base. The hosts of URLs may have private addresses, since
	// the operator has named them.
	Lists []string
	// ListsFromCertificates adds the distribution points that a certificate names.
	ListsFromCertificates bool
	// Responders are URLs of OCSP responders, asked in turn.
	Responders []string
	// RespondersFromCertificates takes the responders that a certificate names, if
	// Responders is empty.
	RespondersFromCertificates bool
	Nonce                      Nonce
	// UseGET asks responders by GET, which caches can answer, if there is no nonce.
	UseGET bool
	// MaxAge bounds how long an OCSP answer is used. If zero, 1 hour.
	MaxAge time.Duration

	// What happens if nobody knows the certificate (OnUnknown), if the answer is
	// out of date (OnStale), or if a source has no usable answer, as when it is
	// down, too slow or has a wrong signature (OnUnreachable). If zero, refused.
	OnUnknown, OnStale, OnUnreachable Failure
	// MaxStale bounds OnStale FailOpen: an answer that is older than its nextUpdate
	// and this is refused. If zero, no bound.
	MaxStale time.Duration
	// InsecureLeafOnly does not check the CAs of the path.
	InsecureLeafOnly bool

	// Issuers returns the CAs that are known, such as the anchors and helpers of the
	// set. With it, lists are verified when they come in; without, a list is
	// verified when the first path with its issuer is judged. May be nil.
	Issuers func() []*x509.Certificate
	// Folder keeps what was fetched over a restart. If empty, nothing is kept. It
	// is made if it is missing. What is read back is verified again.
	Folder string

	// MaxBytes bounds a list. If zero, [DefaultMaxBytes].
	MaxBytes int64
	// MaxSources bounds the distribution points, responders and OCSP answers that
	// certificates bring along: as many of the first two, 50 times as many answers.
	// If zero, 200.
	MaxSources int
	// Wait bounds how long one check waits for sources. If zero, 5 seconds.
	Wait time.Duration
	// Timeout bounds one fetch, which may go on when nobody waits any more. If
	// zero, 1 minute.
	Timeout time.Duration
	// Refresh is the time between two fetches of a list. If zero, 1 hour. A list
	// that ends before is fetched before.
	Refresh time.Duration
	// Retry is the least time between a fetch that failed and the next, and how
	// long a certificate that was accepted by FailOpen is not asked about again. If
	// zero, 30 seconds.
	Retry time.Duration
	// Poll is the time between two looks at files. If zero, 5 seconds.
	Poll time.Duration
	// Skew is how far ahead another clock may be. If zero, 5 minutes.
	Skew time.Duration

	// AllowHosts are hosts that certificates may name though their addresses are
	// not public, with port or without.
	AllowHosts []string
	// RootCAs verifies https servers. If nil, the system's.
	RootCAs *x509.CertPool
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
	// Logger is told of new lists and of failures. If nil, slog.Default.
	Logger *slog.Logger
	// Wrap, if set, is put around what fetches lists and asks responders, such as for
	// traces. What it returns has to use what it is given, which is the guard against
	// addresses that are not public.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// A Checker is a [pki.RevocationChecker]. It is safe for concurrent use.
type Checker struct {
	cfg        Config
	configured *http.Client // for addresses of the operator
	named      *http.Client // for addresses of certificates
	generation atomic.Uint64

	mu      sync.Mutex // guards sources and what is in them
	sources map[string]*source
	folders []string
	scanned time.Time
	views   atomic.Pointer[views]
	fetches flight.Group[string, struct{}]
	slots   chan struct{} // of fetches at one time

	asked      flight.Group[[32]byte, *answer]
	ocspSlots  chan struct{}
	answers    answers
	responders map[string]*responder // mu guards it
}

// A SettingError is a setting that cannot be used.
type SettingError struct{ Setting, Expected, Found string }

func (e *SettingError) Error() string {
	return fmt.Sprintf("revocation: %s: expected %s, found %s", e.Setting, e.Expected, e.Found)
}

// Validate reports every wrong setting at once, each as a *[SettingError]. It touches no
// files and no network.
func (cfg Config) Validate() error {
	_, err := cfg.prepare()
	return err
}

// prepare fills in the defaults, and returns the hosts of the addresses that the
// operator has named.
func (cfg *Config) prepare() (hosts []string, err error) {
	var faults []error
	fault := func(setting, expected, found string) {
		faults = append(faults, &SettingError{setting, expected, found})
	}
	crl, ocsp := false, false
	switch cfg.Mode {
	case Off:
	case CRL:
		crl = true
	case OCSP:
		ocsp = true
	case OCSPThenCRL:
		crl, ocsp = true, true
	default:
		fault("Mode", "off, crl, ocsp or ocsp_then_crl", fmt.Sprintf("%q", cfg.Mode))
	}
	if crl && len(cfg.Lists) == 0 && !cfg.ListsFromCertificates {
		fault("Lists", "at least one list, or ListsFromCertificates", "none")
	}
	if ocsp && len(cfg.Responders) == 0 && !cfg.RespondersFromCertificates {
		fault("Responders", "at least one responder, or RespondersFromCertificates", "none")
	}
	if !crl && (len(cfg.Lists) > 0 || cfg.ListsFromCertificates) {
		fault("Lists", "none in mode "+string(cfg.Mode), "some")
	}
	if !ocsp && (len(cfg.Responders) > 0 || cfg.RespondersFromCertificates) {
		fault("Responders", "none in mode "+string(cfg.Mode), "some")
	}
	switch cfg.Nonce {
	case "":
		cfg.Nonce = NonceOff
	case NonceOff, NonceSend, NonceRequire:
	default:
		fault("Nonce", "off, send or require", fmt.Sprintf("%q", cfg.Nonce))
	}
	for _, f := range []struct {
		name  string
		value Failure
	}{{"OnUnknown", cfg.OnUnknown}, {"OnStale", cfg.OnStale}, {"OnUnreachable", cfg.OnUnreachable}} {
		if f.value > FailOpen {
			fault(f.name, "FailClosed or FailOpen", fmt.Sprint(f.value))
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{
		{"MaxAge", &cfg.MaxAge, time.Hour}, {"MaxStale", &cfg.MaxStale, 0}, {"Wait", &cfg.Wait, 5 * time.Second},
		{"Timeout", &cfg.Timeout, time.Minute}, {"Refresh", &cfg.Refresh, time.Hour}, {"Retry", &cfg.Retry, 30 * time.Second},
		{"Poll", &cfg.Poll, 5 * time.Second}, {"Skew", &cfg.Skew, 5 * time.Minute},
	} {
		if *d.value < 0 {
			fault(d.name, "zero or more", d.value.String())
		}
		*d.value = cmp.Or(*d.value, d.zero)
	}
	if cfg.MaxBytes < 0 || cfg.MaxSources < 0 {
		fault("MaxBytes and MaxSources", "zero or more", fmt.Sprint(cfg.MaxBytes, cfg.MaxSources))
	}
	cfg.MaxBytes, cfg.MaxSources = cmp.Or(cfg.MaxBytes, DefaultMaxBytes), cmp.Or(cfg.MaxSources, 200)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	host := func(setting, raw string) {
		u, err := parseURL(raw)
		if err != nil {
			fault(setting, "an http or https URL without user and fragment", fmt.Sprintf("%q", raw))
			return
		}
		port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		hosts = append(hosts, net.JoinHostPort(u.Hostname(), port))
	}
	for _, name := range cfg.Lists {
		switch {
		case isURL(name):
			host("Lists", name)
		case name == "":
			fault("Lists", "a path or a URL", "an empty one")
		}
	}
	for _, name := range cfg.Responders {
		host("Responders", name)
	}
	return hosts, errors.Join(faults...)
}

// isURL tells the URLs of Lists from its paths.
func isURL(name string) bool { return strings.Contains(name, "://") }

// New reports every wrong setting at once, each as a *[SettingError]. It reads the
// files and what the folder has kept; that something is missing there is no error but
// shows in [Checker.Status], and the policy decides.
func New(cfg Config) (*Checker, error) {
	hosts, err := cfg.prepare()
	if err != nil {
		return nil, err
	}
	if cfg.Folder != "" {
		if err := os.MkdirAll(cfg.Folder, 0o700); err != nil {
			return nil, errors.Join(&SettingError{"Folder", "a folder that can be made", err.Error()})
		}
	}
	c := &Checker{
		cfg: cfg, sources: make(map[string]*source), responders: make(map[string]*responder),
		slots: make(chan struct{}, 4), ocspSlots: make(chan struct{}, 32),
	}
	c.answers.half = max(1, cfg.MaxSources*50/2)
	for _, name := range cfg.Lists {
		if info, err := os.Stat(name); !isURL(name) && err == nil && info.IsDir() {
			c.folders = append(c.folders, name)
		} else {
			c.sources[name] = &source{name: name, url: isURL(name)}
		}
	}
	for _, name := range cfg.Responders {
		c.responders[name] = &responder{}
	}
	fence := guard.Config{AllowHTTP: true, RootCAs: cfg.RootCAs, AllowHosts: cfg.AllowHosts, Blocked: blocked}
	c.named = guard.Client(fence)
	fence.AllowHosts = slices.Concat(cfg.AllowHosts, hosts)
	c.configured = guard.Client(fence)
	// The context of a fetch bounds it; a large list may take longer than the
	// guard would allow.
	c.named.Timeout, c.configured.Timeout = 0, 0
	if cfg.Wrap != nil {
		c.named.Transport, c.configured.Transport = cfg.Wrap(c.named.Transport), cfg.Wrap(c.configured.Transport)
	}
	c.views.Store(&views{})
	c.restore()
	c.readFiles(true)
	return c, nil
}

// A BlockedError reports a request that is not made, since a certificate has named an
// address that is not public.
type BlockedError struct{ Host, Addr, Fault string }

func (e *BlockedError) Error() string {
	return fmt.Sprintf("revocation: %s: %s: %s", e.Host, cmp.Or(e.Addr, "not dialled"), e.Fault)
}

func blocked(host, addr, fault string) error { return &BlockedError{host, addr, fault} }

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > 2048 || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || strings.Contains(raw, "#") {
		return nil, errors.New("not an http or https URL")
	}
	return u, nil
}

// Generation changes when a list has changed.
func (c *Checker) Generation() uint64 { return c.generation.Load() }

// A problem is why nothing was found out about a certificate.
type problem struct {
	failure Failure // what the policy says
	kind    kind
	found   string
	err     error
}

type kind uint8

const (
	unknown kind = iota
	stale
	unreachable
)

func (k kind) String() string { return [...]string{"unknown", "stale", "unreachable"}[k] }

// A finding is what is known of a certificate: revoked, good until a time, or neither.
type finding struct {
	revoked *Entry
	until   time.Time
	by      string // the source
	problem *problem
}

func (c *Checker) problem(k kind, late time.Duration, found string, err error) *problem {
	p := &problem{kind: k, found: found, err: err}
	switch k {
	case unknown:
		p.failure = c.cfg.OnUnknown
	case unreachable:
		p.failure = c.cfg.OnUnreachable
	case stale:
		if p.failure = c.cfg.OnStale; c.cfg.MaxStale > 0 && late > c.cfg.MaxStale {
			p.failure = FailClosed
		}
	}
	return p
}

// CheckRevocation judges a valid path, from leaf to anchor; see
// [pki.RevocationChecker]. Each certificate but the anchor is checked.
func (c *Checker) CheckRevocation(ctx context.Context, path []*x509.Certificate) (until time.Time, err error) {
	if c.cfg.Mode == Off {
		return time.Time{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Wait)
	defer cancel()
	for i, cert := range path[:max(0, len(path)-1)] {
		if i > 0 && c.cfg.InsecureLeafOnly {
			break
		}
		f := c.check(ctx, cert, path[i+1])
		switch {
		case f.revoked != nil:
			return time.Time{}, &pki.Error{Reason: decision.Revoked, Set: c.cfg.Set, Cert: cert,
				Expected: "a certificate that is not revoked", Found: f.revoked.text() + ", says " + f.by}
		case f.problem != nil && f.problem.failure == FailClosed:
			return time.Time{}, &pki.Error{Reason: decision.RevocationUnknown, Set: c.cfg.Set, Cert: cert,
				Expected: c.expected(), Found: f.problem.kind.String() + ": " + f.problem.found, Err: f.problem.err}
		case f.problem != nil:
			c.cfg.Logger.Warn("certificate accepted though its revocation is not known", "set", c.cfg.Set,
				"outcome", f.problem.kind.String(), "found", f.problem.found, "error", f.problem.err)
			f.until = c.cfg.Now().Add(c.cfg.Retry)
		}
		if until.IsZero() || f.until.Before(until) {
			until = f.until
		}
	}
	return until, nil
}

func (c *Checker) expected() string {
	switch c.cfg.Mode {
	case CRL:
		return "a valid CRL of its issuer"
	case OCSP:
		return "a valid OCSP answer"
	default:
		return "a valid OCSP answer or a valid CRL of its issuer"
	}
}

func (e *Entry) text() string {
	reasons := [...]string{"", "key compromise", "CA compromise", "affiliation changed", "superseded",
		"cessation of operation", "on hold", "", "", "privilege withdrawn", "AA compromise"}
	text := "revoked"
	if !e.At.IsZero() {
		text += " on " + e.At.UTC().Format(time.RFC3339)
	}
	if int(e.Reason) < len(reasons) && reasons[e.Reason] != "" {
		text += " (" + reasons[e.Reason] + ")"
	}
	return text
}

func (c *Checker) check(ctx context.Context, cert, issuer *x509.Certificate) finding {
	switch c.cfg.Mode {
	case OCSP:
		return c.checkOCSP(ctx, cert, issuer)
	case CRL:
		return c.checkLists(ctx, cert, issuer)
	}
	// A list at hand that has it costs no request.
	if f := c.lookup(cert, issuer); f.revoked != nil {
		return f
	}
	first := c.checkOCSP(ctx, cert, issuer)
	if first.problem == nil {
		return first
	}
	second := c.checkLists(ctx, cert, issuer)
	if second.problem != nil {
		// Accepted only if the policy accepts both failures.
		second.problem.found = "OCSP: " + first.problem.kind.String() + ": " + first.problem.found + "; CRL: " + second.problem.found
		second.problem.err = errors.Join(first.problem.err, second.problem.err)
		if first.problem.failure == FailClosed {
			second.problem.failure = FailClosed
		}
	}
	return second
}

// checkLists looks into the lists at hand, and fetches what is missing once.
func (c *Checker) checkLists(ctx context.Context, cert, issuer *x509.Certificate) finding {
	c.adopt(issuer)
	f := c.lookup(cert, issuer)
	if f.problem == nil {
		return f
	}
	c.fetchMissing(ctx, cert, issuer)
	c.adopt(issuer)
	f = c.lookup(cert, issuer)
	if f.problem == nil {
		return f
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.problem.kind == stale {
		if s := c.sources[f.by]; s != nil {
			f.problem.err = s.err
		}
		return f
	}
	// Not found: is a source broken, or does none speak for this certificate?
	for _, name := range c.sortedSources() {
		s := c.sources[name]
		if s.current == nil && (s.err != nil || s.pending != nil || !s.tried) && s.concerns(cert, issuer) {
			err := s.err
			if err == nil {
				err = errors.New("not read yet")
				if s.pending != nil {
					err = errUnverified
				}
			}
			f.problem = c.problem(unreachable, 0, "no usable list from "+name, err)
			break
		}
	}
	return f
}

var errUnverified = errors.New("the list is not signed by any issuer that is known so far")

// lookup looks into the lists at hand.
func (c *Checker) lookup(cert, issuer *x509.Certificate) finding {
	now := c.cfg.Now()
	var best finding
	for _, v := range (*c.views.Load())[string(issuer.RawSubject)] {
		if !bytes.Equal(v.key, issuer.RawSubjectPublicKeyInfo) || !v.scope.speaksFor(cert) {
			continue
		}
		f := c.lookupIn(v, cert, now)
		if f.revoked != nil {
			return f
		}
		if best.by == "" || best.problem != nil && f.problem == nil || f.problem == nil && f.until.After(best.until) {
			best = f
		}
	}
	if best.by == "" {
		best.problem = c.problem(unknown, 0, "no list of its issuer speaks for it", nil)
	}
	return best
}

func (c *Checker) lookupIn(v *view, cert *x509.Certificate, now time.Time) finding {
	f := finding{by: v.name()}
	if v.delta != nil {
		e, ok := v.delta.list.Lookup(cert.SerialNumber)
		if ok && e.Reason != removeFromCRL {
			f.revoked, f.by = &e, v.delta.name
			return f
		}
		f.until = v.delta.list.nextUpdate
		if ok && !now.After(f.until) && v.base != nil {
			f.until = earlier(f.until, v.base.list.nextUpdate)
			if now.After(f.until) {
				f.problem = c.problem(stale, now.Sub(f.until), late(v.base), nil)
			}
			return f // taken off the list
		}
	}
	if v.base == nil {
		f.problem = c.problem(unreachable, 0, "the delta list "+v.delta.name+" has no base: its complete list is missing", nil)
		return f
	}
	if e, ok := v.base.list.Lookup(cert.SerialNumber); ok {
		f.revoked, f.by = &e, v.base.name
		return f
	}
	if f.until.IsZero() || v.base.list.nextUpdate.Before(f.until) {
		f.until = v.base.list.nextUpdate
	}
	switch {
	case now.After(v.base.list.nextUpdate):
		f.problem = c.problem(stale, now.Sub(v.base.list.nextUpdate), late(v.base), nil)
	case now.After(f.until):
		f.problem = c.problem(stale, now.Sub(f.until), late(v.delta), nil)
	case v.gap != "":
		f.problem = c.problem(stale, 0, v.gap, nil)
	}
	return f
}

func late(h *held) string {
	return h.name + " ended at " + h.list.nextUpdate.Format(time.RFC3339)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// KnownRevoked reports whether a list at hand has revoked a certificate, or put it on
// hold. The issuer is named by its key id in hex, or by the SHA-256 of its name in DER
// where certificates have no authority key id; the serial number is in hex. It asks
// nobody, does not say that the certificate is good, and is for finding what hangs on
// certificates that do not come back.
func (c *Checker) KnownRevoked(issuerKeyID, serial string) bool {
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		return false
	}
	for _, views := range *c.views.Load() {
		for _, v := range views {
			if !slices.Contains(v.ids, issuerKeyID) {
				continue
			}
			if v.delta != nil {
				if e, ok := v.delta.list.Lookup(number); ok {
					if e.Reason != removeFromCRL {
						return true
					}
					if !c.cfg.Now().After(v.delta.list.nextUpdate) {
						continue
					}
				}
			}
			if v.base != nil {
				if _, ok := v.base.list.Lookup(number); ok {
					return true
				}
			}
		}
	}
	return false
}

func idsOf(issuer *x509.Certificate) []string {
	sum := sha256.Sum256(issuer.RawSubject)
	ids := []string{hex.EncodeToString(sum[:])}
	if len(issuer.SubjectKeyId) > 0 {
		ids = append(ids, hex.EncodeToString(issuer.SubjectKeyId))
	}
	return ids
}

// A held is a verified list with the name of its source.
type held struct {
	name string
	list *List
}

// A view is all that is known for one key and scope: a complete list, and a delta list
// that goes with it (RFC 5280, Section 5.2.4).
type view struct {
	key         []byte   // subjectPublicKeyInfo of the issuer
	ids         []string // what certificates may call it
	scope       *scope
	base, delta *held
	gap         string // why a delta list cannot be applied
}

func (v *view) name() string {
	if v.base != nil {
		return v.base.name
	}
	return v.delta.name
}

// views are by name of the issuer, in DER. They are replaced as a whole.
type views map[string][]*view

// rebuild makes the views from the sources. The caller holds the lock.
func (c *Checker) rebuild() {
	type group struct{ bases, deltas []*held }
	all := make(views)
	groups := make(map[*view]*group)
	for _, name := range c.sortedSources() {
		s := c.sources[name]
		if s.current == nil {
			continue
		}
		l := s.current
		i := slices.IndexFunc(all[string(l.issuer)], func(v *view) bool {
			return bytes.Equal(v.key, s.issuer.RawSubjectPublicKeyInfo) && bytes.Equal(v.scope.raw, l.scope.raw)
		})
		if i < 0 {
			v := &view{key: s.issuer.RawSubjectPublicKeyInfo, ids: idsOf(s.issuer), scope: &l.scope}
			groups[v] = &group{}
			all[string(l.issuer)] = append(all[string(l.issuer)], v)
			i = len(all[string(l.issuer)]) - 1
		}
		g := groups[all[string(l.issuer)][i]]
		if h := (&held{name, l}); l.Delta() {
			g.deltas = append(g.deltas, h)
		} else {
			g.bases = append(g.bases, h)
		}
	}
	newer := func(a, b *held) int { return b.list.compare(a.list) }
	for v, g := range groups {
		slices.SortStableFunc(g.bases, newer)
		slices.SortStableFunc(g.deltas, newer)
		if len(g.bases) > 0 {
			v.base = g.bases[0]
		}
		for _, d := range g.deltas {
			if v.base == nil {
				v.delta = d
				break
			}
			number := v.base.list.number
			if number != nil && number.Cmp(d.list.number) >= 0 {
				continue // the complete list is newer
			}
			if number == nil || number.Cmp(d.list.base) < 0 {
				v.gap = fmt.Sprintf("the delta list %s is for a complete list with number %v or higher, and that of %s has %v",
					d.name, d.list.base, v.base.name, number)
				continue
			}
			v.delta, v.gap = d, ""
			break
		}
	}
	c.views.Store(&all)
	c.generation.Add(1)
}

// compare says which of two lists is newer.
func (l *List) compare(other *List) int {
	if l.number != nil && other.number != nil {
		if order := l.number.Cmp(other.number); order != 0 {
			return order
		}
	}
	return l.thisUpdate.Compare(other.thisUpdate)
}

func (c *Checker) sortedSources() []string {
	names := make([]string, 0, len(c.sources))
	for name := range c.sources {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Run reads files and fetches lists in the background until ctx ends. It returns nil.
func (c *Checker) Run(ctx context.Context) error {
	tick := time.NewTicker(min(c.cfg.Poll, time.Second))
	defer tick.Stop()
	for {
		c.readFiles(false)
		c.fetchDue(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// A SourceStatus is the state of a list or a responder.
type SourceStatus struct {
	// Name is a path or URL; Kind is "file", "url" or "ocsp".
	Name, Kind string
	// FromCertificate says that a certificate has named it.
	FromCertificate bool
	// State is "good", "stale", "unverified" or "missing" for a list, "good",
	// "failing" or "unused" for a responder.
	State string
	// Issuer, Number and Delta are those of the list.
	Issuer, Number string
	Delta          bool
	// ThisUpdate and NextUpdate are those of the list; zero if there is none.
	ThisUpdate, NextUpdate time.Time
	// Entries and Bytes are the size of the list; Bytes in DER.
	Entries int
	Bytes   int64
	// Fetched is the last success, NextFetch when the next attempt is due.
	Fetched, NextFetch time.Time
	// Successes and Failures count attempts.
	Successes, Failures uint64
	// Err is the last failure, nil after a success. StoreErr says why the list
	// could not be kept on disk.
	Err, StoreErr error
}

// Status returns the state of each source, sorted by kind and name.
func (c *Checker) Status() []SourceStatus {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []SourceStatus
	for _, s := range c.sources {
		st := SourceStatus{
			Name: s.name, Kind: "file", FromCertificate: s.named, State: "missing", Fetched: s.fetched, NextFetch: s.next,
			Successes: s.successes, Failures: s.failures, Err: s.err, StoreErr: s.storeErr,
		}
		if s.url {
			st.Kind = "url"
		}
		l := s.current
		if l == nil && s.pending != nil {
			l, st.State = s.pending, "unverified"
		} else if l != nil {
			if st.State = "good"; now.After(l.nextUpdate) {
				st.State = "stale"
			}
			st.Issuer = s.issuer.Subject.String()
		}
		if l != nil {
			st.Delta, st.ThisUpdate, st.NextUpdate, st.Entries, st.Bytes = l.Delta(), l.thisUpdate, l.nextUpdate, l.Len(), l.size
			if l.number != nil {
				st.Number = l.number.String()
			}
		}
		out = append(out, st)
	}
	for name, r := range c.responders {
		st := SourceStatus{Name: name, Kind: "ocsp", FromCertificate: r.named, State: "unused", Fetched: r.answered,
			NextFetch: r.retry, Successes: r.successes, Failures: r.failures, Err: r.err}
		switch {
		case r.err != nil:
			st.State = "failing"
		case r.successes > 0:
			st.State = "good"
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b SourceStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// isHidden reports whether a file of a folder does not count.
func isHidden(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") }
