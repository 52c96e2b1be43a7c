package authserver_test

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// An attacker looks for registered clients with the clock: for an unknown client_id the
// path of his certificate was validated before the refusal, for one that is switched off
// or misconfigured it was not. All cost the same now.
func TestAttackClientsToldApartByWork(t *testing.T) {
	as := fixture.Start(t)
	as.Register(t, &authserver.Client{ID: "c-off", AuthMethod: "tls_client_auth", SubjectDN: "CN=x", Disabled: true})
	as.RegisterUnchecked(t, &authserver.Client{ID: "c-broken", AuthMethod: "tls_client_auth"})
	for id, reason := range map[string]decision.Reason{
		"nobody": decision.UnknownClient, "c-dn": decision.SubjectMismatch,
		"c-off": decision.ClientDisabled, "c-broken": decision.ClientMisconfig, "c-sec": decision.MethodMismatch,
	} {
		t.Run(id, func(t *testing.T) {
			c := as.As(t, as.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=mallory"})) // new, so that no verdict is remembered
			before := as.Paths.Stats().Judged
			wantIC(t, fixture.Token(t, c, id))
			wantReason(t, as, reason)
			if n := as.Paths.Stats().Judged - before; n != 1 {
				t.Errorf("%d paths were validated, want 1 as for every other client", n)
			}
		})
	}
}

// A client that needs no CA, with a secret or an assertion, writes a serial number and an
// authority key id of 30,000 octets into certificates of its own, and has tokens bound to
// them. Each left a row of 120 kB in the database. The row is small now, and it still
// tells two such numbers apart.
func TestAttackFatCertificateRecords(t *testing.T) {
	as := fixture.Start(t)
	var serials []string
	for i := range 2 {
		serial := new(big.Int).Lsh(big.NewInt(1), 8*30_000)
		serial.Add(serial, big.NewInt(int64(i)))
		leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=own", Serial: serial, Template: func(c *x509.Certificate) {
			c.AuthorityKeyId = []byte(strings.Repeat("a", 30_000))
		}})
		wantOK(t, fixture.Token(t, as.As(t, leaf), "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret)))
		rec, err := as.Store.Certificate(t.Context(), certbound.Thumbprint(leaf.Cert))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(rec.Serial) + len(rec.IssuerKeyID) + len(rec.Subject); n > 1500 {
			t.Errorf("a record of %d bytes", n)
		}
		serials = append(serials, rec.Serial)
	}
	if serials[0] == serials[1] {
		t.Error("two serial numbers became one")
	}
	wantOK(t, fixture.Token(t, as.As(t, as.L1), "c-dn"))
	if rec, err := as.Store.Certificate(t.Context(), certbound.Thumbprint(as.L1.Cert)); err != nil ||
		rec.Serial != as.L1.Cert.SerialNumber.Text(16) || rec.IssuerKeyID != hex.EncodeToString(as.L1.Cert.AuthorityKeyId) {
		t.Errorf("an ordinary certificate: %+v, %v", rec, err)
	}
}

// keyStore counts how often the keys are read, and makes each read wait.
type keyStore struct {
	authserver.Store
	reads   atomic.Int64
	release chan struct{}
}

func (s *keyStore) SigningKeys(ctx context.Context) ([]authserver.SigningKey, error) {
	s.reads.Add(1)
	<-s.release
	return s.Store.SigningKeys(ctx)
}

// A flooder sends tokens with key ids that he has invented to the revocation endpoint, as a
// public client, which needs no credential. Each request that came while the keys were
// being read read them again, one after the other: 50 requests, 50 times all keys from the
// store, parsed. Now one reads, and the others take what it has read.
func TestAttackInventedKeyIDs(t *testing.T) {
	store := &keyStore{Store: memstore.New(), release: make(chan struct{})}
	s, _ := newServer(t, func(c *authserver.Config) { c.Store, c.AuthMethods = store, []string{authserver.None} })
	if err := store.CreateClient(t.Context(), &authserver.Client{ID: "public", AuthMethod: authserver.None}); err != nil {
		t.Fatal(err)
	}
	key := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=x"}).Key
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "invented"))
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign([]byte(`{"jti":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	const requests = 50
	var started atomic.Int64
	var done sync.WaitGroup
	for range requests {
		done.Go(func() {
			started.Add(1)
			if status, answer := post(h, "/revoke", "", "client_id=public&token="+token); status != http.StatusOK {
				t.Errorf("%d %v", status, answer)
			}
		})
	}
	for started.Load() < requests || store.reads.Load() == 0 {
		runtime.Gosched()
	}
	close(store.release)
	done.Wait()
	// The first key is made on the way, after which the keys are read once more.
	if n := store.reads.Load(); n > 4 {
		t.Errorf("the keys were read %d times for %d requests", n, requests)
	}
}

// Two processes share a store, and the clock of one is two minutes ahead. It swept what had
// expired by its own clock, and whoever had recorded a client assertion, or a revoked
// token, could use it once more at the other. Sweeping leaves a margin now.
func TestAttackReplayAfterSweepOfAFastClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, store := newServer(t, func(c *authserver.Config) {
			c.Now = func() time.Time { return time.Now().Add(2 * time.Minute) }
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := fast.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer cancel()
		expires := time.Now().Add(5 * time.Minute)
		if first, err := store.UseOnce(t.Context(), "assertion", expires); err != nil || !first {
			t.Fatal(first, err)
		}
		if err := store.Revoke(t.Context(), "jti", expires); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(expires) - time.Second) // by the right clock it still counts
		if first, err := store.UseOnce(t.Context(), "assertion", expires); err != nil || first {
			t.Errorf("a used assertion is taken again: %v %v", first, err)
		}
		if revoked, err := store.Revoked(t.Context(), "jti"); err != nil || !revoked {
			t.Errorf("a revoked token is valid again: %v %v", revoked, err)
		}
	})
}
