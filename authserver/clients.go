package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/jwks"
)

// A registered is a client with everything parsed that does not change while its
// version does not. It is immutable.
type registered struct {
	*Client
	method string
	// fault is why the client cannot be used: what ValidateClient found, but for
	// members that only give less to the client than it was registered for.
	fault error

	// next is what follows while the client is rotated, or nil.
	next *registered

	pki    clientauth.PKI // tls_client_auth
	keys   *jwks.Set      // jwks by value
	secret secretHash

	scopes      []string
	resources   []string // allowed audiences
	introspects []string
	lifetime    time.Duration
	opaque      bool

	jsonID    string // client_id as JSON
	scopeText string // all scopes, with spaces
}

func (s *Server) prepare(c *Client) *registered {
	cfg := &s.cfg
	r := &registered{Client: c, method: c.Method(), lifetime: cfg.TokenLifetime, opaque: cfg.TokenFormat == FormatOpaque}
	v := validate(c, &s.rules)
	faults := slices.DeleteFunc(v.faults, func(f Fault) bool {
		// What the server no longer has is not given, and that is all.
		return f.Member == "scope" || f.Member == "certbound_resources" || f.Member == "certbound_introspects"
	})
	if len(faults) > 0 {
		r.fault = &MetadataError{ClientID: c.ID, Faults: faults}
		return r
	}
	if c.hasNext() {
		next := *c
		next.Promote()
		r.next = s.prepare(&next)
	}
	r.keys, r.secret = v.set, v.secret
	if r.secret.slow {
		s.slowSecrets.Store(true)
	}
	if r.method == clientauth.TLSClientAuth {
		r.pki = clientauth.PKI{Expected: v.expected, AnchorSet: c.AnchorSet, SoleEntry: c.SoleEntry}
		def(&r.pki.AnchorSet, cfg.DefaultAnchorSet)
	}
	for scope := range strings.FieldsSeq(c.Scope) {
		if slices.Contains(cfg.Scopes, scope) && !slices.Contains(r.scopes, scope) {
			r.scopes = append(r.scopes, scope)
		}
	}
	if r.scopeText = c.Scope; len(r.scopeText) != textLen(r.scopes) {
		r.scopeText = strings.Join(r.scopes, " ")
	}
	r.resources = s.existing(c.Resources)
	r.introspects = s.existing(c.Introspects)
	if c.TokenLifetime > 0 {
		r.lifetime = min(time.Duration(c.TokenLifetime)*time.Second, cfg.MaxTokenLifetime)
	}
	if c.TokenFormat != "" {
		r.opaque = c.TokenFormat == FormatOpaque
	}
	r.jsonID = quote(c.ID)
	return r
}

// existing returns those of a client's resources that the server has, or the
// default if the client names none.
func (s *Server) existing(resources []string) []string {
	if len(resources) == 0 && s.cfg.DefaultResource != "" {
		return s.defaultAudience
	}
	var out []string
	for _, r := range resources {
		if _, ok := s.quoted[r]; ok {
			out = append(out, r)
		}
	}
	return out
}

func textLen(scopes []string) int {
	n := max(0, len(scopes)-1)
	for _, s := range scopes {
		n += len(s)
	}
	return n
}

func quote(s string) string {
	b, _ := json.Marshal(s) // strings always encode
	return string(b)
}

// client returns a client, or nil if there is none with this id.
func (s *Server) client(ctx context.Context, id string) (*registered, error) {
	if r, ok := s.declared[id]; ok {
		return r, nil
	}
	r, epoch, ok := s.clients.get(id)
	if ok {
		return r, nil
	}
	c, err := s.cfg.Store.Client(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		s.clients.put(id, nil, epoch)
		return nil, nil
	case err != nil:
		return nil, err
	}
	r = s.prepare(c)
	s.clients.put(id, r, epoch)
	return r, nil
}

// negativeClients bounds how many ids without a client are remembered. They have a
// cache of their own, so that strangers cannot push clients out.
const negativeClients = 10_000

// A clientCache remembers clients by id. It answers only until a time that whoever
// follows the store's changes moves forward, so that a lost connection to the store
// makes the server slow and then unavailable, and not wrong.
type clientCache struct {
	mu     sync.Mutex
	epoch  uint64 // counts invalidations
	until  time.Time
	known  lru[string, *registered]
	absent lru[string, struct{}]

	reads atomic.Uint64 // misses, for tests and metrics
}

// get returns what is remembered, which is nil for an id without a client, and
// otherwise the epoch for put.
func (c *clientCache) get(id string) (r *registered, epoch uint64, ok bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.until) {
		if r, ok := c.known.get(id); ok {
			return r, 0, true
		}
		if _, ok := c.absent.get(id); ok {
			return nil, 0, true
		}
	}
	c.reads.Add(1)
	return nil, c.epoch, false
}

// put remembers a client that was read after get, unless clients have changed since:
// then nobody knows which of the two came first.
func (c *clientCache) put(id string, r *registered, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch || c.until.IsZero() {
		return
	}
	if r == nil {
		c.absent.put(id, struct{}{})
	} else {
		c.known.put(id, r)
	}
}

// forget drops ids, or everything if all is set.
func (c *clientCache) forget(ids []string, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if all {
		c.known.clear()
		c.absent.clear()
	}
	for _, id := range ids {
		c.known.remove(id)
		c.absent.remove(id)
	}
	if all || len(ids) > 0 {
		c.epoch++
	}
}

// current says that nothing has changed until now but what was forgotten. The zero
// time stops the use of the cache.
func (c *clientCache) current(until time.Time) {
	c.mu.Lock()
	c.until = until
	c.mu.Unlock()
}
