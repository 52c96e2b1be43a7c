package revocation_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certbound/certbound/pki/revocation"
	"github.com/certbound/certbound/pkitest"
)

// respond returns what a responder says.
func respond(t testing.TB, r *pkitest.Revocations, o pkitest.OCSPOptions, request []byte) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	r.OCSPHandler(o).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(request)))
	return w.Body.Bytes()
}

// Requests and responses are as golang.org/x/crypto/ocsp knows them.
func TestOCSPAgreesWithAnother(t *testing.T) {
	w := newWorld(t)
	w.Revoke(w.leaf.Cert, 1)
	for _, leaf := range []*pkitest.Leaf{w.leaf, w.other} {
		request := revocation.NewRequest(leaf.Cert, w.ca.Cert)
		theirs, err := ocsp.CreateRequest(leaf.Cert, w.ca.Cert, nil)
		if err != nil || !bytes.Equal(request, theirs) {
			t.Errorf("request %x, want %x (%v)", request, theirs, err)
		}
		for _, o := range []pkitest.OCSPOptions{{}, {ByKey: true}, {Signer: w.ca.MustOCSPSigner(nil)}} {
			der := respond(t, w.Revocations, o, request)
			status, ok, err := revocation.ReadResponse(der, leaf.Cert, w.ca.Cert, time.Now())
			want, wantErr := ocsp.ParseResponseForCert(der, leaf.Cert, w.ca.Cert)
			if err != nil || wantErr != nil || !ok || int(status) != want.Status {
				t.Errorf("status %d, %v; want %+v, %v", status, err, want, wantErr)
			}
		}
	}
	// Theirs are read by us.
	for status, want := range map[int]byte{ocsp.Good: 0, ocsp.Revoked: 1, ocsp.Unknown: 2} {
		der, err := ocsp.CreateResponse(w.ca.Cert, w.ca.Cert, ocsp.Response{Status: status, SerialNumber: w.leaf.Cert.SerialNumber,
			ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour), RevokedAt: time.Now().Add(-time.Hour), RevocationReason: 4}, w.ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok, err := revocation.ReadResponse(der, w.leaf.Cert, w.ca.Cert, time.Now()); !ok || got != want {
			t.Errorf("status %d: got %d, %v", status, got, err)
		}
	}
}

// Every octet of a response that is signed counts.
func TestOCSPResponseIsSignedAsAWhole(t *testing.T) {
	w := newWorld(t)
	for _, o := range []pkitest.OCSPOptions{{}, {Signer: w.ca.MustOCSPSigner(nil)}} {
		der := respond(t, w.Revocations, o, revocation.NewRequest(w.leaf.Cert, w.ca.Cert))
		for i := range der {
			forged := bytes.Clone(der)
			forged[i] ^= 1
			if status, ok, _ := revocation.ReadResponse(forged, w.leaf.Cert, w.ca.Cert, time.Now()); ok && status != 0 {
				t.Fatalf("octet %d changed: status %d", i, status)
			}
			if _, ok, _ := revocation.ReadResponse(forged, w.other.Cert, w.ca.Cert, time.Now()); ok {
				t.Fatalf("octet %d changed: good for another certificate", i)
			}
		}
	}
}

// FuzzReadResponse compares with golang.org/x/crypto/ocsp, which is less strict: what we
// accept, it accepts, with the same status.
func FuzzReadResponse(f *testing.F) {
	w := newWorld(f)
	w.Revoke(w.other.Cert, 1)
	at := time.Now()
	for _, leaf := range []*pkitest.Leaf{w.leaf, w.other} {
		request := revocation.NewRequest(leaf.Cert, w.ca.Cert)
		for _, o := range []pkitest.OCSPOptions{{}, {ByKey: true}, {Lifetime: -1}, {Signer: w.ca.MustOCSPSigner(nil)}} {
			f.Add(respond(f, w.Revocations, o, request))
		}
	}
	f.Add(ocsp.TryLaterErrorResponse)
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, leaf := range []*pkitest.Leaf{w.leaf, w.other} {
			status, ok, err := revocation.ReadResponse(in, leaf.Cert, w.ca.Cert, at)
			if err != nil {
				if _, declared := errors.AsType[*revocation.ResponseError](err); !declared || ok {
					t.Fatalf("%v beside the error %T: %v", ok, err, err)
				}
				continue
			}
			want, err := ocsp.ParseResponseForCert(in, leaf.Cert, w.ca.Cert)
			if err != nil || int(status) != want.Status {
				t.Errorf("status %d; want %+v, %v", status, want, err)
			}
		}
	})
}
