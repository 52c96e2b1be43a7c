package revocation

import (
	"crypto/x509"
	"time"
)

// ReadResponse is for the fuzz test: 0 good, 1 revoked, 2 unknown.
func ReadResponse(der []byte, cert, issuer *x509.Certificate, now time.Time) (status byte, ok bool, err error) {
	a, err := readResponse(der, question{cert: cert, issuer: issuer, now: now, skew: 5 * time.Minute, maxAge: time.Hour})
	if a == nil {
		return 0, false, err
	}
	return a.status, true, err
}

// NewRequest is for the fuzz test.
func NewRequest(cert, issuer *x509.Certificate) []byte {
	der, _, err := newRequest(cert, issuer, false)
	if err != nil {
		panic(err)
	}
	return der
}
