package authserver_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
)

// A revoker calls certificates revoked.
type revoker struct {
	generation atomic.Uint64
	revoked    []*x509.Certificate
	unknown    bool
}

func (r *revoker) Generation() uint64 { return r.generation.Load() }

func (r *revoker) CheckRevocation(_ context.Context, path []*x509.Certificate) (time.Time, error) {
	for _, c := range path {
		if slices.ContainsFunc(r.revoked, c.Equal) {
			return time.Time{}, &pki.Error{Reason: decision.Revoked, Cert: c}
		}
	}
	if r.unknown {
		return time.Time{}, &pki.Error{Reason: decision.RevocationUnknown}
	}
	return time.Time{}, nil
}

func TestRevokedCertificate(t *testing.T) {
	t.Attr("requirement", "M-2.1-6")
	as := fixture.Start(t)
	l1 := as.As(t, as.L1)
	wantOK(t, fixture.Token(t, l1, "c-dn")) // no checker: nothing is revoked
	checker := &revoker{}
	if err := as.Paths.Replace(pki.Set{Name: "ca1", Anchors: []*x509.Certificate{as.CA1.Cert}, Revocation: checker}); err != nil {
		t.Fatal(err)
	}
	wantOK(t, fixture.Token(t, l1, "c-dn"))
	// Revoked while the connection is open, and a verdict is remembered.
	checker.revoked = []*x509.Certificate{as.L1.Cert}
	checker.generation.Add(1)
	wantIC(t, fixture.Token(t, l1, "c-dn"))
	wantReason(t, as, decision.Revoked)
	wantOK(t, fixture.Token(t, as.As(t, as.L1r), "c-dn"))
	checker.revoked, checker.unknown = nil, true
	checker.generation.Add(1)
	wantIC(t, fixture.Token(t, l1, "c-dn")) // closed, unless the checker says otherwise
	wantReason(t, as, decision.RevocationUnknown)
}

func TestThumbprintOfOctets(t *testing.T) {
	t.Attr("requirement", "M-3.1-3")
	as := fixture.Start(t)
	o := fixture.L1Options()
	// An extension nobody knows, whose value is BER that a re-encoding would change.
	o.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: []byte{0x04, 0x81, 0x02, 0x01, 0x02}}}
	leaf := as.CA1i.MustLeaf(o)
	r := fixture.Token(t, as.As(t, leaf), "c-dn")
	wantOK(t, r)
	sum := sha256.Sum256(leaf.Cert.Raw)
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); r.Cnf() != want {
		t.Errorf("cnf %q, expected %q", r.Cnf(), want)
	}
}
