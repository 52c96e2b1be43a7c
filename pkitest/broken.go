package pkitest

import (
	"bytes"
	"crypto"
	_ "crypto/md5"
	"crypto/rand"
	_ "crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// CorruptSignature returns cert with one bit of its signature changed.
func CorruptSignature(cert *x509.Certificate) *x509.Certificate {
	der := bytes.Clone(cert.Raw)
	der[len(der)-1] ^= 1 // the signature is the last element
	return must(x509.ParseCertificate(der))
}

// A handmadeAlgorithm is a signature that crypto/x509 does not make.
type handmadeAlgorithm struct {
	hash       crypto.Hash
	identifier []byte // AlgorithmIdentifier in DER
}

func handmade(a x509.SignatureAlgorithm) *handmadeAlgorithm {
	identifier := func(null bool, oid ...int) []byte {
		content := must(asn1.Marshal(asn1.ObjectIdentifier(oid)))
		if null {
			content = append(content, asn1.NullBytes...)
		}
		return tlv(asn1.ClassUniversal, asn1.TagSequence, true, content)
	}
	switch a {
	case x509.MD5WithRSA:
		return &handmadeAlgorithm{crypto.MD5, identifier(true, 1, 2, 840, 113549, 1, 1, 4)}
	case x509.SHA1WithRSA:
		return &handmadeAlgorithm{crypto.SHA1, identifier(true, 1, 2, 840, 113549, 1, 1, 5)}
	case x509.ECDSAWithSHA1:
		return &handmadeAlgorithm{crypto.SHA1, identifier(false, 1, 2, 840, 10045, 4, 1)}
	}
	return nil
}

// sign puts the algorithm into the certificate and signs it again.
func (a *handmadeAlgorithm) sign(der []byte, key crypto.Signer) ([]byte, error) {
	var outer, tbs asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &tbs); err != nil {
		return nil, err
	}
	var elements [][]byte
	for rest := tbs.Bytes; len(rest) > 0; {
		var element asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &element); err != nil {
			return nil, err
		}
		elements = append(elements, element.FullBytes)
	}
	const signature = 2 // after version and serialNumber (RFC 5280, Section 4.1)
	if len(elements) <= signature {
		return nil, errors.New("pkitest: sign: not a certificate of version 3")
	}
	elements[signature] = a.identifier
	signed := tlv(asn1.ClassUniversal, asn1.TagSequence, true, slices.Concat(elements...))
	h := a.hash.New()
	h.Write(signed)
	value, err := key.Sign(rand.Reader, h.Sum(nil), a.hash)
	if err != nil {
		return nil, fmt.Errorf("pkitest: sign: %w", err)
	}
	bits := tlv(asn1.ClassUniversal, asn1.TagBitString, false, append([]byte{0}, value...))
	return tlv(asn1.ClassUniversal, asn1.TagSequence, true, slices.Concat(signed, a.identifier, bits)), nil
}
