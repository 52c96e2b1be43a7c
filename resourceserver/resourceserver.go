// Package resourceserver is the resource server of RFC 6750 that checks certificate-
// bound access tokens (RFC 8705, Sections 3 and 6.2): is the token valid, from the
// trusted issuer, for this resource, bound to the certificate that the request came
// with, and of the scope that is needed. All of it is one judgement, made for every
// request anew; only the work of verifying a signature and of asking the issuer is
// cached, never a verdict about a certificate.
//
// [Verifier.Middleware] protects handlers, [Verifier.VerifyRequest] judges a request for
// a caller that answers itself, [Verifier.Verify] judges a token and a certificate.
package resourceserver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/internal/metadata"
	"github.com/certbound/certbound/jwks"
)

// A BindingPolicy says which tokens are accepted.
type BindingPolicy uint8

const (
	// Required accepts only tokens that are bound to the certificate of the request.
	Required BindingPolicy = iota
	// WhenPresent also accepts tokens that are not bound at all. A token that is bound
	// needs its certificate in any case.
	WhenPresent
	// InsecureIgnoreBinding accepts tokens whatever they are bound to: a token that was
	// stolen works without its certificate. It is for the days of a migration.
	InsecureIgnoreBinding
)

// Config holds the settings of a [Verifier].
type Config struct {
	// Resource is the identifier of this resource (RFC 8707, RFC 9728): an https URL
	// without fragment. Required. A token must have it, or one of Audiences, in aud.
	Resource string
	// Audiences are further values of aud that are accepted, for issuers that do not
	// write the resource identifier.
	Audiences []string
	// Issuer is the issuer identifier of the authorization server. Required.
	Issuer string
	// Source finds the certificate of a request. Required; [certsource.TLS] on a
	// listener that ends TLS itself.
	Source certsource.Source

	// Profile is [ProfileFAPI2], or empty. What it demands is then on, and New refuses
	// every setting that would break it.
	Profile string
	// Binding is the policy for tokens without cnf.
	Binding BindingPolicy
	// IgnoreUnknownConfirmation treats a token whose cnf has only members that are
	// unknown here as one that is not bound (RFC 7800, Section 3.1). It needs
	// WhenPresent. The member jkt is known, as one that cannot be checked.
	IgnoreUnknownConfirmation bool
	// CheckCertificate, if set, judges the certificate of a request with a token that
	// is bound to it, as an extra: RFC 8705 asks for no trust in it (Section 6.2). An
	// error is a refusal with invalid_token.
	CheckCertificate func(ctx context.Context, p *certsource.Presented) error

	// Keys says where the issuer's keys come from. The zero value discovers them.
	Keys Keys
	// Introspection, if set, has the issuer judge tokens (RFC 7662). If nil, tokens are
	// JWTs (RFC 9068), verified here.
	Introspection *Introspection
	// Revocations, if set, follows what the issuer revokes. If nil, a token that is
	// verified here is good until it expires.
	Revocations *RevocationFeed

	// Leeway is how much later than here it may be at the issuer, for nbf. The end of a
	// token has no leeway. If zero, 30 seconds; if negative, none.
	Leeway time.Duration
	// MaxTokenBytes bounds a token. If zero, 16 KiB.
	MaxTokenBytes int
	// CacheSize bounds the cache of tokens whose signature was verified, or that the
	// issuer called active, in entries. If zero, 10,000; if negative, no cache.
	CacheSize int

	// HTTPClient makes requests to the issuer. If nil, one with the system's root
	// certificates and a timeout. Redirects are never followed.
	HTTPClient *http.Client

	// AdvertiseMetadata puts resource_metadata into challenges (RFC 9728, Section 5.1).
	AdvertiseMetadata bool
	// ScopesSupported and Documentation go into the metadata document (RFC 9728,
	// Section 2), if set.
	ScopesSupported []string
	Documentation   string

	// ErrorHandler answers a refused request. If nil, [WriteError].
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err *Error)
	// Observer is told of each decision.
	Observer decision.Observer
	// Logger receives one record per refusal. If nil, slog.Default.
	Logger *slog.Logger
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// Keys says where the keys of the issuer come from.
type Keys struct {
	// Set is the issuer's key set, given. It excludes URI.
	Set *jwks.Set
	// URI is the https address of the key set. If both are unset, it is taken from the
	// issuer's metadata (RFC 8414).
	URI string
	// RefreshEvery is how often the set is renewed, in the background. If zero, 5
	// minutes.
	RefreshEvery time.Duration
	// RefetchEvery is the least time between two fetches that are caused by a token
	// with an unknown kid. If zero, 30 seconds.
	RefetchEvery time.Duration
	// MaxAge is how long a set stays in use when the issuer cannot be reached. If
	// zero, 24 hours.
	MaxAge time.Duration
	// Timeout bounds a fetch. If zero, 5 seconds.
	Timeout time.Duration
	// Algorithms are the accepted values of alg. If empty, ES256, PS256, EdDSA, RS256; of
	// these RS256 not with ProfileFAPI2.
	Algorithms []string
	// InsecureAnyTokenType accepts tokens with any typ, for issuers that do not follow
	// RFC 9068. An ID token for an audience of the same name is then an access token.
	InsecureAnyTokenType bool
}

// Introspection has the issuer judge tokens.
type Introspection struct {
	// Endpoint is the introspection endpoint. If empty, it is discovered: the alias for
	// mutual TLS if ClientSecret is empty (RFC 8705, Section 5).
	Endpoint string
	// ClientID is the registration of this resource server at the issuer. Required.
	ClientID string
	// ClientSecret selects client_secret_basic. If empty, the resource server
	// authenticates with the certificate of HTTPClient.
	ClientSecret string
	// HTTPClient makes the requests. For mutual TLS it is required and holds the
	// certificate of this resource server, as tls.Config.GetClientCertificate or
	// Certificates. If nil otherwise, Config.HTTPClient.
	HTTPClient *http.Client
	// OpaqueOnly verifies tokens that look like a JWT here, with Keys.
	OpaqueOnly bool
	// CacheFor is how long an answer is used, at most until exp. A token that is
	// revoked meanwhile is accepted that long. If zero, 30 seconds; if negative, the
	// issuer is asked for every request.
	CacheFor time.Duration
	// StaleFor is how long an answer is used after that, at most until exp, while it is
	// renewed in the background, once for all requests with the token: so that no request
	// waits, and that the issuer can be away for a moment. If the issuer then says that the
	// token is not active, it is refused from that moment on. A token that is revoked is
	// accepted for at most CacheFor and StaleFor together. If zero, never.
	StaleFor time.Duration
	// InactiveFor is how long the answer that a token is not active is used, at most
	// CacheFor. It is never used when it is stale. If zero, 5 seconds; if negative, the
	// issuer is asked for every request with such a token.
	InactiveFor time.Duration
	// MaxInactive bounds the tokens that are remembered not to be active: whoever sends
	// made-up tokens takes no room from those that are good. If zero, a quarter of
	// Config.CacheSize.
	MaxInactive int
	// MaxConcurrent bounds the requests to the issuer at one time. If zero, 64.
	MaxConcurrent int
	// Timeout bounds a request to the issuer. If zero, 5 seconds.
	Timeout time.Duration
	// InsecureAllowNoAudience accepts answers without aud. The issuer must then answer
	// active only to the resource that the token is for.
	InsecureAllowNoAudience bool
}

// A Verifier judges requests. It is safe for concurrent use.
type Verifier struct {
	cfg          Config
	audiences    []string
	sourceFields []string // header fields that the source reads
	keys         *issuerKeys
	algorithms   []string
	introspector *introspector
	revocations  *revocationReader
	verified     *cache[verifiedToken]
	metadataURL  string
	metadataPath string
	document     []byte
}

// verifiedToken is a token whose signature was verified with a key of the set with
// this id.
type verifiedToken struct {
	token  *Token
	keySet [sha256.Size]byte
}

// New returns a Verifier. It reports every wrong setting at once and makes no request;
// [Verifier.Warm] does.
func New(cfg Config) (*Verifier, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("resourceserver: "+format, args...))
	}
	v := &Verifier{}
	if u, err := url.Parse(cfg.Resource); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Contains(cfg.Resource, "#") {
		fault("Resource: expected an https URL without fragment, found %q", cfg.Resource)
	} else if v.metadataURL, err = metadata.WellKnown(cfg.Resource, "oauth-protected-resource"); err != nil {
		fault("Resource: %w", err)
	}
	if err := metadata.CheckIssuer(cfg.Issuer); err != nil {
		fault("Issuer: %w", err)
	}
	if cfg.Source == nil {
		fault("Source: not set; use certsource.TLS{}, or the source of your proxy")
	}
	if cfg.Source != nil && cfg.Binding == Required && certsource.Describe(cfg.Source).Most < certsource.KindFingerprint {
		fault("Source: %q never tells enough of a certificate to compare a token with, so that every request would be refused; use another source, or Binding WhenPresent", cfg.Source.Name())
	}
	if cfg.Binding > InsecureIgnoreBinding {
		fault("Binding: unknown policy %d", cfg.Binding)
	}
	if cfg.IgnoreUnknownConfirmation && cfg.Binding != WhenPresent {
		fault("IgnoreUnknownConfirmation: needs Binding WhenPresent, since such a token is not bound")
	}
	if slices.Contains(cfg.Audiences, "") {
		fault("Audiences: holds an empty value")
	}
	for _, s := range cfg.ScopesSupported {
		if !isScope(s) {
			fault("ScopesSupported: %q is not a scope (RFC 6749, Section 3.3)", s)
		}
	}
	if cfg.Keys.Set != nil && cfg.Keys.URI != "" {
		fault("Keys: Set and URI exclude each other")
	}
	if cfg.Keys.URI != "" && metadata.CheckEndpoint(cfg.Keys.URI) != nil {
		fault("Keys.URI: %w", metadata.CheckEndpoint(cfg.Keys.URI))
	}
	supported := []string{jws.ES256, jws.PS256, jws.EdDSA, jws.RS256}
	if cfg.checkProfile(fault); cfg.Profile == ProfileFAPI2 {
		supported = fapi2Algs
	}
	for _, alg := range cfg.Keys.Algorithms {
		if !slices.Contains(supported, alg) {
			fault("Keys.Algorithms: expected some of %v, found %q", supported, alg)
		}
	}
	if len(cfg.Keys.Algorithms) == 0 {
		cfg.Keys.Algorithms = supported
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = defaultClient()
	}
	if cfg.ErrorHandler == nil {
		cfg.ErrorHandler = WriteError
	}
	defaultTo(&cfg.Keys.RefreshEvery, 5*time.Minute)
	defaultTo(&cfg.Keys.RefetchEvery, 30*time.Second)
	defaultTo(&cfg.Keys.MaxAge, 24*time.Hour)
	defaultTo(&cfg.Keys.Timeout, 5*time.Second)
	defaultTo(&cfg.Leeway, 30*time.Second)
	defaultTo(&cfg.MaxTokenBytes, 16<<10)
	defaultTo(&cfg.CacheSize, 10_000)
	cfg.Leeway = max(0, cfg.Leeway)
	if cfg.Keys.RefreshEvery < 0 || cfg.Keys.RefetchEvery < 0 || cfg.Keys.MaxAge < 0 || cfg.Keys.Timeout < 0 || cfg.MaxTokenBytes < 0 {
		fault("a time or size is negative")
	}
	if i := cfg.Introspection; i != nil {
		if i.ClientID == "" {
			fault("Introspection.ClientID: not set; register this resource server at the issuer")
		}
		if i.ClientSecret == "" && i.HTTPClient == nil {
			fault("Introspection.HTTPClient: not set; give a client with this resource server's certificate, or set ClientSecret")
		}
		if i.Endpoint != "" && metadata.CheckEndpoint(i.Endpoint) != nil {
			fault("Introspection.Endpoint: %w", metadata.CheckEndpoint(i.Endpoint))
		}
		if i.MaxConcurrent < 0 || i.Timeout < 0 || i.StaleFor < 0 || i.MaxInactive < 0 {
			fault("Introspection: a number is negative")
		}
		if i.StaleFor > 0 && (i.CacheFor < 0 || cfg.CacheSize < 0) {
			fault("Introspection.StaleFor: expected answers that are remembered, found none (CacheFor, CacheSize); leave it at zero")
		}
	}
	if cfg.Revocations != nil {
		cfg.Revocations.faults(fault)
	}
	var snapshot *keySnapshot
	if cfg.Keys.Set != nil {
		var err error
		if snapshot, err = newSnapshot(cfg.Keys.Set, cfg.Now()); err != nil {
			fault("Keys.Set: no key for signatures")
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}

	cfg.HTTPClient = metadata.NoRedirect(cfg.HTTPClient)
	v.cfg = cfg
	v.audiences = append([]string{cfg.Resource}, cfg.Audiences...)
	v.sourceFields = certsource.Describe(cfg.Source).Fields
	v.algorithms = slices.Clone(cfg.Keys.Algorithms)
	v.keys = &issuerKeys{
		issuer:  cfg.Issuer,
		uri:     cfg.Keys.URI,
		client:  cfg.HTTPClient,
		every:   cfg.Keys.RefreshEvery,
		maxAge:  cfg.Keys.MaxAge,
		retry:   min(time.Second, cfg.Keys.RefreshEvery),
		timeout: cfg.Keys.Timeout,
		now:     cfg.Now,
		logger:  cfg.Logger,
	}
	if snapshot != nil {
		v.keys.snapshot.Store(snapshot)
	} else {
		v.keys.fetcher = jwks.NewFetcher(jwks.FetcherConfig{
			Client:       cfg.HTTPClient,
			MinAge:       min(time.Minute, cfg.Keys.RefreshEvery),
			DefaultAge:   cfg.Keys.RefreshEvery,
			MaxAge:       max(cfg.Keys.RefreshEvery, cfg.Keys.MaxAge/2),
			RefetchEvery: cfg.Keys.RefetchEvery,
			Timeout:      cfg.Keys.Timeout,
			MaxURLs:      4,
			Now:          cfg.Now,
		})
	}
	if cfg.CacheSize > 0 {
		v.verified = newCache[verifiedToken](cfg.CacheSize)
	}
	if cfg.Introspection != nil {
		v.introspector = newIntrospector(cfg, v.keys)
	}
	if cfg.Revocations != nil {
		v.revocations = newRevocationReader(cfg, v.keys)
	}
	v.buildDocument()
	return v, nil
}

func defaultTo[T int | time.Duration](p *T, value T) {
	if *p == 0 {
		*p = value
	}
}

func defaultClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: t, Timeout: 10 * time.Second}
}

// Warm fetches what the first request would have to wait for, and reports a wrong issuer
// or an unreachable one at start. The Verifier works without it. Later it says whether
// requests can be judged, and asks the issuer no more often than they do.
func (v *Verifier) Warm(ctx context.Context) error {
	if r := v.revocations; r != nil {
		if err := r.upToDate(ctx); err != nil && (r.cfg.OnStale == RefuseStale || ctx.Err() != nil) {
			return err
		}
	}
	if i := v.introspector; i != nil {
		if _, err := i.endpoint(ctx); err != nil {
			return err
		}
		if !i.cfg.OpaqueOnly {
			return nil
		}
	}
	_, err := v.keys.current(ctx)
	return err
}

// A Request is what [Verifier.Verify] judges.
type Request struct {
	// Token is the access token, without a scheme.
	Token string
	// Presented is what the connection proved, or nil for none.
	Presented *certsource.Presented
	// Scopes are needed, all of them.
	Scopes []string
}

// Verify judges a token and the certificate that it came with: token, issuer, audience,
// revocation, binding, scope, in this order, so that somebody without the certificate does not learn
// what a token is good for. The error is of type *[Error]; with an error the token is nil.
// The decision is never nil.
func (v *Verifier) Verify(ctx context.Context, req Request) (*Token, *decision.Decision, error) {
	d := decision.New()
	d.Peer = certsource.Peer(ctx)
	j, err := v.judge(ctx, d, req)
	if err != nil {
		return nil, d, v.refuse(ctx, d, err)
	}
	v.allow(ctx, d)
	return j.token, d, nil
}

func (v *Verifier) allow(ctx context.Context, d *decision.Decision) {
	d.Allow()
	if v.cfg.Observer != nil {
		v.cfg.Observer(ctx, d)
	}
}

// refuse tells observer and log, once for each request.
func (v *Verifier) refuse(ctx context.Context, d *decision.Decision, err *Error) error {
	err.Decision = d
	if v.cfg.Observer != nil {
		v.cfg.Observer(ctx, d)
	}
	var id [8]byte
	rand.Read(id[:])
	err.RequestID = hex.EncodeToString(id[:])
	v.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "request refused", slog.String("request_id", err.RequestID),
		slog.Int("status", err.Status), slog.String("error", err.Code), slog.Any("decision", d))
	return err
}

// judged is what was found out about a token.
type judged struct {
	token *Token // of the issuer, whatever else is wrong with it
	asOf  time.Time
}

// judge adds the checks to d.
func (v *Verifier) judge(ctx context.Context, d *decision.Decision, req Request) (j judged, err *Error) {
	defer func() {
		if err != nil {
			err.Token, err.RevocationAsOf = j.token, j.asOf
		}
	}()
	d.Thumbprint = req.Presented.Thumbprint()
	if req.Presented != nil {
		d.Via = req.Presented.Via
	}
	if j.token, j.asOf, err = v.authentic(ctx, d, req.Token); err != nil {
		return j, err
	}
	d.ClientID = j.token.ClientID
	if err := v.issuer(d, j.token); err != nil {
		return j, err
	}
	if err := v.audience(d, j.token); err != nil {
		return j, err
	}
	read, err := v.revoked(ctx, d, j.token)
	if j.asOf.Before(read) {
		j.asOf = read
	}
	if err != nil {
		return j, err
	}
	if err := v.binding(ctx, d, j.token, req.Presented); err != nil {
		return j, err
	}
	return j, scope(d, j.token, req.Scopes)
}

const (
	ruleToken    = "RFC 9068, Section 4"
	ruleBinding  = "RFC 8705, Section 3"
	ruleScope    = "RFC 6750, Section 3.1"
	ruleInactive = "RFC 7662, Section 2.2"
)

// authentic returns a token that the issuer has signed, or calls active, and that is
// valid now, and when the issuer was asked about it. With an error there is still a token if
// it was the issuer's once.
func (v *Verifier) authentic(ctx context.Context, d *decision.Decision, raw string) (*Token, time.Time, *Error) {
	c := decision.Check{Name: decision.CheckToken, Rule: ruleToken}
	if raw == "" {
		c.Reason = decision.NoToken
		return nil, time.Time{}, fail(d, c, nil)
	}
	if len(raw) > v.cfg.MaxTokenBytes {
		c.Reason = decision.TokenMalformed
		c.Expected = fmt.Sprintf("at most %d bytes", v.cfg.MaxTokenBytes)
		c.Found = fmt.Sprint(len(raw))
		return nil, time.Time{}, fail(d, c, nil)
	}
	key := hash(raw)
	if i := v.introspector; i != nil && !(i.cfg.OpaqueOnly && looksLikeJWT(raw)) {
		return v.introspected(ctx, d, raw, key)
	}
	token, err := v.signed(ctx, d, raw, key)
	return token, time.Time{}, err
}

func (v *Verifier) signed(ctx context.Context, d *decision.Decision, raw string, hash [sha256.Size]byte) (*Token, *Error) {
	c := decision.Check{Name: decision.CheckToken, Rule: ruleToken}
	keys, err := v.keys.current(ctx)
	if err != nil {
		c.Reason, c.Found = decision.IssuerUnavailable, err.Error()
		return nil, fail(d, c, err)
	}
	now := v.cfg.Now()
	var token *Token
	if v.verified != nil {
		if e, ok := v.verified.get(hash, now); ok && e.keySet == keys.id {
			token = e.token
		}
	}
	if token == nil {
		parsed, err := jws.Parse(raw, v.cfg.MaxTokenBytes)
		if err != nil {
			c.Reason, c.Found = decision.TokenMalformed, err.Error()
			return nil, fail(d, c, err)
		}
		if !v.cfg.Keys.InsecureAnyTokenType && !isAccessTokenType(parsed.Typ) {
			c.Reason, c.Expected, c.Found = decision.TokenType, "typ at+jwt", fmt.Sprintf("typ %.64q", parsed.Typ)
			return nil, fail(d, c, nil)
		}
		if !slices.Contains(v.algorithms, parsed.Alg) {
			c.Reason, c.Expected, c.Found = decision.TokenSignature, "alg of "+strings.Join(v.algorithms, " "), parsed.Alg
			return nil, fail(d, c, nil)
		}
		key, ok := keys.find(parsed.Kid, parsed.Alg)
		if !ok {
			if keys, err = v.keys.refetch(ctx, keys); err != nil {
				c.Reason, c.Found = decision.IssuerUnavailable, err.Error()
				return nil, fail(d, c, err)
			}
			if key, ok = keys.find(parsed.Kid, parsed.Alg); !ok {
				c.Reason, c.Expected = decision.TokenKeyUnknown, "a kid of the issuer's key set"
				c.Found = fmt.Sprintf("kid %.64q, alg %s", parsed.Kid, parsed.Alg)
				return nil, fail(d, c, nil)
			}
		}
		if err := parsed.Verify(key); err != nil {
			c.Reason, c.Found = decision.TokenSignature, err.Error()
			return nil, fail(d, c, err)
		}
		if token, _, err = parseClaims(parsed.Payload); err != nil {
			c.Reason, c.Found = decision.TokenMalformed, err.Error()
			return nil, fail(d, c, err)
		}
		if !token.hasExpiry {
			c.Reason, c.Expected, c.Found = decision.TokenMalformed, "exp", "none"
			return nil, fail(d, c, nil)
		}
		if v.verified != nil {
			v.verified.put(hash, verifiedToken{token, keys.id}, token.Expires)
		}
	}
	if c, ok := token.dates(now, v.cfg.Leeway); !ok {
		return token, fail(d, c, nil)
	}
	d.Pass(decision.CheckToken, ruleToken, "")
	return token, nil
}

func (v *Verifier) introspected(ctx context.Context, d *decision.Decision, raw string, hash [sha256.Size]byte) (*Token, time.Time, *Error) {
	c := decision.Check{Name: decision.CheckToken, Rule: ruleInactive}
	if !isToken(raw) {
		c.Reason, c.Expected = decision.TokenMalformed, "a b64token"
		return nil, time.Time{}, fail(d, c, nil)
	}
	a, err := v.introspector.answer(ctx, raw, hash)
	if err != nil {
		c.Reason, c.Found = decision.IssuerUnavailable, err.Error()
		return nil, time.Time{}, fail(d, c, err)
	}
	if a.token == nil {
		c.Reason = decision.TokenInactive
		return nil, time.Time{}, fail(d, c, nil)
	}
	now := v.cfg.Now()
	if c, ok := a.token.dates(now, v.cfg.Leeway); !ok {
		return a.token, a.asked, fail(d, c, nil)
	}
	found := ""
	if !a.renew.IsZero() && !now.Before(a.renew) {
		found = "an answer of " + now.Sub(a.asked).Round(time.Second).String() + " ago, which is being renewed"
	}
	d.Pass(decision.CheckToken, ruleInactive, found)
	return a.token, a.asked, nil
}

func (v *Verifier) issuer(d *decision.Decision, token *Token) *Error {
	if !token.hasIssuer && token.introspected {
		d.Skip(decision.CheckIssuer, ruleToken, "the answer has no iss; it came from the issuer itself")
		return nil
	}
	if token.Issuer != v.cfg.Issuer {
		return fail(d, decision.Check{
			Name: decision.CheckIssuer, Rule: ruleToken, Reason: decision.IssuerMismatch,
			Expected: v.cfg.Issuer, Found: clip(token.Issuer),
		}, nil)
	}
	d.Pass(decision.CheckIssuer, ruleToken, token.Issuer)
	return nil
}

// audience makes sure that a token for another resource is refused here, whoever holds
// its key: a certificate is not an audience (RFC 7800, Section 4).
func (v *Verifier) audience(d *decision.Decision, token *Token) *Error {
	if token.introspected && len(token.Audience) == 0 && v.cfg.Introspection.InsecureAllowNoAudience {
		d.Skip(decision.CheckAudience, ruleToken, "the answer has no aud, which is allowed by setting")
		return nil
	}
	for _, aud := range token.Audience {
		if slices.Contains(v.audiences, aud) {
			d.Pass(decision.CheckAudience, ruleToken, aud)
			return nil
		}
	}
	return fail(d, decision.Check{
		Name: decision.CheckAudience, Rule: ruleToken, Reason: decision.AudienceMismatch,
		Expected: strings.Join(v.audiences, " or "), Found: clip(strings.Join(token.Audience, " ")),
	}, nil)
}

func scope(d *decision.Decision, token *Token, needed []string) *Error {
	for _, s := range needed {
		if !token.HasScope(s) {
			err := fail(d, decision.Check{
				Name: decision.CheckScope, Rule: ruleScope, Reason: decision.ScopeInsufficient,
				Expected: strings.Join(needed, " "), Found: clip(strings.Join(token.Scopes, " ")),
			}, nil)
			err.Scope = strings.Join(needed, " ")
			return err
		}
	}
	if len(needed) > 0 {
		d.Pass(decision.CheckScope, ruleScope, "")
	}
	return nil
}

// hash returns the SHA-256 of a token; of one of the usual length without a copy on the
// heap.
func hash(raw string) [sha256.Size]byte {
	var buf [1024]byte
	if len(raw) > len(buf) {
		return sha256.Sum256([]byte(raw))
	}
	return sha256.Sum256(buf[:copy(buf[:], raw)])
}

func isAccessTokenType(typ string) bool {
	return typ == "at+jwt" || strings.EqualFold(typ, "at+jwt") || strings.EqualFold(typ, "application/at+jwt")
}

func looksLikeJWT(raw string) bool { return strings.Count(raw, ".") == 2 }

// isToken reports whether s is a b64token (RFC 6750, Section 2.1).
func isToken(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		switch c := body[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~', c == '+', c == '/':
		default:
			return false
		}
	}
	return body != ""
}

// isScope reports whether s is a scope-token (RFC 6749, Section 3.3).
func isScope(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// clip bounds what a token adds to a log line.
func clip(s string) string { return s[:min(len(s), 256)] }
