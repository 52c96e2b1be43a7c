// Package config reads the configuration file of certbound serve. One set of structs
// is the file, its commented example, its JSON Schema and its documentation: names and
// defaults come from the tags, and the texts are the doc comments of this source file.
package config

import (
	"encoding/json"
	"reflect"
)

// Settings of certbound serve.
type Config struct {
	// The issuer identifier, exactly as tokens and metadata carry it: an https URL
	// without query and fragment (RFC 8414, Section 2).
	Issuer string `yaml:"issuer" required:"yes" example:"https://as.example:8443"`

	// Where the server listens. Browsers come to one listener and never see a
	// certificate request; clients with certificates come to the other.
	Listen Listen `yaml:"listen"`

	// Where registrations, keys and revocations are kept.
	Store Store `yaml:"store"`

	// Which CAs may issue certificates for clients of the PKI method.
	Trust Trust `yaml:"trust"`

	// How clients prove who they are.
	Authentication Authentication `yaml:"authentication"`

	// What the server issues.
	Tokens Tokens `yaml:"tokens"`

	// A profile that all clients are held to: fapi2, the FAPI 2.0 Security Profile with
	// mutual TLS. Settings that would break it are refused.
	Profile string `yaml:"profile" enum:"fapi2"`

	// People who log in, and the clients that act for them.
	People People `yaml:"people"`

	// Keys that sign access tokens. They are made at the first start and live in
	// the store.
	SigningKeys SigningKeys `yaml:"signing_keys"`

	// How key sets behind a client's jwks_uri are fetched.
	JWKSURI JWKSURI `yaml:"jwks_uri"`

	// How the server sees from outside that no forged certificate header gets through
	// whatever is in front of it.
	SelfProbe SelfProbe `yaml:"self_probe"`

	// Clients that register themselves (RFC 7591).
	Registration Registration `yaml:"registration"`

	// What is written to stderr.
	Log Log `yaml:"log"`

	// Traces and metrics for a receiver of the OpenTelemetry protocol, beside /metrics of
	// the admin listener (see docs/telemetry.md).
	Telemetry Telemetry `yaml:"telemetry"`

	// The folder that keeps the certificates of requests, so that 'certbound explain
	// --from-log' can judge a request of the log anew.
	Evidence Evidence `yaml:"evidence"`

	// Bounds on what a stranger can send.
	Limits Limits `yaml:"limits"`

	// Clients that are declared here. They cannot be changed by command. Others
	// are registered with 'certbound client add'.
	Clients []Client `yaml:"clients"`
}

// Listen is the section of addresses.
type Listen struct {
	// The listener that takes no certificates: metadata, keys, and clients with
	// other credentials.
	Public PublicListener `yaml:"public"`

	// The listener that asks for certificates. The metadata announce it in
	// mtls_endpoint_aliases (RFC 8705, Section 5).
	MTLS MTLSListener `yaml:"mtls"`

	// Health, readiness and metrics, over plain HTTP. Strangers must not reach it.
	Admin AdminListener `yaml:"admin"`

	// How long the server goes on as before when it is told to stop, while /readyz says
	// no already: as long as load balancers take to notice.
	DrainFor Duration `yaml:"drain_for" default:"0s"`

	// How long requests may take to finish after that.
	ShutdownGrace Duration `yaml:"shutdown_grace" default:"10s"`
}

// PublicListener is the listener without certificates.
type PublicListener struct {
	// Host and port; without a host, all interfaces.
	Address string `yaml:"address" default:":8443"`

	// The server's certificate with its intermediates, PEM. A changed file is
	// picked up.
	Certificate Path `yaml:"certificate" example:"server.pem"`

	// The private key for it, PEM.
	Key Path `yaml:"key" example:"server-key.pem"`

	// Plain HTTP, for a proxy that ends TLS on the same machine or pod.
	InsecurePlainHTTP bool `yaml:"insecure_plain_http" default:"false"`
}

// MTLSListener is the listener with certificates.
type MTLSListener struct {
	// Host and port; without a host, all interfaces. Or unix: and the path of a socket,
	// for a proxy on the same machine.
	Address string `yaml:"address" default:":8444"`

	// The base URL that clients use. If left out: https, the issuer's host and this
	// listener's port.
	URL string `yaml:"url" example:"https://mtls.as.example:8444"`

	// The server's certificate with its intermediates, PEM. If left out, that of
	// the public listener.
	Certificate Path `yaml:"certificate"`

	// The private key for it, PEM.
	Key Path `yaml:"key"`

	// Plain HTTP, for a proxy that ends TLS. Not with the source tls.
	InsecurePlainHTTP bool `yaml:"insecure_plain_http" default:"false"`

	// Where the client certificate is read: from the TLS connection, or from the
	// header fields that a proxy sets, which is named here (docs/proxies). There is no
	// fallback from one to another.
	Source string `yaml:"source" default:"tls" enum:"tls,rfc9440,rfc9440-draft,nginx,ingress-nginx,apache,haproxy,xfcc,traefik,traefik-2.8,caddy,alb,alb-passthrough,cloudfront,google-cloud,azure-app-service,azure-application-gateway,cloudflare,cloudflare-forwarding,f5,openshift,fastly,kong,header-der,header-pem,header-escaped-pem,header-sha256,attributes"`

	// The proxy that the source belongs to. Not with the source tls.
	Proxy Proxy `yaml:"proxy"`

	// Load balancers, as addresses or prefixes, whose connections begin with a header of
	// the PROXY protocol, version 1 or 2. The address in it then counts as that of the
	// peer. From these it is demanded, and from nobody else it is understood.
	ProxyProtocol []string `yaml:"proxy_protocol"`
}

// Proxy is the section of the proxy in front of the mutual-TLS listener: how it is known,
// and how its fields are called. One of prefixes, thumbprints, public_keys, subjects,
// spiffe_ids and unix_socket is required. If there are prefixes, the peer has to have one
// of them; if there is anything of its certificate, one of that has to fit.
type Proxy struct {
	// The peers that are the proxy, as addresses or prefixes. Over plain HTTP only
	// loopback addresses are believed, unless insecure_private_network is set.
	Prefixes []string `yaml:"prefixes"`

	// The x5t#S256 of certificates that the proxy shows as TLS client.
	Thumbprints []string `yaml:"thumbprints"`

	// The SHA-256 of the keys of these certificates (SubjectPublicKeyInfo), in unpadded
	// base64url, so that the certificates can be renewed.
	PublicKeys []string `yaml:"public_keys"`

	// The subjects of these certificates, as RFC 4514 text. They need anchor_set.
	Subjects []string `yaml:"subjects"`

	// The SPIFFE IDs of these certificates. They need anchor_set.
	SPIFFEIDs []string `yaml:"spiffe_ids"`

	// The set of trust.sets with the CA that issues to proxies, and to nobody else.
	// Clients cannot be registered for it.
	AnchorSet string `yaml:"anchor_set"`

	// Believe every peer that connects over a unix socket (address: unix:/run/x.sock).
	UnixSocket bool `yaml:"unix_socket" default:"false"`

	// Allow the proxy to connect over plain HTTP from an address that is not a
	// loopback address. Whoever can send from there can be any client.
	InsecurePrivateNetwork bool `yaml:"insecure_private_network" default:"false"`

	// The field with the certificate, if the proxy calls it otherwise than the table in
	// docs/proxies.
	Field string `yaml:"field"`

	// The field with the chain. A name that ends in - or _ is followed by a number from 0 on.
	ChainField string `yaml:"chain_field"`

	// The field in which the proxy says whether it has verified the certificate.
	VerifyField string `yaml:"verify_field"`

	// Rely on the proxy's validation of certificates, and say what it enforces, for the
	// records, such as: partners of 2026. If left out, paths are validated here, for
	// each client against its own set.
	Verifies string `yaml:"verifies"`

	// With the source xfcc: how many trusted proxies append an element to
	// X-Forwarded-Client-Cert. Required there.
	TrustedHops int `yaml:"trusted_hops" default:"0"`

	// With the source attributes: the fields of single names.
	Attributes ProxyAttributes `yaml:"attributes"`
}

func (p *Proxy) isZero() bool { return reflect.ValueOf(*p).IsZero() }

// ProxyAttributes is the section of fields that hold a subject or alternative names, in
// place of a certificate. They are enough for tls_client_auth and bind no token.
type ProxyAttributes struct {
	// The field with the subject.
	SubjectDN string `yaml:"subject_dn"`

	// How the subject is written: rfc4514 (CN=x,O=Agora) or legacy (/O=Agora/CN=x).
	DNSyntax string `yaml:"dn_syntax" enum:"rfc4514,legacy"`

	// The field with dNSNames. Several stand in several lines of it.
	SANDNS string `yaml:"san_dns"`

	// The field with uniformResourceIdentifiers.
	SANURI string `yaml:"san_uri"`

	// The field with iPAddresses.
	SANIP string `yaml:"san_ip"`

	// The field with rfc822Names.
	SANEmail string `yaml:"san_email"`
}

// AdminListener is the listener of the operator.
type AdminListener struct {
	// Host and port. Empty: no such listener.
	Address string `yaml:"address" default:"127.0.0.1:9090"`
}

// Store is the section of the database.
type Store struct {
	// The SQLite database file. It is made with mode 0600 if it does not exist.
	SQLite Path `yaml:"sqlite" default:"certbound.db"`
}

// Trust is the section of client CAs. No set: no client of the PKI method is trusted,
// and the system's roots never are.
type Trust struct {
	// The set for clients that name none. If left out, a client has to name one,
	// unless there is only one set.
	Default string `yaml:"default"`

	// The sets of trust anchors. A broken file stops the start; a file that breaks
	// later keeps the old set, loudly.
	Sets []AnchorSet `yaml:"sets"`

	// How often the files are looked at for changes.
	PollInterval Duration `yaml:"poll_interval" default:"2s"`

	// The folder that keeps fetched CRLs over a restart. It is made when a set fetches
	// any.
	RevocationFolder Path `yaml:"revocation_folder" default:"revocation"`
}

// AnchorSet is a named list of CAs.
type AnchorSet struct {
	// The name, for a client's anchor_set.
	Name string `yaml:"name" required:"yes" example:"clients"`

	// PEM files, or folders of them, with the CAs that may issue client
	// certificates.
	Anchors []Path `yaml:"anchors" required:"yes" example:"client-ca.pem"`

	// PEM files, or folders of them, with intermediates that complete a path. They
	// are never anchors.
	Intermediates []Path `yaml:"intermediates"`

	// A named policy, which the keys below change: default; fapi2, with what FAPI asks of
	// keys; or open-banking, for the certificates of open banking directories (see
	// docs/trust-policy.md).
	Profile string `yaml:"profile" default:"default" enum:"default,fapi2,open-banking"`

	// Whether anchors may be CAs of the public web, which issue to everybody who has a
	// web site: refused or allowed. With allowed, limit the set by permitted or
	// pinned_issuers, and register clients by names that only they can have.
	PublicWebCA string `yaml:"public_web_ca" default:"refused" enum:"refused,allowed"`

	// The most certificates that a client may present, its own included.
	MaxChain int `yaml:"max_chain" default:"10"`

	// The most certificates of a path, the client's and the anchor included. 0: no bound
	// of its own. With 2, the anchors issue to clients directly.
	MaxPath int `yaml:"max_path" default:"0"`

	// The longest time that a client certificate may be made for, from its beginning to
	// its end. 0s: any.
	MaxLifetime Duration `yaml:"max_lifetime" default:"0s"`

	// The smallest RSA key, in bits.
	MinRSABits int `yaml:"min_rsa_bits" default:"2048"`

	// The kinds of keys that may stand in a path. If left out, all of these.
	Keys []string `yaml:"keys" enum:"RSA,P-256,P-384,P-521,Ed25519"`

	// The algorithms that may have signed the certificates of a path. If left out, all of
	// these. MD5 and SHA-1 cannot be allowed.
	SignatureAlgorithms []string `yaml:"signature_algorithms" enum:"SHA256-RSA,SHA384-RSA,SHA512-RSA,SHA256-RSAPSS,SHA384-RSAPSS,SHA512-RSAPSS,ECDSA-SHA256,ECDSA-SHA384,ECDSA-SHA512,Ed25519"`

	// Certificate policies, as OIDs. The path has to be valid for at least one of them
	// (RFC 5280, Section 6.1). If left out, none is required.
	CertificatePolicies []string `yaml:"certificate_policies"`

	// The SHA-256 of certificates or keys (SubjectPublicKeyInfo) of CAs, in unpadded
	// base64url or hexadecimal. At least one of these CAs has to stand in the path. If
	// left out, any will do.
	PinnedIssuers []string `yaml:"pinned_issuers"`

	// Limits on the names in client certificates, beside those of the CAs themselves.
	Permitted Permitted `yaml:"permitted"`

	// Refuse a client certificate that does not list the extended key usage
	// clientAuth itself. Otherwise one without the extension passes, too.
	RequireExtKeyUsage bool `yaml:"require_ext_key_usage" default:"false"`

	// Refuse a client certificate without a key usage.
	RequireKeyUsage bool `yaml:"require_key_usage" default:"false"`

	// Accept a client certificate that is a CA certificate itself. Only with the profile
	// default.
	AllowCALeaf bool `yaml:"allow_ca_leaf" default:"false"`

	// How the server learns that a certificate was revoked.
	Revocation Revocation `yaml:"revocation"`
}

// Revocation is the section of CRLs and OCSP for the certificates of a set. Only
// certificates with a valid path are looked up. What is known to be revoked is always
// refused; the keys on_… say what happens where nothing could be found out.
type Revocation struct {
	// Where answers come from: off, crl, ocsp, or ocsp_then_crl, which looks into CRLs
	// where OCSP has no answer.
	Mode string `yaml:"mode" default:"off" enum:"off,crl,ocsp,ocsp_then_crl"`

	// CRLs, in DER or PEM: files, folders of them, and http or https URLs. Delta CRLs
	// stand beside their base.
	CRL []string `yaml:"crl"`

	// Also take the distribution points that a certificate names.
	CRLFromCertificates bool `yaml:"crl_from_certificates" default:"false"`

	// URLs of OCSP responders, asked in turn.
	OCSP []string `yaml:"ocsp"`

	// Ask the responders that a certificate names, if ocsp has none.
	OCSPFromCertificates bool `yaml:"ocsp_from_certificates" default:"false"`

	// Nonces in OCSP requests: off; send, which refuses an answer with another one; or
	// require, which also refuses an answer without one.
	OCSPNonce string `yaml:"ocsp_nonce" default:"off" enum:"off,send,require"`

	// Ask by GET, which caches can answer.
	OCSPGet bool `yaml:"ocsp_get" default:"false"`

	// The longest time that an OCSP answer is used.
	OCSPMaxAge Duration `yaml:"ocsp_max_age" default:"1h"`

	// What happens to a certificate for which no source speaks: refuse or accept.
	OnUnknown string `yaml:"on_unknown" default:"refuse" enum:"refuse,accept"`

	// What happens if the list or answer has ended.
	OnStale string `yaml:"on_stale" default:"refuse" enum:"refuse,accept"`

	// How long after its end on_stale: accept still holds. 0s: without end.
	MaxStale Duration `yaml:"max_stale" default:"0s"`

	// What happens if a source is down, too slow, or has no answer that can be used.
	OnUnreachable string `yaml:"on_unreachable" default:"refuse" enum:"refuse,accept"`

	// Check the client's certificate only, and not the CAs above it.
	InsecureLeafOnly bool `yaml:"insecure_leaf_only" default:"false"`

	// How long a request waits for a source that is needed for the first time.
	Wait Duration `yaml:"wait" default:"5s"`

	// How often CRLs are fetched. One that ends before is fetched before.
	Refresh Duration `yaml:"refresh" default:"1h"`

	// The least time between a fetch that failed and the next.
	Retry Duration `yaml:"retry" default:"30s"`

	// The largest CRL, in octets of DER.
	MaxBytes int `yaml:"max_bytes" default:"67108864"`

	// Hosts that certificates may name though their addresses are not public.
	AllowHosts []string `yaml:"allow_hosts"`

	// PEM files with the CAs of https sources. If left out, the system's.
	RootCAs []Path `yaml:"root_cas"`
}

// Permitted is the section of limits on names. If a list is there, every name of its kind
// in a client certificate has to fit one of its entries (RFC 5280, Section 4.2.1.10).
// Names of the other kinds are not limited.
type Permitted struct {
	// Ends of subjects, as RFC 4514 text: O=Agora,C=GB permits what ends with it.
	Subjects []string `yaml:"subjects"`

	// Host names, each with all names below it. With a dot in front, only those below.
	DNS []string `yaml:"dns"`

	// Hosts of URIs. With a dot in front, the hosts below.
	URI []string `yaml:"uri"`

	// Mailboxes, or hosts with all their mailboxes. With a dot in front, the hosts below.
	Email []string `yaml:"email"`

	// Networks, such as 10.0.0.0/8.
	IP []string `yaml:"ip"`
}

// Authentication is the section of client authentication.
type Authentication struct {
	// The methods that clients may be registered for, as the metadata list them.
	// client_secret_basic, private_key_jwt and none do without a certificate; the
	// token can still be bound to one (RFC 8705, Section 3).
	Methods []string `yaml:"methods" default:"tls_client_auth,self_signed_tls_client_auth" enum:"tls_client_auth,self_signed_tls_client_auth,client_secret_basic,private_key_jwt,none"`

	// Bind access tokens to certificates (RFC 8705, Section 3).
	BoundTokens bool `yaml:"certificate_bound_access_tokens" default:"true"`

	// Let a self-signed client use any certificate with a registered public key.
	// RFC 8705, Section 2.2, wants the registered certificate.
	InsecureMatchKey bool `yaml:"insecure_match_key" default:"false"`
}

// Tokens is the section of access tokens.
type Tokens struct {
	// jwt (RFC 9068), which resource servers check by themselves, or opaque, which
	// they have to ask about (RFC 7662).
	Format string `yaml:"format" default:"jwt" enum:"jwt,opaque"`

	// How long a token is valid.
	Lifetime Duration `yaml:"lifetime" default:"10m"`

	// The longest lifetime that a client may have.
	MaxLifetime Duration `yaml:"max_lifetime" default:"1d"`

	// End a token no later than the certificate that it is bound to.
	CapAtCertificate bool `yaml:"cap_at_certificate" default:"true"`

	// When a token is bound: on-request, if the client is registered for bound
	// tokens; always-if-certificate, also if a client without that registration
	// comes with a certificate; never.
	Binding string `yaml:"binding" default:"on-request" enum:"on-request,always-if-certificate,never"`

	// Issue an unbound token to a client that is registered for bound tokens but
	// came without a certificate. Otherwise it is refused.
	AllowUnboundFallback bool `yaml:"allow_unbound_fallback" default:"false"`

	// The scopes that exist.
	Scopes []string `yaml:"scopes" example:"read,write"`

	// The resources that tokens may be for (RFC 8707): absolute URIs.
	Resources []string `yaml:"resources" required:"yes" example:"https://api.example"`

	// The resource of a request that names none. If left out and there is one
	// resource, that one.
	DefaultResource string `yaml:"default_resource"`
}

// SigningKeys is the section of the server's own keys.
type SigningKeys struct {
	// The algorithm of new keys.
	Algorithm string `yaml:"algorithm" default:"ES256" enum:"ES256,PS256,EdDSA,RS256"`

	// How long a key signs. 0s: until 'certbound keys rotate'.
	RotateEvery Duration `yaml:"rotate_every" default:"30d"`

	// How long a new key is published before it signs, so that everybody has seen
	// it.
	Prepublish Duration `yaml:"prepublish" default:"10m"`
}

// JWKSURI is the section of fetched key sets.
type JWKSURI struct {
	// Allow addresses in internal networks. A client's metadata then choose where
	// this server connects to.
	InsecureAllowPrivate bool `yaml:"insecure_allow_private" default:"false"`

	// Hosts that are exempt from the guard, with port or without.
	AllowHosts []string `yaml:"allow_hosts"`

	// PEM files with CAs for the hosts. If left out, the system's.
	RootCAs []Path `yaml:"root_cas"`
}

// SelfProbe is the section of the server's look at itself: it sends forged certificate
// headers to its own public addresses, issuer and listen.mtls.url, and raises an alarm in
// the log and the metrics if one is believed. It never stops serving.
type SelfProbe struct {
	// How often, at least every minute apart. 0s: never.
	Every Duration `yaml:"every" default:"0s"`

	// PEM files with CAs for the public addresses. If left out, the system's.
	RootCAs []Path `yaml:"root_cas"`
}

// Log is the section of messages.
type Log struct {
	// auto: text on a terminal, JSON otherwise.
	Format string `yaml:"format" default:"auto" enum:"auto,text,json"`

	// The least level that is written.
	Level string `yaml:"level" default:"info" enum:"debug,info,warn,error"`
}

// Telemetry is the section of OpenTelemetry. What is left out is as the environment
// variables of OpenTelemetry say (OTEL_…). No request waits for the receiver or fails
// because of it; what it does not take is dropped.
type Telemetry struct {
	// Whether, and over what: auto, which is off unless OTEL_EXPORTER_OTLP_ENDPOINT,
	// OTEL_TRACES_EXPORTER or the like are set; off; grpc; or http, which is protobuf over
	// HTTP.
	OTLP string `yaml:"otlp" default:"auto" enum:"auto,off,grpc,http"`

	// The URL of the receiver, such as http://127.0.0.1:4317, without the path of a signal.
	// If left out, OTEL_EXPORTER_OTLP_ENDPOINT, or this machine.
	Endpoint string `yaml:"endpoint"`

	// Send traces.
	Traces bool `yaml:"traces" default:"true"`

	// Send metrics: those of /metrics.
	Metrics bool `yaml:"metrics" default:"true"`

	// The part of the traces that is recorded, such as 10% or 0.1%, of those that the
	// caller has not decided about. If left out, OTEL_TRACES_SAMPLER, or all.
	Sample string `yaml:"sample"`

	// Begin a trace of one's own for each request, and link it to the caller's. Otherwise
	// the caller's goes on, and the caller decides whether it is recorded: whoever wants to
	// can have each of its requests recorded.
	IgnoreParent bool `yaml:"ignore_parent" default:"false"`

	// The name of the service. If left out, OTEL_SERVICE_NAME, or certbound- and the
	// command.
	Service string `yaml:"service"`

	// The time between two exports of metrics. 0s: OTEL_METRIC_EXPORT_INTERVAL, or 1m.
	Interval Duration `yaml:"interval" default:"0s"`

	// PEM files with CAs for an https receiver. If left out, the system's.
	RootCAs []Path `yaml:"root_cas"`

	// The certificate to show to an https receiver, PEM.
	Certificate Path `yaml:"certificate"`

	// The private key for it, PEM.
	Key Path `yaml:"key"`
}

// Evidence is the section of kept certificates: each once, by its digest, and for each
// record of the log the digests of the chain that came with it. Tokens are never kept.
type Evidence struct {
	// The folder. It is made with mode 0700. Empty: nothing is kept.
	Folder Path `yaml:"folder"`

	// The most bytes of certificates in it; the oldest are removed.
	MaxBytes int `yaml:"max_bytes" default:"67108864"`

	// How long a certificate is kept after it was last seen.
	MaxAge Duration `yaml:"max_age" default:"30d"`
}

// Limits is the section of bounds.
type Limits struct {
	// The most connections at a time, for each listener.
	Connections int `yaml:"connections" default:"10000"`

	// The largest form, in bytes.
	FormBytes int `yaml:"form_bytes" default:"65536"`

	// The most registrations that are held in memory.
	CachedClients int `yaml:"cached_clients" default:"100000"`
}

// Client is a registration. Names that RFC 7591 or RFC 8705 register are theirs.
type Client struct {
	// The client_id.
	ID string `yaml:"client_id" required:"yes" example:"billing"`

	// A name for people.
	Name string `yaml:"client_name"`

	// The one method that the client uses.
	AuthMethod string `yaml:"token_endpoint_auth_method" required:"yes" enum:"tls_client_auth,self_signed_tls_client_auth,client_secret_basic,private_key_jwt,none" example:"tls_client_auth"`

	// The subject as RFC 4514 text. Exactly one of these five for tls_client_auth
	// (RFC 8705, Section 2.1.2).
	SubjectDN string `yaml:"tls_client_auth_subject_dn" example:"CN=billing,O=Agora"`

	// A dNSName of the certificate.
	SANDNS string `yaml:"tls_client_auth_san_dns"`

	// A uniformResourceIdentifier of the certificate.
	SANURI string `yaml:"tls_client_auth_san_uri"`

	// An iPAddress of the certificate.
	SANIP string `yaml:"tls_client_auth_san_ip"`

	// An rfc822Name of the certificate.
	SANEmail string `yaml:"tls_client_auth_san_email"`

	// The key set, for self_signed_tls_client_auth with the certificate in x5c, or
	// for private_key_jwt.
	JWKS json.RawMessage `yaml:"jwks"`

	// The address of the key set. Either this, jwks or certificates.
	JWKSURI string `yaml:"jwks_uri"`

	// PEM files with the client's own certificates, in place of jwks.
	Certificates []Path `yaml:"certificates"`

	// The secret, for client_secret_basic. It belongs into the environment or a
	// file: env:NAME or file:PATH.
	Secret Secret `yaml:"client_secret"`

	// Bind the client's tokens to its certificate. If the server binds no tokens,
	// leave it out.
	BoundTokens bool `yaml:"tls_client_certificate_bound_access_tokens" default:"true"`

	// The scopes that it may have, separated by spaces.
	Scope string `yaml:"scope" example:"read"`

	// The resources that it may ask for. If left out, the default one.
	Resources []string `yaml:"resources"`

	// The set of CAs for it. If left out, the default one.
	AnchorSet string `yaml:"anchor_set"`

	// The registered SAN has to be the only one of its kind.
	SoleSAN bool `yaml:"sole_san" default:"false"`

	// jwt or opaque. If left out, as for all.
	TokenFormat string `yaml:"token_format" enum:"jwt,opaque"`

	// How long its tokens are valid. If left out, as for all.
	TokenLifetime Duration `yaml:"token_lifetime"`

	// Let it use the introspection endpoint: it is a resource server.
	MayIntrospect bool `yaml:"may_introspect" default:"false"`

	// The resources that it serves: it sees the tokens for them. If left out, the
	// default one.
	Introspects []string `yaml:"introspects"`

	// While the client changes its subject: the name of the member that is next, such
	// as tls_client_auth_san_dns. The one above is the current one.
	NextSubjectKind string `yaml:"next_subject_kind" enum:"tls_client_auth_subject_dn,tls_client_auth_san_dns,tls_client_auth_san_uri,tls_client_auth_san_ip,tls_client_auth_san_email"`

	// The next value of that member.
	NextSubject string `yaml:"next_subject"`

	// The next set of CAs for it, while it changes its CA.
	NextAnchorSet string `yaml:"next_anchor_set"`

	// PEM files with the client's next certificates, while it changes them.
	NextCertificates []Path `yaml:"next_certificates"`

	// When what is next begins to be accepted: a date or a time (RFC 3339). If left
	// out, at once.
	NextNotBefore string `yaml:"next_not_before"`

	// When the current one ends to be accepted. Between the two, both are. If left out,
	// it is accepted until what is next is written in its place.
	CurrentNotAfter string `yaml:"current_not_after"`

	// The grant types that it may use. If left out, authorization_code for a client with
	// redirect_uris, and otherwise client_credentials.
	GrantTypes []string `yaml:"grant_types" enum:"client_credentials,authorization_code,refresh_token"`

	// Where codes may go. Each is compared as it stands, but for the port of a loopback
	// address with http.
	RedirectURIs []string `yaml:"redirect_uris"`

	// Where the browser may go after a logout.
	PostLogoutRedirectURIs []string `yaml:"post_logout_redirect_uris"`

	// Refuse its authorization requests that were not pushed (RFC 9126).
	RequirePAR bool `yaml:"require_pushed_authorization_requests" default:"false"`

	// Refuse its authorization requests without a signed request object (RFC 9101).
	RequireSignedRequests bool `yaml:"require_signed_request_object" default:"false"`

	// The one algorithm of its request objects. If left out, any that is allowed.
	RequestObjectAlg string `yaml:"request_object_signing_alg"`

	// The one algorithm of private_key_jwt. If left out, any that is allowed.
	SigningAlg string `yaml:"token_endpoint_auth_signing_alg"`

	// The algorithm of ID tokens: that of the server.
	IDTokenAlg string `yaml:"id_token_signed_response_alg"`

	// Seconds after which a person has to log in again. 0: no such demand.
	DefaultMaxAge int `yaml:"default_max_age" default:"0"`

	// The client's home page, for the pages that people see.
	URI string `yaml:"client_uri"`

	// Its logo.
	LogoURI string `yaml:"logo_uri"`

	// What it does with people's data.
	PolicyURI string `yaml:"policy_uri"`

	// Its terms of service.
	TermsURI string `yaml:"tos_uri"`

	// People to talk to.
	Contacts []string `yaml:"contacts"`

	// fapi2: hold this client to the FAPI 2.0 Security Profile.
	Profile string `yaml:"profile" enum:"fapi2"`

	// Do not ask people what they allow: for clients of your own.
	SkipConsent bool `yaml:"skip_consent" default:"false"`

	// Refuse the client for now.
	Disabled bool `yaml:"disabled" default:"false"`
}
