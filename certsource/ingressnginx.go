package certsource

// ingress-nginx sets its own names. A certificate that it could not verify does not
// arrive by default, and then its answer is 400 before we see the request.
var presetIngressNginx = preset{
	Preset: Preset{
		Name: "ingress-nginx", Title: "ingress-nginx", Field: "ssl-client-cert", VerifyField: "ssl-client-verify",
		Beside: []string{"ssl-client-subject-dn", "ssl-client-issuer-dn"},
		Form:   "PEM, percent-encoded", Values: "SUCCESS, FAILED:reason or NONE",
		Most: KindCertificate, Chain: "no", Versions: "1.x", Config: "ingress-nginx.md",
		Note: "Needs auth-tls-pass-certificate-to-upstream; its verify depth is 1 by default, so that intermediates fail there.",
	},
	form: formEscapedPEM, verify: judgeWords, good: "SUCCESS",
}
