package certsource

// Apache httpd puts PEM into a field with its line ends as spaces, and the text "(null)"
// where a variable is empty. As %{…}s the variables are there; as %{…}e they need SSLOptions
// +ExportCertData. Each further certificate has a numbered field of its own.
var presetApache = preset{
	Preset: Preset{
		Name: "apache", Title: "Apache httpd", Field: "X-SSL-Client-Cert", ChainField: "X-SSL-Client-Cert-Chain-",
		VerifyField: "X-SSL-Client-Verify",
		Form:        "PEM with spaces for line ends (SSL_CLIENT_CERT)", Values: "SUCCESS, GENEROUS, FAILED:reason or NONE",
		Most: KindCertificate, Chain: "yes, but not on a resumed session, in numbered fields", Run: true, Versions: "2.4", Config: "apache.conf",
		Note: "Removes its own field if a client names it in Connection; apache.conf refuses such a request.",
	},
	form: formFoldedPEM, list: listFoldedPEM, verify: judgeWords, good: "SUCCESS", none: []string{"(null)"},
}
