package authserver_test

import (
	"context"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// TestHooks covers the hooks of the feature.
func TestHooks(t *testing.T) {
	certs := fixture.Certs()
	t.Run("certificate", func(t *testing.T) {
		for _, tc := range []struct {
			name   string
			answer authserver.HookCertificate
			err    error
			status int
			reason decision.Reason
		}{
			{"a certificate", authserver.HookCertificate{Certificate: certs.L1.Cert, Chain: certs.L1.Chain()[1:]}, nil, 200, ""},
			{"PEM", authserver.HookCertificate{PEM: certs.L1.ChainPEM()}, nil, 200, ""},
			{"none", authserver.HookCertificate{}, nil, 401, decision.NoCertificate},
			{"another", authserver.HookCertificate{Certificate: certs.L2.Cert, Chain: certs.L2.Chain()[1:]}, nil, 401, decision.SubjectMismatch},
			{"an error", authserver.HookCertificate{Certificate: certs.L1.Cert}, errTest, 400, decision.HookFailed},
			{"no PEM", authserver.HookCertificate{PEM: []byte("hello")}, nil, 400, decision.CertificateUnparsed},
			{"a key", authserver.HookCertificate{PEM: certs.L1.KeyPEM()}, nil, 400, decision.CertificateUnparsed},
			{"broken DER", authserver.HookCertificate{PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2, 3}})}, nil, 400, decision.CertificateUnparsed},
			{"too many", authserver.HookCertificate{PEM: []byte(strings.Repeat(string(certs.L1.CertPEM()), 11))}, nil, 400, decision.CertificateUnparsed},
		} {
			t.Run(tc.name, func(t *testing.T) {
				as := fixture.Start(t, func(c *authserver.Config) {
					c.MTLS.Certificate = func(*http.Request) (authserver.HookCertificate, error) { return tc.answer, tc.err }
				})
				r := fixture.Token(t, as.As(t, nil), "c-dn")
				if r.Status != tc.status {
					t.Errorf("status %d %s", r.Status, r.Text)
				}
				wantReason(t, as, tc.reason)
				// The browser's listener asks no hook.
				wantIC(t, fixture.Post(t, as.As(t, nil), fixture.Issuer+"/token", "grant_type", "client_credentials", "client_id", "c-dn"))
			})
		}
	})
	type answer struct {
		ok  bool
		err error
	}
	for _, tc := range []struct {
		name                string
		authorized, matches *answer
		leaf                *pkitest.Leaf
		ok                  bool
		reason              decision.Reason
	}{
		{"authorized yes, own subject", &answer{true, nil}, nil, certs.L1CAX, true, ""},
		{"authorized yes, own subject says no", &answer{true, nil}, nil, certs.L2, false, decision.SubjectMismatch},
		{"authorized no", &answer{false, nil}, nil, certs.L1, false, decision.HookRefused},
		{"authorized yes with an error", &answer{true, errTest}, nil, certs.L1, false, decision.HookFailed},
		{"matches yes, own path", nil, &answer{true, nil}, certs.L2, true, ""},
		{"matches yes, own path says no", nil, &answer{true, nil}, certs.L1CAX, false, decision.ChainIncomplete},
		{"matches no", nil, &answer{false, nil}, certs.L1, false, decision.HookRefused},
		{"matches yes with an error", nil, &answer{true, errTest}, certs.L1, false, decision.HookFailed},
		{"both yes", &answer{true, nil}, &answer{true, nil}, certs.S2, true, ""},
		{"both yes, no certificate", &answer{true, nil}, &answer{true, nil}, nil, false, decision.NoCertificate},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked []authserver.HookQuestion
			hook := func(a *answer) func(context.Context, authserver.HookQuestion) (bool, error) {
				if a == nil {
					return nil
				}
				return func(_ context.Context, q authserver.HookQuestion) (bool, error) {
					asked = append(asked, q)
					return a.ok, a.err
				}
			}
			as := fixture.Start(t, func(c *authserver.Config) {
				c.MTLS.CertificateAuthorized, c.MTLS.CertificateSubjectMatches = hook(tc.authorized), hook(tc.matches)
			})
			if r := fixture.Token(t, as.As(t, tc.leaf), "c-dns"); tc.ok {
				wantOK(t, r)
			} else {
				wantIC(t, r)
				wantReason(t, as, tc.reason)
			}
			for _, q := range asked {
				if q.Property != "tls_client_auth_san_dns" || q.Expected != "client-1.example" || q.ClientID != "c-dns" || q.Certificate == nil {
					t.Errorf("the hook was asked %+v", q)
				}
			}
			// The hooks are for tls_client_auth only.
			n := len(asked)
			wantOK(t, fixture.Token(t, as.As(t, as.S1), "c-self"))
			if len(asked) != n {
				t.Error("a hook was asked about a self-signed client")
			}
		})
	}
}
