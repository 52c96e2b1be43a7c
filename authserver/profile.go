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

// checkProfile reports the settings that would break the profile. What no setting can
// break has no rule here: PKCE, iss in the answer, codes of at most 60 seconds and used
// once, exact redirect URIs, 303, no CORS, and so on.
func (cfg *Config) checkProfile(bad func(setting, format string, args ...any)) {
	if cfg.Profile == "" {
		return
	}
	if cfg.Profile != ProfileFAPI2 {
		bad("Profile", "expected %s or none, found %q", ProfileFAPI2, cfg.Profile)
		return
	}
	const section = " (FAPI 2.0 Security Profile, Section "
	if !cfg.MTLS.Enabled {
		bad("MTLS.Enabled", "%s needs it: tokens are bound to certificates"+section+"5.3.2.1)", ProfileFAPI2)
	}
	if !cfg.MTLS.CertificateBoundAccessTokens {
		bad("MTLS.CertificateBoundAccessTokens", "%s needs it: only sender-constrained tokens are issued"+section+"5.3.2.1)", ProfileFAPI2)
	}
	if cfg.Binding == BindNever {
		bad("Binding", "%s issues bound tokens only"+section+"5.3.2.1); expected %s or %s, found %s", ProfileFAPI2, BindOnRequest, BindAlwaysIfCertificate, cfg.Binding)
	}
	if cfg.AllowUnboundFallback {
		bad("AllowUnboundFallback", "%s issues bound tokens only"+section+"5.3.2.1); leave it off", ProfileFAPI2)
	}
	for _, m := range cfg.AuthMethods {
		if !slices.Contains(fapi2Methods, m) {
			bad("AuthMethods", "%s has %s only"+section+"5.3.2.1), found %q", ProfileFAPI2, strings.Join(fapi2Methods, ", "), m)
		}
	}
	if cfg.InsecureMatchKey {
		bad("InsecureMatchKey", "%s has mutual TLS as RFC 8705, Section 2, has it"+section+"5.3.2.1): a self-signed client uses the certificates that it has registered; leave it off", ProfileFAPI2)
	}
	for _, alg := range cfg.AssertionAlgs {
		if !slices.Contains(fapi2Algs, alg) {
			bad("AssertionAlgs", "%s has %s only"+section+"5.4.1), found %q", ProfileFAPI2, strings.Join(fapi2Algs, ", "), alg)
		}
	}
	if !slices.Contains(fapi2Algs, cfg.SigningAlg) {
		bad("SigningAlg", "%s has %s only"+section+"5.4.1), found %s", ProfileFAPI2, strings.Join(fapi2Algs, ", "), cfg.SigningAlg)
	}
	if cfg.Authorization.Enabled && cfg.Authorization.Refresh.RotateAll {
		bad("Authorization.Refresh", "RotateAll is set, but %s does not rotate refresh tokens"+section+"5.3.2.1 (9)); leave it off", ProfileFAPI2)
	}
	for _, i := range cfg.Registration.Statements {
		for _, alg := range i.Algs {
			if cfg.Registration.Enabled && !slices.Contains(fapi2Algs, alg) {
				bad("Registration.Statements", "%q: %s has %s only"+section+"5.4.1), found %q", i.Issuer, ProfileFAPI2, strings.Join(fapi2Algs, ", "), alg)
			}
		}
	}
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
	if m := c.Method(); !slices.Contains(fapi2Methods, m) {
		v.fault("token_endpoint_auth_method", "%s has confidential clients with %s only (FAPI 2.0 Security Profile, Section 5.3.2.1), found %s",
			ProfileFAPI2, strings.Join(fapi2Methods, ", "), m)
	}
	if !c.BoundTokens {
		v.fault("tls_client_certificate_bound_access_tokens", "%s needs true (FAPI 2.0 Security Profile, Section 5.3.2.1)", ProfileFAPI2)
	}
	for _, m := range []struct{ member, alg string }{
		{"token_endpoint_auth_signing_alg", c.SigningAlg},
		{"request_object_signing_alg", c.RequestObjectAlg},
		{"id_token_signed_response_alg", c.IDTokenAlg},
	} {
		if m.alg != "" && !slices.Contains(fapi2Algs, m.alg) {
			v.fault(m.member, "%s has %s only (FAPI 2.0 Security Profile, Section 5.4.1), found %s", ProfileFAPI2, strings.Join(fapi2Algs, ", "), m.alg)
		}
	}
	// What the server signs for this client: its access tokens and ID tokens.
	for _, alg := range v.r.IDTokenAlgs {
		if c.Profile == ProfileFAPI2 && !slices.Contains(fapi2Algs, alg) {
			v.fault("certbound_profile", "%s has %s only (FAPI 2.0 Security Profile, Section 5.4.1), but this server signs with %s",
				ProfileFAPI2, strings.Join(fapi2Algs, ", "), alg)
		}
	}
}
