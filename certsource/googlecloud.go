package certsource

// Google's Application Load Balancers fill custom fields from variables: the certificates
// in the form of RFC 9440, and whether there is one and whether its chain was verified.
// One that is too large is left out, and then only the flag tells.
var presetGoogleCloud = preset{
	Preset: Preset{
		Name: "google-cloud", Title: "Google Cloud load balancer", Field: "X-Client-Cert-Leaf", ChainField: "X-Client-Cert-Chain",
		VerifyField: "X-Client-Cert-Chain-Verified", Flags: []string{"X-Client-Cert-Present"},
		Beside: []string{"X-Client-Cert-Error", "X-Client-Cert-Hash", "X-Client-Cert-Serial-Number", "X-Client-Cert-SPIFFE", "X-Client-Cert-URI-SANs", "X-Client-Cert-DNSName-SANs",
			"X-Client-Cert-Valid-Not-Before", "X-Client-Cert-Valid-Not-After"},
		Form: "RFC 9440 (client_cert_leaf, client_cert_chain)", Values: "true or false",
		Most: KindCertificate, Chain: "yes", Versions: "documentation of 2026", Config: "google-cloud.md",
		Note: "In the mode ALLOW_INVALID_OR_MISSING_CLIENT_CERT certificates come that were not verified.",
	},
	form: formItem, list: listItems, lines: true, verify: judgeBool(outcomeVerified, outcomeUnverified), good: "true",
	flags: []flag{{name: "X-Client-Cert-Present", good: "true", judge: judgeBool(outcomePresent, outcomeNone)}},
}
