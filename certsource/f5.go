package certsource

// BIG-IP sends what an iRule says. HTTP::header insert adds a field and leaves the
// client's: only a rule that removes it first is safe. The usual example stores the
// certificate by session id, which shows an old identity on a resumed session.
var presetF5 = preset{
	Preset: Preset{
		Name: "f5", Title: "F5 BIG-IP", Field: "X-SSL-Client-Cert", ChainField: "X-SSL-Client-Chain", VerifyField: "X-SSL-Client-Verify",
		Form: "base64 of the DER ([b64encode [SSL::cert 0]])", Values: "0, or the number of a fault ([SSL::verify_result])",
		Most: KindCertificate, Chain: "if the iRule sends it", Versions: "documentation of 15 to 17", Config: "f5.md",
		Note: "For PEM with flattened lines (X509::whole) take header-pem.",
	},
	form: formDER, list: listDERs, verify: judgeNumber, good: "0", vacuous: true,
}
