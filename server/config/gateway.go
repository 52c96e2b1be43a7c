package config

// Gateway are the settings of certbound gateway.
type Gateway struct {
	// Where the gateway listens, and where it finds the client's certificate.
	Listen GatewayListen `yaml:"listen"`

	// Whose tokens are accepted, and how they are checked.
	Tokens GatewayTokens `yaml:"tokens"`

	// A profile that all routes are held to: fapi2, the FAPI 2.0 Security Profile with mutual
	// TLS. Settings that would break it are refused.
	Profile string `yaml:"profile" enum:"fapi2"`

	// Which CAs may issue client certificates, for routes with an anchor_set. A token
	// that is bound to a certificate needs no CA (RFC 8705, Section 6.2).
	Trust Trust `yaml:"trust"`

	// What the upstream learns about the caller. A client cannot send these fields.
	Identity GatewayIdentity `yaml:"identity"`

	// Which requests pass, and where they go. A request without a route is refused.
	Routes []GatewayRoute `yaml:"routes" required:"yes"`

	// What is written to stderr.
	Log GatewayLog `yaml:"log"`

	// Traces and metrics for a receiver of the OpenTelemetry protocol, beside /metrics of
	// the admin listener (see docs/telemetry.md).
	Telemetry Telemetry `yaml:"telemetry"`

	// The folder that keeps the certificates of requests, so that 'certbound explain
	// --from-log' can judge a request of the log anew.
	Evidence Evidence `yaml:"evidence"`

	// Bounds on what a stranger can send.
	Limits GatewayLimits `yaml:"limits"`
}

// GatewayListen is the section of addresses.
type GatewayListen struct {
	// What comes to the address. proxy: the clients, or a proxy with their requests,
	// which are forwarded. nginx, traefik, caddy: a proxy that asks whether it may
	// forward a request (auth_request, forwardAuth, forward_auth); see docs/forward-auth.md.
	// envoy-http, envoy-grpc: Envoy that asks the same with ext_authz; see docs/envoy.md.
	Front string `yaml:"front" default:"proxy" enum:"proxy,nginx,traefik,caddy,envoy-http,envoy-grpc"`

	// Host and port; without a host, all interfaces. Or unix: and the path of a socket,
	// for a proxy on the same machine.
	Address string `yaml:"address" default:":8443"`

	// The server's certificate with its intermediates, PEM. A changed file is picked up.
	Certificate Path `yaml:"certificate" example:"server.pem"`

	// The private key for it, PEM.
	Key Path `yaml:"key" example:"server-key.pem"`

	// Plain HTTP, for a proxy that ends TLS. Not with the source tls.
	InsecurePlainHTTP bool `yaml:"insecure_plain_http" default:"false"`

	// Over plain HTTP, also speak HTTP/2 with a proxy that knows it does (h2c, by prior
	// knowledge), as gRPC needs. The front envoy-grpc always does.
	H2C bool `yaml:"h2c" default:"false"`

	// Where the client certificate is read: from the TLS connection, or from the header
	// fields that a proxy sets, which is named here (docs/proxies). There is no fallback
	// from one to another. envoy-peer is source.certificate of ext_authz over gRPC.
	Source string `yaml:"source" default:"tls" enum:"tls,rfc9440,rfc9440-draft,nginx,ingress-nginx,apache,haproxy,xfcc,traefik,traefik-2.8,caddy,alb,alb-passthrough,cloudfront,google-cloud,azure-app-service,azure-application-gateway,cloudflare,cloudflare-forwarding,f5,openshift,fastly,kong,header-der,header-pem,header-escaped-pem,header-sha256,attributes,envoy-peer"`

	// The proxy that the source belongs to. Not with the source tls.
	Proxy Proxy `yaml:"proxy"`

	// Load balancers, as addresses or prefixes, whose connections begin with a header of
	// the PROXY protocol, version 1 or 2. The address in it then counts as that of the
	// peer. From these it is demanded, and from nobody else it is understood.
	ProxyProtocol []string `yaml:"proxy_protocol"`

	// Health, readiness and metrics, over plain HTTP. Strangers must not reach it.
	Admin AdminListener `yaml:"admin"`

	// How long the gateway goes on as before when it is told to stop, while /readyz says
	// no already: as long as load balancers take to notice.
	DrainFor Duration `yaml:"drain_for" default:"0s"`

	// How long requests may take to finish after that.
	ShutdownGrace Duration `yaml:"shutdown_grace" default:"10s"`
}

// GatewayTokens is the section of the authorization server.
type GatewayTokens struct {
	// The issuer identifier of the authorization server.
	Issuer string `yaml:"issuer" required:"yes" example:"https://as.example:8443"`

	// PEM files with CAs for the authorization server. If left out, the system's.
	RootCAs []Path `yaml:"root_cas"`

	// The address of the issuer's key set. If left out, as its metadata say.
	JWKSURI string `yaml:"jwks_uri"`

	// How often the keys are fetched anew, in the background. They stay in use for a day
	// when the issuer cannot be reached.
	RefreshKeys Duration `yaml:"refresh_keys" default:"5m"`

	// Ask the issuer about tokens (RFC 7662): never; opaque, for tokens that do not look
	// like a JWT; or always, so that revoked tokens are refused.
	Introspection string `yaml:"introspection" default:"never" enum:"never,opaque,always"`

	// How the gateway itself is known there, for introspection and revocations.
	Introspector Introspector `yaml:"introspector"`

	// Follow what the issuer revokes, for tokens that are not introspected.
	Revocations GatewayRevocations `yaml:"revocations"`

	// How much later than here it may be at the issuer.
	Leeway Duration `yaml:"leeway" default:"30s"`

	// The most tokens that are remembered once they were found good.
	CacheSize int `yaml:"cache_size" default:"10000"`
}

// Introspector is the section of the gateway's own registration.
type Introspector struct {
	// The client_id.
	ClientID string `yaml:"client_id"`

	// Its certificate with intermediates, PEM, for mutual TLS. Either this or a secret.
	Certificate Path `yaml:"certificate"`

	// The private key for it, PEM.
	Key Path `yaml:"key"`

	// The secret: env:NAME or file:PATH.
	Secret Secret `yaml:"client_secret"`

	// The introspection endpoint. If left out, as the issuer's metadata say.
	Endpoint string `yaml:"endpoint"`

	// How long an answer is used. A token that is revoked meanwhile is accepted that long.
	CacheFor Duration `yaml:"cache_for" default:"30s"`

	// How long an answer is used after that, never beyond the end of the token, while it is
	// renewed in the background: no request waits then, and the issuer can be away for a
	// moment. A token that is revoked is accepted for cache_for and stale_for at most. When
	// the issuer has said that a token is not active, it is refused at once.
	StaleFor Duration `yaml:"stale_for" default:"0s"`

	// How long it is remembered that a token is not active, at most cache_for.
	InactiveFor Duration `yaml:"inactive_for" default:"5s"`

	// The most tokens that are remembered not to be active. They take no room from those
	// that were found good.
	InactiveSize int `yaml:"inactive_size" default:"2500"`
}

// GatewayRevocations is the section of the issuer's revocations (docs/revocation.md).
type GatewayRevocations struct {
	// Refuse tokens that the issuer has revoked, and those bound to a certificate that it
	// has revoked. The issuer has to be Certbound; the gateway has to be registered there,
	// as introspector says.
	Follow bool `yaml:"follow" default:"false"`

	// Where they are read. If left out, as the issuer's metadata say.
	Endpoint string `yaml:"endpoint"`

	// How often the issuer is asked. What is revoked is refused no later than that, while
	// the issuer can be reached.
	Every Duration `yaml:"every" default:"30s"`

	// How old the last complete answer may become.
	StaleAfter Duration `yaml:"stale_after" default:"2m"`

	// What happens then to tokens that are not known to be revoked. refuse: 503 until the
	// issuer answers. accept: they pass, with a warning in the record.
	OnStale string `yaml:"on_stale" default:"refuse" enum:"refuse,accept"`

	// The most revocations that are remembered. With more, the answer counts as none.
	MaxEntries int `yaml:"max_entries" default:"1000000"`
}

// GatewayIdentity is the section of what goes upstream.
type GatewayIdentity struct {
	// Send the client's certificate in Client-Cert (RFC 9440).
	ClientCert bool `yaml:"client_cert" default:"false"`

	// Send the rest of its chain in Client-Cert-Chain, too.
	ClientCertChain bool `yaml:"client_cert_chain" default:"false"`

	// Send claims of the token, each in a field of its own. Bytes that are not printable
	// ASCII, and percent signs, are percent-encoded.
	Claims []GatewayClaim `yaml:"claims"`

	// Send a signed statement about the caller.
	Assertion GatewayAssertion `yaml:"assertion"`
}

// GatewayClaim is a claim and its field.
type GatewayClaim struct {
	// The claim, such as sub, client_id or scope.
	Claim string `yaml:"claim" required:"yes" example:"client_id"`

	// The header field.
	Field string `yaml:"field" required:"yes" example:"X-Client-ID"`
}

// GatewayAssertion is the section of the signed JWT.
type GatewayAssertion struct {
	// The header field. Empty: no assertion.
	Field string `yaml:"field"`

	// The claim iss: a name for this gateway.
	Issuer string `yaml:"issuer"`

	// The claim aud: a name for the upstreams.
	Audience string `yaml:"audience"`

	// The private key, PEM. The public one is served on the admin listener, at
	// /assertion-keys.
	Key Path `yaml:"key"`

	// How long a statement is valid.
	Lifetime Duration `yaml:"lifetime" default:"1m"`
}

// GatewayRoute says what is asked of requests, and where they go.
type GatewayRoute struct {
	// A name for logs and metrics.
	Name string `yaml:"name" required:"yes" example:"orders"`

	// Host names, without port; *.example.com for all below. If left out, every host that
	// no other route names.
	Hosts []string `yaml:"hosts" example:"api.example"`

	// Where the route begins: /orders is /orders and all below it. The longest path
	// decides.
	Path string `yaml:"path" default:"/"`

	// The methods that pass. HEAD passes with GET. If left out, all.
	Methods []string `yaml:"methods"`

	// Let requests pass without a token.
	Anonymous bool `yaml:"anonymous" default:"false"`

	// The identifier of the resource, an https URL. Tokens have it in aud. Required,
	// unless anonymous.
	Resource string `yaml:"resource" example:"https://api.example"`

	// Further accepted values of aud.
	Audiences []string `yaml:"audiences"`

	// The scopes that a token needs, all of them.
	Scopes []string `yaml:"scopes"`

	// required: the token is bound to the certificate of the connection. when-present: one
	// that is not bound passes as well. insecure_off: nobody compares.
	Binding string `yaml:"binding" default:"required" enum:"required,when-present,insecure_off"`

	// The set of trust.sets whose CAs have to have issued the client's certificate, if
	// there is one.
	AnchorSet string `yaml:"anchor_set"`

	// Where the requests go. Only with the front proxy, which needs it.
	Upstream GatewayUpstream `yaml:"upstream"`

	// Send the Authorization field on. Otherwise it is removed. With the fronts nginx,
	// traefik and caddy that is a setting of the proxy.
	PassToken bool `yaml:"pass_token" default:"false"`

	// Leave out what identity says.
	NoIdentity bool `yaml:"no_identity" default:"false"`

	// Let requests become WebSockets.
	WebSocket bool `yaml:"websocket" default:"true"`

	// The largest body of a request, in bytes; 0 is any size.
	BodyBytes int `yaml:"body_bytes" default:"0"`

	// How often a request that goes on, such as a WebSocket, is judged again: a revoked
	// token or certificate ends it.
	Recheck Duration `yaml:"recheck" default:"10s"`

	// Let streams go on when the token has ended.
	InsecureOutliveToken bool `yaml:"insecure_outlive_token" default:"false"`
}

// GatewayUpstream is the section of an upstream.
type GatewayUpstream struct {
	// http or https with host and port, or unix: and the path of a socket.
	URL string `yaml:"url" example:"http://127.0.0.1:9000"`

	// auto: HTTP/1.1, or over TLS what both can. http1, or http2, which gRPC needs and
	// which is h2c without TLS.
	Protocol string `yaml:"protocol" default:"auto" enum:"auto,http1,http2"`

	// PEM files with CAs for an https upstream. If left out, the system's.
	RootCAs []Path `yaml:"root_cas"`

	// The name in its certificate. If left out, the host of the URL.
	ServerName string `yaml:"server_name"`

	// The certificate with which the gateway itself authenticates there, PEM. A changed
	// file is picked up.
	Certificate Path `yaml:"certificate"`

	// The private key for it, PEM.
	Key Path `yaml:"key"`

	// The Host that it sees. If left out, the client's.
	Host string `yaml:"host"`

	// How long connecting may take.
	ConnectTimeout Duration `yaml:"connect_timeout" default:"5s"`

	// How long the header of the answer may take.
	HeaderTimeout Duration `yaml:"header_timeout" default:"60s"`
}

// GatewayLog is the section of messages.
type GatewayLog struct {
	// auto: text on a terminal, JSON otherwise.
	Format string `yaml:"format" default:"auto" enum:"auto,text,json"`

	// The least level that is written.
	Level string `yaml:"level" default:"info" enum:"debug,info,warn,error"`

	// Write a record of each request, not only of those that are refused.
	Access bool `yaml:"access" default:"true"`
}

// GatewayLimits is the section of bounds.
type GatewayLimits struct {
	// The most connections at a time.
	Connections int `yaml:"connections" default:"10000"`

	// The largest header of a request, in bytes.
	HeaderBytes int `yaml:"header_bytes" default:"65536"`

	// How long a client may take to send or to receive the next part of a body.
	Stall Duration `yaml:"stall" default:"60s"`
}
