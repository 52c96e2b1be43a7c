package oauthclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// GenerateSelfSigned returns a new P-256 key with a self-signed certificate, for a public
// client that wants bound tokens (RFC 8705, Section 4). Each instance of such a client
// makes its own. The subject is random and there is no other name, so that the certificate
// says nothing about a person (Section 8). It is valid from five minutes ago, since clocks
// differ, for the given time; if that is zero, for one year.
func GenerateSelfSigned(valid time.Duration) (tls.Certificate, error) {
	if valid == 0 {
		valid = 365 * 24 * time.Hour
	}
	if valid < 0 {
		return tls.Certificate{}, fmt.Errorf("oauthclient: GenerateSelfSigned: expected a positive time, found %v", valid)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("oauthclient: GenerateSelfSigned: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("oauthclient: GenerateSelfSigned: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: rand.Text()},
		NotBefore:             now.Add(-5 * time.Minute),
		NotAfter:              now.Add(valid),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("oauthclient: GenerateSelfSigned: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("oauthclient: GenerateSelfSigned: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
