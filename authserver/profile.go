package authserver

import (
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/clientauth"
)

// ProfileFAPI2 is the FAPI 2.0 Security Profile with mutual TLS, for Config.Profile and
// Client.Profile.
const ProfileFAPI2 = "fapi2"

// What the profile allows: algorithms (FAPI 2.0 Security Profile, Section 5.4.1) and
// authentication methods (Section 5.3.2.1).
var (
	fapi2Algs    = []string{"PS256", "ES256", "EdDSA"}
	fapi2Methods = []string{clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth, PrivateKeyJWT}
)

// fapi2 reports whether a client is held to the FAPI 2.0 Security Profile.
func (s *Server) fapi2(c *registered) bool {
	return s.cfg.Profile == ProfileFAPI2 || c.Profile == ProfileFAPI2
}

// algs are those that a client may sign with: the one that it has registered, or any;
// all of them are asymmetric.
func (s *Server) algs(c *registered, only string) []jose.SignatureAlgorithm {
	if only == "" && !s.fapi2(c) {
		return s.assertionAlgs
	}
	var out []jose.SignatureAlgorithm
	for _, alg := range s.assertionAlgs {
		if (only == "" || only == string(alg)) && (!s.fapi2(c) || slices.Contains(fapi2Algs, string(alg))) {
			out = append(out, alg)
		}
	}
	return out
}

// setProfile turns on what the profile demands, before the defaults are filled in.
func (cfg *Config) setProfile() {
	if cfg.Profile != ProfileFAPI2 {
		return
	}
	cfg.StrictAssertionAudience = true
	if cfg.AssertionAlgs == nil {
		cfg.AssertionAlgs = []string{"ES256", "PS256", "EdDSA"}
	}
	if cfg.Authorization.Enabled {
		cfg.Authorization.RequirePAR = true
	}
}

// checkProfile reports the settings that would break the profile, with its rule. What no
// setting can break has no rule here: PKCE, iss in the answer, codes of at most 60 seconds
// and used once, exact redirect URIs, 303, no CORS, and so on.
func (cfg *Config) checkProfile(bad func(setting, rule, format string, args ...any)) {
	if cfg.Profile == "" {
		return
	}
	if cfg.Profile != ProfileFAPI2 {
		bad("Profile", "", "expected %s or none, found %q", ProfileFAPI2, cfg.Profile)
		return
	}
	const p = ProfileFAPI2
	if !cfg.MTLS.Enabled {
		bad("MTLS.Enabled", "5.3.2.1 (5)", "%s needs it: tokens are bound to certificates", p)
	}
	if !cfg.MTLS.CertificateBoundAccessTokens {
		bad("MTLS.CertificateBoundAccessTokens", "5.3.2.1 (4)", "%s needs it: only sender-constrained tokens are issued", p)
	}
	if cfg.Binding == BindNever {
		bad("Binding", "5.3.2.1 (4)", "%s issues bound tokens only; expected %s or %s, found %s", p, BindOnRequest, BindAlwaysIfCertificate, cfg.Binding)
	}
	if cfg.AllowUnboundFallback {
		bad("AllowUnboundFallback", "5.3.2.1 (4)", "%s issues bound tokens only; leave it off", p)
	}
	for _, m := range cfg.AuthMethods {
		if !slices.Contains(fapi2Methods, m) {
			bad("AuthMethods", methodRule(m), "%s has %s only; leave out %s", p, strings.Join(fapi2Methods, ", "), m)
		}
	}
	if cfg.InsecureMatchKey {
		bad("InsecureMatchKey", "5.3.2.1 (6)", "%s has mutual TLS as RFC 8705, Section 2, has it: a self-signed client uses the certificates that it has registered; leave it off", p)
	}
	for _, alg := range cfg.AssertionAlgs {
		if !slices.Contains(fapi2Algs, alg) {
			bad("AssertionAlgs", "5.4.1 (1)", "%s has %s only; leave out %s", p, strings.Join(fapi2Algs, ", "), alg)
		}
	}
	if !slices.Contains(fapi2Algs, cfg.SigningAlg) {
		bad("SigningAlg", "5.4.1 (1)", "%s has %s only, found %s", p, strings.Join(fapi2Algs, ", "), cfg.SigningAlg)
	}
	if cfg.Authorization.Enabled && cfg.Authorization.Refresh.RotateAll {
		bad("Authorization.Refresh", "5.3.2.1 (9)", "RotateAll is set, but %s does not rotate refresh tokens; leave it off", p)
	}
	for _, i := range cfg.Registration.Statements {
		for _, alg := range i.Algs {
			if cfg.Registration.Enabled && !slices.Contains(fapi2Algs, alg) {
				bad("Registration.Statements", "5.4.1 (1)", "%q: %s has %s only; leave out %s", i.Issuer, p, strings.Join(fapi2Algs, ", "), alg)
			}
		}
	}
}

// methodRule is the rule that an authentication method breaks.
func methodRule(method string) string {
	if method == None {
		return "5.3.2.1 (3)"
	}
	return "5.3.2.1 (6)"
}

// profile checks what the FAPI 2.0 Security Profile asks of a client.
func (v *validation) profile() {
	c := v.c
	switch {
	case c.Profile != "" && c.Profile != ProfileFAPI2:
		v.fault("certbound_profile", "expected %s, found %q", ProfileFAPI2, c.Profile)
		return
	case c.Profile == "" && v.r.Profile != ProfileFAPI2:
		return
	}
	bad := func(member, rule, format string, args ...any) {
		v.fault(member, format+" (FAPI 2.0 Security Profile, Section "+rule+")", args...)
		v.faults[len(v.faults)-1].Rule = rule
	}
	if m := c.Method(); !slices.Contains(fapi2Methods, m) {
		bad("token_endpoint_auth_method", methodRule(m), "%s has confidential clients with %s only, found %s",
			ProfileFAPI2, strings.Join(fapi2Methods, ", "), m)
	}
	if !c.BoundTokens {
		bad("tls_client_certificate_bound_access_tokens", "5.3.2.1 (4)", "%s needs true", ProfileFAPI2)
	}
	for _, m := range []struct{ member, alg string }{
		{"token_endpoint_auth_signing_alg", c.SigningAlg},
		{"request_object_signing_alg", c.RequestObjectAlg},
		{"id_token_signed_response_alg", c.IDTokenAlg},
	} {
		if m.alg != "" && !slices.Contains(fapi2Algs, m.alg) {
			bad(m.member, "5.4.1 (1)", "%s has %s only, found %s", ProfileFAPI2, strings.Join(fapi2Algs, ", "), m.alg)
		}
	}
	// What the server signs for this client: its access tokens and ID tokens.
	for _, alg := range v.r.IDTokenAlgs {
		if c.Profile == ProfileFAPI2 && !slices.Contains(fapi2Algs, alg) {
			bad("certbound_profile", "5.4.1 (1)", "%s has %s only, but this server signs with %s", ProfileFAPI2, strings.Join(fapi2Algs, ", "), alg)
		}
	}
}
