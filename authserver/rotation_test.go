package authserver_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// A client moves to another subject, to another CA, or to another self-signed
// certificate, with an overlap and without one. At each time the registration says what is
// accepted, on the connections that were there before.
func TestRotation(t *testing.T) {
	start := time.Now().Truncate(time.Second)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	certs := fixture.Certs()
	for _, kind := range []struct {
		name     string
		old, new *pkitest.Leaf
		client   func(t *testing.T) *authserver.Client
	}{
		{"subject value of another kind", certs.L1, certs.L2, func(*testing.T) *authserver.Client {
			return &authserver.Client{AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN,
				NextSubjectKind: "tls_client_auth_san_dns", NextSubject: "client-2.example"}
		}},
		{"another CA", certs.L1, certs.L1CA2, func(*testing.T) *authserver.Client {
			return &authserver.Client{AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, AnchorSet: "ca1", NextAnchorSet: "ca2"}
		}},
		{"self-signed certificate", certs.S1, certs.S2, func(t *testing.T) *authserver.Client {
			return &authserver.Client{AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, certs.S1), NextJWKS: fixture.JWKSOf(t, certs.S2)}
		}},
	} {
		for _, dates := range []struct {
			name        string
			from, until time.Time
			want        [4]string // what is accepted at minutes 0, 2, 4 and 6
		}{
			{"overlap", at(1), at(5), [4]string{"old", "both", "both", "new"}},
			{"no overlap", at(3), at(3), [4]string{"old", "old", "new", "new"}},
			{"at once, until a date", time.Time{}, at(3), [4]string{"both", "both", "new", "new"}},
			{"until closed by hand", at(3), time.Time{}, [4]string{"old", "old", "both", "both"}},
		} {
			t.Run(kind.name+"/"+dates.name, func(t *testing.T) {
				var clock atomic.Int64
				as := fixture.Start(t, func(c *authserver.Config) {
					c.Now = func() time.Time { return start.Add(time.Duration(clock.Load())) }
				})
				c := kind.client(t)
				c.ID, c.BoundTokens, c.NextNotBefore, c.CurrentNotAfter = "rotating", true, dates.from, dates.until
				as.Register(t, c)
				old, new := as.As(t, kind.old), as.As(t, kind.new)
				check := func(when, want string) {
					t.Helper()
					for _, side := range []struct {
						name   string
						client *http.Client
						leaf   *pkitest.Leaf
					}{{"old", old, kind.old}, {"new", new, kind.new}} {
						r := fixture.Token(t, side.client, "rotating")
						if want == side.name || want == "both" {
							wantOK(t, r)
							if r.Cnf() != certbound.Thumbprint(side.leaf.Cert) {
								t.Errorf("%s, %s: bound to %s", when, side.name, r.Cnf())
							}
							continue
						}
						if r.Status != 401 {
							t.Errorf("%s, %s: status %d", when, side.name, r.Status)
							continue
						}
						wantIC(t, r)
					}
				}
				for i, want := range dates.want {
					clock.Store(int64(2 * time.Duration(i) * time.Minute))
					check(fmt.Sprintf("minute %d", 2*i), want)
				}
				// Somebody else is refused as ever, also while two are accepted.
				clock.Store(int64(4 * time.Minute))
				wantIC(t, fixture.Token(t, as.As(t, as.L1CAX), "rotating"))

				t.Run("closed by hand", func(t *testing.T) {
					t.Attr("requirement", "W-2.2-3")
					stored, err := as.Store.Client(t.Context(), "rotating")
					if err != nil {
						t.Fatal(err)
					}
					stored.Promote()
					if err := authserver.ValidateClient(stored, as.Server.Rules()); err != nil {
						t.Fatal(err)
					}
					if err := as.Store.UpdateClient(t.Context(), stored); err != nil {
						t.Fatal(err)
					}
					as.Server.ClientChanged("rotating")
					clock.Store(0)
					check("after Promote", "new")
				})
			})
		}
	}
}

func TestRotationRules(t *testing.T) {
	as := fixture.Start(t)
	now := time.Now()
	pkiClient := func(change func(*authserver.Client)) *authserver.Client {
		c := &authserver.Client{ID: "x", AuthMethod: clientauth.TLSClientAuth, SubjectDN: "CN=a"}
		change(c)
		return c
	}
	self := func(change func(*authserver.Client)) *authserver.Client {
		c := &authserver.Client{ID: "x", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, as.S1)}
		change(c)
		return c
	}
	for _, tt := range []struct {
		name   string
		client *authserver.Client
		member string // at fault; empty: none
	}{
		{"next subject", pkiClient(func(c *authserver.Client) { c.NextSubjectKind, c.NextSubject = "tls_client_auth_subject_dn", "CN=b" }), ""},
		{"kind without value", pkiClient(func(c *authserver.Client) { c.NextSubjectKind = "tls_client_auth_subject_dn" }), "certbound_next_subject_kind"},
		{"value without kind", pkiClient(func(c *authserver.Client) { c.NextSubject = "CN=b" }), "certbound_next_subject_kind"},
		{"no such kind", pkiClient(func(c *authserver.Client) { c.NextSubjectKind, c.NextSubject = "client_id", "b" }), "certbound_next_subject_kind"},
		{"not a DN", pkiClient(func(c *authserver.Client) { c.NextSubjectKind, c.NextSubject = "tls_client_auth_subject_dn", "b" }), "certbound_next_subject"},
		{"the current one", pkiClient(func(c *authserver.Client) { c.NextSubjectKind, c.NextSubject = "tls_client_auth_subject_dn", "CN=a" }), "certbound_next_subject"},
		{"anchor set", pkiClient(func(c *authserver.Client) { c.NextAnchorSet = "ca2" }), ""},
		{"no such anchor set", pkiClient(func(c *authserver.Client) { c.NextAnchorSet = "none" }), "certbound_next_anchor_set"},
		{"key set of a PKI client", pkiClient(func(c *authserver.Client) { c.NextJWKS = fixture.JWKSOf(t, as.S2) }), "certbound_next_jwks"},
		{"a gap", pkiClient(func(c *authserver.Client) {
			c.NextAnchorSet, c.NextNotBefore, c.CurrentNotAfter = "ca2", now.Add(time.Minute), now
		}), "certbound_current_not_after"},
		{"no gap", pkiClient(func(c *authserver.Client) { c.NextAnchorSet, c.NextNotBefore, c.CurrentNotAfter = "ca2", now, now }), ""},
		{"an end without a next", pkiClient(func(c *authserver.Client) { c.CurrentNotAfter = now }), "certbound_current_not_after"},
		{"next key set", self(func(c *authserver.Client) { c.NextJWKS = fixture.JWKSOf(t, as.S2) }), ""},
		{"the current key set", self(func(c *authserver.Client) { c.NextJWKS = c.JWKS }), "certbound_next_jwks"},
		{"without certificates", self(func(c *authserver.Client) { c.NextJWKS = []byte(`{"keys":[]}`) }), "certbound_next_jwks"},
		{"not a key set", self(func(c *authserver.Client) { c.NextJWKS = []byte(`[]`) }), "certbound_next_jwks"},
		{"beside jwks_uri", self(func(c *authserver.Client) {
			c.JWKS, c.JWKSURI, c.NextJWKS = nil, "https://keys.test/x", fixture.JWKSOf(t, as.S2)
		}), "certbound_next_jwks"},
		{"subject of a self-signed client", self(func(c *authserver.Client) { c.NextSubjectKind, c.NextSubject = "tls_client_auth_subject_dn", "CN=b" }), "certbound_next_subject"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := authserver.ValidateClient(tt.client, as.Server.Rules())
			if tt.member == "" {
				if err != nil {
					t.Fatal(err)
				}
				// Whatever is next is a registration by itself.
				tt.client.Promote()
				if err := authserver.ValidateClient(tt.client, as.Server.Rules()); err != nil {
					t.Errorf("after Promote: %v", err)
				}
				return
			}
			me, ok := err.(*authserver.MetadataError)
			if !ok || len(me.Faults) == 0 || me.Faults[0].Member != tt.member {
				t.Errorf("error %v, want one of %s", err, tt.member)
			}
		})
	}
}

// A client renews: the same subject, another key. Nobody is told, and everybody sees it.
func TestRenewal(t *testing.T) {
	t.Attr("requirement", "M-2.1-7")
	var previous, current []string
	as := fixture.Start(t, func(c *authserver.Config) {
		c.OnRenewal = func(p, n authserver.CertificateRecord) {
			previous, current = append(previous, p.Thumbprint), append(current, n.Thumbprint)
		}
	})
	for range 2 {
		wantOK(t, fixture.Token(t, as.As(t, as.L1), "c-dn"))
	}
	if len(current) != 0 {
		t.Errorf("the first certificate of a client is a renewal: %q", current)
	}
	for range 2 {
		wantOK(t, fixture.Token(t, as.As(t, as.L1r), "c-dn"))
	}
	wantOK(t, fixture.Token(t, as.As(t, as.L1), "c-dn")) // the old one is not new again
	if len(current) != 1 || current[0] != certbound.Thumbprint(as.L1r.Cert) || previous[0] != certbound.Thumbprint(as.L1.Cert) {
		t.Errorf("renewals from %q to %q", previous, current)
	}
	if log := as.Log(); strings.Count(log, "client now uses new certificate") != 1 || !strings.Contains(log, "client_id=c-dn") {
		t.Error(log)
	}
}

// A source that takes the certificate from the context, for tests without TLS.
type contextSource struct{}

func (contextSource) Name() string { return "test" }
func (contextSource) Certificate(r *http.Request) (*certsource.Presented, error) {
	if p, ok := r.Context().Value(contextSource{}).(*certsource.Presented); ok {
		return p, nil
	}
	return nil, certsource.ErrNoCertificate
}

// Ten thousand clients have rotated at the same moment and come at once. None is refused,
// each is seen on its new certificate, and its old one is refused.
func TestManyClientsRotateAtOnce(t *testing.T) {
	const n = 10_000
	store := memstore.New()
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA"})
	quiet := slog.New(slog.DiscardHandler)
	paths, err := pki.NewValidator(pki.Config{Sets: []pki.Set{{Name: "ca", Anchors: []*x509.Certificate{ca.Cert}}}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	var renewals, refusals atomic.Int64
	var reasons sync.Map
	s, err := authserver.New(authserver.Config{
		Issuer: fixture.Issuer, Store: store, Source: contextSource{}, Paths: paths, DefaultAnchorSet: "ca",
		MTLS:        authserver.MTLSFeature{Enabled: true, TLSClientAuth: true, CertificateBoundAccessTokens: true},
		AuthMethods: []string{clientauth.TLSClientAuth}, Resources: []string{fixture.Resource}, Logger: quiet,
		OnRenewal: func(_, _ authserver.CertificateRecord) { renewals.Add(1) },
		Observer: func(_ context.Context, d *decision.Decision) {
			if !d.Allowed {
				refusals.Add(1)
				reasons.Store(d.Reason(), true)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.Run(t.Context())
	h := s.MTLSHandler()
	key := pkitest.MustKey(pkitest.P256) // one for all: what differs is the certificate
	leaf := func(name string) *pkitest.Leaf {
		return ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + name, Key: key})
	}
	moment := time.Now().Add(-time.Second)
	leaves := make([]*pkitest.Leaf, n)
	parallel(func(i int) {
		id := fmt.Sprintf("client-%d", i)
		leaves[i] = leaf("new-" + id)
		err := store.CreateClient(t.Context(), &authserver.Client{
			ID: id, AuthMethod: clientauth.TLSClientAuth, BoundTokens: true, SubjectDN: "CN=old-" + id,
			NextSubjectKind: "tls_client_auth_subject_dn", NextSubject: "CN=new-" + id, NextNotBefore: moment, CurrentNotAfter: moment,
		})
		if err == nil {
			err = store.SaveCertificate(t.Context(), authserver.CertificateRecord{Thumbprint: "old-" + id, ClientID: id,
				FirstSeen: moment.Add(-time.Hour), TokensUntil: moment.Add(time.Hour)})
		}
		if err != nil {
			t.Error(err)
		}
	}, n)
	ask := func(id string, leaf *pkitest.Leaf) int {
		r := httptest.NewRequest("POST", fixture.Issuer+"/token", strings.NewReader("grant_type=client_credentials&client_id="+id))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r = r.WithContext(context.WithValue(r.Context(), contextSource{}, certsource.NewPresented("test", leaf.Cert, nil)))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	parallel(func(i int) { ask(fmt.Sprintf("client-%d", i), leaves[i]) }, n)
	if got := refusals.Load(); got != 0 {
		reasons.Range(func(reason, _ any) bool { t.Errorf("refused for %v", reason); return true })
		t.Errorf("%d of %d were refused", got, n)
	}
	if got := renewals.Load(); got != n {
		t.Errorf("%d were seen on their new certificate, want %d", got, n)
	}
	for _, i := range []int{0, 1, n / 2, n - 1} {
		id := fmt.Sprintf("client-%d", i)
		if code := ask(id, leaf("old-"+id)); code == 200 {
			t.Errorf("the old subject of %s is still accepted", id)
		}
	}
}

// parallel calls f for 0 to n-1 from many goroutines.
func parallel(f func(i int), n int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}
