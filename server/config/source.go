package config

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
)

// Keys of the section of the proxy.
const (
	sourceKey = "listen.mtls.source"
	proxyKey  = "listen.mtls.proxy"
)

// source returns what reads the client certificate on the mutual-TLS listener. paths
// validates the certificate of the proxy; it may be nil where nothing is served. fault is
// told what is wrong, with the key.
func (f *File) source(paths *pki.Validator, fault func(key, fix, format string, args ...any)) certsource.Source {
	m := &f.Listen.MTLS
	if m.Source == "tls" {
		return certsource.TLS{}
	}
	hop, ok := f.hop(paths, fault)
	if !ok {
		return nil
	}
	p := &m.Proxy
	a := p.Attributes
	src, err := certsource.NewPreset(m.Source, certsource.PresetConfig{
		Hop: hop, Field: p.Field, ChainField: p.ChainField, VerifyField: p.VerifyField,
		Verified: p.Verifies, TrustedHops: p.TrustedHops,
		Attributes: certsource.AttributeFieldsConfig{
			SubjectDN: a.SubjectDN, SANDNS: a.SANDNS, SANURI: a.SANURI, SANIP: a.SANIP, SANEmail: a.SANEmail,
			DNSyntax: map[string]certsource.DNSyntax{"rfc4514": certsource.DNSyntaxLDAP, "legacy": certsource.DNSyntaxLegacy}[a.DNSyntax],
		},
	})
	sourceFaults(err, fault)
	return src
}

// sourceFaults tells of the faults of a source.
func sourceFaults(err error, fault func(key, fix, format string, args ...any)) {
	if err != nil {
		for _, e := range unjoin(err) {
			fault(proxyFault(bare(e)), "", "%s", bare(e))
		}
	}
}

// hop returns the proxy of the mutual-TLS listener, and whether it can be one.
func (f *File) hop(paths *pki.Validator, fault func(key, fix, format string, args ...any)) (hop certsource.Hop, ok bool) {
	p := &f.Listen.MTLS.Proxy
	broken := false
	wrong := func(key, fix, format string, args ...any) {
		broken = true
		fault(key, fix, format, args...)
	}
	hop = certsource.Hop{
		Thumbprints: p.Thumbprints, PublicKeys: p.PublicKeys, SPIFFEIDs: p.SPIFFEIDs,
		UnixSocket: p.UnixSocket, InsecurePrivateNetwork: p.InsecurePrivateNetwork,
	}
	for i, text := range p.Prefixes {
		prefix, err := parsePrefix(text)
		if err != nil {
			wrong(fmt.Sprintf("%s.prefixes[%d]", proxyKey, i), "", "%s", err)
			continue
		}
		hop.Prefixes = append(hop.Prefixes, prefix)
	}
	var subjects []subject.Expected
	for i, text := range p.Subjects {
		s, err := subject.New(subject.DN, text)
		if err != nil {
			wrong(fmt.Sprintf("%s.subjects[%d]", proxyKey, i), "", "%s", bare(err))
			continue
		}
		subjects = append(subjects, s)
	}
	if len(p.Subjects) > 0 {
		hop.Subject = func(cert *x509.Certificate) bool {
			return slices.ContainsFunc(subjects, func(s subject.Expected) bool { return s.Match(cert) == nil })
		}
	}
	switch named := len(p.Subjects)+len(p.SPIFFEIDs) > 0; {
	case named && p.AnchorSet == "":
		wrong(proxyKey+".anchor_set", "name the set of trust.sets with the CA that issues to your proxies, and to nobody else",
			"is missing: anybody can write a subject or a SPIFFE ID into a certificate")
	case named && !f.hasSet(p.AnchorSet):
		wrong(proxyKey+".anchor_set", "name one of trust.sets", "there is no set %q", p.AnchorSet)
	case p.AnchorSet != "" && !named:
		wrong(proxyKey+".anchor_set", "add subjects or spiffe_ids, or leave it out", "is only used with subjects and spiffe_ids")
	case p.AnchorSet != "" && p.AnchorSet == f.Trust.Default:
		wrong(proxyKey+".anchor_set", "give the proxies a CA of their own", "is the default set for clients: each client could be the proxy")
	}
	if p.AnchorSet != "" {
		hop.VerifyProxy = func(ctx context.Context, leaf *x509.Certificate, chain []*x509.Certificate) error {
			if paths == nil {
				return fmt.Errorf("config: no validator")
			}
			_, err := paths.Verify(ctx, p.AnchorSet, pki.Chain{Leaf: leaf, Rest: chain})
			return err
		}
	}
	return hop, !broken
}

// proxyFault returns the key that a fault of certsource is about.
func proxyFault(text string) string {
	for _, k := range []struct{ word, key string }{
		{"no trusted peer", ""}, {": prefix ", ".prefixes"}, {"InsecurePrivateNetwork", ".insecure_private_network"},
		{": thumbprint ", ".thumbprints"}, {": public key ", ".public_keys"}, {": SPIFFE ID ", ".spiffe_ids"},
		{"TrustedHops", ".trusted_hops"}, {"Verified:", ".verifies"}, {"VerifyField", ".verify_field"}, {"ChainField", ".chain_field"},
		{"attributes:", ".attributes"}, {"Attributes", ".attributes"}, {"Field", ".field"},
	} {
		if strings.Contains(text, k.word) {
			return proxyKey + k.key
		}
	}
	return proxyKey
}

// ProxyProtocol returns the load balancers that announce the peer's address.
func (f *File) ProxyProtocol() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range f.Listen.MTLS.ProxyProtocol {
		if p, err := parsePrefix(text); err == nil { // the rules have seen it
			out = append(out, p)
		}
	}
	return out
}

func (c *checker) proxyProtocol() {
	for i, text := range c.file.Listen.MTLS.ProxyProtocol {
		key := fmt.Sprintf("listen.mtls.proxy_protocol[%d]", i)
		switch p, err := parsePrefix(text); {
		case err != nil:
			c.fault(key, "", "%s", err)
		case p.Bits() == 0:
			c.fault(key, "name the addresses of the load balancers", "%s is everybody, who could then have any address", text)
		}
	}
}

func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", text)
	}
	return p, nil
}
