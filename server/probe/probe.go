// Package probe tells a caller with a probe credential what the server believed of its
// request: which certificate, by which source, and what it refused. An operator forges a
// certificate header from outside and sees whether anything in front lets it through.
//
// A credential is made by command or by the server itself, ends within a day, and is good
// for nothing else: it authenticates no client and is no access token. It is kept as an
// opaque token is, so that every store has it and sweeps it, but under a hash that no
// token can have.
package probe

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki/subject"
)

// Path is where a server answers probes, at the root of each listener.
const Path = "/.well-known/certbound-probe"

// Lifetimes of a credential.
const (
	DefaultLifetime = time.Hour
	MaxLifetime     = 24 * time.Hour
)

const (
	prefix   = "cbp_"
	audience = "urn:certbound:probe"
)

// A Store is what this package needs of an [authserver.Store].
type Store interface {
	SaveToken(ctx context.Context, t *authserver.OpaqueToken) error
	Token(ctx context.Context, hash [32]byte) (*authserver.OpaqueToken, error)
}

// Create makes a credential. A lifetime of zero is DefaultLifetime.
func Create(ctx context.Context, s Store, lifetime time.Duration, now time.Time) (credential string, expires time.Time, err error) {
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	if lifetime < time.Second || lifetime > MaxLifetime {
		return "", time.Time{}, fmt.Errorf("probe: lifetime: expected 1s to %s, found %s", MaxLifetime, lifetime)
	}
	var random [40]byte
	rand.Read(random[:])
	credential = prefix + base64.RawURLEncoding.EncodeToString(random[:32])
	expires = now.Add(lifetime)
	err = s.SaveToken(ctx, &authserver.OpaqueToken{
		Hash: digest(credential), JTI: "probe-" + hex.EncodeToString(random[32:]),
		Audience: []string{audience}, Issued: now, Expires: expires,
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("probe: %w", err)
	}
	return credential, expires, nil
}

// WellFormed reports whether s can be a credential.
func WellFormed(s string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(s, prefix))
	return err == nil && len(raw) == 32 && strings.HasPrefix(s, prefix)
}

// digest is not the hash of a token, so that introspection knows nothing of credentials.
func digest(credential string) [32]byte {
	return sha256.Sum256([]byte("certbound probe credential\x00" + credential))
}

// An Answer is what the server believed.
type Answer struct {
	Listener string `json:"listener"`
	Host     string `json:"host"`
	Protocol string `json:"protocol"`
	Peer     string `json:"peer"`
	// Source is the name of the certificate source, or "none"; Fields are the header
	// fields that it reads, the one with the certificate first.
	Source string   `json:"source"`
	Fields []string `json:"fields,omitempty"`
	// Kind is "none", "attributes", "fingerprint" or "certificate".
	Kind          string `json:"kind"`
	Thumbprint    string `json:"x5t#S256,omitempty"`
	Subject       string `json:"subject,omitempty"`
	Intermediates int    `json:"intermediates,omitempty"`
	VerifiedBy    string `json:"verified_by,omitempty"`
	// Reason and Found are set if the source refused the request.
	Reason decision.Reason `json:"reason,omitempty"`
	Found  string          `json:"found,omitempty"`
	// Arrived are the certificate fields that arrived, as they stand in the header.
	Arrived []string  `json:"arrived,omitempty"`
	TLS     *TLSFacts `json:"tls,omitempty"`
	Time    time.Time `json:"time"`
}

// TLSFacts are those of the connection to the server, which is that of the proxy if there
// is one.
type TLSFacts struct {
	Version           string `json:"version"`
	ServerName        string `json:"server_name,omitempty"`
	Resumed           bool   `json:"resumed"`
	ClientCertificate string `json:"client_certificate,omitempty"` // x5t#S256
}

// Config holds the settings of a handler.
type Config struct {
	// Listener is its name, for the answer: "public", "mtls".
	Listener string
	// Source is what the listener reads. If nil, it takes no certificates.
	Source certsource.Source
	// Store holds the credentials. Required.
	Store Store
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
	// Logger is told when a credential is used. If nil, slog.Default.
	Logger *slog.Logger
}

// Handler answers probes at Path and leaves everything else to next. A request without a
// valid credential is left to next as well, so that nobody sees that there is anything.
func Handler(cfg Config, next http.Handler) http.Handler {
	if cfg.Source == nil {
		cfg.Source = certsource.None{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	h := &handler{cfg: cfg, fields: certsource.Describe(cfg.Source).Fields}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != Path || r.Method != http.MethodGet || !h.allowed(r) {
			next.ServeHTTP(w, r)
			return
		}
		h.answer(w, r)
	})
}

type handler struct {
	cfg    Config
	fields []string

	mu     sync.Mutex
	known  map[[32]byte]time.Time // valid credentials, until when that is not asked again
	second int64                  // of lookups
	count  int
}

// Bounds on what strangers make the store do, and on how long a credential counts after
// it is gone from the store.
const (
	lookupsPerSecond = 20
	rememberFor      = 2 * time.Second
	maxKnown         = 64
	maxArrived       = 32
)

// allowed reports whether r has a valid credential.
func (h *handler) allowed(r *http.Request) bool {
	header := r.Header["Authorization"]
	if len(header) != 1 {
		return false
	}
	credential, ok := strings.CutPrefix(header[0], "Bearer ")
	if !ok || !WellFormed(credential) {
		return false
	}
	hash, now := digest(credential), h.cfg.Now()
	h.mu.Lock()
	until, known := h.known[hash]
	if known && now.Before(until) {
		h.mu.Unlock()
		return true
	}
	if now.Unix() != h.second {
		h.second, h.count = now.Unix(), 0
	}
	h.count++
	tooMany := h.count > lookupsPerSecond
	h.mu.Unlock()
	if tooMany {
		return false
	}
	t, err := h.cfg.Store.Token(r.Context(), hash)
	if err != nil {
		if !errors.Is(err, authserver.ErrNotFound) {
			h.cfg.Logger.ErrorContext(r.Context(), "probe: the store cannot be asked", slog.Any("cause", err))
		}
		return false
	}
	if !now.Before(t.Expires) || !slices.Equal(t.Audience, []string{audience}) {
		return false
	}
	until = now.Add(rememberFor)
	if t.Expires.Before(until) {
		until = t.Expires
	}
	h.mu.Lock()
	if h.known == nil || len(h.known) >= maxKnown {
		h.known = make(map[[32]byte]time.Time)
	}
	h.known[hash] = until
	h.mu.Unlock()
	if !known {
		h.cfg.Logger.InfoContext(r.Context(), "probe: a credential is used", slog.String("id", t.JTI),
			slog.String("listener", h.cfg.Listener), slog.String("peer", certsource.Peer(r.Context())))
	}
	return true
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request) {
	a := Answer{
		Listener: h.cfg.Listener, Host: clip(r.Host), Protocol: r.Proto, Peer: certsource.Peer(r.Context()),
		Source: h.cfg.Source.Name(), Fields: h.fields, Arrived: h.arrived(r), Time: h.cfg.Now().UTC(),
	}
	if r.TLS != nil {
		a.TLS = &TLSFacts{Version: tls.VersionName(r.TLS.Version), ServerName: clip(r.TLS.ServerName), Resumed: r.TLS.DidResume}
		if own, err := (certsource.TLS{}).Certificate(r); err == nil {
			a.TLS.ClientCertificate = own.Thumbprint()
		}
	}
	p, err := h.cfg.Source.Certificate(r)
	a.Kind = p.Kind().String()
	switch {
	case err == nil:
		a.Thumbprint, a.Intermediates, a.VerifiedBy = p.Thumbprint(), len(p.Chain()), p.VerifiedBy
		if leaf := p.Leaf(); leaf != nil {
			a.Subject = clip(subject.Of(leaf))
		}
		if names := p.Attributes(); names != nil {
			a.Subject = clip(strings.Join(slices.Concat(names.SubjectDN, names.SANDNS, names.SANURI, names.SANIP, names.SANEmail), ", "))
		}
	case !errors.Is(err, certsource.ErrNoCertificate):
		c := certsource.Check(err)
		a.Reason, a.Found = c.Reason, clip(c.Found)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	body, err := json.Marshal(a)
	if err != nil { // nothing in it can fail
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body)
}

// arrived names the certificate fields of a request in whatever spelling.
func (h *handler) arrived(r *http.Request) []string {
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
	out := certsource.Foreign(r)
	for name := range r.Header {
		if !slices.Contains(out, name) && slices.ContainsFunc(h.fields, func(f string) bool { return fold(f) == fold(name) }) {
			out = append(out, clip(name))
		}
	}
	slices.Sort(out)
	return out[:min(len(out), maxArrived)]
}

func clip(s string) string {
	if len(s) <= 256 {
		return s
	}
	return strings.ToValidUTF8(s[:256], "") + "…"
}
