package certsource_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// presetConfig is a configuration with which the preset works.
func presetConfig(p certsource.Preset) certsource.PresetConfig {
	cfg := certsource.PresetConfig{Hop: byAddress}
	switch p.Name {
	case "xfcc":
		cfg.TrustedHops = 1
	case "attributes":
		cfg.Attributes = certsource.AttributeFieldsConfig{SubjectDN: "X-SSL-Client-S-DN", DNSyntax: certsource.DNSyntaxLDAP}
		cfg.Verified = "partners"
	default:
		if p.Field == "" {
			cfg.Field = "X-Client-Cert"
		}
	}
	return cfg
}

func preset(t testing.TB, name string, change func(*certsource.PresetConfig)) certsource.Source {
	t.Helper()
	i := slices.IndexFunc(certsource.Presets(), func(p certsource.Preset) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no preset %q", name)
	}
	cfg := presetConfig(certsource.Presets()[i])
	if change != nil {
		change(&cfg)
	}
	src, err := certsource.NewPreset(name, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// from is a request of peer with the fields.
func from(t testing.TB, peer string, h http.Header) *http.Request {
	r := request(t, peer)
	maps.Copy(r.Header, h)
	return r
}

// Every preset, with what its hop sends: it is read, only from the hop, and every field
// of it belongs to the source.
func TestPresets(t *testing.T) {
	for _, p := range certsource.Presets() {
		t.Run(p.Name, func(t *testing.T) {
			cfg := presetConfig(p)
			src, err := certsource.NewPreset(p.Name, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if src.Name() != p.Name && p.Name != "attributes" {
				t.Errorf("its name is %q", src.Name())
			}
			d := certsource.Describe(src)
			if d.Most != p.Most || d.VerifiedBy != "" && p.Name != "attributes" {
				t.Errorf("description %+v", d)
			}
			sent := p.Forward(client.Cert, middle.Cert)
			for name := range sent {
				if !slices.Contains(d.Fields, name) {
					t.Errorf("the field %s is not one of the source", name)
				}
			}
			for _, name := range p.Beside {
				if r := request(t, proxy, name, "x"); certsource.Foreign(r, d.Fields...) != nil {
					t.Errorf("%s is reported", name)
				}
			}
			var first *certsource.Presented
			for range 2 { // from the fields, and from memory
				got, err := src.Certificate(from(t, proxy, sent))
				if err != nil {
					t.Fatal(err)
				}
				if first != nil && got != first && p.Most != certsource.KindAttributes {
					t.Error("the same certificate was decoded twice")
				}
				first = got
				if got.Kind() != p.Most || got.Via != src.Name() || p.Name != "attributes" && got.VerifiedBy != "" {
					t.Errorf("%s via %q, verified by %q", got.Kind(), got.Via, got.VerifiedBy)
				}
				if p.Most != certsource.KindAttributes && got.Thumbprint() != certbound.Thumbprint(client.Cert) {
					t.Errorf("thumbprint %s, want %s", got.Thumbprint(), certbound.Thumbprint(client.Cert))
				}
				var wantChain []*x509.Certificate
				if strings.HasPrefix(p.Chain, "yes") || p.Name == "rfc9440" || p.Name == "f5" || p.Name == "xfcc" {
					wantChain = []*x509.Certificate{middle.Cert}
				}
				if !slices.EqualFunc(got.Chain(), wantChain, (*x509.Certificate).Equal) {
					t.Errorf("%d certificates beside the leaf, want %d", len(got.Chain()), len(wantChain))
				}
			}
			if got, err := src.Certificate(from(t, proxy, nil)); got != nil || !errors.Is(err, certsource.ErrNoCertificate) {
				t.Errorf("without fields: %v (%v)", got.Kind(), err)
			}
			if got, err := src.Certificate(from(t, stranger, sent)); got != nil || reason(err) != decision.SourceUntrusted {
				t.Errorf("from a stranger: %v (%v)", got.Kind(), err)
			}
			// H-4-5: nobody named, nothing starts.
			cfg.Hop = certsource.Hop{}
			if _, err := certsource.NewPreset(p.Name, cfg); err == nil {
				t.Error("starts without a trusted peer")
			}
			if p.Form == "" || p.Config == "" || p.Title == "" || p.Chain == "" || p.VerifyField+strings.Join(p.Flags, "") != "" && p.Values == "" {
				t.Errorf("documentation is missing: %+v", p)
			}
		})
	}
}

// Attacks 19 and 2: a client adds to the proxy's field in every way that a strip list has
// let through somewhere.
func TestAttackEverySpellingOfEveryField(t *testing.T) {
	for _, p := range certsource.Presets() {
		t.Run(p.Name, func(t *testing.T) {
			t.Attr("attack", "2 19")
			src, err := certsource.NewPreset(p.Name, presetConfig(p))
			if err != nil {
				t.Fatal(err)
			}
			sent := p.Forward(client.Cert, middle.Cert)
			victim := p.Forward(other.Cert)
			for name := range sent {
				chain := name == "Client-Cert-Chain" || name == "X-Client-Cert-Chain" // a list
				value := victim.Get(name)
				refuse := func(what string, want decision.Reason, change func(http.Header)) {
					t.Helper()
					r := from(t, proxy, sent)
					r.Header = r.Header.Clone()
					change(r.Header)
					if got, err := src.Certificate(r); got != nil || reason(err) != want {
						t.Errorf("%s, %s: %v (%v), want %s", name, what, got.Thumbprint(), err, want)
					}
				}
				if !chain {
					refuse("twice", decision.SourceRepeated, func(h http.Header) { h.Add(name, value) })
					refuse("twice, the same", decision.SourceRepeated, func(h http.Header) { h.Add(name, h.Get(name)) })
					refuse("in another case as well", decision.SourceRepeated, func(h http.Header) { h.Add(strings.ToUpper(name), value) })
				}
				refuse("with underscores as well", decision.SourceLookAlike, func(h http.Header) { h.Set(strings.ReplaceAll(name, "-", "_"), value) })
				refuse("with one underscore as well", decision.SourceLookAlike, func(h http.Header) { h.Set(strings.Replace(name, "-", "_", 1), value) })
				refuse("in a case of its own", decision.SourceLookAlike, func(h http.Header) { h[strings.ToLower(name)] = []string{value} })
				refuse("named in Connection", decision.SourceHopByHop, func(h http.Header) { h.Set("Connection", "close, "+strings.ToLower(name)) })
				refuse("named in Connection with underscores", decision.SourceHopByHop, func(h http.Header) {
					h["Connection"] = []string{"keep-alive", strings.ReplaceAll(name, "-", "_")}
				})
			}
		})
	}
}

// A name that has underscores itself is the field, and its hyphens are the look-alike.
func TestConfiguredUnderscores(t *testing.T) {
	src := preset(t, "header-der", func(c *certsource.PresetConfig) { c.Field = "SSL_CLIENT_CERT" })
	der := base64.StdEncoding.EncodeToString(client.Cert.Raw)
	if got, err := src.Certificate(request(t, proxy, "SSL_CLIENT_CERT", der)); err != nil || !client.Cert.Equal(got.Leaf()) {
		t.Errorf("%v (%v)", got.Thumbprint(), err)
	}
	if got, err := src.Certificate(request(t, proxy, "SSL_CLIENT_CERT", der, "SSL-CLIENT-CERT", der)); got != nil || reason(err) != decision.SourceLookAlike {
		t.Errorf("%v (%v)", got.Thumbprint(), err)
	}
}

// Attack 26: with one source configured, the fields of every other hop are ignored and
// reported, whoever sends them.
func TestAttackFieldsOfOtherHops(t *testing.T) {
	t.Attr("attack", "26")
	for _, p := range certsource.Presets() {
		src, err := certsource.NewPreset(p.Name, presetConfig(p))
		if err != nil {
			t.Fatal(err)
		}
		own := certsource.Describe(src).Fields
		for _, q := range certsource.Presets() {
			h := q.Forward(other.Cert, middle.Cert)
			for _, name := range own {
				delete(h, name)
			}
			if len(h) == 0 {
				continue
			}
			r := from(t, proxy, h)
			if got, err := src.Certificate(r); got != nil || !errors.Is(err, certsource.ErrNoCertificate) {
				t.Errorf("%s reads what %s sends: %v (%v)", p.Name, q.Name, got.Thumbprint(), err)
			}
			if got := certsource.Foreign(r, own...); !slices.Equal(got, slices.Sorted(maps.Keys(h))) {
				t.Errorf("%s reports %q of %s, want %q", p.Name, got, q.Name, slices.Sorted(maps.Keys(h)))
			}
			// At a header source such a field is an attack, if a stranger sends it.
			r = from(t, stranger, h)
			if got, err := src.Certificate(r); got != nil || reason(err) != decision.SourceUntrusted {
				t.Errorf("%s, of %s from a stranger: %v (%v)", p.Name, q.Name, got.Thumbprint(), err)
			}
		}
	}
}

// Attacks 9 of user-pains and 18: the gateway shows the certificate that it uses itself,
// and all its clients would be one.
func TestAttackTheGatewaysOwnCertificate(t *testing.T) {
	for _, p := range certsource.Presets() {
		if p.Most == certsource.KindAttributes {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Attr("attack", "18")
			t.Attr("requirement", "H-O-1 H-1.2-4")
			src, err := certsource.NewPreset(p.Name, presetConfig(p))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := src.Certificate(over(from(t, proxy, p.Forward(edge.Cert)), edge)); got != nil || reason(err) != decision.SourceProxyOwn {
				t.Errorf("%v (%v), want %s", got.Thumbprint(), err, decision.SourceProxyOwn)
			}
			if got, err := src.Certificate(over(from(t, proxy, nil), edge)); got != nil || !errors.Is(err, certsource.ErrNoCertificate) {
				t.Errorf("without fields: %v (%v)", got.Thumbprint(), err)
			}
			if got, err := src.Certificate(over(from(t, proxy, p.Forward(client.Cert)), edge)); err != nil || got.Thumbprint() != certbound.Thumbprint(client.Cert) {
				t.Errorf("of a client: %v (%v)", got.Thumbprint(), err)
			}
		})
	}
}

// What a hop says of the certificate is demanded, is compared with the certificate, and
// counts as verified only where the operator says what the hop enforces.
func TestPresetVerification(t *testing.T) {
	const (
		missing     = decision.SourceUnverified
		contradicts = decision.SourceContradiction
		malformed   = decision.SourceMalformed
		none        = decision.NoCertificate
	)
	tests := []struct {
		preset, field, value string // value "-": the field is left out
		want                 decision.Reason
		verified             bool
		without              decision.Reason // of the same without a certificate
	}{
		{"nginx", "X-Ssl-Client-Verify", "SUCCESS", "", true, contradicts},
		{"nginx", "X-Ssl-Client-Verify", "FAILED:self signed certificate", "", false, contradicts},
		{"nginx", "X-Ssl-Client-Verify", "FAILED", "", false, contradicts},
		{"nginx", "X-Ssl-Client-Verify", "NONE", contradicts, false, none},
		{"nginx", "X-Ssl-Client-Verify", "", missing, false, none},
		{"nginx", "X-Ssl-Client-Verify", "-", missing, false, none},
		{"nginx", "X-Ssl-Client-Verify", "success", malformed, false, malformed},
		{"nginx", "X-Ssl-Client-Verify", "0", malformed, false, malformed},
		{"nginx", "X-Ssl-Client-Verify", "SUCCESS ", malformed, false, malformed},
		{"ingress-nginx", "Ssl-Client-Verify", "SUCCESS", "", true, contradicts},
		{"ingress-nginx", "Ssl-Client-Verify", "-", missing, false, none},
		{"apache", "X-Ssl-Client-Verify", "SUCCESS", "", true, contradicts},
		{"apache", "X-Ssl-Client-Verify", "GENEROUS", "", false, contradicts},
		{"apache", "X-Ssl-Client-Verify", "FAILED:certificate has expired", "", false, contradicts},
		{"apache", "X-Ssl-Client-Verify", "NONE", contradicts, false, none},
		{"apache", "X-Ssl-Client-Verify", "(null)", missing, false, none},
		{"haproxy", "X-Ssl-Client-Verify", "0", "", true, none},
		{"haproxy", "X-Ssl-Client-Verify", "X509_V_OK", "", true, none},
		{"haproxy", "X-Ssl-Client-Verify", "18", "", false, contradicts},
		{"haproxy", "X-Ssl-Client-Verify", "X509_V_ERR_CERT_HAS_EXPIRED", "", false, contradicts},
		{"haproxy", "X-Ssl-Client-Verify", "00", malformed, false, malformed},
		{"haproxy", "X-Ssl-Client-Verify", "-1", malformed, false, malformed},
		{"haproxy", "X-Ssl-Client-Verify", "SUCCESS", malformed, false, malformed},
		{"haproxy", "X-Ssl-Client-Verify", "-", missing, false, none},
		{"openshift", "X-Ssl-Client-Verify", "0", "", true, none},
		{"openshift", "X-Ssl-Client-Verify", "20", "", false, contradicts},
		{"f5", "X-Ssl-Client-Verify", "0", "", true, none},
		{"f5", "X-Ssl-Client-Verify", "-", missing, false, none},
		{"fastly", "X-Ssl-Client-Verify", "SUCCESS", "", true, contradicts},
		{"fastly", "X-Ssl-Client-Verify", "FAILED:unknown_ca", "", false, contradicts},
		{"azure-application-gateway", "X-Client-Certificate-Verification", "SUCCESS", "", true, contradicts},
		{"azure-application-gateway", "X-Client-Certificate-Verification", "FAILED:unable to get local issuer", "", false, contradicts},
		{"azure-application-gateway", "X-Client-Certificate-Verification", "-", missing, false, none},
		{"google-cloud", "X-Client-Cert-Chain-Verified", "true", "", true, contradicts},
		{"google-cloud", "X-Client-Cert-Chain-Verified", "false", "", false, contradicts}, // Present stays true
		{"google-cloud", "X-Client-Cert-Chain-Verified", "-", missing, false, contradicts},
		{"google-cloud", "X-Client-Cert-Present", "false", contradicts, false, contradicts}, // Verified stays true
		{"google-cloud", "X-Client-Cert-Present", "-", missing, false, contradicts},
		{"google-cloud", "X-Client-Cert-Present", "yes", malformed, false, contradicts},
		{"cloudfront", "Cloudfront-Viewer-Cert-Present", "1", "", true, contradicts},
		{"cloudfront", "Cloudfront-Viewer-Cert-Present", "0", contradicts, false, none},
		{"cloudfront", "Cloudfront-Viewer-Cert-Present", "-", missing, false, none},
		{"cloudflare", "Cf-Cert-Verified", "true", "", true, contradicts},
		{"cloudflare", "Cf-Cert-Verified", "false", "", false, none},
		{"cloudflare", "Cf-Cert-Verified", "-", missing, false, none},
		{"cloudflare", "Cf-Cert-Revoked", "true", decision.Revoked, false, contradicts},
		{"cloudflare", "Cf-Cert-Revoked", "-", missing, false, contradicts}, // Verified stays true
		{"cloudflare-forwarding", "Cf-Cert-Revoked", "1", decision.Revoked, false, contradicts},
		{"cloudflare-forwarding", "Cf-Cert-Verified", "1", "", true, contradicts},
	}
	for _, tt := range tests {
		t.Run(tt.preset+" "+tt.field+" "+tt.value, func(t *testing.T) {
			i := slices.IndexFunc(certsource.Presets(), func(p certsource.Preset) bool { return p.Name == tt.preset })
			p := certsource.Presets()[i]
			sent := p.Forward(client.Cert)
			if sent[tt.field] == nil {
				t.Fatalf("the hop does not send %s", tt.field)
			}
			sent.Set(tt.field, tt.value)
			if tt.value == "-" {
				sent.Del(tt.field)
			}
			relying := preset(t, tt.preset, func(c *certsource.PresetConfig) { c.Verified = "partners" })
			for _, src := range []certsource.Source{relying, preset(t, tt.preset, nil), relying} { // what was said is not remembered
				got, err := src.Certificate(from(t, proxy, sent))
				if reason(err) != tt.want || err != nil && got != nil {
					t.Fatalf("%v (%v), want %q", got.Thumbprint(), err, tt.want)
				}
				want := ""
				if tt.verified && src == relying {
					want = tt.preset + " (anchors: partners)"
				}
				if err == nil && got.VerifiedBy != want {
					t.Errorf("verified by %q, want %q", got.VerifiedBy, want)
				}
			}
			delete(sent, http.CanonicalHeaderKey(p.Field))
			if p.Name == "cloudfront" || p.Name == "cloudflare-forwarding" {
				sent.Del("Cloudfront-Viewer-Cert-Sha256")
			}
			if got, err := relying.Certificate(from(t, proxy, sent)); got != nil || reason(err) != tt.without {
				t.Errorf("without a certificate: %v (%v), want %q", got.Thumbprint(), err, tt.without)
			}
		})
	}
	t.Run("of a hop without such a field", func(t *testing.T) {
		src := preset(t, "caddy", func(c *certsource.PresetConfig) { c.Verified = "partners" })
		got, err := src.Certificate(request(t, proxy, "X-SSL-Client-Cert", base64.StdEncoding.EncodeToString(client.Cert.Raw)))
		if err != nil || got.VerifiedBy != "caddy (anchors: partners)" {
			t.Errorf("%q (%v)", got.VerifiedBy, err)
		}
	})
	t.Run("the digest beside it", func(t *testing.T) {
		for _, name := range []string{"cloudfront", "cloudflare-forwarding"} {
			i := slices.IndexFunc(certsource.Presets(), func(p certsource.Preset) bool { return p.Name == name })
			sent := certsource.Presets()[i].Forward(client.Cert)
			wrong := sha256.Sum256(other.Cert.Raw)
			for field := range sent {
				if !strings.HasSuffix(field, "-Sha256") {
					continue
				}
				for value, want := range map[string]decision.Reason{
					hex.EncodeToString(wrong[:]): decision.SourceContradiction,
					"abc":                        decision.SourceMalformed,
					"":                           "",
				} {
					sent.Set(field, value)
					if got, err := preset(t, name, nil).Certificate(from(t, proxy, sent)); reason(err) != want {
						t.Errorf("%s %q: %v (%v), want %q", field, value, got.Thumbprint(), err, want)
					}
				}
			}
		}
	})
}

// Settings that cannot work, or would have no effect, are refused at start.
func TestPresetIsRefusedAtStart(t *testing.T) {
	tests := []struct {
		name, preset string
		change       func(*certsource.PresetConfig)
	}{
		{"an unknown preset", "nginx2", nil},
		{"no preset", "", nil},
		{"a preset in another case", "NGINX", nil},
		{"no field", "header-der", func(c *certsource.PresetConfig) { c.Field = "" }},
		{"no field for a digest", "header-sha256", func(c *certsource.PresetConfig) { c.Field = "" }},
		{"not a field", "nginx", func(c *certsource.PresetConfig) { c.Field = "X Cert" }},
		{"a field of 64 characters", "nginx", func(c *certsource.PresetConfig) { c.Field = strings.Repeat("X", 64) }},
		{"one name for two fields", "nginx", func(c *certsource.PresetConfig) { c.VerifyField = "x-ssl-client-cert" }},
		{"a chain that does not come", "nginx", func(c *certsource.PresetConfig) { c.ChainField = "X-Chain" }},
		{"a verification that does not come", "caddy", func(c *certsource.PresetConfig) { c.VerifyField = "X-Verify" }},
		{"relying on who verifies nothing", "alb-passthrough", func(c *certsource.PresetConfig) { c.Verified = "partners" }},
		{"relying on App Service", "azure-app-service", func(c *certsource.PresetConfig) { c.Verified = "partners" }},
		{"another name for Client-Cert", "rfc9440", func(c *certsource.PresetConfig) { c.Field = "X-Client-Cert" }},
		{"no number of hops", "xfcc", func(c *certsource.PresetConfig) { c.TrustedHops = 0 }},
		{"a negative number of hops", "xfcc", func(c *certsource.PresetConfig) { c.TrustedHops = -1 }},
		{"too many hops", "xfcc", func(c *certsource.PresetConfig) { c.TrustedHops = 17 }},
		{"hops elsewhere", "nginx", func(c *certsource.PresetConfig) { c.TrustedHops = 1 }},
		{"attributes elsewhere", "nginx", func(c *certsource.PresetConfig) { c.Attributes.SANDNS = "X-DNS" }},
		{"attributes that nobody verified", "attributes", func(c *certsource.PresetConfig) { c.Verified = "" }},
		{"attributes of one field", "attributes", func(c *certsource.PresetConfig) { c.Field = "X-DN" }},
		{"no attributes", "attributes", func(c *certsource.PresetConfig) { c.Attributes = certsource.AttributeFieldsConfig{} }},
		{"a negative limit", "nginx", func(c *certsource.PresetConfig) { c.MaxBytes = -1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("requirement", "H-2.4-1 H-4-1")
			cfg := certsource.PresetConfig{Hop: byAddress}
			for _, p := range certsource.Presets() {
				if p.Name == tt.preset {
					cfg = presetConfig(p)
				}
			}
			if tt.change != nil {
				if _, err := certsource.NewPreset(tt.preset, cfg); err != nil {
					t.Fatalf("refused before: %v", err)
				}
				tt.change(&cfg)
			}
			if src, err := certsource.NewPreset(tt.preset, cfg); err == nil || src != nil {
				t.Errorf("%v (%v), want it refused", src, err)
			}
		})
	}
}

// What each hop sends in its own way, and how it goes wrong in others.
func TestPresetForms(t *testing.T) {
	der := base64.StdEncoding.EncodeToString(client.Cert.Raw)
	chained := der + "," + base64.StdEncoding.EncodeToString(middle.Cert.Raw)
	text := string(client.CertPEM())
	folded := strings.ReplaceAll(strings.TrimSpace(text), "\n", " ")
	foldedMiddle := strings.ReplaceAll(strings.TrimSpace(string(pemOf(middle.Cert))), "\n", " ")
	escaped := escape(text)
	aws := strings.NewReplacer("%2B", "+", "%2F", "/", "%3D", "=").Replace(escaped)
	tests := []struct {
		name, preset string
		header       []string
		want         decision.Reason
		chain        int
	}{
		{"with everything escaped", "nginx", []string{"X-SSL-Client-Cert", escaped, "X-SSL-Client-Verify", "SUCCESS"}, "", 0},
		{"$ssl_client_cert with tabs", "nginx", []string{"X-SSL-Client-Cert", strings.ReplaceAll(strings.TrimSpace(text), "\n", "\t"), "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceHalfDecoded, 0},
		{"decoded on the way", "nginx", []string{"X-SSL-Client-Cert", folded, "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceHalfDecoded, 0},
		{"escaped twice", "nginx", []string{"X-SSL-Client-Cert", escape(escaped), "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceHalfDecoded, 0},
		{"cut in an escape", "nginx", []string{"X-SSL-Client-Cert", escaped[:len(escaped)-1], "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceMalformed, 0},
		{"cut in the certificate", "nginx", []string{"X-SSL-Client-Cert", escaped[:300], "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceMalformed, 0},

		{"safe characters as they are", "alb", []string{"X-Amzn-Mtls-Clientcert-Leaf", aws}, "", 0},
		{"form-encoded", "alb", []string{"X-Amzn-Mtls-Clientcert-Leaf", strings.ReplaceAll(escaped, "%20", "+")}, decision.SourceHalfDecoded, 0},
		{"form-decoded before", "alb", []string{"X-Amzn-Mtls-Clientcert-Leaf", "-----BEGIN%20CERTIFICATE-----%0AMIIB%20w==%0A-----END%20CERTIFICATE-----"}, decision.SourceHalfDecoded, 0},
		{"a chain, leaf to root", "alb-passthrough", []string{"X-Amzn-Mtls-Clientcert", escape(text + string(pemOf(middle.Cert)) + string(pemOf(root.Cert)))}, "", 2},
		{"ten certificates too many", "alb-passthrough", []string{"X-Amzn-Mtls-Clientcert", escape(strings.Repeat(text, 20))}, decision.SourceTooLarge, 0},

		{"(null)", "apache", []string{"X-SSL-Client-Cert", "(null)", "X-SSL-Client-Verify", "NONE", "X-SSL-Client-Cert-Chain-0", "(null)"}, decision.NoCertificate, 0},
		{"a chain", "apache", []string{"X-SSL-Client-Cert", folded, "X-SSL-Client-Cert-Chain-0", foldedMiddle, "X-SSL-Client-Cert-Chain-1", "(null)", "X-SSL-Client-Verify", "SUCCESS"}, "", 1},
		{"the leaf in its chain", "apache", []string{"X-SSL-Client-Cert", folded, "X-SSL-Client-Cert-Chain-0", folded, "X-SSL-Client-Cert-Chain-1", foldedMiddle, "X-SSL-Client-Verify", "SUCCESS"}, "", 1},
		{"a chain with a hole", "apache", []string{"X-SSL-Client-Cert", folded, "X-SSL-Client-Cert-Chain-1", foldedMiddle, "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceMalformed, 0},
		{"a chain alone", "apache", []string{"X-SSL-Client-Cert-Chain-0", foldedMiddle, "X-SSL-Client-Verify", "NONE"}, decision.SourceContradiction, 0},
		{"a plus sign became a space", "apache", []string{"X-SSL-Client-Cert", folded[:60] + " " + folded[61:], "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceHalfDecoded, 0},
		{"escaped", "apache", []string{"X-SSL-Client-Cert", escaped, "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceHalfDecoded, 0},

		{"in quotes", "haproxy", []string{"X-SSL-Client-Cert", `"` + der + `"`, "X-SSL-Client-Verify", "0"}, "", 0},
		{"without quotes", "haproxy", []string{"X-SSL-Client-Cert", der, "X-SSL-Client-Verify", "0"}, "", 0},
		{"quotes with nothing", "haproxy", []string{"X-SSL-Client-Cert", `""`, "X-SSL-Client-Verify", "0"}, decision.NoCertificate, 0},
		{"one quote", "haproxy", []string{"X-SSL-Client-Cert", `"` + der, "X-SSL-Client-Verify", "0"}, decision.SourceMalformed, 0},
		{"only a quote", "haproxy", []string{"X-SSL-Client-Cert", `"`, "X-SSL-Client-Verify", "0"}, decision.SourceMalformed, 0},
		{"form-decoded", "haproxy", []string{"X-SSL-Client-Cert", der[:9] + " " + der[10:], "X-SSL-Client-Verify", "0"}, decision.SourceHalfDecoded, 0},
		{"a chain in one value", "haproxy", []string{"X-SSL-Client-Cert", der, "X-SSL-Client-Verify", "0",
			"X-SSL-Client-Chain", base64.StdEncoding.EncodeToString(append(slices.Clone(middle.Cert.Raw), root.Cert.Raw...))}, "", 2},
		{"a chain with octets after it", "haproxy", []string{"X-SSL-Client-Cert", der, "X-SSL-Client-Verify", "0",
			"X-SSL-Client-Chain", base64.StdEncoding.EncodeToString(append(slices.Clone(middle.Cert.Raw), 1, 2))}, decision.SourceMalformed, 0},
		{"no chain, resumed", "haproxy", []string{"X-SSL-Client-Cert", der, "X-SSL-Client-Verify", "0", "X-SSL-Client-Chain", ""}, "", 0},
		{"two hundred in a chain", "haproxy", []string{"X-SSL-Client-Cert", der, "X-SSL-Client-Verify", "0",
			"X-SSL-Client-Chain", base64.StdEncoding.EncodeToString(bytes.Repeat(middle.Cert.Raw, 30))}, decision.SourceTooLarge, 0},

		{"a chain", "traefik", []string{"X-Forwarded-Tls-Client-Cert", chained}, "", 1},
		{"with its info", "traefik", []string{"X-Forwarded-Tls-Client-Cert", der, "X-Forwarded-Tls-Client-Cert-Info", "Subject%3D%22CN%3Dx%22"}, "", 0},
		{"escaped by an old version", "traefik", []string{"X-Forwarded-Tls-Client-Cert", escape(chained)}, decision.SourceHalfDecoded, 0},
		{"a comma at the end", "traefik", []string{"X-Forwarded-Tls-Client-Cert", der + ","}, decision.SourceMalformed, 0},
		{"PEM", "traefik", []string{"X-Forwarded-Tls-Client-Cert", folded}, decision.SourceMalformed, 0},
		{"a chain", "traefik-2.8", []string{"X-Forwarded-Tls-Client-Cert", escape(chained)}, "", 1},
		{"form-decoded", "traefik", []string{"X-Forwarded-Tls-Client-Cert", der[:9] + " " + der[10:]}, decision.SourceHalfDecoded, 0},
		{"eleven certificates", "traefik", []string{"X-Forwarded-Tls-Client-Cert", strings.Repeat(der+",", 10) + der}, decision.SourceTooLarge, 0},

		{"the form of RFC 9440", "rfc9440-draft", []string{"Client-Cert", ":" + der + ":"}, decision.SourceMalformed, 0},
		{"the form of the drafts", "rfc9440", []string{"Client-Cert", der}, decision.SourceMalformed, 0},
		{"the form of the drafts", "rfc9440-draft", []string{"Client-Cert", der}, "", 0},

		{"PEM in base64", "fastly", []string{"X-SSL-Client-Cert", base64.StdEncoding.EncodeToString([]byte(text)), "X-SSL-Client-Verify", "SUCCESS"}, "", 0},
		{"DER in base64", "fastly", []string{"X-SSL-Client-Cert", der, "X-SSL-Client-Verify", "SUCCESS"}, "", 0},
		{"something in base64", "fastly", []string{"X-SSL-Client-Cert", "aGk=", "X-SSL-Client-Verify", "SUCCESS"}, decision.SourceMalformed, 0},

		{"base64", "azure-app-service", []string{"X-ARR-ClientCert", der}, "", 0},
		{"too large", "azure-app-service", []string{"X-ARR-ClientCert", strings.Repeat("A", 70_000)}, decision.SourceTooLarge, 0},
		{"not set", "google-cloud", []string{"X-Client-Cert-Leaf", "", "X-Client-Cert-Chain", "", "X-Client-Cert-Present", "false", "X-Client-Cert-Chain-Verified", "false"}, decision.NoCertificate, 0},
		{"too large for the balancer", "google-cloud", []string{"X-Client-Cert-Leaf", "", "X-Client-Cert-Present", "true", "X-Client-Cert-Chain-Verified", "false"}, decision.SourceContradiction, 0},
	}
	for _, tt := range tests {
		t.Run(tt.preset+" "+tt.name, func(t *testing.T) {
			src := preset(t, tt.preset, nil)
			for range 2 {
				got, err := src.Certificate(request(t, proxy, tt.header...))
				if reason(err) != tt.want || err != nil && got != nil {
					t.Fatalf("%v (%v), want %q", got.Thumbprint(), err, tt.want)
				}
				if err == nil && (!client.Cert.Equal(got.Leaf()) || len(got.Chain()) != tt.chain) {
					t.Errorf("%s and %d more, want %d", got.Thumbprint(), len(got.Chain()), tt.chain)
				}
			}
		})
	}
}

// A field that the proxy is set up to call otherwise.
func TestPresetOtherNames(t *testing.T) {
	src := preset(t, "apache", func(c *certsource.PresetConfig) {
		c.Field, c.ChainField, c.VerifyField = "SSL_CLIENT_CERT", "CERT_CHAIN_", "SSL_CLIENT_VERIFY"
	})
	folded := func(c *x509.Certificate) []string {
		return []string{strings.ReplaceAll(strings.TrimSpace(string(pemOf(c))), "\n", " ")}
	}
	got, err := src.Certificate(from(t, proxy, http.Header{"Ssl_client_cert": folded(client.Cert), "Cert_chain_0": folded(middle.Cert), "Ssl_client_verify": {"SUCCESS"}}))
	if err != nil || !client.Cert.Equal(got.Leaf()) || len(got.Chain()) != 1 {
		t.Errorf("%v and %d more (%v)", got.Thumbprint(), len(got.Chain()), err)
	}
	src = preset(t, "alb", func(c *certsource.PresetConfig) { c.Field = "X-Client-Certificate" })
	sent := http.Header{"X-Client-Certificate": {escape(string(client.CertPEM()))}}
	if got, err := src.Certificate(from(t, proxy, sent)); err != nil || !client.Cert.Equal(got.Leaf()) {
		t.Errorf("%v (%v)", got.Thumbprint(), err)
	}
	usual := http.Header{"X-Amzn-Mtls-Clientcert-Leaf": sent["X-Client-Certificate"]}
	if got, err := src.Certificate(from(t, proxy, usual)); got != nil || !errors.Is(err, certsource.ErrNoCertificate) {
		t.Errorf("under the usual name: %v (%v)", got.Thumbprint(), err)
	}
}
