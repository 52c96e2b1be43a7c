package resourceserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/feed"
	"github.com/certbound/certbound/internal/flight"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/internal/metadata"
)

// A StalePolicy says what happens to tokens while the issuer's revocations are not known.
type StalePolicy uint8

const (
	// RefuseStale answers 503 until the feed can be read again.
	RefuseStale StalePolicy = iota
	// AllowStale accepts tokens that may have been revoked meanwhile, with a warning
	// in each decision. Those that are known to be revoked are refused.
	AllowStale
)

// RevocationFeed has the verifier follow what the issuer revokes, so that a token that is
// verified here ends before it expires: by its jti, or with the certificate that it is
// bound to. The feed is Certbound's own (docs/revocation.md).
//
// It is read when a request needs it, and, better, all the time by [Verifier.Run].
type RevocationFeed struct {
	// Endpoint is the feed. If empty, it is discovered: the alias for mutual TLS if
	// ClientSecret is empty.
	Endpoint string
	// ClientID, ClientSecret and HTTPClient say who asks, as those of [Introspection].
	ClientID     string
	ClientSecret string
	HTTPClient   *http.Client
	// Every is how often the feed is read. If zero, 30 seconds. What is revoked is
	// refused no later than that, while the issuer can be reached.
	Every time.Duration
	// StaleAfter is how old the last complete answer may be. If zero, four times Every.
	StaleAfter time.Duration
	// OnStale is what happens then. The zero value refuses.
	OnStale StalePolicy
	// Timeout bounds a request to the issuer. If zero, 5 seconds.
	Timeout time.Duration
	// MaxEntries bounds what is remembered. If zero, 1,000,000. A feed with more
	// becomes stale.
	MaxEntries int
}

// FeedState is what is known of the revocation feed.
type FeedState struct {
	// Read is when the last complete answer was asked for, zero for never.
	Read time.Time
	// Entries are the tokens and certificates that are revoked.
	Entries int
	// Err is why the last attempt failed, or nil.
	Err error
}

// A revocationReader follows the feed.
type revocationReader struct {
	cfg        RevocationFeed
	issuer     string
	client     *http.Client
	keys       *issuerKeys
	algorithms []string
	now        func() time.Time
	logger     *slog.Logger
	reading    flight.Group[string, struct{}]

	mu    sync.RWMutex
	known *revocations
	read  time.Time
	tried time.Time
	err   error
	swept time.Time
}

// revocations are what one feed says.
type revocations struct {
	feed          string
	since         int64
	tokens, certs map[string]revocation
}

type revocation struct {
	number  int64
	expires int64 // in seconds since 1970; 0 is never
}

func newRevocations() *revocations {
	return &revocations{tokens: make(map[string]revocation), certs: make(map[string]revocation)}
}

func (r *revocations) apply(p *feed.Page) {
	for _, e := range p.Entries {
		in, key := r.tokens, e.JTI
		if key == "" {
			in, key = r.certs, e.X5TS256
		}
		if e.Restored {
			delete(in, key)
		} else {
			in[key] = revocation{e.Number, e.Expires}
		}
	}
	r.feed, r.since = p.Feed, p.Next
}

func (r *revocations) len() int { return len(r.tokens) + len(r.certs) }

// sweep forgets what no valid token can match any more.
func (r *revocations) sweep(now time.Time) {
	for _, in := range []map[string]revocation{r.tokens, r.certs} {
		for key, e := range in {
			if e.expires != 0 && e.expires < now.Unix() {
				delete(in, key)
			}
		}
	}
}

func (c *RevocationFeed) faults(fault func(format string, args ...any)) {
	if c.ClientID == "" {
		fault("Revocations.ClientID: not set; register this resource server at the issuer")
	}
	if c.ClientSecret == "" && c.HTTPClient == nil {
		fault("Revocations.HTTPClient: not set; give a client with this resource server's certificate, or set ClientSecret")
	}
	if c.Endpoint != "" && metadata.CheckEndpoint(c.Endpoint) != nil {
		fault("Revocations.Endpoint: %w", metadata.CheckEndpoint(c.Endpoint))
	}
	if c.Every < 0 || c.StaleAfter < 0 || c.Timeout < 0 || c.MaxEntries < 0 {
		fault("Revocations: a number is negative")
	}
	if c.OnStale > AllowStale {
		fault("Revocations.OnStale: unknown policy %d", c.OnStale)
	}
	if every := max(c.Every, time.Second); c.StaleAfter != 0 && c.StaleAfter < every {
		fault("Revocations.StaleAfter: expected no less than Every (%v), found %v", c.Every, c.StaleAfter)
	}
}

func newRevocationReader(cfg Config, keys *issuerKeys) *revocationReader {
	r := &revocationReader{
		cfg: *cfg.Revocations, issuer: cfg.Issuer, client: cfg.Revocations.HTTPClient, keys: keys,
		algorithms: cfg.Keys.Algorithms, now: cfg.Now, logger: cfg.Logger, known: newRevocations(),
	}
	if r.client == nil {
		r.client = cfg.HTTPClient
	}
	r.client = metadata.NoRedirect(r.client)
	defaultTo(&r.cfg.Every, 30*time.Second)
	defaultTo(&r.cfg.StaleAfter, 4*r.cfg.Every)
	defaultTo(&r.cfg.Timeout, 5*time.Second)
	defaultTo(&r.cfg.MaxEntries, 1_000_000)
	return r
}

// Run reads the revocation feed until ctx ends, so that no request waits for it. It does
// nothing if none is configured. The error is always nil.
func (v *Verifier) Run(ctx context.Context) error {
	if v.revocations == nil {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(v.revocations.cfg.Every)
	defer ticker.Stop()
	for {
		_ = v.revocations.fetch(ctx) // logged
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// RevocationFeed returns the state of the feed, for metrics and health checks. It is zero
// if none is configured.
func (v *Verifier) RevocationFeed() FeedState {
	r := v.revocations
	if r == nil {
		return FeedState{}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return FeedState{r.read, r.known.len(), r.err}
}

// revoked refuses a token that the issuer has revoked, or whose certificate it has. It
// returns when the feed was read.
func (v *Verifier) revoked(ctx context.Context, d *decision.Decision, token *Token) (time.Time, *Error) {
	r := v.revocations
	if r == nil {
		return time.Time{}, nil
	}
	c := decision.Check{Name: decision.CheckRevocation, Rule: "FAPI 2.0, Section 5.3.4"}
	err := r.upToDate(ctx)
	r.mu.RLock()
	byToken, isToken := r.known.tokens[token.ID]
	byCert, isCert := r.known.certs[token.Confirmation.X5TS256]
	read := r.read
	r.mu.RUnlock()
	switch {
	case isToken && token.ID != "":
		c.Reason, c.Found = decision.TokenRevoked, fmt.Sprintf("jti %s, number %d of the issuer's revocations", clip(token.ID), byToken.number)
		return read, fail(d, c, nil)
	case isCert && token.Confirmation.X5TS256 != "":
		c.Reason, c.Found = decision.TokenRevoked, fmt.Sprintf("certificate %s, number %d of the issuer's revocations", token.Confirmation.X5TS256, byCert.number)
		return read, fail(d, c, nil)
	case err == nil:
		d.Pass(c.Name, c.Rule, "")
		return read, nil
	}
	c.Reason = decision.IssuerUnavailable
	c.Expected = "revocations that are not older than " + r.cfg.StaleAfter.String()
	c.Found = "never read: " + err.Error()
	if !read.IsZero() {
		c.Found = "read at " + read.UTC().Format(time.RFC3339) + ", and not since: " + err.Error()
	}
	if r.cfg.OnStale == AllowStale {
		d.Warnings = append(d.Warnings, c)
		d.Skip(c.Name, c.Rule, "the revocations are stale, which is allowed by setting")
		return read, nil
	}
	return read, fail(d, c, err)
}

// upToDate returns nil if the feed is not stale. While the reader is no more than one turn
// late, nobody waits for it.
func (r *revocationReader) upToDate(ctx context.Context) error {
	now := r.now()
	r.mu.RLock()
	read, tried, last := r.read, r.tried, r.err
	r.mu.RUnlock()
	age := now.Sub(read)
	mayTry := last == nil || now.Sub(tried) >= min(time.Second, r.cfg.Every)
	switch {
	case age <= r.cfg.Every && !read.IsZero():
		return nil
	case age <= 2*r.cfg.Every && !read.IsZero():
		if mayTry {
			r.reading.Start(ctx, "", r.longest(), r.readAll)
		}
	default:
		if mayTry {
			wait, cancel := context.WithTimeout(ctx, 2*r.cfg.Timeout)
			last = r.fetch(wait)
			cancel()
		}
		r.mu.RLock()
		read = r.read
		r.mu.RUnlock()
	}
	if !read.IsZero() && now.Sub(read) <= r.cfg.StaleAfter {
		return nil
	}
	if last == nil {
		last = errors.New("resourceserver: revocations: not read yet")
	}
	return last
}

func (r *revocationReader) fetch(ctx context.Context) error {
	_, err := r.reading.Do(ctx, "", r.longest(), r.readAll)
	return err
}

// longest bounds the reading of all pages.
func (r *revocationReader) longest() time.Duration { return 20 * r.cfg.Timeout }

// readAll reads what is new, page by page.
func (r *revocationReader) readAll(ctx context.Context) (_ struct{}, err error) {
	started := r.now()
	defer func() {
		r.mu.Lock()
		failing := r.err != nil
		r.tried, r.err = started, err
		if err == nil && started.Sub(r.swept) > time.Minute {
			r.known.sweep(started)
			r.swept = started
		}
		stale := r.now().Sub(r.read) > r.cfg.StaleAfter
		r.mu.Unlock()
		switch {
		case err != nil && (!failing || stale):
			r.logger.LogAttrs(ctx, slog.LevelWarn, "resourceserver: cannot read the issuer's revocations",
				slog.String("issuer", r.issuer), slog.Any("error", err), slog.Bool("stale", stale))
		case err == nil && failing:
			r.logger.LogAttrs(ctx, slog.LevelInfo, "resourceserver: the issuer's revocations are read again", slog.String("issuer", r.issuer))
		}
	}()
	at, err := r.endpoint(ctx)
	if err != nil {
		return struct{}{}, err
	}
	r.mu.RLock()
	known := r.known
	name, since := known.feed, known.since
	r.mu.RUnlock()
	for {
		started = r.now()
		page, err := r.page(ctx, at, name, since)
		if err != nil {
			return struct{}{}, err
		}
		r.mu.Lock()
		if page.Feed != name && name != "" || page.Since != since {
			known = newRevocations() // of another store: it begins anew, aside
		}
		known.apply(page)
		name, since = known.feed, known.since
		over := known.len() > r.cfg.MaxEntries
		if over {
			known.sweep(started)
			over = known.len() > r.cfg.MaxEntries
		}
		if !page.More && !over {
			r.known, r.read = known, started
		}
		r.mu.Unlock()
		switch {
		case over:
			return struct{}{}, fmt.Errorf("resourceserver: revocations: more than %d; raise MaxEntries", r.cfg.MaxEntries)
		case !page.More:
			return struct{}{}, nil
		}
	}
}

func (r *revocationReader) endpoint(ctx context.Context) (string, error) {
	if r.cfg.Endpoint != "" {
		return r.cfg.Endpoint, nil
	}
	doc, err := r.keys.discover(ctx)
	if err != nil {
		return "", err
	}
	return doc.Endpoint(feed.Member, r.cfg.ClientSecret == "")
}

// page asks for what comes after since, and verifies the answer as a token of the issuer.
func (r *revocationReader) page(ctx context.Context, at, name string, since int64) (*feed.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	form := url.Values{"feed": {name}, "since": {strconv.FormatInt(since, 10)}}
	if r.cfg.ClientSecret == "" {
		form.Set("client_id", r.cfg.ClientID) // RFC 8705, Section 2
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", feed.MediaType)
	if r.cfg.ClientSecret != "" {
		req.SetBasicAuth(url.QueryEscape(r.cfg.ClientID), url.QueryEscape(r.cfg.ClientSecret))
	}
	fault := func(format string, args ...any) error {
		return fmt.Errorf("resourceserver: revocations: "+format, args...)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fault("%w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fault("expected status 200, found %d; check this resource server's registration (certbound_may_introspect)", resp.StatusCode)
	}
	if mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || mediaType != feed.MediaType {
		return nil, fault("expected Content-Type %s, found another", feed.MediaType)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, feed.MaxBytes+1))
	if err != nil {
		return nil, fault("%w", err)
	}
	return r.verify(ctx, string(data), since)
}

func (r *revocationReader) verify(ctx context.Context, compact string, since int64) (*feed.Page, error) {
	fault := func(text string) error { return errors.New("resourceserver: revocations: " + text) }
	token, err := jws.Parse(compact, feed.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("resourceserver: revocations: %w", err)
	}
	if token.Typ != feed.Type {
		return nil, fault("expected typ " + feed.Type + ", found another")
	}
	if !slices.Contains(r.algorithms, token.Alg) {
		return nil, fault("alg " + token.Alg + " is not among Keys.Algorithms")
	}
	keys, err := r.keys.current(ctx)
	if err != nil {
		return nil, err
	}
	key, ok := keys.find(token.Kid, token.Alg)
	if !ok {
		if keys, err = r.keys.refetch(ctx, keys); err != nil {
			return nil, err
		}
		if key, ok = keys.find(token.Kid, token.Alg); !ok {
			return nil, fault("signed with a key that the issuer does not publish")
		}
	}
	if err := token.Verify(key); err != nil {
		return nil, fmt.Errorf("resourceserver: revocations: %w", err)
	}
	p, err := feed.Parse(token.Payload)
	if err != nil {
		return nil, fmt.Errorf("resourceserver: revocations: %w", err)
	}
	now, leeway := r.now().Unix(), int64(time.Minute/time.Second)
	switch {
	case p.Issuer != r.issuer:
		return nil, fault("of another issuer")
	case p.Audience != r.cfg.ClientID:
		return nil, fault("for another client")
	case p.Expires < now-leeway || p.Issued > now+leeway:
		return nil, fault("an old answer, or the clocks differ by more than a minute")
	case p.Since != since && p.Since != 0:
		return nil, fault("the answer to another question")
	}
	return p, nil
}
