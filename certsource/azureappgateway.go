package certsource

// Azure Application Gateway fills fields from server variables by a rewrite rule, which
// has to be set for requests without certificate, too, so that it removes the client's
// copy.
var presetAzureAppGateway = preset{
	Preset: Preset{
		Name: "azure-application-gateway", Title: "Azure Application Gateway", Field: "X-Client-Certificate", VerifyField: "X-Client-Certificate-Verification",
		Form: "PEM, percent-encoded (client_certificate)", Values: "SUCCESS, FAILED:reason or NONE (client_certificate_verification)",
		Most: KindCertificate, Chain: "no", Versions: "v2, documentation of 2026", Config: "azure-application-gateway.md",
		Note: "In the passthrough mode it verifies nothing, and says so in the field.",
	},
	form: formEscapedPEM, verify: judgeWords, good: "SUCCESS",
}
