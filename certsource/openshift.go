package certsource

// The router of OpenShift is an HAProxy with names of its own.
var presetOpenShift = preset{
	Preset: Preset{
		Name: "openshift", Title: "OpenShift router", Field: "X-SSL-Client-DER", VerifyField: "X-SSL-Client-Verify",
		Beside: []string{"X-SSL-Client-Version", "X-SSL-Client-SHA1", "X-SSL-Client-DN", "X-SSL-Client-CN", "X-SSL-Client-Serial",
			"X-SSL-Client-NotBefore", "X-SSL-Client-NotAfter", "X-SSL-Issuer"},
		Form: "base64 of the DER, perhaps in quotes", Values: "0, or the number of a fault",
		Most: KindCertificate, Chain: "no", Versions: "4.x", Config: "openshift.md",
		Note: "One set of client CAs for the whole ingress controller.",
	},
	form: formQuotedDER, verify: judgeNumber, good: "0", vacuous: true, none: []string{`""`},
}
