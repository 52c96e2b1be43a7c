package resourceserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certbound/certbound/internal/flight"
	"github.com/certbound/certbound/internal/metadata"
)

const (
	maxAnswer = 64 << 10
	// retryStale is the least time between two attempts to renew one answer while the
	// issuer cannot be asked.
	retryStale = time.Second
)

// introspector asks the issuer about tokens. What it keeps is the issuer's answer with
// its cnf, by the SHA-256 of the token. No certificate has a part in it: that is compared
// by the caller, for each request (RFC 7662, Section 4; RFC 8705, Section 3.2).
type introspector struct {
	cfg      Introspection
	client   *http.Client
	keys     *issuerKeys // for the discovered endpoint
	now      func() time.Time
	active   *cache[answer]
	inactive *cache[struct{}]
	asking   flight.Group[[sha256.Size]byte, answer]
	slots    chan struct{}
}

// answer is what the issuer has said of a token: nil if it is not active.
type answer struct {
	token *Token
	asked time.Time
	// renew is when the issuer is asked again, until is the end of the answer. Between
	// them it is stale.
	renew, until time.Time
}

func newIntrospector(cfg Config, keys *issuerKeys) *introspector {
	i := &introspector{cfg: *cfg.Introspection, client: cfg.Introspection.HTTPClient, keys: keys, now: cfg.Now}
	if i.client == nil {
		i.client = cfg.HTTPClient
	}
	i.client = metadata.NoRedirect(i.client)
	defaultTo(&i.cfg.CacheFor, 30*time.Second)
	defaultTo(&i.cfg.MaxConcurrent, 64)
	defaultTo(&i.cfg.Timeout, 5*time.Second)
	i.slots = make(chan struct{}, i.cfg.MaxConcurrent)
	defaultTo(&i.cfg.InactiveFor, 5*time.Second)
	if i.cfg.CacheFor > 0 && cfg.CacheSize > 0 {
		i.active = newCache[answer](cfg.CacheSize)
		defaultTo(&i.cfg.MaxInactive, max(1, cfg.CacheSize/4))
		if i.cfg.InactiveFor > 0 {
			i.inactive = newCache[struct{}](i.cfg.MaxInactive)
		}
	}
	return i
}

// endpoint returns where to ask: the alias if the caller does mutual TLS (RFC 8705,
// Section 5).
func (i *introspector) endpoint(ctx context.Context) (string, error) {
	if i.cfg.Endpoint != "" {
		return i.cfg.Endpoint, nil
	}
	doc, err := i.keys.discover(ctx)
	if err != nil {
		return "", err
	}
	return doc.Endpoint("introspection_endpoint", i.cfg.ClientSecret == "")
}

// answer returns what the issuer says of a token, or has said of it lately.
func (i *introspector) answer(ctx context.Context, raw string, hash [sha256.Size]byte) (answer, error) {
	now := i.now()
	if i.active != nil {
		if a, ok := i.active.get(hash, now); ok {
			if !now.Before(a.renew) {
				i.asking.Start(ctx, hash, i.cfg.Timeout, func(ctx context.Context) (answer, error) { return i.askAndKeep(ctx, raw, hash, a) })
			}
			return a, nil
		}
	}
	if i.inactive != nil {
		if _, ok := i.inactive.get(hash, now); ok {
			return answer{}, nil
		}
	}
	return i.asking.Do(ctx, hash, i.cfg.Timeout, func(ctx context.Context) (answer, error) { return i.askAndKeep(ctx, raw, hash, answer{}) })
}

// askAndKeep asks the issuer and remembers the answer. stale is the one that is to be
// renewed, if there is one.
func (i *introspector) askAndKeep(ctx context.Context, raw string, hash [sha256.Size]byte, stale answer) (answer, error) {
	a, err := i.askInTurn(ctx, raw)
	if i.active == nil {
		return a, err
	}
	switch {
	case err != nil && stale.token == nil:
	case err != nil:
		// No word against the token. It does not live longer for it, either.
		stale.renew = i.now().Add(retryStale)
		i.active.put(hash, stale, stale.until)
	case a.token == nil:
		i.active.drop(hash)
		if i.inactive != nil {
			i.inactive.put(hash, struct{}{}, a.asked.Add(min(i.cfg.CacheFor, i.cfg.InactiveFor)))
		}
	default:
		a.renew = a.asked.Add(i.cfg.CacheFor)
		a.until = a.renew.Add(i.cfg.StaleFor)
		if a.token.hasExpiry && a.token.Expires.Before(a.until) {
			a.until = a.token.Expires
		}
		i.active.put(hash, a, a.until)
	}
	return a, err
}

// askInTurn asks with no more than MaxConcurrent at a time.
func (i *introspector) askInTurn(ctx context.Context, raw string) (answer, error) {
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	case <-ctx.Done():
		return answer{}, errors.New("resourceserver: introspection: too many requests at a time")
	}
	asked := i.now()
	t, err := i.ask(ctx, raw)
	return answer{token: t, asked: asked}, err
}

// ask returns the token that the issuer calls active, or nil if it does not.
func (i *introspector) ask(ctx context.Context, raw string) (*Token, error) {
	at, err := i.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	if i.cfg.ClientSecret == "" {
		form.Set("client_id", i.cfg.ClientID) // RFC 8705, Section 2
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if i.cfg.ClientSecret != "" { // RFC 6749, Section 2.3.1
		req.SetBasicAuth(url.QueryEscape(i.cfg.ClientID), url.QueryEscape(i.cfg.ClientSecret))
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("resourceserver: introspection: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		hint := ""
		if resp.StatusCode == http.StatusUnauthorized {
			hint = "; check this resource server's own client_id and certificate or secret"
		}
		return nil, fmt.Errorf("resourceserver: introspection: expected status 200, found %d%s", resp.StatusCode, hint)
	}
	data, err := metadata.ReadJSON(resp, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("resourceserver: introspection: %w", err)
	}
	return parseIntrospection(data)
}

// parseIntrospection reads an answer (RFC 7662, Section 2.2). It returns nil if the token
// is not active; then nothing else in the answer counts. A malformed cnf is kept for the
// check of the binding, which refuses it.
func parseIntrospection(data []byte) (*Token, error) {
	t, active, err := parseClaims(data)
	if err != nil {
		return nil, err
	}
	if active == nil {
		return nil, &claimError{"active is absent"}
	}
	if !*active {
		return nil, nil
	}
	t.introspected = true
	return t, nil
}
