package certsource

// The Application Load Balancer percent-encodes PEM but for "+", "=" and "/": form
// decoding destroys the certificate. In the verify mode the leaf comes; in passthrough
// everything comes that the client has sent, and nobody has verified anything.
var presetALB = preset{
	Preset: Preset{
		Name: "alb", Title: "AWS Application Load Balancer, verify", Field: "X-Amzn-Mtls-Clientcert-Leaf",
		Beside: []string{"X-Amzn-Mtls-Clientcert-Serial-Number", "X-Amzn-Mtls-Clientcert-Issuer", "X-Amzn-Mtls-Clientcert-Subject", "X-Amzn-Mtls-Clientcert-Validity"},
		Form:   `PEM, percent-encoded but for "+", "=" and "/"`,
		Most:   KindCertificate, Chain: "no", Versions: "documentation of 2026", Config: "alb.md",
		Note: "The listener attributes can rename the field.",
	},
	form: formSafeEscapedPEM,
}

var presetALBPassthrough = preset{
	Preset: Preset{
		Name: "alb-passthrough", Title: "AWS Application Load Balancer, passthrough", Field: "X-Amzn-Mtls-Clientcert",
		Form: `PEM, percent-encoded but for "+", "=" and "/", leaf first`,
		Most: KindCertificate, Chain: "yes", NeverVerifies: true, Versions: "documentation of 2026", Config: "alb.md",
		Note: "The load balancer verifies nothing.",
	},
	form: formSafeEscapedPEMs,
}
