package certsource

// HAProxy sends DER in base64, in quotes where the format has +Q. ssl_c_verify is 0 for a
// connection without certificate, too, so that it says something only beside one. The
// chain is missing on a resumed session.
var presetHAProxy = preset{
	Preset: Preset{
		Name: "haproxy", Title: "HAProxy", Field: "X-SSL-Client-Cert", ChainField: "X-SSL-Client-Chain",
		VerifyField: "X-SSL-Client-Verify",
		Form:        "base64 of the DER, perhaps in quotes (ssl_c_der,base64)", Values: "0 or X509_V_OK, or the number or name of a fault (ssl_c_verify)",
		Most: KindCertificate, Chain: "yes, but not on a resumed session (ssl_c_chain_der,base64)", Run: true, Versions: "2.2 and later", Config: "haproxy.cfg",
		Note: "Passes on what a client names in Connection unless told otherwise. It can also send RFC 9440, by colons around the base64: then take the preset rfc9440.",
	},
	form: formQuotedDER, list: listConcatenatedDER, verify: judgeNumber, good: "0", vacuous: true, none: []string{`""`},
}
