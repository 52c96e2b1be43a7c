package config

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// readCertificates returns the certificates of a PEM file, of which there is at least
// one.
func readCertificates(name string) ([]*x509.Certificate, error) {
	data, err := readLimited(name, 4<<20)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	var found string
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			found = block.Type
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %s", name, len(certs)+1, strings.TrimPrefix(err.Error(), "x509: "))
		}
		certs = append(certs, c)
	}
	switch {
	case len(certs) > 0:
		return certs, nil
	case found != "":
		return nil, fmt.Errorf("%s: expected PEM with a CERTIFICATE block, found %s", name, found)
	}
	return nil, fmt.Errorf("%s: expected PEM with a CERTIFICATE block, found none", name)
}
