package pkitest

import (
	"bufio"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"slices"
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
	// Number is the CRL number. If nil, one more than that of the CA's last list.
	Number *big.Int
	// Base makes a delta list with the changes since the list of this number.
	Base *big.Int
	// DistributionPoints partition the list: it speaks only for certificates that
	// name one of these URIs as theirs.
	DistributionPoints []string
	// UserOnly and CAOnly restrict the list to one kind of certificates; Indirect
	// says that it has entries of other CAs.
	UserOnly, CAOnly, Indirect bool
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
		Number:     o.Number,
		ThisUpdate: orTime(o.ThisUpdate, now.Add(-time.Hour)),
		NextUpdate: orTime(o.NextUpdate, now.Add(24*time.Hour)),
	}
	if list.Number == nil {
		list.Number = big.NewInt(ca.crlNumber.Add(1))
	}
	list.ExtraExtensions = o.extensions()
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

// MustCRLWith is [CA.CRLWith] for tests; it panics instead of returning an error.
func (ca *CA) MustCRLWith(o CRLOptions) []byte { return must(ca.CRLWith(o)) }

// extensions returns the delta CRL indicator and the issuing distribution point (RFC
// 5280, Sections 5.2.4 and 5.2.5).
func (o CRLOptions) extensions() (out []pkix.Extension) {
	if o.Base != nil {
		out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: must(asn1.Marshal(o.Base))})
	}
	var point []byte
	if len(o.DistributionPoints) > 0 {
		var names []byte
		for _, uri := range o.DistributionPoints {
			names = append(names, tlv(asn1.ClassContextSpecific, 6, false, []byte(uri))...)
		}
		point = tlv(asn1.ClassContextSpecific, 0, true, tlv(asn1.ClassContextSpecific, 0, true, names))
	}
	for _, flag := range []struct {
		tag int
		set bool
	}{{1, o.UserOnly}, {2, o.CAOnly}, {4, o.Indirect}} {
		if flag.set {
			point = append(point, tlv(asn1.ClassContextSpecific, flag.tag, false, []byte{0xff})...)
		}
	}
	if point != nil {
		out = append(out, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true,
			Value: tlv(asn1.ClassUniversal, asn1.TagSequence, true, point)})
	}
	return out
}

// WriteCRL writes a list with count entries without holding them in memory. serial
// returns the 16 octets of the i-th serial number, of which the first must be in the
// range 0x01 to 0x7f; it is called twice for each i. The key of ca must not be Ed25519,
// which cannot sign a stream.
func (ca *CA) WriteCRL(w io.Writer, count int, serial func(i int) [16]byte) error {
	now := time.Now().UTC()
	utc := func(t time.Time) []byte {
		return tlv(asn1.ClassUniversal, asn1.TagUTCTime, false, []byte(t.Format("060102150405Z")))
	}
	sequence := func(length int) []byte { // its header alone
		if length < 0x80 {
			return []byte{0x30, byte(length)}
		}
		var size []byte
		for n := length; n > 0; n >>= 8 {
			size = append([]byte{byte(n)}, size...)
		}
		return append([]byte{0x30, 0x80 | byte(len(size))}, size...)
	}
	id, _, err := signData(ca.Key, nil)
	if err != nil {
		return err
	}
	algorithm := must(asn1.Marshal(id))
	revokedAt := utc(now.Add(-time.Hour))
	number := must(asn1.Marshal(struct{ Extension pkix.Extension }{
		pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 20}, Value: must(asn1.Marshal(big.NewInt(ca.crlNumber.Add(1))))}}))
	head := slices.Concat([]byte{2, 1, 1}, algorithm, ca.Cert.RawSubject, utc(now.Add(-time.Hour)), utc(now.Add(24*time.Hour)))
	tail := tlv(asn1.ClassContextSpecific, 0, true, number)
	entry := append([]byte{0x30, byte(18 + len(revokedAt)), 2, 16}, make([]byte, 16)...)
	entry = append(entry, revokedAt...)
	entries := sequence(count * len(entry))
	inside := len(head) + len(entries) + count*len(entry) + len(tail)
	tbs := func(w io.Writer) error {
		w.Write(sequence(inside))
		w.Write(head)
		w.Write(entries)
		for i := range count {
			number := serial(i)
			copy(entry[4:], number[:])
			if _, err := w.Write(entry); err != nil {
				return err
			}
		}
		_, err := w.Write(tail)
		return err
	}
	digest := sha256.New()
	tbs(digest)
	signature, err := ca.Key.Sign(rand.Reader, digest.Sum(nil), crypto.SHA256)
	if err != nil {
		return fmt.Errorf("pkitest: CRL: %w", err)
	}
	bits := tlv(asn1.ClassUniversal, asn1.TagBitString, false, append([]byte{0}, signature...))
	out := bufio.NewWriterSize(w, 1<<16)
	out.Write(sequence(len(sequence(inside)) + inside + len(algorithm) + len(bits)))
	if err := tbs(out); err != nil {
		return err
	}
	out.Write(algorithm)
	out.Write(bits)
	return out.Flush()
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
