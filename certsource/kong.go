package certsource

// Kong's plugin tls-metadata-headers sends the certificate and validates nothing; whether
// another plugin does, is not told.
var presetKong = preset{
	Preset: Preset{
		Name: "kong", Title: "Kong Gateway", Field: "X-Client-Cert",
		Beside: []string{"X-Client-Cert-Serial", "X-Client-Cert-Issuer-DN", "X-Client-Cert-Subject-DN", "X-Client-Cert-Fingerprint"},
		Form:   "PEM, percent-encoded",
		Most:   KindCertificate, Chain: "no", Versions: "3.x", Config: "kong.md",
		Note: "With the plugin mtls-auth before it the CAs of that plugin are enforced; with tls-handshake-modifier nothing is.",
	},
	form: formEscapedPEM,
}
