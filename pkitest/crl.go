package pkitest

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// CRLOptions describe a certificate revocation list. The zero value revokes nothing
// and is good for a day.
type CRLOptions struct {
	// Serials are the revoked serial numbers.
	Serials []*big.Int
	// RevokedAt is when they were revoked. If zero, an hour ago.
	RevokedAt time.Time
	// ReasonCode is the reason of RFC 5280, Section 5.3.1.
	ReasonCode int
	// ThisUpdate and NextUpdate limit the list. If zero, an hour ago and a day
	// from now.
	ThisUpdate, NextUpdate time.Time
	// Template, if set, changes the list before it is signed.
	Template func(*x509.RevocationList)
}

// CRL returns a list in DER that revokes the serial numbers. Each list of a CA has a
// higher number than the one before.
func (ca *CA) CRL(serials ...*big.Int) ([]byte, error) {
	return ca.CRLWith(CRLOptions{Serials: serials})
}

// MustCRL is [CA.CRL] for tests; it panics instead of returning an error.
func (ca *CA) MustCRL(serials ...*big.Int) []byte { return must(ca.CRL(serials...)) }

// CRLWith returns a list in DER.
func (ca *CA) CRLWith(o CRLOptions) ([]byte, error) {
	now := time.Now()
	list := &x509.RevocationList{
		Number:     big.NewInt(ca.crlNumber.Add(1)),
		ThisUpdate: orTime(o.ThisUpdate, now.Add(-time.Hour)),
		NextUpdate: orTime(o.NextUpdate, now.Add(24*time.Hour)),
	}
	for _, serial := range o.Serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber:   serial,
			RevocationTime: orTime(o.RevokedAt, now.Add(-time.Hour)),
			ReasonCode:     o.ReasonCode,
		})
	}
	if o.Template != nil {
		o.Template(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.Cert, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("pkitest: CRL: %w", err)
	}
	return der, nil
}

// CRLPEM encodes a list.
func CRLPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func orTime(t, fallback time.Time) time.Time {
	if t.IsZero() {
		return fallback
	}
	return t
}
