package resourceserver

import (
	"time"

	"github.com/certbound/certbound/internal/jws"
)

// ProfileFAPI2 is the FAPI 2.0 Security Profile with mutual TLS, for Config.Profile.
const ProfileFAPI2 = "fapi2"

// fapi2Algs are the algorithms of the FAPI 2.0 Security Profile, Section 5.4.1.
var fapi2Algs = []string{jws.ES256, jws.PS256, jws.EdDSA}

// maxAhead is how far ahead the dates of a JWT may lie (FAPI 2.0 Security Profile, Section
// 5.3.2.1 (13)).
const maxAhead = 60 * time.Second

// checkProfile reports the settings that would break the profile (Section 5.3.4). What no
// setting can break has no rule here: a token counts only in the header, and each is
// judged with its expiry and its scope.
func (cfg *Config) checkProfile(fault func(format string, args ...any)) {
	switch cfg.Profile {
	case "":
		return
	case ProfileFAPI2:
	default:
		fault("Profile: expected %s or none, found %q", ProfileFAPI2, cfg.Profile)
		return
	}
	const section = " (FAPI 2.0 Security Profile, Section "
	if cfg.Binding != Required {
		fault("Binding: %s takes bound tokens only"+section+"5.3.4 (5)); leave it at Required", ProfileFAPI2)
	}
	const revoked = section + "5.3.4 (3))"
	switch i := cfg.Introspection; {
	case cfg.Revocations == nil && i == nil:
		fault("Revocations: %s refuses revoked tokens"+revoked+", but nobody says which; set Revocations or Introspection", ProfileFAPI2)
	case cfg.Revocations == nil && i.OpaqueOnly:
		fault("Revocations: %s refuses revoked tokens"+revoked+", but with Introspection.OpaqueOnly nobody says which JWTs are; set Revocations, or leave OpaqueOnly off", ProfileFAPI2)
	case cfg.Revocations != nil && cfg.Revocations.OnStale == AllowStale:
		fault("Revocations.OnStale: %s refuses revoked tokens"+revoked+", and with AllowStale some may pass; leave it at RefuseStale", ProfileFAPI2)
	}
	if cfg.Keys.InsecureAnyTokenType {
		fault("Keys.InsecureAnyTokenType: %s wants tokens of their own type"+section+"5.4.1 (1); RFC 8725, Section 3.11); leave it off", ProfileFAPI2)
	}
	if cfg.Leeway > maxAhead {
		fault("Leeway: %s refuses tokens from more than %v ahead"+section+"5.3.2.1 (13)), found %v", ProfileFAPI2, maxAhead, cfg.Leeway)
	}
}
