package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/metadata"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/gateway/extauthz"
)

// A GatewayFile is the configuration file of the gateway with the places of its keys.
type GatewayFile struct {
	Gateway
	document
}

// LoadGateway reads and checks a configuration file of the gateway, as [Load] does.
func LoadGateway(name string) (*GatewayFile, error) {
	data, err := readLimited(name, maxFile)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return ParseGateway(name, data, os.LookupEnv)
}

// ParseGateway is [LoadGateway] for text that is read already.
func ParseGateway(name string, data []byte, lookupEnv func(string) (string, bool)) (*GatewayFile, error) {
	file := &GatewayFile{}
	if err := file.parse(name, data, gatewayRoot(), &file.Gateway, lookupEnv, file.rules); err != nil {
		return nil, err
	}
	return file, nil
}

// server returns a file of the server with the same listener and the same trust, whose
// rules are the same.
func (f *GatewayFile) server() *File {
	s := &File{document: f.document}
	s.Trust = f.Trust
	s.Listen.MTLS = MTLSListener{
		Address: f.Listen.Address, Certificate: f.Listen.Certificate, Key: f.Listen.Key,
		InsecurePlainHTTP: f.Listen.InsecurePlainHTTP,
		Source:            f.Listen.Source, Proxy: f.Listen.Proxy, ProxyProtocol: f.Listen.ProxyProtocol,
	}
	return s
}

// moved gives faults of a listener of the server the keys of this file.
func (f *GatewayFile) moved(faults []Fault) []Fault {
	for i, fault := range faults {
		key := strings.Replace(fault.Path, "listen.mtls.", "listen.", 1)
		p := f.place(key)
		faults[i].Path, faults[i].Line, faults[i].Column = key, p.line, p.column
	}
	return faults
}

func (f *GatewayFile) rules() []Fault {
	var faults []Fault
	fault := func(path, fix, format string, args ...any) {
		faults = append(faults, f.fault(path, fix, format, args...))
	}
	c := &checker{file: f.server()}
	c.trust()
	c.proxyProtocol()
	c.telemetry(&f.Telemetry, &f.Evidence)
	f.Trust = c.file.Trust
	l := &f.Listen
	if l.Source != "tls" {
		f.source(c.file, nil, c.fault)
	} else if !l.Proxy.isZero() {
		fault("listen.proxy", "name the proxy as source, such as nginx, or leave it out", "the source tls reads no header")
	}
	faults = append(faults, f.moved(c.faults)...)
	f.listenRules(fault)
	f.frontRules(fault)
	f.tokenRules(fault)
	f.profileRules(fault)
	for i := range f.Routes {
		f.routeRules(fmt.Sprintf("routes[%d]", i), &f.Routes[i], fault)
	}
	return faults
}

type faultFunc = func(path, fix, format string, args ...any)

func (f *GatewayFile) listenRules(fault faultFunc) {
	l := &f.Listen
	for _, a := range []struct{ key, address string }{{"listen.address", l.Address}, {"listen.admin.address", l.Admin.Address}} {
		if strings.HasPrefix(a.address, "unix:") && a.key == "listen.address" || a.address == "" && a.key != "listen.address" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.address); err != nil {
			fault(a.key, "write it as host:port or :port", "%q is not an address to listen on", a.address)
		}
	}
	switch {
	case l.H2C && !l.InsecurePlainHTTP:
		fault("listen.h2c", "leave it out: over TLS, ALPN chooses HTTP/2", "is for plain HTTP")
	case l.InsecurePlainHTTP && (l.Certificate != "" || l.Key != ""):
		fault("listen.insecure_plain_http", "leave out either", "plain HTTP, but a certificate or key is set")
	case l.InsecurePlainHTTP && l.Source == "tls":
		fault("listen.insecure_plain_http", "name the proxy as source, such as nginx, or leave it out", "over plain HTTP there is no certificate on the connection")
	case !l.InsecurePlainHTTP && strings.HasPrefix(l.Address, "unix:") && l.Certificate == "":
		fault("listen.insecure_plain_http", "set it to true: nobody listens in on a socket; or name certificate and key", "a socket without TLS, but it is not set")
	case !l.InsecurePlainHTTP && l.Certificate == "":
		fault("listen.certificate", "name the PEM file with the server's certificate", "is missing")
	case !l.InsecurePlainHTTP && l.Key == "":
		fault("listen.key", "name the PEM file with the private key", "is missing")
	}
}

// frontRules reports settings that do not go with what comes to the address.
func (f *GatewayFile) frontRules(fault faultFunc) {
	l := &f.Listen
	if l.Source == "envoy-peer" && l.Front != "envoy-grpc" {
		fault("listen.source", "set front to envoy-grpc, or name what forwards the certificate", "envoy-peer belongs to ext_authz over gRPC")
	}
	if l.Front == "proxy" {
		return
	}
	if l.Source == "tls" {
		fault("listen.source", "name what forwards the client's certificate, such as "+map[string]string{
			"envoy-http": "xfcc", "envoy-grpc": "envoy-peer or xfcc", "nginx": "nginx", "traefik": "traefik", "caddy": "caddy",
		}[l.Front], "on the connection there is the certificate of the proxy that asks")
	}
	if l.Front == "envoy-grpc" && len(l.ProxyProtocol) > 0 {
		fault("listen.proxy_protocol", "let Envoy connect without it, or leave it out", "is not understood by the front envoy-grpc")
	}
}

// profileRules reports what would break the profile.
func (f *GatewayFile) profileRules(fault faultFunc) {
	if f.Profile == "" {
		return
	}
	const section = " (FAPI 2.0 Security Profile, Section 5.3.4"
	t := &f.Tokens
	for i, r := range f.Routes {
		if !r.Anonymous && r.Binding != "required" {
			fault(fmt.Sprintf("routes[%d].binding", i), "leave it out", "%s takes bound tokens only"+section+" (5)), found %s", f.Profile, r.Binding)
		}
	}
	switch {
	case !t.Revocations.Follow && t.Introspection != "always":
		fault("tokens.revocations.follow", "set it to true, or introspection to always", "%s refuses revoked tokens"+section+" (3)), but nobody says which", f.Profile)
	case t.Revocations.Follow && t.Revocations.OnStale == "accept":
		fault("tokens.revocations.on_stale", "leave it out", "%s refuses revoked tokens"+section+" (3)), and so some may pass", f.Profile)
	}
	if t.Leeway > Duration(time.Minute) {
		fault("tokens.leeway", "write 1m or less", "%s refuses tokens from more than a minute ahead (FAPI 2.0 Security Profile, Section 5.3.2.1 (13)), found %s", f.Profile, t.Leeway)
	}
}

func (f *GatewayFile) tokenRules(fault faultFunc) {
	t := &f.Tokens
	in, rev := &t.Introspector, &t.Revocations
	if rev.Follow {
		if rev.Every < Duration(time.Second) {
			fault("tokens.revocations.every", "write 1s or more", "expected at least 1s, found %s", rev.Every)
		} else if rev.StaleAfter < rev.Every {
			fault("tokens.revocations.stale_after", "write at least every, better some times as much", "expected at least every (%s), found %s", rev.Every, rev.StaleAfter)
		}
		if rev.MaxEntries < 1 {
			fault("tokens.revocations.max_entries", "write a number of 1 or more", "expected a positive number, found %d", rev.MaxEntries)
		}
	}
	if t.Introspection == "never" && !rev.Follow {
		if in.ClientID != "" {
			fault("tokens.introspector", "set introspection to opaque or always, or revocations.follow to true, or leave it out", "is not used")
		}
		return
	}
	if in.StaleFor > 0 && in.CacheFor == 0 {
		fault("tokens.introspector.stale_for", "set cache_for, or leave it out", "no answer is remembered")
	}
	if in.InactiveSize < 1 {
		fault("tokens.introspector.inactive_size", "write a number of 1 or more", "expected a positive number, found %d", in.InactiveSize)
	}
	for _, e := range []struct{ key, address string }{{"tokens.introspector.endpoint", in.Endpoint}, {"tokens.revocations.endpoint", rev.Endpoint}} {
		if err := metadata.CheckEndpoint(e.address); e.address != "" && err != nil {
			fault(e.key, "write an https URL, or leave it out", "%s", err)
		}
	}
	if in.ClientID == "" {
		fault("tokens.introspector.client_id", "register the gateway at the issuer, as a client that may introspect", "is missing")
	}
	pair("tokens.introspector", in.Certificate, in.Key, fault)
	if (in.Secret == "") == (in.Certificate == "") {
		fault("tokens.introspector", "", "expected either certificate and key, or client_secret")
	}
}

// pair reports one of two files without the other.
func pair(section string, cert, key Path, fault faultFunc) {
	if (cert == "") != (key == "") {
		fault(section, "set both or none", "certificate and key belong together")
	}
}

func (f *GatewayFile) routeRules(key string, r *GatewayRoute, fault faultFunc) {
	if _, err := gateway.NormalPath(r.Path); err != nil {
		fault(key+".path", "", "%s", bare(err))
	}
	switch {
	case r.Anonymous && (r.Resource != "" || len(r.Audiences)+len(r.Scopes) > 0):
		fault(key+".anonymous", "leave out resource, audiences and scopes, or anonymous", "no token is looked at")
	case !r.Anonymous && r.Resource == "":
		fault(key+".resource", "set the identifier of the API, which tokens have in aud", "is missing")
	}
	if r.AnchorSet != "" && !slices.ContainsFunc(f.Trust.Sets, func(s AnchorSet) bool { return s.Name == r.AnchorSet }) {
		fault(key+".anchor_set", "name one of trust.sets", "there is no set %q", r.AnchorSet)
	}
	u := &r.Upstream
	if front := f.Listen.Front; front != "proxy" {
		if u.URL != "" {
			fault(key+".upstream.url", "leave it out: the proxy that asks knows where they go", "with the front %s no request is forwarded", front)
		}
		if r.PassToken && !strings.HasPrefix(front, "envoy-") {
			fault(key+".pass_token", "leave it out, and set it in the proxy", "the front %s cannot tell the proxy to remove a field", front)
		}
		if r.BodyBytes != 0 {
			fault(key+".body_bytes", "leave it out, and set it in the proxy", "with the front %s no body comes here", front)
		}
		return
	}
	if u.URL == "" {
		fault(key+".upstream.url", "say where the requests go", "is missing")
		return
	}
	if _, err := gateway.NewUpstream(gateway.UpstreamConfig{URL: u.URL, Protocol: u.Protocol, ServerName: u.ServerName}); err != nil {
		fault(key+".upstream.url", "", "%s", strings.TrimPrefix(bare(err), "gateway: upstream: URL: "))
	}
	if secure := strings.HasPrefix(u.URL, "https:"); !secure && (len(u.RootCAs) > 0 || u.Certificate != "") {
		fault(key+".upstream", "write https, or leave out root_cas, certificate and key", "certificates are only used with https")
	}
	pair(key+".upstream", u.Certificate, u.Key, fault)
}

// Check looks at the files that the configuration names, and builds all of it once. It
// returns an *[Error], and warnings that hinder nothing.
func (f *GatewayFile) Check(now time.Time) (warnings []Fault, err error) {
	s := f.server()
	c, w := &checker{file: s}, &checker{file: s}
	if f.Listen.Certificate != "" {
		checkPair(c, w, "listen", f.Path(f.Listen.Certificate), f.Path(f.Listen.Key), now)
	}
	for i, set := range f.Trust.Sets {
		if _, err := s.fileSet(set).Load(now); err != nil {
			for _, e := range unjoin(err) {
				c.fault(fmt.Sprintf("trust.sets[%d]", i), "", "%s", bare(e))
			}
		}
	}
	for _, list := range []struct {
		key   string
		files []Path
	}{{"tokens.root_cas", f.Tokens.RootCAs}} {
		c.certificates(list.key, list.files)
	}
	for i, r := range f.Routes {
		c.certificates(fmt.Sprintf("routes[%d].upstream.root_cas", i), r.Upstream.RootCAs)
	}
	if len(c.faults) == 0 {
		if _, err := f.Build(GatewayParts{}); err != nil {
			for _, e := range unjoin(err) {
				fe, ok := e.(Fault)
				if !ok {
					fe = f.fault("", "", "%s", bare(e))
				}
				c.faults = append(c.faults, fe)
			}
		}
	}
	if len(c.faults) > 0 {
		sortFaults(c.faults)
		return f.moved(w.faults), &Error{c.faults}
	}
	return f.moved(w.faults), nil
}

// FileSets returns the sets of trust anchors.
func (f *GatewayFile) FileSets() []pki.FileSet { return f.server().FileSets() }

// Source returns what reads the client's certificate. paths validates the certificate of
// a proxy that is known by name.
func (f *GatewayFile) Source(paths *pki.Validator) (certsource.Source, error) {
	c := &checker{file: f.server()}
	src := f.source(c.file, paths, c.fault)
	if len(c.faults) > 0 {
		return nil, &Error{f.moved(c.faults)}
	}
	return src, nil
}

// source is that of a server with the same listener, or the one that only a gateway has.
func (f *GatewayFile) source(s *File, paths *pki.Validator, fault func(key, fix, format string, args ...any)) certsource.Source {
	if f.Listen.Source != "envoy-peer" {
		return s.source(paths, fault)
	}
	hop, ok := s.hop(paths, fault)
	if !ok {
		return nil
	}
	p := f.Listen.Proxy
	if p.Field+p.ChainField+p.VerifyField != "" || p.TrustedHops != 0 || p.Attributes != (ProxyAttributes{}) {
		fault(proxyKey, "leave out field, chain_field, verify_field, trusted_hops and attributes", "envoy-peer reads no header")
		return nil
	}
	src, err := extauthz.NewPeerSource(extauthz.PeerConfig{Hop: hop, Verified: p.Verifies})
	sourceFaults(err, fault)
	if err != nil {
		return nil
	}
	return src
}

// Hop returns the proxy that asks, for the fronts that answer one.
func (f *GatewayFile) Hop(paths *pki.Validator) (certsource.Hop, error) {
	c := &checker{file: f.server()}
	hop, _ := c.file.hop(paths, c.fault)
	if len(c.faults) > 0 {
		return certsource.Hop{}, &Error{f.moved(c.faults)}
	}
	return hop, nil
}

// ProxyProtocol returns the load balancers that announce the peer's address.
func (f *GatewayFile) ProxyProtocol() []netip.Prefix { return f.server().ProxyProtocol() }
