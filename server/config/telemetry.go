package config

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"time"

	"github.com/certbound/certbound/server/evidence"
	"github.com/certbound/certbound/server/telemetry"
)

func (c *checker) telemetry(t *Telemetry, e *Evidence) {
	if u, err := url.Parse(t.Endpoint); t.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "") {
		c.fault("telemetry.endpoint", "write it as http://127.0.0.1:4317 or with https", "%q is not the URL of a receiver", t.Endpoint)
	}
	if _, err := telemetry.ParseSample(t.Sample); t.Sample != "" && err != nil {
		c.fault("telemetry.sample", "write a part in percent, such as 10% or 0.1%", "%q is not from 0%% to 100%%", t.Sample)
	}
	pair("telemetry", t.Certificate, t.Key, c.fault)
	if e.Folder != "" && e.MaxBytes < 1<<20 {
		c.fault("evidence.max_bytes", "set it to 1048576 or more", "%d is less than the chains of a few requests", e.MaxBytes)
	}
	if e.Folder != "" && e.MaxAge == 0 {
		c.fault("evidence.max_age", "set how long certificates are kept, such as 30d", "is 0s, so that nothing would be kept")
	}
}

// OTLP returns the settings of the exporter. The caller adds Fallback, Version, Metrics
// and Logger.
func (f *File) OTLP() (telemetry.OTLPConfig, error) {
	t := &f.Telemetry
	cfg := telemetry.OTLPConfig{
		Protocol: t.OTLP, Endpoint: t.Endpoint, NoTraces: !t.Traces, NoMetrics: !t.Metrics,
		Sample: t.Sample, IgnoreParent: t.IgnoreParent, Interval: time.Duration(t.Interval), Service: t.Service,
	}
	if len(t.RootCAs) == 0 && t.Certificate == "" {
		return cfg, nil
	}
	roots, err := f.pool("telemetry.root_cas", t.RootCAs)
	if err != nil {
		return cfg, err
	}
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if t.Certificate != "" {
		read := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.Path(t.Certificate), f.Path(t.Key))
			if err != nil {
				return nil, fmt.Errorf("config: telemetry.certificate: %w", err)
			}
			return &pair, nil
		}
		if _, err := read(); err != nil {
			return cfg, err
		}
		// Read for each handshake, of which there are few: a renewed file counts.
		cfg.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() }
	}
	return cfg, nil
}

// OTLP is [File.OTLP] for a gateway.
func (f *GatewayFile) OTLP() (telemetry.OTLPConfig, error) {
	return (&File{Config: Config{Telemetry: f.Telemetry}, document: f.document}).OTLP()
}

// EvidenceConfig returns the settings of the evidence folder. Its Folder is empty if
// nothing is kept.
func (f *File) EvidenceConfig() evidence.Config {
	e := &f.Evidence
	if e.Folder == "" {
		return evidence.Config{}
	}
	return evidence.Config{Folder: f.Path(e.Folder), MaxBytes: int64(e.MaxBytes), MaxAge: time.Duration(e.MaxAge)}
}

// EvidenceConfig is [File.EvidenceConfig] for a gateway.
func (f *GatewayFile) EvidenceConfig() evidence.Config {
	return (&File{Config: Config{Evidence: f.Evidence}, document: f.document}).EvidenceConfig()
}
