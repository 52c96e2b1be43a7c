package config

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/revocation"
)

// AuthServer returns the settings of the authorization server. paths validates the
// certificate of a proxy that is known by name; whoever serves nothing has nil. The
// caller adds what is not a value of the file: Store, Paths, JWKS, Observer and Logger.
func (f *File) AuthServer(paths *pki.Validator) (authserver.Config, error) {
	cfg := f.serverConfig()
	c := &checker{file: f}
	cfg.Source = f.source(paths, c.fault)
	if len(c.faults) > 0 {
		return authserver.Config{}, &Error{c.faults}
	}
	cfg.Clients = f.clients
	return cfg, nil
}

// DeclaredClients returns the clients of the file as registrations. The caller must not
// change them.
func (f *File) DeclaredClients() []*authserver.Client { return f.clients }

// Rules returns the rules for registrations at this server.
func (f *File) Rules() authserver.Rules {
	cfg := f.serverConfig()
	cfg.HasAnchorSet, cfg.JWKS = f.HasAnchorSet, jwks.NewFetcher(jwks.FetcherConfig{})
	return cfg.Rules()
}

// HasAnchorSet reports whether the file has a set with the name that clients may be
// registered for: that of the proxies is not.
func (f *File) HasAnchorSet(name string) bool {
	return name != f.Listen.MTLS.Proxy.AnchorSet && f.hasSet(name)
}

func (f *File) hasSet(name string) bool {
	return slices.ContainsFunc(f.Trust.Sets, func(s AnchorSet) bool { return s.Name == name })
}

// FileSets returns the sets of trust anchors.
func (f *File) FileSets() []pki.FileSet {
	out := make([]pki.FileSet, len(f.Trust.Sets))
	for i, s := range f.Trust.Sets {
		out[i] = f.fileSet(s)
	}
	return out
}

func (f *File) fileSet(s AnchorSet) pki.FileSet {
	fs := pki.FileSet{
		Name: s.Name, AnchorFiles: f.Paths(s.Anchors), HelperFiles: f.Paths(s.Intermediates),
		Policy: s.policy(func(string, string, string, ...any) {}), // the rules have told the faults
	}
	if s.Revocation.Mode != string(revocation.Off) {
		fs.Revocation = unchecked{s.Name} // until the caller puts in that of Checkers
	}
	if s.PublicWebCA != publicAllowed {
		fs.RefuseAnchor = refusePublic
	}
	return fs
}

func (f *File) serverConfig() authserver.Config {
	methods := f.Authentication.Methods
	has := func(m string) bool { return slices.Contains(methods, m) }
	cfg := authserver.Config{
		Issuer:           f.Issuer,
		DefaultAnchorSet: f.Trust.Default,
		MTLS: authserver.MTLSFeature{
			Enabled:                      f.Listen.MTLS.Address != "",
			TLSClientAuth:                has(clientauth.TLSClientAuth),
			SelfSignedTLSClientAuth:      has(clientauth.SelfSignedTLSClientAuth),
			CertificateBoundAccessTokens: f.Authentication.BoundTokens,
		},
		AuthMethods:              methods,
		InsecureMatchKey:         f.Authentication.InsecureMatchKey,
		Scopes:                   f.Tokens.Scopes,
		Resources:                f.Tokens.Resources,
		DefaultResource:          f.Tokens.DefaultResource,
		TokenFormat:              f.Tokens.Format,
		TokenLifetime:            time.Duration(f.Tokens.Lifetime),
		MaxTokenLifetime:         time.Duration(f.Tokens.MaxLifetime),
		CapLifetimeAtCertificate: f.Tokens.CapAtCertificate,
		Binding:                  authserver.BindingPolicy(f.Tokens.Binding),
		AllowUnboundFallback:     f.Tokens.AllowUnboundFallback,
		SigningAlg:               f.SigningKeys.Algorithm,
		KeyRotation: authserver.KeyRotation{
			Every:      time.Duration(f.SigningKeys.RotateEvery),
			Prepublish: time.Duration(f.SigningKeys.Prepublish),
		},
		MaxBody:   int64(f.Limits.FormBytes),
		CacheSize: f.Limits.CachedClients,
	}
	if cfg.KeyRotation.Every == 0 {
		cfg.KeyRotation.Every = -1 // by command only
	}
	cfg.Profile, cfg.Authorization = f.Profile, f.authorization()
	cfg.Registration = f.registration()
	if cfg.MTLS.Enabled {
		cfg.MTLSBaseURL = f.Listen.MTLS.URL
	}
	return cfg
}

// hostOf returns the host name that clients use for a listener.
func (f *File) hostOf(section string) string {
	text := f.Issuer
	if section == "listen.mtls" {
		text = f.Listen.MTLS.URL
	}
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// Guard returns the settings of the client that fetches key sets.
func (f *File) Guard() (jwks.GuardConfig, error) {
	g := jwks.GuardConfig{AllowPrivate: f.JWKSURI.InsecureAllowPrivate, AllowHosts: f.JWKSURI.AllowHosts}
	var err error
	g.RootCAs, err = f.pool("jwks_uri.root_cas", f.JWKSURI.RootCAs)
	return g, err
}

// ProbeRoots returns the CAs for the server's own public addresses, or nil for the
// system's.
func (f *File) ProbeRoots() (*x509.CertPool, error) {
	return f.pool("self_probe.root_cas", f.SelfProbe.RootCAs)
}

// pool reads CAs; no file gives nil, for the system's.
func (f *File) pool(key string, files []Path) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, name := range f.Paths(files) {
		certs, err := readCertificates(name)
		if err != nil {
			return nil, fmt.Errorf("config: %s: %w", key, err)
		}
		for _, c := range certs {
			pool.AddCert(c)
		}
	}
	return pool, nil
}
