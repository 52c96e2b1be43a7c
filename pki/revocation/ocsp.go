package revocation

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A ResponseError says why an OCSP response is not an answer.
type ResponseError struct {
	Fault string
	Err   error

	kind kind
	late time.Duration // if stale
}

func (e *ResponseError) Error() string {
	text := "revocation: OCSP: " + e.Fault
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *ResponseError) Unwrap() error { return e.Err }

func badResponse(fault string, err error) error {
	return &ResponseError{Fault: fault, Err: err, kind: unreachable}
}

// The types of RFC 6960, Sections 4.1.1 and 4.2.1. golang.org/x/crypto/ocsp has them,
// too, but takes an answer about the same serial number of another CA for ours, does
// not show the nonce, and looks neither at the usage of a delegated responder's key
// nor at a second certificate.
type (
	certID struct {
		Hash              pkix.AlgorithmIdentifier
		NameHash, KeyHash []byte
		Serial            *big.Int
	}
	request struct{ ID certID }
	body    struct {
		Requests   []request
		Extensions []pkix.Extension `asn1:"explicit,tag:2,optional,omitempty"`
	}
	message struct{ TBS body }

	response struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type  asn1.ObjectIdentifier
			Bytes []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	basic struct {
		Data         asn1.RawValue
		Algorithm    asn1.RawValue
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	data struct {
		Version    int `asn1:"explicit,tag:0,default:0,optional"`
		Responder  asn1.RawValue
		ProducedAt time.Time `asn1:"generalized"`
		Responses  []single
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	single struct {
		ID         certID
		Status     asn1.RawValue
		ThisUpdate time.Time        `asn1:"generalized"`
		NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	revokedInfo struct {
		At     time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
	}
)

var (
	oidNonce       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidBasic       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNoCheck     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidSHA1        = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	maxCertsInOCSP = 10
	maxSingles     = 100
)

const maxResponse = 64 << 10

// idOf names a certificate as responders do. SHA-1 is what all of them know (RFC 5019,
// Section 2.1.1); nothing depends on its strength, since the answer is signed.
func idOf(cert, issuer *x509.Certificate) (certID, error) {
	bits, err := keyBits(issuer)
	if err != nil {
		return certID{}, err
	}
	name, key := sha1.Sum(issuer.RawSubject), sha1.Sum(bits)
	return certID{pkix.AlgorithmIdentifier{Algorithm: oidSHA1, Parameters: asn1.NullRawValue}, name[:], key[:], cert.SerialNumber}, nil
}

// speaksOf reports whether the id is that of cert.
func (id *certID) speaksOf(cert, issuer *x509.Certificate) bool {
	hash := crypto.SHA1
	switch {
	case id.Hash.Algorithm.Equal(oidSHA1):
	case id.Hash.Algorithm.Equal(oidSHA256):
		hash = crypto.SHA256
	default:
		return false
	}
	sum := func(b []byte) []byte {
		h := hash.New()
		h.Write(b)
		return h.Sum(nil)
	}
	bits, err := keyBits(issuer)
	return err == nil && id.Serial != nil && id.Serial.Cmp(cert.SerialNumber) == 0 &&
		bytes.Equal(id.NameHash, sum(issuer.RawSubject)) && bytes.Equal(id.KeyHash, sum(bits))
}

// keyBits returns the bits of the subjectPublicKey.
func keyBits(cert *x509.Certificate) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil, err
	}
	return info.Key.Bytes, nil
}

// newRequest returns a request in DER, and the value of its nonce extension if it has one.
func newRequest(cert, issuer *x509.Certificate, withNonce bool) (der, nonce []byte, err error) {
	id, err := idOf(cert, issuer)
	if err != nil {
		return nil, nil, err
	}
	m := message{body{Requests: []request{{id}}}}
	if withNonce {
		octets := make([]byte, 32) // RFC 9654, Section 2.1
		rand.Read(octets)
		if nonce, err = asn1.Marshal(octets); err != nil {
			return nil, nil, err
		}
		m.TBS.Extensions = []pkix.Extension{{Id: oidNonce, Value: nonce}}
	}
	der, err = asn1.Marshal(m)
	return der, nonce, err
}

// An answer is what a responder has said of a certificate.
type answer struct {
	status                byte // 0 good, 1 revoked, 2 unknown
	entry                 Entry
	thisUpdate            time.Time
	nextUpdate            time.Time // zero: none
	until                 time.Time // how long it is used
	by                    string
	signer                *x509.Certificate // a delegated one, or nil
	mustCheckTheResponder bool
}

// A question is what a response has to answer.
type question struct {
	cert, issuer *x509.Certificate
	nonce        []byte // nil: none was sent
	needNonce    bool
	now          time.Time
	skew, maxAge time.Duration
}

// readResponse verifies a response (RFC 6960, Section 3.2). Errors are of type
// *[ResponseError].
func readResponse(der []byte, q question) (*answer, error) {
	var r response
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) > 0 {
		return nil, badResponse("not a response", err)
	}
	switch r.Status {
	case 0:
	case 6:
		return nil, &ResponseError{Fault: "unauthorized: the responder does not know this certificate", kind: unknown}
	default:
		names := map[asn1.Enumerated]string{1: "malformed request", 2: "internal error", 3: "try later", 5: "signature required"}
		return nil, badResponse("the responder says: "+cmp.Or(names[r.Status], fmt.Sprint("status ", int(r.Status))), nil)
	}
	if !r.Bytes.Type.Equal(oidBasic) {
		return nil, badResponse("not a basic response", nil)
	}
	var b basic
	if rest, err := asn1.Unmarshal(r.Bytes.Bytes, &b); err != nil || len(rest) > 0 {
		return nil, badResponse("not a basic response", err)
	}
	var d data
	if rest, err := asn1.Unmarshal(b.Data.FullBytes, &d); err != nil || len(rest) > 0 {
		return nil, badResponse("no response data", err)
	}
	if d.Version != 0 || len(d.Responses) > maxSingles || len(b.Certificates) > maxCertsInOCSP {
		return nil, badResponse("another version, or more than anybody needs", nil)
	}
	// Signature first: nothing in what nobody has signed is an answer.
	signer, err := signerOf(&b, &d, q)
	if err != nil {
		return nil, err
	}
	answered := false
	for _, e := range d.Extensions {
		switch {
		case e.Id.Equal(oidNonce):
			if answered || q.nonce != nil && !bytes.Equal(e.Value, q.nonce) {
				return nil, badResponse("the nonce is not the one that was sent", nil)
			}
			answered = true
		case e.Critical:
			return nil, badResponse("an unknown critical extension", nil)
		}
	}
	if q.needNonce && !answered {
		return nil, badResponse("no nonce; the policy requires it", nil)
	}
	i := slices.IndexFunc(d.Responses, func(s single) bool { return s.ID.speaksOf(q.cert, q.issuer) })
	if i < 0 {
		return nil, badResponse("it speaks of another certificate", nil)
	}
	s := d.Responses[i]
	for _, e := range s.Extensions {
		if e.Critical {
			return nil, badResponse("an unknown critical extension", nil)
		}
	}
	a := &answer{thisUpdate: s.ThisUpdate, nextUpdate: s.NextUpdate, signer: signer}
	a.mustCheckTheResponder = signer != nil && !slices.ContainsFunc(signer.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNoCheck) })
	switch {
	case s.Status.Class != asn1.ClassContextSpecific:
		return nil, badResponse("a status that does not exist", nil)
	case s.Status.Tag == 0 && len(s.Status.Bytes) == 0:
	case s.Status.Tag == 1 && s.Status.IsCompound:
		var info revokedInfo
		inner := asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: s.Status.Bytes}
		whole, err := asn1.Marshal(inner)
		if err == nil {
			_, err = asn1.Unmarshal(whole, &info)
		}
		if err != nil || info.Reason < 0 || info.Reason > 10 {
			return nil, badResponse("a revocation that cannot be read", err)
		}
		a.status, a.entry = 1, Entry{At: info.At, Reason: uint8(info.Reason)}
	case s.Status.Tag == 2 && len(s.Status.Bytes) == 0:
		a.status = 2
	default:
		return nil, badResponse("a status that does not exist", nil)
	}
	stale := func(fault string, late time.Duration) (*answer, error) {
		return nil, &ResponseError{Fault: fault, kind: stale, late: late}
	}
	switch end := s.ThisUpdate.Add(q.maxAge); {
	case s.ThisUpdate.After(q.now.Add(q.skew)):
		return nil, badResponse("it is from the future: "+s.ThisUpdate.Format(time.RFC3339), nil)
	case !s.NextUpdate.IsZero() && s.NextUpdate.Before(s.ThisUpdate):
		return nil, badResponse("nextUpdate is before thisUpdate", nil)
	case !s.NextUpdate.IsZero() && !q.now.Before(s.NextUpdate):
		return stale("it ended at "+s.NextUpdate.Format(time.RFC3339), q.now.Sub(s.NextUpdate))
	case s.NextUpdate.IsZero() && !q.now.Before(end):
		return stale("without nextUpdate, and made at "+s.ThisUpdate.Format(time.RFC3339), q.now.Sub(end))
	case s.NextUpdate.IsZero():
		a.until = end
	default:
		a.until = earlier(s.NextUpdate, q.now.Add(q.maxAge))
	}
	return a, nil
}

// signerOf returns the delegated responder that has signed, or nil if the issuer has
// (RFC 6960, Section 4.2.2.2). A responder that the issuer has not certified itself has
// no say.
func signerOf(b *basic, d *data, q question) (*x509.Certificate, error) {
	alg := algorithmOf(b.Algorithm.FullBytes)
	if alg == nil {
		return nil, badResponse("a signature algorithm that is not accepted", nil)
	}
	if b.Signature.BitLength%8 != 0 {
		return nil, badResponse("the signature is not whole octets", nil)
	}
	signed, digest := b.Data.FullBytes, []byte(nil)
	if alg.hash != 0 {
		h := alg.hash.New()
		h.Write(signed)
		digest = h.Sum(nil)
	}
	verify := func(cert *x509.Certificate) error {
		return alg.verify(cert.PublicKey, digest, signed, b.Signature.Bytes)
	}
	fault := badResponse("the responder is neither the issuer nor one that the issuer has certified", nil)
	if isResponder(d, q.issuer) {
		err := verify(q.issuer)
		if err == nil {
			return nil, nil
		}
		fault = badResponse("the signature is not by the issuer", err)
	}
	for _, raw := range b.Certificates {
		cert, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil || !isResponder(d, cert) || !bytes.Equal(cert.RawIssuer, q.issuer.RawSubject) ||
			bytes.Equal(cert.Raw, q.issuer.Raw) {
			continue
		}
		switch err := cert.CheckSignatureFrom(q.issuer); {
		case err != nil:
			fault = badResponse("the issuer has not certified the responder", err)
		case !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
			fault = badResponse("the responder's certificate lacks the extended key usage OCSPSigning", nil)
		case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
			fault = badResponse("the responder's certificate lacks the key usage digitalSignature", nil)
		case len(cert.UnhandledCriticalExtensions) > 0:
			fault = badResponse("the responder's certificate has an unknown critical extension", nil)
		case q.now.Before(cert.NotBefore) || q.now.After(cert.NotAfter):
			fault = badResponse("the responder's certificate is not valid now", nil)
		default:
			if err := verify(cert); err != nil {
				fault = badResponse("the signature is not by the responder", err)
				continue
			}
			return cert, nil
		}
	}
	return nil, fault
}

// isResponder reports whether the responder id is that of cert.
func isResponder(d *data, cert *x509.Certificate) bool {
	switch {
	case d.Responder.Class != asn1.ClassContextSpecific:
	case d.Responder.Tag == 1:
		return bytes.Equal(d.Responder.Bytes, cert.RawSubject)
	case d.Responder.Tag == 2:
		var hash []byte
		if rest, err := asn1.Unmarshal(d.Responder.Bytes, &hash); err != nil || len(rest) > 0 {
			return false
		}
		bits, err := keyBits(cert)
		sum := sha1.Sum(bits)
		return err == nil && bytes.Equal(hash, sum[:])
	}
	return false
}

// A responder is what is known of a URL. The Checker's lock guards it.
type responder struct {
	named               bool
	answered            time.Time
	retry               time.Time // not before then
	err                 error
	successes, failures uint64
}

// checkOCSP asks the responders, unless an answer is at hand.
func (c *Checker) checkOCSP(ctx context.Context, cert, issuer *x509.Certificate) finding {
	now := c.cfg.Now()
	h := sha256.New()
	h.Write(issuer.RawSubject)
	h.Write(issuer.RawSubjectPublicKeyInfo)
	h.Write(cert.SerialNumber.Bytes())
	key := [32]byte(h.Sum(nil))
	old := c.answers.get(key)
	if old != nil && now.Before(old.until) {
		return c.findingOf(old)
	}
	urls := c.cfg.Responders
	if len(urls) == 0 && c.cfg.RespondersFromCertificates {
		urls = httpURLs(cert.OCSPServer)
	}
	if len(urls) == 0 {
		return finding{problem: c.problem(unknown, 0, "no responder for it", nil)}
	}
	a, err := c.asked.Do(ctx, key, c.cfg.Timeout, func(ctx context.Context) (*answer, error) {
		// Another's question may have been answered since the look above.
		if a := c.answers.get(key); a != nil && a != old {
			return a, nil
		}
		a, err := c.askAll(ctx, urls, cert, issuer)
		if err == nil {
			c.answers.put(key, a)
		}
		return a, err
	})
	if err == nil {
		return c.findingOf(a)
	}
	if old != nil && old.status == 1 {
		return c.findingOf(old) // once revoked, revoked
	}
	if e, ok := errors.AsType[*ResponseError](err); ok {
		if e.kind == unreachable && old != nil && old.status == 0 {
			return finding{problem: c.problem(stale, now.Sub(old.until), "the last answer is too old, and there is no other", err)}
		}
		return finding{problem: c.problem(e.kind, e.late, e.Fault, e.Err)}
	}
	return finding{problem: c.problem(unreachable, 0, "no answer in time", err)}
}

func (c *Checker) findingOf(a *answer) finding {
	switch a.status {
	case 0:
		return finding{until: a.until, by: a.by}
	case 1:
		return finding{revoked: &a.entry, by: a.by}
	}
	return finding{by: a.by, problem: c.problem(unknown, 0, "the responder "+a.by+" does not know the certificate", nil)}
}

// askAll returns the first answer, or the last error.
func (c *Checker) askAll(ctx context.Context, urls []string, cert, issuer *x509.Certificate) (a *answer, err error) {
	for _, name := range urls {
		now := c.cfg.Now()
		c.mu.Lock()
		r := c.responders[name]
		if r == nil && len(c.responders) < c.cfg.MaxSources {
			r = &responder{named: true}
			c.responders[name] = r
		}
		resting := r != nil && now.Before(r.retry)
		if resting {
			err = &ResponseError{Fault: name + " has just failed", Err: r.err, kind: unreachable}
		}
		c.mu.Unlock()
		switch {
		case r == nil:
			err = &ResponseError{Fault: fmt.Sprintf("more than %d responders", c.cfg.MaxSources), kind: unknown}
			continue
		case resting:
			continue
		}
		var transport bool
		a, transport, err = c.ask(ctx, name, r.named, cert, issuer)
		c.mu.Lock()
		if err == nil {
			r.answered, r.err, r.retry = c.cfg.Now(), nil, time.Time{}
			r.successes++
		} else {
			r.err = err
			r.failures++
			if transport {
				// It fails for everybody: let the others not wait for it.
				r.retry = c.cfg.Now().Add(c.cfg.Retry)
			}
		}
		c.mu.Unlock()
		if err == nil {
			return a, nil
		}
		c.cfg.Logger.Warn("no OCSP answer", "set", c.cfg.Set, "responder", name, "error", err)
	}
	return nil, err
}

// ask makes one request. transport says that no answer has come at all.
func (c *Checker) ask(ctx context.Context, name string, named bool, cert, issuer *x509.Certificate) (_ *answer, transport bool, _ error) {
	fail := func(fault string, err error) (*answer, bool, error) {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, true, badResponse(name+": "+fault, err)
	}
	select {
	case c.ocspSlots <- struct{}{}:
		defer func() { <-c.ocspSlots }()
	case <-ctx.Done():
		return fail("too many fetches at one time", ctx.Err())
	}
	der, nonce, err := newRequest(cert, issuer, c.cfg.Nonce != NonceOff)
	if err != nil {
		return fail("no request for this certificate", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, name, bytes.NewReader(der))
	if text := base64.StdEncoding.EncodeToString(der); c.cfg.UseGET && nonce == nil && len(text) < 255 {
		// RFC 6960, Appendix A.1.
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(name, "/")+"/"+url.QueryEscape(text), nil)
	}
	if err != nil {
		return fail("not a URL", nil)
	}
	if req.Method == http.MethodPost {
		req.Header.Set("Content-Type", "application/ocsp-request")
	}
	req.Header.Set("Accept", "application/ocsp-response")
	client := c.configured
	if named {
		client = c.named
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail("no answer", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Sprintf("status %d where 200 was expected", resp.StatusCode), nil)
	}
	octets, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return fail("the answer breaks off", err)
	}
	if len(octets) > maxResponse {
		return fail(fmt.Sprintf("the answer is longer than %d octets", maxResponse), nil)
	}
	a, err := readResponse(octets, question{
		cert: cert, issuer: issuer, nonce: nonce, needNonce: c.cfg.Nonce == NonceRequire,
		now: c.cfg.Now(), skew: c.cfg.Skew, maxAge: c.cfg.MaxAge,
	})
	if err != nil {
		return nil, false, err
	}
	if a.by = name; a.status == 2 {
		a.until = earlier(a.until, c.cfg.Now().Add(c.cfg.Retry)) // it may be known soon
	}
	if a.mustCheckTheResponder {
		// RFC 6960, Section 4.2.2.2.1: without id-pkix-ocsp-nocheck somebody has to
		// say that the responder itself is not revoked. Asking it would be no use.
		if f := c.lookup(a.signer, issuer); f.revoked != nil || f.problem != nil {
			return nil, false, badResponse("the responder's certificate has no id-pkix-ocsp-nocheck, and no CRL says that it is valid", nil)
		}
	}
	return a, false, nil
}

// answers are a bounded cache: when the young half is full, the old one is dropped.
type answers struct {
	mu         sync.Mutex
	half       int
	young, old map[[32]byte]*answer
}

func (c *answers) get(key [32]byte) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.young[key]; a != nil {
		return a
	}
	a := c.old[key]
	if a != nil {
		c.putLocked(key, a)
	}
	return a
}

func (c *answers) put(key [32]byte, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(key, a)
}

func (c *answers) putLocked(key [32]byte, a *answer) {
	if c.young == nil || len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[[32]byte]*answer)
	}
	c.young[key] = a
}
