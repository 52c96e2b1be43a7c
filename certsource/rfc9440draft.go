package certsource

// The early drafts of RFC 9440 had bare base64 in Client-Cert, and no colons.
var presetRFC9440Draft = preset{
	Preset: Preset{
		Name: "rfc9440-draft", Title: "Client-Cert of the early drafts", Field: fieldClientCert,
		Form: "base64 of the DER, without colons",
		Most: KindCertificate, Chain: "no", Versions: "drafts before the structured field", Config: "rfc9440.md",
		Note: "The published form has colons: take rfc9440 where the proxy can send it.",
	},
	form: formDER,
}

var presetRFC9440 = preset{
	Preset: Preset{
		Name: "rfc9440", Title: "RFC 9440", Field: fieldClientCert, ChainField: fieldClientCertChain,
		Form: "base64 of the DER in colons, a list of them for the chain",
		Most: KindCertificate, Chain: "if the proxy sends it", Run: true, Versions: "RFC 9440", Config: "rfc9440.md",
		Note: "The one form with a specification: take it where the proxy can send it.",
	},
	build: func(p *preset, cfg PresetConfig) (Source, error) {
		if err := p.fixed(cfg); err != nil {
			return nil, err
		}
		s, err := NewRFC9440(RFC9440Config{
			Hop: cfg.Hop, Verification: p.verification(cfg), Others: cfg.Others,
			MaxCertificates: cfg.MaxCertificates, MaxBytes: cfg.MaxBytes,
		})
		if err != nil {
			return nil, err
		}
		return s, nil
	},
}
