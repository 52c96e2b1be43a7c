package config

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certbound/certbound/pki"
)

// publicAllowed is the value of public_web_ca that allows.
const publicAllowed = "allowed"

// policy fills in what the profile says and the file does not, and reports what cannot be
// used.
func (c *checker) policy(path string, s *AnchorSet) {
	profile, err := pki.ProfilePolicy(s.Profile)
	if err != nil {
		return // the enum has told
	}
	fill := func(key string, differs bool, take func()) {
		key = path + "." + key
		if _, given := c.file.places[key]; !given && differs {
			take()
			c.file.origins[key] = "profile " + s.Profile
		}
	}
	fill("min_rsa_bits", profile.MinRSABits != 0, func() { s.MinRSABits = profile.MinRSABits })
	fill("max_path", profile.MaxPath != 0, func() { s.MaxPath = profile.MaxPath })
	fill("max_lifetime", profile.MaxLifetime != 0, func() { s.MaxLifetime = Duration(profile.MaxLifetime) })
	fill("require_ext_key_usage", profile.RequireExtKeyUsage, func() { s.RequireExtKeyUsage = true })
	fill("require_key_usage", profile.RequireKeyUsage, func() { s.RequireKeyUsage = true })
	fill("keys", profile.Keys != nil, func() {
		s.Keys = nil
		for _, k := range profile.Keys {
			s.Keys = append(s.Keys, string(k))
		}
	})
	if s.AllowCALeaf && s.Profile != pki.ProfileDefault {
		c.fault(path+".allow_ca_leaf", "leave it out, or use the profile default", "is not compatible with the profile %s", s.Profile)
	}
	s.policy(func(key, fix, format string, args ...any) { c.fault(path+"."+key, fix, format, args...) })
}

// policy returns the policy of the set and tells fault, with the key in the set, what
// cannot be used. What cannot be used is replaced by something that nobody passes, or left
// to the validator to refuse.
func (s *AnchorSet) policy(fault func(key, fix, format string, args ...any)) pki.Policy {
	p := pki.Policy{
		MaxChain: s.MaxChain, MaxPath: s.MaxPath, MaxLifetime: time.Duration(s.MaxLifetime), MinRSABits: s.MinRSABits,
		RequireExtKeyUsage: s.RequireExtKeyUsage, RequireKeyUsage: s.RequireKeyUsage, AllowCALeaf: s.AllowCALeaf,
	}
	for _, k := range s.Keys {
		p.Keys = append(p.Keys, pki.KeyKind(k))
	}
	for i, name := range s.SignatureAlgorithms {
		a, err := pki.ParseSignatureAlgorithm(name)
		if err != nil {
			fault(fmt.Sprintf("signature_algorithms[%d]", i), "", "%s", bare(err))
		}
		p.SignatureAlgorithms = append(p.SignatureAlgorithms, a)
	}
	for i, text := range s.CertificatePolicies {
		oid, err := x509.ParseOID(text)
		if err != nil {
			fault(fmt.Sprintf("certificate_policies[%d]", i), "write it in numbers with dots, such as 1.3.6.1.4.1.99999.1", "%q is not an OID", text)
		}
		p.CertificatePolicies = append(p.CertificatePolicies, oid)
	}
	for i, text := range s.PinnedIssuers {
		pin, err := pki.ParsePin(text)
		if err != nil {
			fault(fmt.Sprintf("pinned_issuers[%d]", i), "write the x5t#S256 that 'certbound inspect FILE' prints for the certificate of the CA", "%s", bare(err))
		}
		p.PinnedIssuers = append(p.PinnedIssuers, pin)
	}
	p.Permitted = pki.Names{Subjects: s.Permitted.Subjects, DNS: s.Permitted.DNS, URI: s.Permitted.URI, Email: s.Permitted.Email}
	for i, text := range s.Permitted.IP {
		network, err := parsePrefix(text)
		if err != nil {
			fault(fmt.Sprintf("permitted.ip[%d]", i), "", "%s", err)
		} else if network != network.Masked() {
			fault(fmt.Sprintf("permitted.ip[%d]", i), "write "+network.Masked().String(), "%s is an address in a network", text)
		}
		p.Permitted.IP = append(p.Permitted.IP, network)
	}
	// Each entry alone, so that a fault has its place.
	for key, list := range map[string][]string{"subjects": s.Permitted.Subjects, "dns": s.Permitted.DNS, "uri": s.Permitted.URI, "email": s.Permitted.Email} {
		for i, text := range list {
			one := map[string]pki.Names{
				"subjects": {Subjects: []string{text}}, "dns": {DNS: []string{text}}, "uri": {URI: []string{text}}, "email": {Email: []string{text}},
			}[key]
			if err := (pki.Policy{Permitted: one}).Check(); err != nil {
				fault(fmt.Sprintf("permitted.%s[%d]", key, i), "", "%s", bare(err))
			}
		}
	}
	for _, n := range []struct {
		key    string
		policy pki.Policy
	}{
		{"max_chain", pki.Policy{MaxChain: s.MaxChain}},
		{"max_path", pki.Policy{MaxPath: s.MaxPath}},
		{"min_rsa_bits", pki.Policy{MinRSABits: s.MinRSABits}},
	} {
		if err := n.policy.Check(); err != nil {
			fault(n.key, "", "%s", bare(err))
		}
	}
	return p
}
