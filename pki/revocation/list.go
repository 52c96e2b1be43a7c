package revocation

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"
)

// DefaultMaxBytes bounds a list, in octets of DER, where nothing else is set: room for
// about 1.7 million entries.
const DefaultMaxBytes = 64 << 20

// A ListError says why octets are not a list that can be used.
type ListError struct {
	Fault string
	// Offset is how many octets of DER were read before the fault. Zero may also
	// mean that no place is at fault.
	Offset int64
	Err    error
}

func (e *ListError) Error() string {
	text := "revocation: CRL: " + e.Fault
	if e.Offset > 0 {
		text += fmt.Sprintf(" (after %d octets)", e.Offset)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *ListError) Unwrap() error { return e.Err }

// A List is a certificate revocation list (RFC 5280, Section 5) in a compact form:
// 21 to 25 octets for an entry. It must not be believed before [List.Verify]. It is
// not changed after it was read.
type List struct {
	issuer     []byte // Name in DER
	number     *big.Int
	thisUpdate time.Time
	nextUpdate time.Time
	base       *big.Int // of a delta list
	scope      scope
	keyID      []byte // authorityKeyIdentifier, may be missing
	entries    serials
	size       int64

	alg       *algorithm
	digest    []byte // of tbsCertList, or
	message   []byte // tbsCertList itself, for Ed25519
	signature []byte
}

// A scope says for which certificates a list speaks (RFC 5280, Section 5.2.5).
type scope struct {
	raw              []byte   // the extension; lists of one scope have the same
	uris             []string // of the distribution point
	point            bool     // there is one
	userOnly, caOnly bool
}

// Issuer returns the issuer's Name in DER.
func (l *List) Issuer() []byte { return bytes.Clone(l.issuer) }

// ThisUpdate returns when the list was made.
func (l *List) ThisUpdate() time.Time { return l.thisUpdate }

// NextUpdate returns when the next list is due; then this one is stale.
func (l *List) NextUpdate() time.Time { return l.nextUpdate }

// Len returns the number of entries.
func (l *List) Len() int { return l.entries.count }

// Number returns the CRL number, or nil.
func (l *List) Number() *big.Int {
	if l.number == nil {
		return nil
	}
	return new(big.Int).Set(l.number)
}

// Delta reports whether the list has only the changes since another one.
func (l *List) Delta() bool { return l.base != nil }

// Lookup returns what the list says of a serial number. Whether the list speaks for
// the certificate at all, it does not ask. It does not allocate.
func (l *List) Lookup(serial *big.Int) (Entry, bool) {
	var buf [maxSerial]byte
	content, ok := octets(serial, &buf)
	if !ok {
		return Entry{}, false
	}
	return l.entries.lookup(content)
}

// Verify reports whether issuer has signed the list: its name is the issuer's name,
// its key verifies the signature, and its key usage allows to sign lists. Errors are
// of type *[ListError].
func (l *List) Verify(issuer *x509.Certificate) error {
	switch {
	case !bytes.Equal(l.issuer, issuer.RawSubject):
		return &ListError{Fault: "the issuer has another name"}
	case issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0:
		return &ListError{Fault: "the key usage of the issuer lacks cRLSign"}
	}
	if err := l.alg.verify(issuer.PublicKey, l.digest, l.message, l.signature); err != nil {
		return &ListError{Fault: "the signature is not by the issuer's key", Err: err}
	}
	return nil
}

// speaksFor reports whether the list is for cert, given that its issuer is the same
// (RFC 5280, Section 6.3.3, step (b)).
func (s *scope) speaksFor(cert *x509.Certificate) bool {
	switch ca := cert.BasicConstraintsValid && cert.IsCA; {
	case s.userOnly && ca, s.caOnly && !ca:
		return false
	case !s.point:
		return true
	}
	return slices.ContainsFunc(s.uris, func(uri string) bool {
		return slices.Contains(cert.CRLDistributionPoints, uri)
	})
}

// ReadList reads a list in DER or PEM, of at most max octets of DER (if zero,
// [DefaultMaxBytes]). It reads each octet once and keeps only the serial numbers, with
// date and reason. What it does not understand and what would change the meaning, it
// refuses: indirect lists, lists for some reasons only, and unknown critical
// extensions. Errors are of type *[ListError].
func ReadList(r io.Reader, max int64) (*List, error) {
	der, end, err := armor(r)
	if err != nil {
		return nil, &ListError{Fault: "could not be read", Err: err}
	}
	s := &stream{r: der, max: cmp.Or(max, DefaultMaxBytes)}
	l := &List{}
	l.read(s)
	if s.err == nil {
		if _, err := s.r.ReadByte(); err == nil {
			s.fail("something follows the list")
		} else if err != io.EOF {
			s.failed(err)
		} else if err := end(); err != nil {
			s.failed(err)
		}
	}
	if s.err != nil {
		if _, ok := errors.AsType[*ListError](s.err); !ok {
			return nil, &ListError{Fault: "could not be read", Err: s.err}
		}
		return nil, s.err
	}
	l.size = s.read
	l.entries.seal()
	return l, nil
}

func (l *List) read(s *stream) {
	outer := s.expect(tagSequence, "a certificate list")
	if s.err == nil && outer.size+outer.length > s.max {
		s.fail(fmt.Sprintf("%d octets, larger than the %d that are allowed", outer.size+outer.length, s.max))
	}
	// The algorithm stands in what it signs, so the beginning is kept until it
	// is known.
	s.keeping = true
	tbs := s.expect(tagSequence, "tbsCertList")
	end := s.read + tbs.length
	if version := s.expect(tagInteger, "the version of a list with extensions (v2)"); s.err == nil && version.length != 1 {
		s.fail("the version is not v2")
	}
	if version := s.bytes(1); s.err == nil && version[0] != 1 {
		s.fail("the version is not v2")
	}
	inner := l.element(s, tagSequence, "the signature algorithm")
	if s.err != nil {
		return
	}
	if l.alg = algorithmOf(inner); l.alg == nil {
		s.fail("the signature algorithm is not one of RSA, RSA-PSS and ECDSA with SHA-256, SHA-384 or SHA-512, and Ed25519")
		return
	}
	if l.alg.hash != 0 {
		s.sum = l.alg.hash.New()
		s.sum.Write(s.keep)
		s.keep, s.keeping = nil, false
	}
	l.issuer = l.element(s, tagSequence, "the issuer")
	l.thisUpdate = readTime(s, "thisUpdate")
	if s.err == nil && s.read == end {
		s.fail("nextUpdate expected")
	}
	l.nextUpdate = readTime(s, "nextUpdate; a list without it would never be stale")
	if s.err == nil && l.nextUpdate.Before(l.thisUpdate) {
		s.fail("nextUpdate is before thisUpdate")
	}
	if s.err == nil && s.read < end {
		if b := s.peek(1); len(b) == 1 && b[0] == tagSequence {
			l.readEntries(s, end)
		}
	}
	if s.err == nil && s.read < end {
		l.readExtensions(s)
	}
	if s.err == nil && s.read != end {
		s.fail("the lengths do not agree")
	}
	if s.err != nil {
		return
	}
	if s.sum != nil {
		l.digest = s.sum.Sum(nil)
		s.sum = nil
	} else {
		l.message = s.keep
		s.keep, s.keeping = nil, false
	}
	if again := l.element(s, tagSequence, "the signature algorithm"); s.err == nil && !bytes.Equal(again, inner) {
		s.fail("the signature algorithm inside differs from that outside")
	}
	bits := s.expect(tagBitString, "the signature")
	content := s.bytes(bits.length)
	if s.err == nil && (len(content) < 2 || content[0] != 0) {
		s.fail("the signature is not whole octets")
	}
	if s.err == nil && s.read != outer.size+outer.length {
		s.fail("the lengths do not agree")
	}
	if s.err == nil {
		l.signature = content[1:]
	}
}

// element reads an element and returns all of it.
func (l *List) element(s *stream, tag byte, what string) []byte {
	b := s.peek(2)
	if s.err == nil && b[0] != tag {
		s.fail(what + " expected")
	}
	if s.err != nil {
		return nil
	}
	n := 2
	if b[1]&0x80 != 0 {
		n += int(b[1] & 0x7f)
	}
	h, ok := parseHeader(s.peek(min(n, 6)))
	if s.err == nil && !ok {
		s.fail("a length that DER does not have")
	}
	return s.bytes(h.size + h.length)
}

func readTime(s *stream, what string) time.Time {
	h := s.header()
	if s.err == nil && h.tag != tagUTCTime && h.tag != tagGeneralized {
		s.fail(what + " expected")
	}
	content := s.bytes(h.length)
	if s.err != nil {
		return time.Time{}
	}
	t, ok := timestamp(h.tag, content)
	if !ok {
		s.fail(what + " is not a date")
	}
	return t
}

// maxEntry bounds an entry with its extensions, in octets.
const maxEntry = 16 << 10

func (l *List) readEntries(s *stream, limit int64) {
	h := s.expect(tagSequence, "revokedCertificates")
	end := s.read + h.length
	if s.err == nil && end > limit {
		s.fail("the lengths do not agree")
	}
	for s.err == nil && s.read < end {
		// 36 octets hold most entries; a second look is for those with many
		// extensions.
		b := s.peek(int(min(6, end-s.read)))
		if s.err != nil {
			return
		}
		h, ok := parseHeader(b)
		switch {
		case !ok || h.tag != tagSequence:
			s.fail("an entry expected")
			return
		case h.length > maxEntry || s.read+h.size+h.length > end:
			s.fail("an entry that is too long")
			return
		}
		whole := s.peek(int(h.size + h.length))
		if s.err != nil {
			return
		}
		serial, e, fault := parseEntry(whole[h.size:])
		if fault != "" {
			s.fail("entry: " + fault)
			return
		}
		l.entries.add(serial, e)
		s.take(whole)
	}
}

// The object identifiers of extensions, as the content of an OBJECT IDENTIFIER.
const (
	oidReasonCode        = "\x55\x1d\x15"
	oidCertificateIssuer = "\x55\x1d\x1d"
	oidCRLNumber         = "\x55\x1d\x14"
	oidDeltaIndicator    = "\x55\x1d\x1b"
	oidIssuingPoint      = "\x55\x1d\x1c"
	oidAuthorityKey      = "\x55\x1d\x23"
)

const removeFromCRL = 8

func parseEntry(c cursor) (serial []byte, e Entry, fault string) {
	serial, ok := c.want(tagInteger)
	switch {
	case !ok || !minimal(serial):
		return nil, e, "no serial number"
	case len(serial) > maxSerial:
		return nil, e, "a serial number that is too long"
	}
	tag, content, _, ok := c.next()
	if !ok {
		return nil, e, "no date"
	}
	if e.At, ok = timestamp(tag, content); !ok {
		return nil, e, "not a date"
	}
	if len(c) == 0 {
		return serial, e, ""
	}
	content, ok = c.want(tagSequence)
	if !ok || len(c) != 0 || len(content) == 0 {
		return nil, e, "something that is not extensions"
	}
	seen := false
	fault = eachExtension(content, func(id string, critical bool, value cursor) string {
		switch {
		case id == oidCertificateIssuer:
			return "a certificate issuer: indirect lists are not supported; take a list of the CA itself"
		case id == oidReasonCode:
			code, ok := value.want(tagEnumerated)
			if !ok || len(value) != 0 || len(code) != 1 || code[0] > 10 || code[0] == 7 || seen {
				return "a reason that does not exist, or two"
			}
			e.Reason, seen = code[0], true
		case critical:
			return "an unknown critical extension"
		}
		return ""
	})
	return serial, e, fault
}

// eachExtension calls f for each Extension.
func eachExtension(c cursor, f func(id string, critical bool, value cursor) string) string {
	for len(c) > 0 {
		content, ok := c.want(tagSequence)
		if !ok {
			return "an extension expected"
		}
		ext := cursor(content)
		id, ok := ext.want(tagOID)
		if !ok {
			return "an extension without an identifier"
		}
		critical := false
		if ext.is(tagBoolean) {
			value, _ := ext.want(tagBoolean)
			if critical, ok = boolean(value); !ok {
				return "an extension with a flag that is not one"
			}
		}
		value, ok := ext.want(tagOctetString)
		if !ok || len(ext) != 0 {
			return "an extension without a value"
		}
		if fault := f(string(id), critical, value); fault != "" {
			return fault
		}
	}
	return ""
}

func (l *List) readExtensions(s *stream) {
	if b := s.peek(1); s.err != nil || b[0] != tagContext0 {
		s.fail("extensions expected")
		return
	}
	whole := l.element(s, tagContext0, "extensions")
	if s.err != nil {
		return
	}
	c := cursor(whole)
	content, _ := c.want(tagContext0)
	c = content
	list, ok := c.want(tagSequence)
	if !ok || len(c) != 0 || len(list) == 0 {
		s.fail("extensions expected")
		return
	}
	seen := make(map[string]bool)
	fault := eachExtension(list, func(id string, critical bool, value cursor) string {
		if seen[id] {
			return "an extension that stands twice"
		}
		seen[id] = true
		raw := slices.Clone(value)
		number := func() (*big.Int, string) {
			n, ok := value.want(tagInteger)
			if !ok || len(value) != 0 || !minimal(n) || n[0] >= 0x80 || len(n) > 21 {
				return nil, "a CRL number that is not one"
			}
			return new(big.Int).SetBytes(n), ""
		}
		fault := ""
		switch {
		case id == oidCRLNumber:
			l.number, fault = number()
		case id == oidDeltaIndicator:
			l.base, fault = number()
		case id == oidIssuingPoint:
			l.scope.raw = raw
			fault = l.scope.parse(value)
		case id == oidAuthorityKey:
			names, ok := value.want(tagSequence)
			if !ok || len(value) != 0 {
				return "an authority key identifier that is not one"
			}
			if c := cursor(names); c.is(0x80) {
				if l.keyID, ok = c.want(0x80); !ok {
					return "an authority key identifier that is not one"
				}
			}
		case critical:
			return "an unknown critical extension of the list"
		}
		return fault
	})
	if fault != "" {
		s.fail(fault)
	} else if l.base != nil && l.number == nil {
		s.fail("a delta list without a CRL number")
	}
}

// parse reads an IssuingDistributionPoint.
func (p *scope) parse(c cursor) (fault string) {
	content, ok := c.want(tagSequence)
	if !ok || len(c) != 0 {
		return "an issuing distribution point that is not one"
	}
	c = content
	last := byte(0)
	for len(c) > 0 {
		tag, content, _, ok := c.next()
		if !ok || tag&0x1f < last&0x1f || tag == last {
			return "an issuing distribution point that is not one"
		}
		last = tag
		flag := false
		if tag != 0xa0 && tag != 0x83 {
			if flag, ok = boolean(content); !ok {
				return "an issuing distribution point with a flag that is not one"
			}
		}
		switch tag {
		case 0xa0: // distributionPoint
			p.point = true
			point := cursor(content)
			full, ok := point.want(0xa0)
			if !ok || len(point) != 0 {
				return "a distribution point relative to the issuer's name, which is not supported"
			}
			for names := cursor(full); len(names) > 0; {
				tag, name, _, ok := names.next()
				if !ok {
					return "a distribution point that is not a name"
				}
				if tag == 0x86 {
					p.uris = append(p.uris, string(name))
				}
			}
		case 0x81:
			p.userOnly = flag
		case 0x82:
			p.caOnly = flag
		case 0x83:
			return "a list for some reasons only, which is not supported; take one for all reasons"
		case 0x84:
			if flag {
				return "an indirect list, which is not supported; take a list of the CA itself"
			}
		case 0x85:
			if flag {
				return "a list of attribute certificates"
			}
		default:
			return "an issuing distribution point with an unknown part"
		}
	}
	if p.userOnly && p.caOnly {
		return "a list for nothing: user and CA certificates only"
	}
	return ""
}

// An algorithm is a signature algorithm.
type algorithm struct {
	name   string
	id     []byte // AlgorithmIdentifier in DER
	hash   crypto.Hash
	verify func(key crypto.PublicKey, digest, message, signature []byte) error
}

func algorithmOf(id []byte) *algorithm {
	for i := range algorithms {
		if bytes.Equal(algorithms[i].id, id) {
			return &algorithms[i]
		}
	}
	return nil
}

var (
	errKeyKind   = errors.New("the issuer's key is of another kind than the signature")
	errSignature = errors.New("the signature does not verify")
)

// algorithms are those that RFC 5280 implementations use today. SHA-1 is missed by
// nobody. The identifiers are compared as octets, so parameters are as strict as in
// crypto/x509.
var algorithms = func() (out []algorithm) {
	der := func(tag byte, parts ...[]byte) []byte {
		content := bytes.Join(parts, nil)
		return append([]byte{tag, byte(len(content))}, content...) // none is longer than 127
	}
	var (
		null     = []byte{5, 0}
		rsaArc   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01"
		ecdsaArc = "\x2a\x86\x48\xce\x3d\x04\x03"
		hashArc  = "\x60\x86\x48\x01\x65\x03\x04\x02"
		oid      = func(s string) []byte { return der(tagOID, []byte(s)) }
	)
	for _, h := range []struct {
		hash              crypto.Hash
		sha2, pkcs, ecdsa string
	}{
		{crypto.SHA256, "\x01", "\x0b", "\x02"},
		{crypto.SHA384, "\x02", "\x0c", "\x03"},
		{crypto.SHA512, "\x03", "\x0d", "\x04"},
	} {
		viaRSA := func(check func(pub *rsa.PublicKey, digest, signature []byte) error) func(crypto.PublicKey, []byte, []byte, []byte) error {
			return func(key crypto.PublicKey, digest, _, signature []byte) error {
				pub, ok := key.(*rsa.PublicKey)
				if !ok {
					return errKeyKind
				}
				return check(pub, digest, signature)
			}
		}
		pkcs := viaRSA(func(pub *rsa.PublicKey, digest, signature []byte) error {
			return rsa.VerifyPKCS1v15(pub, h.hash, digest, signature)
		})
		out = append(out,
			algorithm{"RSA-" + h.hash.String(), der(tagSequence, oid(rsaArc+h.pkcs), null), h.hash, pkcs},
			algorithm{"ECDSA-" + h.hash.String(), der(tagSequence, oid(ecdsaArc+h.ecdsa)), h.hash,
				func(key crypto.PublicKey, digest, _, signature []byte) error {
					pub, ok := key.(*ecdsa.PublicKey)
					if !ok {
						return errKeyKind
					}
					if !ecdsa.VerifyASN1(pub, digest, signature) {
						return errSignature
					}
					return nil
				}})
		// RFC 4055, Section 3.1, with the salt as long as the digest.
		hashID := der(tagSequence, oid(hashArc+h.sha2), null)
		parameters := der(tagSequence,
			der(0xa0, hashID),
			der(0xa1, der(tagSequence, oid(rsaArc+"\x08"), hashID)),
			der(0xa2, []byte{tagInteger, 1, byte(h.hash.Size())}))
		out = append(out, algorithm{"RSA-PSS-" + h.hash.String(), der(tagSequence, oid(rsaArc+"\x0a"), parameters), h.hash,
			viaRSA(func(pub *rsa.PublicKey, digest, signature []byte) error {
				return rsa.VerifyPSS(pub, h.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
			})})
	}
	return append(out, algorithm{"Ed25519", der(tagSequence, oid("\x2b\x65\x70")), 0,
		func(key crypto.PublicKey, _, message, signature []byte) error {
			pub, ok := key.(ed25519.PublicKey)
			if !ok {
				return errKeyKind
			}
			if !ed25519.Verify(pub, message, signature) {
				return errSignature
			}
			return nil
		}})
}()
