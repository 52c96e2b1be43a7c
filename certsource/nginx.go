package certsource

// nginx escapes the certificate since 1.13.5 ($ssl_client_escaped_cert); the older
// variables put line ends into the field, which no server takes. Only the leaf comes.
// With ssl_verify_client optional_no_ca a certificate comes whether it could be verified
// or not, so that $ssl_client_verify is not optional.
var presetNginx = preset{
	Preset: Preset{
		Name: "nginx", Title: "nginx", Field: "X-SSL-Client-Cert", VerifyField: "X-SSL-Client-Verify",
		Form: "PEM, percent-encoded ($ssl_client_escaped_cert)", Values: "SUCCESS, FAILED:reason or NONE",
		Most: KindCertificate, Chain: "no", Run: true, Versions: "1.13.5 and later", Config: "nginx.conf",
		Note: "Sends the leaf only, and drops fields with underscores by itself.",
	},
	form: formEscapedPEM, verify: judgeWords, good: "SUCCESS",
}
