package certsource

// Azure App Service forwards what the client has sent and validates nothing.
var presetAzureAppService = preset{
	Preset: Preset{
		Name: "azure-app-service", Title: "Azure App Service", Field: "X-ARR-ClientCert",
		Form: "base64 of the DER",
		Most: KindCertificate, Chain: "no", NeverVerifies: true, Versions: "documentation of 2026", Config: "azure-app-service.md",
		Note: "The platform validates nothing; paths that are excluded from client certificates come without.",
	},
	form: formDER,
}
