package certsource

// Fastly fills fields from variables in VCL. Whether the base64 holds DER or PEM differs
// by what is written about it; both are read.
var presetFastly = preset{
	Preset: Preset{
		Name: "fastly", Title: "Fastly", Field: "X-SSL-Client-Cert", VerifyField: "X-SSL-Client-Verify",
		Form: "base64 of the DER or the PEM (tls.client.certificate.raw_certificate_b64)", Values: "SUCCESS, FAILED:reason or NONE, by the VCL of docs/proxies",
		Most: KindCertificate, Chain: "no", Versions: "documentation of 2026", Config: "fastly.md",
		Note: "With mutual TLS not enforced, certificates come that could not be verified.",
	},
	form: formBase64, verify: judgeWords, good: "SUCCESS",
}
