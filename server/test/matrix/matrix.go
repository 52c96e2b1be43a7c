// Package matrix has the one table of who gets through and who does not: which token, with
// which certificate. Every front that judges requests runs it and has to come to the
// same answers.
package matrix

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// Names of the world.
const (
	Issuer   = "https://as.test"
	Resource = "https://rs.test"
	Host     = "rs.test"
)

// A World has an issuer of tokens and clients with certificates of every kind. The fronts
// check certificates, too, so that one that is revoked or has expired is found out.
type World struct {
	*fixture.Certificates
	// Revoked and Expired would be fine otherwise.
	Revoked, Expired *pkitest.Leaf
	// Keys are those of the issuer.
	Keys *jwks.Set

	signer *jws.Signer
	paths  *pki.Validator
}

// New makes a world.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{Certificates: fixture.Certs()}
	w.Revoked = w.CA1i.MustLeaf(fixture.L1Options())
	old := fixture.L1Options()
	old.NotBefore, old.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	w.Expired = w.CA1i.MustLeaf(old)
	key := pkitest.MustKey(pkitest.P256)
	doc, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: jws.ES256, Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	if w.Keys, err = jwks.Parse(doc, jwks.Strict); err != nil {
		t.Fatal(err)
	}
	if w.signer, err = jws.NewSigner(jws.ES256, "at+jwt", "k1", key); err != nil {
		t.Fatal(err)
	}
	w.paths, err = pki.NewValidator(pki.Config{
		Sets: []pki.Set{{
			Name: "clients", Anchors: []*x509.Certificate{w.CA1.Cert}, Revocation: revoked{w.Revoked.Cert},
			Helpers: []*x509.Certificate{w.CA1i.Cert}, // most proxies forward the leaf alone
		}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// revoked is a revocation list of one certificate.
type revoked struct{ cert *x509.Certificate }

func (r revoked) CheckRevocation(_ context.Context, path []*x509.Certificate) (time.Time, error) {
	if path[0].Equal(r.cert) {
		return time.Time{}, &pki.Error{Reason: decision.Revoked, Cert: r.cert}
	}
	return time.Time{}, nil
}

func (revoked) Generation() uint64 { return 1 }

// Check judges certificates as a front has to.
func (w *World) Check(ctx context.Context, p *certsource.Presented) error {
	_, err := w.paths.Verify(ctx, "clients", pki.Chain{Leaf: p.Leaf(), Rest: p.Chain()})
	return err
}

// Verifier returns a verifier for the world's tokens. change may alter its settings.
func (w *World) Verifier(t testing.TB, source certsource.Source, change func(*resourceserver.Config)) *resourceserver.Verifier {
	t.Helper()
	cfg := resourceserver.Config{
		Resource: Resource, Issuer: Issuer, Source: source, Keys: resourceserver.Keys{Set: w.Keys},
		CheckCertificate: w.Check, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	v, err := resourceserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Token returns a token that is bound to a certificate, or to none for nil. Claims replace
// those of a good token, or with nil remove them.
func (w *World) Token(t testing.TB, bound *pkitest.Leaf, claims map[string]any) string {
	t.Helper()
	now := time.Now()
	c := map[string]any{
		"iss": Issuer, "sub": "client-1", "client_id": "client-1", "aud": Resource, "jti": "token-1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "read write",
	}
	if bound != nil {
		c["cnf"] = map[string]any{"x5t#S256": certbound.Thumbprint(bound.Cert)}
	}
	maps.Copy(c, claims)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ClientTLS returns the settings of a client with a certificate, or without one for nil.
func (w *World) ClientTLS(leaf *pkitest.Leaf) *tls.Config {
	cfg := &tls.Config{RootCAs: w.ServerCA.Pool(), ServerName: Host}
	if leaf != nil {
		cert := leaf.TLS()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// A Call is one cell: a request by a client. A front that has no TLS of its own hands on
// the certificate in its way.
type Call struct {
	Token   string // or ""
	Leaf    *pkitest.Leaf
	Resumed bool // on a resumed TLS session, if the front has sessions
}

// An Outcome is what came of it, in the words of HTTP.
type Outcome struct {
	Status    int
	Challenge string // WWW-Authenticate
	Reached   bool   // the API has seen the request
}

// Run makes every call of the table.
func (w *World) Run(t *testing.T, front func(t *testing.T, c Call) Outcome) {
	tokens := []string{"no token", "unbound token", "bound token"}
	certificates := []struct {
		name    string
		leaf    *pkitest.Leaf
		bound   *pkitest.Leaf // what a bound token is bound to
		resumed bool
	}{
		{"no certificate", nil, w.L1, false},
		{"wrong certificate", w.L2, w.L1, false},
		{"right certificate", w.L1, w.L1, false},
		{"right certificate, resumed session", w.L1, w.L1, true},
		{"wrong certificate, resumed session", w.L2, w.L1, true},
		{"right key, other certificate", w.L1k, w.L1, false},
		{"right but revoked certificate", w.Revoked, w.Revoked, false},
		{"right but expired certificate", w.Expired, w.Expired, false},
	}
	for _, token := range tokens {
		for _, c := range certificates {
			t.Run(token+", "+c.name, func(t *testing.T) {
				t.Attr("requirement", "M-3-9 M-3-11 M-3-13 B-3-1 B-3-2 B-3.1-1")
				call := Call{Leaf: c.leaf, Resumed: c.resumed}
				want := "invalid_token"
				switch token {
				case "no token":
					want = ""
				case "unbound token":
					call.Token = w.Token(t, nil, nil)
				default:
					call.Token = w.Token(t, c.bound, nil)
					if c.leaf == w.L1 {
						want = "allowed"
					}
				}
				got := front(t, call)
				if want == "allowed" {
					if got.Status != 200 || !got.Reached || got.Challenge != "" {
						t.Errorf("got %+v, want 200 and the API reached", got)
					}
					return
				}
				if got.Status != 401 || got.Reached || !strings.HasPrefix(got.Challenge, "Bearer") {
					t.Errorf("got %+v, want 401 with a challenge, and the API not reached", got)
				}
				if found := strings.Contains(got.Challenge, "error="); found != (want != "") || want != "" && !strings.Contains(got.Challenge, `error="`+want+`"`) {
					t.Errorf("challenge %q, want error %q", got.Challenge, want)
				}
			})
		}
	}
}
