package config

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/listen"
)

// GatewayParts are what a gateway is built with beside its file. The zero value is enough
// to find out whether it can be built.
type GatewayParts struct {
	// Paths has the sets of FileSets.
	Paths *pki.Validator
	// Source is that of [GatewayFile.Source], or of another front. If nil, the former.
	Source   certsource.Source
	Observer decision.Observer
	// Judged is that of [gateway.Config].
	Judged func(ctx context.Context, method string, v *gateway.Verdict)
	Logger *slog.Logger
	// Wrap is put around what asks the issuer, by what it is for. If nil, nothing is.
	Wrap func(name string, next http.RoundTripper) http.RoundTripper
	// CertificateAsOf, if set, returns for a set the moment of which the revocations of its
	// certificates are known, or zero.
	CertificateAsOf func(set string) time.Time
	// Before is what was built last: what has not changed is taken over, with its
	// connections and caches. It stays whole.
	Before *BuiltGateway
	// Change is for tests: it may alter the settings of the client that fetches keys.
	Change func(*http.Transport)
}

// A BuiltGateway is what a file says, in working order.
type BuiltGateway struct {
	// Proxy has the settings of the reverse proxy. With another front its targets have no
	// upstream, and the Decider is for that front.
	Proxy gateway.ProxyConfig
	// Verifiers are those of the routes, each once.
	Verifiers []*resourceserver.Verifier
	// Pairs are certificates of the gateway as a client. Somebody has to call their Run.
	Pairs []*listen.Pair
	// Source is what the decider's certificates come from.
	Source certsource.Source
	// AssertionKeys is the JWK set of the key that signs assertions, or nil.
	AssertionKeys []byte

	verifiers map[string]*resourceserver.Verifier
	upstreams map[string]*gateway.Upstream
	pairs     map[string]*listen.Pair
}

// CloseIdle closes what after does not use any more.
func (b *BuiltGateway) CloseIdle(after *BuiltGateway) {
	for key, u := range b.upstreams {
		if after.upstreams[key] != u {
			u.CloseIdle()
		}
	}
}

// A gatewayBuilder puts one together.
type gatewayBuilder struct {
	file   *GatewayFile
	parts  GatewayParts
	out    *BuiltGateway
	source certsource.Source
	client *http.Client // to the issuer
	asker  *resourceserver.Introspection
	feed   *resourceserver.RevocationFeed
	who    *gateway.Identity
	faults []error
}

// Build makes the settings of the proxy. The error joins [Fault] values.
func (f *GatewayFile) Build(parts GatewayParts) (*BuiltGateway, error) {
	if parts.Logger == nil {
		parts.Logger = slog.New(slog.DiscardHandler)
	}
	b := &gatewayBuilder{file: f, parts: parts, source: parts.Source, out: &BuiltGateway{
		verifiers: map[string]*resourceserver.Verifier{}, upstreams: map[string]*gateway.Upstream{}, pairs: map[string]*listen.Pair{},
	}}
	if parts.Before == nil {
		b.parts.Before = &BuiltGateway{}
	}
	if b.source == nil {
		var err error
		if b.source, err = f.Source(parts.Paths); err != nil {
			return nil, err
		}
	}
	b.out.Source = b.source
	b.issuer()
	b.identity()
	b.out.Proxy.Targets = map[*gateway.Route]*gateway.Target{}
	var routes []*gateway.Route
	for i := range f.Routes {
		route, target := b.route(fmt.Sprintf("routes[%d]", i), &f.Routes[i])
		routes = append(routes, route)
		b.out.Proxy.Targets[route] = target
	}
	if len(b.faults) > 0 {
		return nil, errors.Join(b.faults...)
	}
	var err error
	b.out.Proxy.Decider, err = gateway.NewDecider(gateway.Config{Routes: routes, Source: b.source, Observer: parts.Observer, Judged: parts.Judged, TrustGeneration: b.generation()})
	if err != nil {
		for _, e := range unjoin(err) {
			b.fault("routes", bare(e))
		}
		return nil, errors.Join(b.faults...)
	}
	return b.out, nil
}

// generation returns that of the trust anchors, or nil if there are none.
func (b *gatewayBuilder) generation() func() uint64 {
	if b.parts.Paths == nil || len(b.file.Trust.Sets) == 0 {
		return nil
	}
	return b.parts.Paths.Generation
}

func (b *gatewayBuilder) fault(key, text string) {
	b.faults = append(b.faults, b.file.fault(key, "", "%s", text))
}

// pool returns the CAs of some files, or nil for none.
func (b *gatewayBuilder) pool(key string, files []Path) *x509.CertPool {
	if len(files) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	for i, name := range b.file.Paths(files) {
		certs, err := readCertificates(name)
		if err != nil {
			b.fault(fmt.Sprintf("%s[%d]", key, i), err.Error())
		}
		for _, c := range certs {
			pool.AddCert(c)
		}
	}
	return pool
}

// contents stands for what is in some files, so that a changed file makes a new upstream.
func (b *gatewayBuilder) contents(files []Path) string {
	sum := sha256.New()
	for _, name := range b.file.Paths(files) {
		text, err := readLimited(name, 4<<20)
		fmt.Fprintf(sum, "%q %v %x\n", name, err, sha256.Sum256(text))
	}
	return string(sum.Sum(nil))
}

// pair returns the certificate of the gateway as a client, or nil for none.
func (b *gatewayBuilder) pair(key string, cert, private Path) *listen.Pair {
	if cert == "" || private == "" {
		return nil
	}
	id := b.file.Path(cert) + "\x00" + b.file.Path(private)
	p := b.out.pairs[id]
	if p == nil {
		p = b.parts.Before.pairs[id]
	}
	if p == nil {
		var err error
		if p, err = listen.LoadPair(b.file.Path(cert), b.file.Path(private), b.parts.Logger); err != nil {
			b.fault(key+".certificate", err.Error())
			return nil
		}
	}
	if b.out.pairs[id] == nil {
		b.out.pairs[id] = p
		b.out.Pairs = append(b.out.Pairs, p)
	}
	return p
}

// issuer makes what talks to the authorization server.
func (b *gatewayBuilder) issuer() {
	t := &b.file.Tokens
	roots := b.pool("tokens.root_cas", t.RootCAs)
	client := func(name string, p *listen.Pair) *http.Client {
		tr := http.DefaultTransport.(*http.Transport).Clone()
		tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
		tr.MaxResponseHeaderBytes = 64 << 10
		if p != nil {
			tr.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.Certificate(), nil }
		}
		if b.parts.Change != nil {
			b.parts.Change(tr)
		}
		c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
		if b.parts.Wrap != nil {
			c.Transport = b.parts.Wrap(name, tr)
		}
		return c
	}
	b.client = client("issuer", nil)
	in, rev := &t.Introspector, &t.Revocations
	if t.Introspection == "never" && !rev.Follow {
		return
	}
	own := b.pair("tokens.introspector", in.Certificate, in.Key)
	if t.Introspection != "never" {
		b.asker = &resourceserver.Introspection{
			Endpoint: in.Endpoint, ClientID: in.ClientID, ClientSecret: string(in.Secret), HTTPClient: client("introspection", own), OpaqueOnly: t.Introspection == "opaque",
			CacheFor: orNever(in.CacheFor), StaleFor: time.Duration(in.StaleFor), InactiveFor: orNever(in.InactiveFor), MaxInactive: in.InactiveSize,
		}
	}
	if rev.Follow {
		b.feed = &resourceserver.RevocationFeed{
			Endpoint: rev.Endpoint, ClientID: in.ClientID, ClientSecret: string(in.Secret), HTTPClient: client("revocation feed", own),
			Every: time.Duration(rev.Every), StaleAfter: time.Duration(rev.StaleAfter), MaxEntries: rev.MaxEntries,
		}
		if rev.OnStale == "accept" {
			b.feed.OnStale = resourceserver.AllowStale
		}
	}
}

func (b *gatewayBuilder) identity() {
	id := &b.file.Identity
	cfg := gateway.IdentityConfig{ClientCert: id.ClientCert, ClientCertChain: id.ClientCertChain}
	for _, c := range id.Claims {
		cfg.Claims = append(cfg.Claims, gateway.ClaimField{Claim: c.Claim, Field: c.Field})
	}
	if id.Assertion.Field != "" {
		key, alg, jwk, err := b.assertionKey(b.file.Path(id.Assertion.Key))
		if err != nil {
			b.fault("identity.assertion.key", err.Error())
			return
		}
		if b.out.AssertionKeys, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk}}); err != nil {
			b.fault("identity.assertion.key", err.Error())
		}
		cfg.Assertion = &gateway.AssertionConfig{
			Field: id.Assertion.Field, Issuer: id.Assertion.Issuer, Audience: id.Assertion.Audience,
			Key: key, Algorithm: alg, KeyID: jwk.KeyID, Lifetime: time.Duration(id.Assertion.Lifetime),
		}
	}
	var err error
	if b.who, err = gateway.NewIdentity(cfg); err != nil {
		for _, e := range unjoin(err) {
			b.fault("identity", bare(e))
		}
	}
}

func (b *gatewayBuilder) assertionKey(name string) (key crypto.Signer, alg string, jwk jose.JSONWebKey, err error) {
	if name == "" {
		return nil, "", jwk, errors.New("is missing; name the PEM file with a private key")
	}
	text, err := readLimited(name, 1<<20)
	if err != nil {
		return nil, "", jwk, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, "", jwk, fmt.Errorf("%s: expected PEM with a PRIVATE KEY block, found none", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if ec, ecErr := x509.ParseECPrivateKey(block.Bytes); err != nil && ecErr == nil {
		parsed, err = ec, nil
	}
	if err != nil {
		return nil, "", jwk, fmt.Errorf("%s: expected a private key in PKCS #8", name)
	}
	switch k := parsed.(type) {
	case *ecdsa.PrivateKey:
		key, alg = k, "ES256"
	case ed25519.PrivateKey:
		key, alg = k, "EdDSA"
	case *rsa.PrivateKey:
		key, alg = k, "PS256"
	default:
		return nil, "", jwk, fmt.Errorf("%s: expected a key of the kind P-256, Ed25519 or RSA", name)
	}
	jwk = jose.JSONWebKey{Key: key.Public(), Algorithm: alg, Use: "sig"}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, "", jwk, fmt.Errorf("%s: %w", name, err)
	}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return key, alg, jwk, nil
}

var bindings = map[string]resourceserver.BindingPolicy{
	"required": resourceserver.Required, "when-present": resourceserver.WhenPresent, "insecure_off": resourceserver.InsecureIgnoreBinding,
}

func (b *gatewayBuilder) route(key string, r *GatewayRoute) (*gateway.Route, *gateway.Target) {
	route := &gateway.Route{Name: r.Name, Hosts: r.Hosts, Path: r.Path, Methods: r.Methods, Scopes: r.Scopes, Anonymous: r.Anonymous}
	if !r.NoIdentity {
		route.Identity = b.who
	}
	if set, paths := r.AnchorSet, b.parts.Paths; set != "" {
		route.CheckCertificate = func(ctx context.Context, p *certsource.Presented) error {
			if p.Leaf() == nil || paths == nil {
				return errors.New("config: less than a whole certificate, which no path can be built for")
			}
			_, err := paths.Verify(ctx, set, pki.Chain{Leaf: p.Leaf(), Rest: p.Chain()})
			return err
		}
		if asOf := b.parts.CertificateAsOf; asOf != nil {
			route.CertificateAsOf = func() time.Time { return asOf(set) }
		}
	}
	if !r.Anonymous {
		route.Verifier = b.verifier(key, r)
	}
	if b.file.Listen.Front != "proxy" {
		return route, &gateway.Target{PassToken: r.PassToken}
	}
	return route, &gateway.Target{
		Upstream: b.upstream(key+".upstream", &r.Upstream), Host: r.Upstream.Host, PassToken: r.PassToken, MaxBody: int64(r.BodyBytes),
		WebSocket: r.WebSocket, Recheck: orNever(r.Recheck), InsecureOutliveToken: r.InsecureOutliveToken,
		Stall: time.Duration(b.file.Limits.Stall),
	}
}

// orNever returns a negative time for none, where zero means a default.
func orNever(d Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return time.Duration(d)
}

// verifier returns the verifier of a route. Routes with the same rules share one, and its
// keys and cache.
func (b *gatewayBuilder) verifier(key string, r *GatewayRoute) *resourceserver.Verifier {
	t := b.file.Tokens
	id := fmt.Sprintf("%q", []any{r.Resource, r.Audiences, r.Binding, t.Issuer, b.contents(t.RootCAs), t.JWKSURI, t.RefreshKeys.String(),
		t.Introspection, t.Introspector.ClientID, string(t.Introspector.Secret), t.Introspector.Certificate, t.Introspector.Key, t.Introspector.Endpoint, t.Introspector.CacheFor.String(),
		t.Introspector.StaleFor.String(), t.Introspector.InactiveFor.String(), fmt.Sprint(t.Introspector.InactiveSize), fmt.Sprint(t.Revocations),
		t.Leeway.String(), fmt.Sprint(t.CacheSize), b.source.Name(), b.file.Profile})
	v := b.out.verifiers[id]
	if v != nil {
		return v
	}
	if v = b.parts.Before.verifiers[id]; v == nil {
		var err error
		v, err = resourceserver.New(resourceserver.Config{
			Resource: r.Resource, Audiences: r.Audiences, Issuer: t.Issuer, Source: b.source, Binding: bindings[r.Binding], Profile: b.file.Profile,
			Keys:          resourceserver.Keys{URI: t.JWKSURI, RefreshEvery: time.Duration(t.RefreshKeys)},
			Introspection: b.asker, Revocations: b.feed, Leeway: orNever(t.Leeway), CacheSize: t.CacheSize,
			HTTPClient: b.client, AdvertiseMetadata: b.file.Listen.Front == "proxy", // the others cannot serve them
			Logger: slog.New(slog.DiscardHandler), // the access log has it
		})
		if err != nil {
			for _, e := range unjoin(err) {
				b.fault(key, bare(e))
			}
			return nil
		}
	}
	b.out.verifiers[id] = v
	b.out.Verifiers = append(b.out.Verifiers, v)
	return v
}

func (b *gatewayBuilder) upstream(key string, u *GatewayUpstream) *gateway.Upstream {
	id := fmt.Sprintf("%q", []any{u.URL, u.Protocol, b.contents(u.RootCAs), u.ServerName, u.Certificate, u.Key, u.ConnectTimeout.String(), u.HeaderTimeout.String()})
	out := b.out.upstreams[id]
	if out == nil {
		out = b.parts.Before.upstreams[id]
	}
	if out == nil {
		cfg := gateway.UpstreamConfig{
			URL: u.URL, Protocol: u.Protocol, RootCAs: b.pool(key+".root_cas", u.RootCAs), ServerName: u.ServerName,
			ConnectTimeout: time.Duration(u.ConnectTimeout), HeaderTimeout: orNever(u.HeaderTimeout),
		}
		if p := b.pair(key, u.Certificate, u.Key); p != nil {
			cfg.Certificate = p.Certificate
		}
		var err error
		if out, err = gateway.NewUpstream(cfg); err != nil {
			b.fault(key, bare(err))
			return nil
		}
	} else {
		b.pair(key, u.Certificate, u.Key) // stays in use
	}
	b.out.upstreams[id] = out
	return out
}
