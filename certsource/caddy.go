package certsource

// Caddy has a placeholder for DER in base64. That for PEM has line ends and cannot be a
// field.
var presetCaddy = preset{
	Preset: Preset{
		Name: "caddy", Title: "Caddy", Field: "X-SSL-Client-Cert",
		Form: "base64 of the DER (http.request.tls.client.certificate_der_base64)",
		Most: KindCertificate, Chain: "no", Run: true, Versions: "2.x", Config: "Caddyfile",
		Note: "Sends the leaf only; older ones (2.6.2) the name of the placeholder where there is no certificate, unless the configuration asks first; some versions send nothing over HTTP/3.",
	},
	form: formDER,
}
