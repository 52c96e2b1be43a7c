package certsource

// CloudFront says in a field of its own whether there is a certificate, and sends the
// SHA-256 beside it. In its passthrough mode it sends Client-Cert instead, unverified.
var presetCloudFront = preset{
	Preset: Preset{
		Name: "cloudfront", Title: "AWS CloudFront", Field: "CloudFront-Viewer-Cert-Pem",
		Flags:  []string{"CloudFront-Viewer-Cert-Present"},
		Beside: []string{"CloudFront-Viewer-Cert-Serial-Number", "CloudFront-Viewer-Cert-Issuer", "CloudFront-Viewer-Cert-Subject", "CloudFront-Viewer-Cert-Validity"},
		Form:   "PEM, percent-encoded", Values: "1 or 0",
		Most: KindCertificate, Chain: "no", Versions: "documentation of 2026", Config: "cloudfront.md",
		Note: "Needs an origin request policy; CloudFront-Viewer-Cert-Sha256 is compared if it comes.",
	},
	form: formEscapedPEM, digest: "CloudFront-Viewer-Cert-Sha256",
	flags: []flag{{name: "CloudFront-Viewer-Cert-Present", good: "1", judge: judgeBool(outcomePresent, outcomeNone)}},
}
