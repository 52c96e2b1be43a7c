package certsource

import (
	"cmp"
	"fmt"
)

// The presets of forms, for hops that have no preset of their own. Each needs the name of
// its field; with a VerifyField that field is demanded as it is of the others.
var (
	presetHeaderDER = preset{
		Preset: Preset{
			Name: "header-der", Title: "Any proxy: base64 of the DER",
			Form: "base64 of the DER, in one line", Most: KindCertificate, Chain: "no", Config: "generic.md",
		},
		form: formDER,
	}
	presetHeaderPEM = preset{
		Preset: Preset{
			Name: "header-pem", Title: "Any proxy: PEM",
			Form: "PEM with spaces or tabs for line ends", Most: KindCertificate, Chain: "if it follows in the same field", Config: "generic.md",
		},
		form: formFoldedPEM, none: []string{"(null)"},
	}
	presetHeaderEscapedPEM = preset{
		Preset: Preset{
			Name: "header-escaped-pem", Title: "Any proxy: escaped PEM",
			Form: "PEM, percent-encoded", Most: KindCertificate, Chain: "if it follows in the same field", Config: "generic.md",
		},
		form: formEscapedPEM,
	}
	presetHeaderSHA256 = preset{
		Preset: Preset{
			Name: "header-sha256", Title: "Any proxy: SHA-256",
			Form: "the SHA-256 of the DER in hexadecimal", Most: KindFingerprint, Chain: "no", Config: "generic.md",
			Note: "Enough for a binding and for a self-signed client, not for tls_client_auth.",
		},
		build: func(p *preset, cfg PresetConfig) (Source, error) {
			s := newFields(p, cfg)
			s.read = (*presetSource).fingerprint
			if err := s.validate(); err != nil {
				return nil, err
			}
			return s, nil
		},
	}
	presetAttributes = preset{
		Preset: Preset{
			Name: "attributes", Title: "Any proxy: single names",
			Form: "a subject and subject alternative names as text", Most: KindAttributes, Chain: "no", Config: "generic.md",
			Note: "Only for tls_client_auth, only where the proxy verifies; binds no token.",
		},
		build: func(p *preset, cfg PresetConfig) (Source, error) {
			if cfg.Field != "" {
				return nil, fmt.Errorf("certsource: %s: Field %s: set the fields of Attributes instead", p.Name, cfg.Field)
			}
			a := cfg.Attributes
			v := p.verification(cfg)
			if v.Field = cfg.VerifyField; v.Field != "" {
				v.Success = cmp.Or(a.Verification.Success, "SUCCESS")
			}
			a.Hop, a.Verification, a.MaxBytes = cfg.Hop, v, cfg.MaxBytes
			s, err := NewAttributeFields(a)
			if err != nil {
				return nil, err
			}
			s.others = cfg.Others
			return s, nil
		},
	}
)

func (s *presetSource) fingerprint(field, value string, _ []string) (*Presented, error) {
	if err := s.size(field, len(value)); err != nil {
		return nil, err
	}
	sum, err := s.sha256(field, value)
	if err != nil {
		return nil, err
	}
	return NewFingerprint(s.source, sum), nil
}
