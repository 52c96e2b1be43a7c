package config

import (
	"fmt"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pki"
)

// CaptureSource returns what reads the client certificate on the mutual-TLS listener, for
// a program that judges a captured request: who sent it is not known there, or only by
// address. A peer on a unix socket counts as the proxy, any other one is judged by the
// prefixes of the configuration alone. It must not serve anybody.
func (f *File) CaptureSource(paths *pki.Validator) certsource.Source {
	g := *f
	p := &g.Listen.MTLS.Proxy
	p.UnixSocket, p.InsecurePrivateNetwork = true, len(p.Prefixes) > 0
	p.Thumbprints, p.PublicKeys, p.Subjects, p.SPIFFEIDs, p.AnchorSet = nil, nil, nil, nil, ""
	return g.source(paths, func(string, string, string, ...any) {})
}

// Where says where a key stands: "certbound.yaml:14". If it is not in the file, where the
// nearest key above it stands, and "" if there is none.
func (f *File) Where(key string) string {
	if p := f.place(key); p.line > 0 {
		return fmt.Sprintf("%s:%d", f.Name, p.line)
	}
	return ""
}
