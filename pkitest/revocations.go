package pkitest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"
)

// A Fault is what a CRL server or an OCSP responder does wrong.
type Fault uint8

// The faults. The first group is for CRLs and OCSP, the second for OCSP only.
const (
	NoFault     Fault = iota
	Down              // answers 503
	Slow              // does not answer before the client gives up
	Truncated         // breaks off in the middle
	Huge              // does not end
	Garbage           // answers with HTML
	Stale             // what it says ended yesterday
	FromFuture        // what it says begins tomorrow
	WrongSigner       // signs with a key that is not the CA's
	Corrupt           // one bit of the signature is wrong

	WrongNonce   // the nonce of another request
	NoNonce      // no nonce, though one was sent
	Unsigned     // an empty signature
	WrongSerial  // speaks of another certificate
	WrongIssuer  // speaks of a certificate of another CA with the same serial number
	SaysUnknown  // status "unknown"
	TryLater     // error status tryLater
	Unauthorized // error status unauthorized
)

func (f Fault) String() string {
	names := [...]string{"no fault", "down", "slow", "truncated", "huge", "garbage", "stale", "from the future",
		"wrong signer", "corrupt", "wrong nonce", "no nonce", "unsigned", "wrong serial number", "wrong issuer",
		"says unknown", "try later", "unauthorized"}
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("Fault(%d)", f)
}

// Revocations are what a CA has revoked, as a CRL server and an OCSP responder, with
// faults to order. It is safe for concurrent use.
//
//	revocations := pkitest.NewRevocations(ca)
//	server := httptest.NewServer(revocations.CRLHandler())
//	revocations.Revoke(leaf.Cert, 1)
type Revocations struct {
	ca    *CA
	other *CA // of the same name, with another key

	mu      sync.Mutex
	revoked map[string]revoked
	fault   Fault
	list    []byte // kept until something changes, for conditional requests

	requests    atomic.Int64
	notModified atomic.Int64
}

type revoked struct {
	serial *big.Int
	at     time.Time
	reason int
}

// NewRevocations returns the revocations of ca, with nothing revoked.
func NewRevocations(ca *CA) *Revocations {
	other := MustCA(CAOptions{RawSubject: ca.Cert.RawSubject})
	return &Revocations{ca: ca, other: other, revoked: make(map[string]revoked)}
}

// Revoke revokes a certificate an hour ago, for a reason of RFC 5280, Section 5.3.1.
func (r *Revocations) Revoke(cert *x509.Certificate, reason int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = nil
	r.revoked[cert.SerialNumber.String()] = revoked{cert.SerialNumber, time.Now().Add(-time.Hour), reason}
}

// Fail makes every answer from now on faulty; [NoFault] ends that.
func (r *Revocations) Fail(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault, r.list = f, nil
}

// Requests returns how many requests have come in.
func (r *Revocations) Requests() int { return int(r.requests.Load()) }

// NotModified returns how many of them were answered with 304.
func (r *Revocations) NotModified() int { return int(r.notModified.Load()) }

// disturb plays the faults that CRLs and OCSP have in common, and reports whether it
// has answered.
func disturb(f Fault, w http.ResponseWriter, req *http.Request) bool {
	switch f {
	case Down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case Slow:
		io.Copy(io.Discard, req.Body) // only then the server sees that the client goes away
		<-req.Context().Done()
	case Huge:
		block := make([]byte, 32<<10)
		copy(block, "\x30\x84\x7f\xff\xff\xff")
		for context.Cause(req.Context()) == nil {
			if _, err := w.Write(block); err != nil {
				return true
			}
		}
	case Garbage:
		io.WriteString(w, "<html>not what you want</html>")
	default:
		return false
	}
	return true
}

// CRLHandler serves the list of everything revoked, with an ETag.
func (r *Revocations) CRLHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		r.mu.Lock()
		fault := r.fault
		r.mu.Unlock()
		if disturb(fault, w, req) {
			return
		}
		der, err := r.CRL()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		tag := fmt.Sprintf(`"%x"`, sha1.Sum(der))
		w.Header().Set("ETag", tag)
		w.Header().Set("Content-Type", "application/pkix-crl")
		if req.Header.Get("If-None-Match") == tag {
			r.notModified.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(der)
	})
}

// CRL returns the list that [Revocations.CRLHandler] serves. As long as nothing
// changes it is the same.
func (r *Revocations) CRL() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list != nil {
		return r.list, nil
	}
	o := CRLOptions{Template: func(l *x509.RevocationList) {
		for _, e := range r.revoked {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries,
				x509.RevocationListEntry{SerialNumber: e.serial, RevocationTime: e.at, ReasonCode: e.reason})
		}
	}}
	const day = 24 * time.Hour
	ca := r.ca
	switch r.fault {
	case Stale:
		o.ThisUpdate, o.NextUpdate = time.Now().Add(-2*day), time.Now().Add(-day)
	case FromFuture:
		o.ThisUpdate, o.NextUpdate = time.Now().Add(day), time.Now().Add(2*day)
	case WrongSigner:
		ca = r.other
	}
	der, err := ca.CRLWith(o)
	if err != nil {
		return nil, err
	}
	switch r.fault {
	case Truncated:
		der = der[:len(der)/2]
	case Corrupt:
		der[len(der)-1] ^= 1
	}
	r.list = der
	return der, nil
}

// OCSPOptions describe an OCSP responder. The zero value signs with the CA's key.
type OCSPOptions struct {
	// Signer signs in place of the CA (a delegated responder, RFC 6960, Section
	// 4.2.2.2); make it with [CA.OCSPSigner].
	Signer *Leaf
	// ByKey names the responder by its key in place of its name.
	ByKey bool
	// Lifetime is from thisUpdate, now, to nextUpdate. If zero, an hour; if
	// negative, there is no nextUpdate.
	Lifetime time.Duration
}

// OCSPSigner issues a certificate for a delegated responder: with the extended key
// usage OCSPSigning and id-pkix-ocsp-nocheck. change, if not nil, changes the options,
// as for a certificate that lacks one of them.
func (ca *CA) OCSPSigner(change func(*LeafOptions)) (*Leaf, error) {
	o := LeafOptions{
		Subject:     "CN=OCSP responder",
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		Extra:       []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes}},
	}
	if change != nil {
		change(&o)
	}
	return ca.Leaf(o)
}

// MustOCSPSigner is [CA.OCSPSigner] for tests; it panics instead of returning an error.
func (ca *CA) MustOCSPSigner(change func(*LeafOptions)) *Leaf { return must(ca.OCSPSigner(change)) }

// OCSPHandler answers OCSP requests by GET and POST (RFC 6960, Appendix A).
func (r *Revocations) OCSPHandler(o OCSPOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		r.mu.Lock()
		fault := r.fault
		r.mu.Unlock()
		if disturb(fault, w, req) {
			return
		}
		der, err := requestOf(req)
		if err == nil {
			der, err = r.respond(der, o, fault)
		}
		if err != nil {
			der = ocsp.MalformedRequestErrorResponse
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(der)
	})
}

func requestOf(req *http.Request) ([]byte, error) {
	if req.Method == http.MethodPost {
		return io.ReadAll(io.LimitReader(req.Body, 16<<10))
	}
	path := req.URL.EscapedPath()
	text, err := url.PathUnescape(path[strings.LastIndex(path, "/")+1:])
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

// What RFC 6960, Section 4.2.1, calls by these names. x/crypto/ocsp makes no responses
// with a nonce, and no wrong ones.
type (
	ocspCertID struct {
		Hash              pkix.AlgorithmIdentifier
		NameHash, KeyHash []byte
		Serial            *big.Int
	}
	ocspRevoked struct {
		At     time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0"`
	}
	ocspSingle struct {
		ID         ocspCertID
		Status     asn1.RawValue
		ThisUpdate time.Time `asn1:"generalized"`
		NextUpdate time.Time `asn1:"generalized,explicit,tag:0,optional"`
	}
	ocspData struct {
		ResponderID asn1.RawValue
		ProducedAt  time.Time `asn1:"generalized"`
		Responses   []ocspSingle
		Extensions  []pkix.Extension `asn1:"explicit,tag:1,optional,omitempty"`
	}
	ocspBasic struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional,omitempty"`
	}
	ocspBytes struct {
		Type  asn1.ObjectIdentifier
		Bytes []byte
	}
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  ocspBytes `asn1:"explicit,tag:0"`
	}
)

var (
	oidNonce     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
)

func (r *Revocations) respond(request []byte, o OCSPOptions, fault Fault) ([]byte, error) {
	switch fault {
	case TryLater:
		return ocsp.TryLaterErrorResponse, nil
	case Unauthorized:
		return ocsp.UnauthorizedErrorResponse, nil
	}
	asked, err := ocsp.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	cert, key := r.ca.Cert, r.ca.Key
	var certs []asn1.RawValue
	if o.Signer != nil {
		cert, key = o.Signer.Cert, o.Signer.Key
		certs = []asn1.RawValue{{FullBytes: cert.Raw}}
	}
	if fault == WrongSigner {
		key = r.other.Key
	}
	now := time.Now().UTC().Truncate(time.Second)
	single := ocspSingle{ThisUpdate: now, ID: ocspCertID{
		// Every responder has to know SHA-1; the request says which it is.
		Hash:     pkix.AlgorithmIdentifier{Algorithm: hashOIDs[asked.HashAlgorithm], Parameters: asn1.NullRawValue},
		NameHash: asked.IssuerNameHash, KeyHash: asked.IssuerKeyHash, Serial: asked.SerialNumber,
	}}
	if o.Lifetime == 0 {
		o.Lifetime = time.Hour
	}
	if o.Lifetime > 0 {
		single.NextUpdate = now.Add(o.Lifetime)
	}
	const day = 24 * time.Hour
	nonce := nonceOf(request)
	switch fault {
	case Stale:
		single.ThisUpdate, single.NextUpdate = now.Add(-2*day), now.Add(-day)
	case FromFuture:
		single.ThisUpdate, single.NextUpdate = now.Add(day), now.Add(2*day)
	case WrongSerial:
		single.ID.Serial = new(big.Int).Add(asked.SerialNumber, big.NewInt(1))
	case WrongIssuer:
		single.ID.KeyHash = bytes.Repeat([]byte{1}, len(asked.IssuerKeyHash))
	case WrongNonce:
		if nonce != nil {
			nonce = []byte("\x04\x10another nonce...")
		}
	case NoNonce:
		nonce = nil
	}
	single.Status = r.status(asked.SerialNumber, fault)
	data := ocspData{ProducedAt: single.ThisUpdate, Responses: []ocspSingle{single}, ResponderID: asn1.RawValue{
		Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: cert.RawSubject,
	}}
	if o.ByKey {
		sum := sha1.Sum(publicKeyBits(cert))
		data.ResponderID.Tag, data.ResponderID.Bytes = 2, must(asn1.Marshal(sum[:]))
	}
	if nonce != nil {
		data.Extensions = []pkix.Extension{{Id: oidNonce, Value: nonce}}
	}
	tbs, err := asn1.Marshal(data)
	if err != nil {
		return nil, err
	}
	algorithm, signature, err := signData(key, tbs)
	if err != nil {
		return nil, err
	}
	switch fault {
	case Unsigned:
		signature = nil
	case Corrupt:
		signature[len(signature)-1] ^= 1
	}
	basic, err := asn1.Marshal(ocspBasic{
		Data: asn1.RawValue{FullBytes: tbs}, Algorithm: algorithm,
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}, Certificates: certs,
	})
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal(ocspResponse{Bytes: ocspBytes{oidOCSPBasic, basic}})
	if err == nil && fault == Truncated {
		der = der[:len(der)/2]
	}
	return der, err
}

func (r *Revocations) status(serial *big.Int, fault Fault) asn1.RawValue {
	status := func(tag int, compound bool, content []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: content}
	}
	if fault == SaysUnknown {
		return status(2, false, nil)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.revoked[serial.String()]
	if !ok {
		return status(0, false, nil)
	}
	whole := must(asn1.Marshal(ocspRevoked{At: e.at.UTC(), Reason: asn1.Enumerated(e.reason)}))
	var info asn1.RawValue
	must(asn1.Unmarshal(whole, &info))
	return status(1, true, info.Bytes)
}

// nonceOf returns the value of the nonce extension, or nil.
func nonceOf(request []byte) []byte {
	var r struct {
		TBS struct {
			Requests   []asn1.RawValue
			Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
		}
	}
	if _, err := asn1.Unmarshal(request, &r); err != nil {
		return nil
	}
	for _, e := range r.TBS.Extensions {
		if e.Id.Equal(oidNonce) {
			return e.Value
		}
	}
	return nil
}

var hashOIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1:   {1, 3, 14, 3, 2, 26},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
	crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

// publicKeyBits returns the bits of the subjectPublicKey.
func publicKeyBits(cert *x509.Certificate) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	must(asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info))
	return info.Key.Bytes
}

// signData signs with SHA-256, or as Ed25519 does.
func signData(key crypto.Signer, data []byte) (pkix.AlgorithmIdentifier, []byte, error) {
	var id pkix.AlgorithmIdentifier
	digest, hash := data, crypto.Hash(0)
	switch key.Public().(type) {
	case *rsa.PublicKey:
		id, hash = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue}, crypto.SHA256
	case *ecdsa.PublicKey:
		id, hash = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, crypto.SHA256
	case ed25519.PublicKey:
		id = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 101, 112}}
	default:
		return id, nil, fmt.Errorf("pkitest: sign: %T is not a key that signs here", key.Public())
	}
	if hash != 0 {
		h := hash.New()
		h.Write(data)
		digest = h.Sum(nil)
	}
	signature, err := key.Sign(rand.Reader, digest, hash)
	return id, signature, err
}
