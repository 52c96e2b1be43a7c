package pki

import (
	"fmt"
	"time"

	"github.com/certbound/certbound/decision"
)

// A Profile is a policy that goes by a name.
type Profile struct {
	Name string
	// Policy may be changed by the caller, and is then no longer the profile.
	Policy Policy
	// Text says in one sentence how the profile differs from the default.
	Text string
}

// Names of profiles.
const (
	ProfileDefault     = "default"
	ProfileFAPI2       = "fapi2"
	ProfileOpenBanking = "open-banking"
)

// Profiles returns the profiles, the default one first.
//
// fapi2 has the sizes of keys that FAPI 2.0 asks for (FAPI 2.0 Security Profile, Section
// 5.4.1; FAPI 1.0 Part 1, Section 5.2.2): RSA with 2048 bits or more, elliptic curves
// with 224 or more, of which those with 256 or more are known here. The default has the
// same; what is particular is that the leaf says itself that it is for client
// authentication, and is never a CA.
//
// open-banking is for the certificates of the open banking directories: RSA, P-256 or P-384 keys,
// SHA-256 or better, key usage and clientAuth stated in the leaf, and a lifetime of at
// most 398 days (13 months, the most that these directories and the CA/Browser Forum
// give). The spellings of names that they register, such as organizationIdentifier or
// 2.5.4.97=#…, are read under every profile (pki/subject).
func Profiles() []Profile {
	return []Profile{
		{ProfileDefault, Policy{}, "the default policy"},
		{ProfileFAPI2, Policy{MinRSABits: 2048, RequireExtKeyUsage: true},
			"the leaf lists the extended key usage clientAuth itself, and CA certificates as leafs cannot be allowed"},
		{ProfileOpenBanking, Policy{
			MinRSABits: 2048, Keys: []KeyKind{RSA, P256, P384}, RequireExtKeyUsage: true, RequireKeyUsage: true,
			MaxLifetime: 398 * 24 * time.Hour,
		}, "RSA, P-256 and P-384 only; the leaf lists clientAuth and a key usage itself, is made for at most 398 days, and is never a CA"},
	}
}

// ProfilePolicy returns the policy of a profile. The empty name is the default one.
func ProfilePolicy(name string) (Policy, error) {
	if name == "" {
		name = ProfileDefault
	}
	var names []string
	for _, p := range Profiles() {
		if p.Name == name {
			return p.Policy, nil
		}
		names = append(names, p.Name)
	}
	return Policy{}, &Error{Reason: decision.BadSetting, Expected: fmt.Sprintf("a profile out of %q", names), Found: fmt.Sprintf("%q", cut(name))}
}
