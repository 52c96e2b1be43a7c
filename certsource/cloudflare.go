package certsource

// Cloudflare fills its variables for certificates that are invalid or revoked, too. A
// rule has to forward the verdicts beside the certificate, and to remove the client's
// copies without condition. Over 10 KiB the certificate is left out.
var presetCloudflare = preset{
	Preset: Preset{
		Name: "cloudflare", Title: "Cloudflare, transform rule", Field: fieldClientCert, ChainField: fieldClientCertChain,
		VerifyField: "Cf-Cert-Verified", Flags: []string{"Cf-Cert-Revoked"},
		Beside: []string{"Cf-Client-Cert-Der-Base64", "Cf-Client-Cert-Sha256"},
		Form:   "RFC 9440 (cf.tls_client_auth.cert_rfc9440)", Values: "true or false",
		Most: KindCertificate, Chain: "yes, up to 16 KiB", Versions: "documentation of 2026", Config: "cloudflare.md",
		Note: "A revoked certificate is refused.",
	},
	form: formItem, list: listItems, lines: true, verify: judgeBool(outcomeVerified, outcomeUnverified), good: "true",
	flags: []flag{{name: "Cf-Cert-Revoked", good: "false", judge: judgeBool(outcomeRevoked, outcomeNotRevoked)}},
}

// With client_certificate_forwarding the certificate comes as DER. The documentation says
// in one place that it comes with each request of a connection and in another that it
// comes with the first only; a request without it is one without certificate.
var presetCloudflareForwarding = preset{
	Preset: Preset{
		Name: "cloudflare-forwarding", Title: "Cloudflare, certificate forwarding", Field: "Cf-Client-Cert-Der-Base64",
		VerifyField: "Cf-Cert-Verified", Flags: []string{"Cf-Cert-Revoked"},
		Form: "base64 of the DER", Values: "true or false",
		Most: KindCertificate, Chain: "no", Versions: "documentation of 2025", Config: "cloudflare.md",
		Note: "It may come with the first request of a connection only: take cloudflare instead. Cf-Client-Cert-Sha256 is compared if it comes.",
	},
	form: formDER, verify: judgeBool(outcomeVerified, outcomeUnverified), good: "true", digest: "Cf-Client-Cert-Sha256",
	flags: []flag{{name: "Cf-Cert-Revoked", good: "false", judge: judgeBool(outcomeRevoked, outcomeNotRevoked)}},
}
