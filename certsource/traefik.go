package certsource

// Traefik sends base64 without the frame of PEM, with commas between the certificates.
// Since 2.9.4 that is all; before, the value was percent-encoded once more.
var presetTraefik = preset{
	Preset: Preset{
		Name: "traefik", Title: "Traefik", Field: "X-Forwarded-Tls-Client-Cert",
		Beside: []string{"X-Forwarded-Tls-Client-Cert-Info"},
		Form:   "base64 of the DER, with commas between certificates",
		Most:   KindCertificate, Chain: "yes", Run: true, Versions: "2.9.4 and later, 3.x", Config: "traefik.yaml",
		Note: "Forwards what clientAuthType lets through; the middleware has to stand before forward-auth.",
	},
	form: formDERs,
}

var presetTraefik28 = preset{
	Preset: Preset{
		Name: "traefik-2.8", Title: "Traefik before 2.9.4", Field: "X-Forwarded-Tls-Client-Cert",
		Beside: []string{"X-Forwarded-Tls-Client-Cert-Info"},
		Form:   "base64 of the DER, with commas between certificates, percent-encoded",
		Most:   KindCertificate, Chain: "yes", Versions: "2.0 to 2.9.1", Config: "traefik-2.8.md",
		Note: "Update Traefik instead, if that is possible.",
	},
	form: formEscapedDERs,
}
