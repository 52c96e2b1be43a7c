package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
)

// A checker collects faults with their places.
type checker struct {
	file   *File
	faults []Fault
}

func (c *checker) fault(path, fix, format string, args ...any) {
	c.faults = append(c.faults, c.file.document.fault(path, fix, format, args...))
}

// rules reports what no single key can know. The rules of the authorization server
// itself are not repeated here: its own check is asked.
func (f *File) rules() []Fault {
	c := &checker{file: f}
	c.trust()
	c.listeners()
	if every := time.Duration(c.file.SelfProbe.Every); every != 0 && every < time.Minute {
		c.fault("self_probe.every", "set it to 0s, 1m or more", "%s is less than a minute; one probe sends hundreds of requests", c.file.SelfProbe.Every)
	}
	c.telemetry(&f.Telemetry, &f.Evidence)
	c.people()
	c.registration()
	c.authServer()
	return c.faults
}

func (c *checker) listeners() {
	l := &c.file.Listen
	seen := map[string]string{}
	for _, a := range []struct{ key, address string }{
		{"listen.public.address", l.Public.Address},
		{"listen.mtls.address", l.MTLS.Address},
		{"listen.admin.address", l.Admin.Address},
	} {
		if a.address == "" && a.key != "listen.public.address" {
			continue
		}
		if path, ok := strings.CutPrefix(a.address, "unix:"); ok && a.key == "listen.mtls.address" {
			if path == "" {
				c.fault(a.key, "write it as unix:/run/certbound.sock", "has no path")
			}
			continue
		}
		_, port, err := net.SplitHostPort(a.address)
		if err != nil {
			c.fault(a.key, "write it as host:port or :port", "%q is not an address to listen on", a.address)
			continue
		}
		if port != "0" && seen[port] != "" {
			c.fault(a.key, "choose another port", "has the same port as %s", seen[port])
		}
		seen[port] = a.key
	}
	pair := func(section string, cert, key Path, plain bool) {
		switch {
		case plain && (cert != "" || key != ""):
			c.fault(section+".insecure_plain_http", "leave out either", "plain HTTP, but a certificate or key is set")
		case !plain && cert == "":
			c.fault(section+".certificate", "name the PEM file with the server's certificate", "is missing")
		case !plain && key == "":
			c.fault(section+".key", "name the PEM file with the private key", "is missing")
		}
	}
	pair("listen.public", l.Public.Certificate, l.Public.Key, l.Public.InsecurePlainHTTP)
	if l.MTLS.Address == "" {
		return
	}
	if l.MTLS.Certificate == "" && l.MTLS.Key == "" && !l.MTLS.InsecurePlainHTTP {
		l.MTLS.Certificate, l.MTLS.Key = l.Public.Certificate, l.Public.Key
		for _, key := range []string{"listen.mtls.certificate", "listen.mtls.key"} {
			c.file.origins[key] = "as listen.public"
		}
	} else {
		pair("listen.mtls", l.MTLS.Certificate, l.MTLS.Key, l.MTLS.InsecurePlainHTTP)
	}
	switch unix := strings.HasPrefix(l.MTLS.Address, "unix:"); {
	case l.MTLS.URL != "":
	case unix:
		c.fault("listen.mtls.url", "set the URL of the proxy, as clients see it", "is missing, and a unix socket has none")
	default:
		if u, err := url.Parse(c.file.Issuer); err == nil {
			if _, port, err := net.SplitHostPort(l.MTLS.Address); err == nil {
				l.MTLS.URL = "https://" + net.JoinHostPort(u.Hostname(), port)
				c.file.origins["listen.mtls.url"] = "from issuer and address"
			}
		}
	}
	c.proxyProtocol()
	if l.MTLS.Source == "tls" {
		if l.MTLS.InsecurePlainHTTP {
			c.fault("listen.mtls.insecure_plain_http", "name the proxy as source, such as nginx, or leave it out", "over plain HTTP there is no certificate on the connection")
		}
		if !l.MTLS.Proxy.isZero() {
			c.fault(proxyKey, "name the proxy as source, such as nginx, or leave it out", "the source tls reads no header")
		}
		return
	}
	c.file.source(nil, c.fault)
}

func (c *checker) trust() {
	t := &c.file.Trust
	names := map[string]bool{}
	for i := range t.Sets {
		c.policy(fmt.Sprintf("trust.sets[%d]", i), &t.Sets[i])
	}
	for i, s := range t.Sets {
		if names[s.Name] {
			c.fault(fmt.Sprintf("trust.sets[%d].name", i), "give each set its own name", "there is another set %q", s.Name)
		}
		names[s.Name] = true
	}
	c.revocationRules()
	var forClients []string
	for _, s := range t.Sets {
		if s.Name != c.file.Listen.MTLS.Proxy.AnchorSet {
			forClients = append(forClients, s.Name)
		}
	}
	switch {
	case t.Default == "" && len(forClients) == 1:
		t.Default = forClients[0]
		c.file.origins["trust.default"] = "the only set"
	case t.Default != "" && !names[t.Default]:
		c.fault("trust.default", "name one of trust.sets", "there is no set %q", t.Default)
	}
	if len(forClients) == 0 && slices.Contains(c.file.Authentication.Methods, clientauth.TLSClientAuth) {
		c.fault("trust.sets", "add a set with the CAs of your clients, or take tls_client_auth out of authentication.methods",
			"no CA is trusted, so that no client could use tls_client_auth")
	}
}

// settings says which key of the file a setting of authserver.Config comes from.
var settings = map[string]string{
	"Issuer":           "issuer",
	"MTLSBaseURL":      "listen.mtls.url",
	"Source":           "listen.mtls.source",
	"AuthMethods":      "authentication.methods",
	"Paths":            "trust.sets",
	"DefaultAnchorSet": "trust.default",
	"Scopes":           "tokens.scopes",
	"Resources":        "tokens.resources",
	"DefaultResource":  "tokens.default_resource",
	"TokenFormat":      "tokens.format",
	"TokenLifetime":    "tokens.lifetime",
	"MaxTokenLifetime": "tokens.max_lifetime",
	"Binding":          "tokens.binding",
	"SigningAlg":       "signing_keys.algorithm",
	"KeyRotation":      "signing_keys",

	"MTLS.Enabled":                      "listen.mtls.address",
	"MTLS.CertificateBoundAccessTokens": "authentication.certificate_bound_access_tokens",
	"InsecureMatchKey":                  "authentication.insecure_match_key",
	"AllowUnboundFallback":              "tokens.allow_unbound_fallback",

	"Registration.Methods":        "registration.methods",
	"Registration.Scopes":         "registration.scopes",
	"Registration.Resources":      "registration.resources",
	"Registration.OpenGrantTypes": "registration.open_grant_types",
	"Registration.AnchorSet":      "registration.anchor_set",
	"Registration.Statements":     "registration.statements",
	"Profile":                     "profile",

	"Authorization.RequestLifetime": "people.request_lifetime",
	"Authorization.FlowLifetime":    "people.flow_lifetime",
	"Authorization.CodeLifetime":    "people.code_lifetime",
	"Authorization.SessionIdle":     "people.session_idle",
	"Authorization.Refresh":         "people.refresh_tokens",
}

// members says the same of the members of a registration.
var members = map[string]string{
	"certbound_anchor_set":     "anchor_set",
	"certbound_sole_san":       "sole_san",
	"certbound_resources":      "resources",
	"certbound_introspects":    "introspects",
	"certbound_may_introspect": "may_introspect",
	"certbound_token_format":   "token_format",
	"certbound_token_lifetime": "token_lifetime",
	"certbound_secret_hash":    "client_secret",
	"certbound_profile":        "profile",
	"certbound_skip_consent":   "skip_consent",

	"certbound_next_subject_kind": "next_subject_kind",
	"certbound_next_subject":      "next_subject",
	"certbound_next_anchor_set":   "next_anchor_set",
	"certbound_next_jwks":         "next_certificates",
	"certbound_next_not_before":   "next_not_before",
	"certbound_current_not_after": "current_not_after",
}

func (c *checker) authServer() {
	cfg := c.file.serverConfig()
	// Neither is used: New only looks whether they are there.
	cfg.Store, cfg.Paths, cfg.HasAnchorSet = memstore.New(), new(pki.Validator), c.file.HasAnchorSet
	cfg.JWKS = jwks.NewFetcher(jwks.FetcherConfig{})
	cfg.Source = certsource.TLS{}
	if _, err := authserver.New(cfg); err != nil {
		for _, e := range unjoin(err) {
			if se, ok := errors.AsType[*authserver.SettingError](e); ok && settings[se.Setting] != "" {
				c.fault(settings[se.Setting], "", "%s", se.Fault)
			} else {
				c.fault("", "", "%s", bare(e))
			}
		}
	}
	rules := c.file.Rules()
	seen := map[string]bool{}
	for i := range c.file.Clients {
		path := fmt.Sprintf("clients[%d]", i)
		decl := &c.file.Clients[i]
		if seen[decl.ID] {
			c.fault(path+".client_id", "give each client its own id", "there is another client %q", decl.ID)
		}
		seen[decl.ID] = true
		if !rules.BoundTokens && c.file.origins[path+".tls_client_certificate_bound_access_tokens"] == "default" {
			decl.BoundTokens = false
		}
		client, faults := c.file.client(decl)
		for _, f := range faults {
			c.fault(path+"."+f.Member, "", "%s", f.Fault)
		}
		if len(faults) > 0 {
			continue
		}
		if err := authserver.ValidateClient(client, rules); err != nil {
			me, ok := errors.AsType[*authserver.MetadataError](err)
			if !ok {
				c.fault(path, "", "%s", bare(err))
				continue
			}
			for _, f := range me.Faults {
				member := f.Member
				if own := members[member]; own != "" {
					member = own
				}
				c.fault(path+"."+member, "", "%s", f.Fault)
			}
		}
		c.file.clients = append(c.file.clients, client)
	}
}

// client turns a declaration into a registration.
func (f *File) client(d *Client) (*authserver.Client, []authserver.Fault) {
	var faults []authserver.Fault
	c := &authserver.Client{
		ID: d.ID, Name: d.Name, AuthMethod: d.AuthMethod,
		SubjectDN: d.SubjectDN, SANDNS: d.SANDNS, SANURI: d.SANURI, SANIP: d.SANIP, SANEmail: d.SANEmail,
		JWKS: d.JWKS, JWKSURI: d.JWKSURI, BoundTokens: d.BoundTokens, Scope: d.Scope,
		AnchorSet: d.AnchorSet, SoleEntry: d.SoleSAN, Resources: d.Resources,
		TokenFormat: d.TokenFormat, TokenLifetime: int(time.Duration(d.TokenLifetime) / time.Second),
		MayIntrospect: d.MayIntrospect, Introspects: d.Introspects, Disabled: d.Disabled,
		NextSubjectKind: d.NextSubjectKind, NextSubject: d.NextSubject, NextAnchorSet: d.NextAnchorSet,
		GrantTypes: d.GrantTypes, RedirectURIs: d.RedirectURIs, PostLogoutRedirectURIs: d.PostLogoutRedirectURIs,
		RequirePAR: d.RequirePAR, RequireSignedRequests: d.RequireSignedRequests, RequestObjectAlg: d.RequestObjectAlg,
		SigningAlg: d.SigningAlg, IDTokenAlg: d.IDTokenAlg, DefaultMaxAge: d.DefaultMaxAge,
		URI: d.URI, LogoURI: d.LogoURI, PolicyURI: d.PolicyURI, TermsURI: d.TermsURI, Contacts: d.Contacts,
		Profile: d.Profile, SkipConsent: d.SkipConsent,
	}
	for _, date := range []struct {
		member, text string
		at           *time.Time
	}{{"next_not_before", d.NextNotBefore, &c.NextNotBefore}, {"current_not_after", d.CurrentNotAfter, &c.CurrentNotAfter}} {
		if date.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, date.text)
		if err != nil {
			at, err = time.Parse(time.DateOnly, date.text)
		}
		if err != nil {
			faults = append(faults, authserver.Fault{Member: date.member, Fault: fmt.Sprintf("expected a date such as 2027-01-31, or a time (RFC 3339), found %q", date.text)})
		}
		*date.at = at
	}
	if len(d.Certificates) > 0 {
		if len(d.JWKS) > 0 || d.JWKSURI != "" {
			faults = append(faults, authserver.Fault{Member: "certificates", Fault: "stands beside jwks or jwks_uri; keep one"})
		}
		c.JWKS, faults = f.keySet("certificates", d.Certificates, faults)
	}
	if len(d.NextCertificates) > 0 {
		c.NextJWKS, faults = f.keySet("next_certificates", d.NextCertificates, faults)
	}
	if d.Secret != "" {
		hash, err := authserver.HashSecret(string(d.Secret))
		if err != nil {
			faults = append(faults, authserver.Fault{Member: "client_secret", Fault: bare(err)})
		}
		c.SecretHash = hash
	}
	return c, faults
}

// keySet makes a key set of certificates in files.
func (f *File) keySet(member string, files []Path, faults []authserver.Fault) (json.RawMessage, []authserver.Fault) {
	var set jose.JSONWebKeySet
	for i, p := range files {
		place := fmt.Sprintf("%s[%d]", member, i)
		certs, err := readCertificates(f.Path(p))
		if err != nil {
			faults = append(faults, authserver.Fault{Member: place, Fault: err.Error()})
			continue
		}
		key, err := jwks.FromCertificate(certs[0].Raw)
		if err != nil {
			faults = append(faults, authserver.Fault{Member: place, Fault: bare(err)})
			continue
		}
		set.Keys = append(set.Keys, key)
	}
	data, err := json.Marshal(set)
	if err != nil {
		faults = append(faults, authserver.Fault{Member: member, Fault: err.Error()})
	}
	return data, faults
}

func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, unjoin(e)...)
		}
		return out
	}
	return []error{err}
}

// bare returns the text of an error without the name of the package in front.
func bare(err error) string {
	text := err.Error()
	for _, p := range []string{"authserver: ", "certsource: ", "jwks: ", "pki: ", "config: ", "gateway: ", "resourceserver: "} {
		text = strings.TrimPrefix(text, p)
	}
	return text
}
