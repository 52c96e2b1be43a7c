package listen

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"testing"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

const tokenForm = "grant_type=client_credentials&client_id="

// server is an authorization server on the two listeners of this package.
type server struct {
	*fixture.AS
	public, mtls string // addresses
}

func start(t *testing.T) *server {
	t.Helper()
	s := &server{AS: fixture.Start(t)}
	pair := pairFor(t, pkitest.P256)
	_, s.public = serve(t, Config{Name: "public", Handler: s.Server.Handler(), Pair: pair})
	_, s.mtls = serve(t, Config{Name: "mtls", Handler: s.Server.MTLSHandler(), Pair: pair, AskForCertificate: true})
	return s
}

func versions(t *testing.T, f func(t *testing.T, version uint16)) {
	t.Helper()
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { f(t, v) })
	}
}

func clientFor(leaf *pkitest.Leaf, version uint16, cache tls.ClientSessionCache) *tls.Config {
	cfg := client(leaf, mtlsName)
	cfg.MinVersion, cfg.MaxVersion, cfg.ClientSessionCache = version, version, cache
	return cfg
}

// resumes records whether the handshakes of cfg resumed a session.
func resumes(cfg *tls.Config) *bool {
	resumed := new(bool)
	cfg.VerifyConnection = func(s tls.ConnectionState) error { *resumed = s.DidResume; return nil }
	return resumed
}

// CVE-2025-68121 (Go, crypto/tls). A client made a session while its CA was trusted;
// the CA is removed, and the client comes back with the ticket. The session resumes,
// with the old certificate, but the request is judged by the anchors of now, as is the
// next request of a connection that was never closed.
func TestAttack5ResumptionAfterTrustChange(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		t.Attr("attack", "5")
		t.Attr("requirement", "T-8446-4 T-8446-5")
		s := start(t)
		cfg := clientFor(s.L1, version, tls.NewLRUClientSessionCache(4))
		resumed := resumes(cfg)
		first := request(t, s.mtls, cfg, http.MethodPost, "/token", tokenForm+"c-dn")
		if first.Status != http.StatusOK || first.Cnf() == "" || *resumed {
			t.Fatalf("first connection: status %d, resumed %t: %s", first.Status, *resumed, first.Text)
		}
		again := request(t, s.mtls, cfg, http.MethodPost, "/token", tokenForm+"c-dn")
		if again.Status != http.StatusOK || again.Cnf() != first.Cnf() || !*resumed {
			t.Fatalf("resumed, nothing changed: status %d, resumed %t, cnf %q, want 200, true, %q", again.Status, *resumed, again.Cnf(), first.Cnf())
		}
		if err := s.Paths.Replace(pki.Set{Name: "ca1", Anchors: []*x509.Certificate{s.CA2.Cert}}); err != nil {
			t.Fatal(err)
		}
		after := request(t, s.mtls, cfg, http.MethodPost, "/token", tokenForm+"c-dn")
		if !*resumed {
			t.Error("the session did not resume, so that this shows nothing about resumption")
		}
		fresh := request(t, s.mtls, clientFor(s.L1, version, nil), http.MethodPost, "/token", tokenForm+"c-dn")
		if after.Error() != "invalid_client" || after.Status != fresh.Status || after.Text != fresh.Text {
			t.Errorf("resumed: %d %s; a new connection: %d %s; want the same refusal", after.Status, after.Text, fresh.Status, fresh.Text)
		}
	})
}

// CVE-2014-7189 (Go). With tickets disabled, the check of a client's certificate was
// skipped. The same steps, with a server that issues no tickets.
func TestAttack6TicketsDisabled(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		t.Attr("attack", "6")
		s := start(t)
		conf := TLSConfig(pairFor(t, pkitest.P256), true)
		conf.SessionTicketsDisabled = true
		address := serveTLS(t, conf, s.Server.MTLSHandler())
		cfg := clientFor(s.L1, version, tls.NewLRUClientSessionCache(4))
		resumed := resumes(cfg)
		for range 2 {
			if a := request(t, address, cfg, http.MethodPost, "/token", tokenForm+"c-dn"); a.Status != http.StatusOK || *resumed {
				t.Fatalf("status %d, resumed %t: %s", a.Status, *resumed, a.Text)
			}
		}
		if err := s.Paths.Replace(pki.Set{Name: "ca1", Anchors: []*x509.Certificate{s.CA2.Cert}}); err != nil {
			t.Fatal(err)
		}
		for name, leaf := range map[string]*pkitest.Leaf{"the CA was removed": s.L1, "an unknown CA": s.L1CAX, "no certificate": nil} {
			a := request(t, address, clientFor(leaf, version, tls.NewLRUClientSessionCache(4)), http.MethodPost, "/token", tokenForm+"c-dn")
			if a.Error() != "invalid_client" {
				t.Errorf("%s: status %d: %s, want invalid_client", name, a.Status, a.Text)
			}
		}
	})
}

// serveTLS serves with a tls.Config as it is.
func serveTLS(t *testing.T, conf *tls.Config, h http.Handler) string {
	t.Helper()
	l, err := Open("127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: certsource.RequireAuthority(h), ConnContext: certsource.ConnContext, ErrorLog: log.New(io.Discard, "", 0),
	}
	go srv.Serve(tls.NewListener(l, conf))
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// CVE-2025-23419 (nginx), CVE-2025-23048 (Apache), GHSA-gv8r-9rw9-9697 (Traefik). A
// session was made at the host that asks for no certificate, and its ticket is offered
// to the one that does; then the reverse. Name and server certificate are the same at
// both, so that a client does offer it. The handshake is a full one each time.
func TestAttack7TicketsDoNotCrossListeners(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		t.Attr("attack", "7")
		t.Attr("requirement", "T-8446-6")
		s := start(t)
		pair := pairFor(t, pkitest.P256)
		_, secondMTLS := serve(t, Config{Name: "mtls of other CAs", Handler: s.Server.MTLSHandler(), Pair: pair, AskForCertificate: true})
		addresses := map[string]string{"public": s.public, "mtls": s.mtls, "second mtls": secondMTLS}
		for from, there := range addresses {
			for to, here := range addresses {
				ticket := &oneTicket{}
				cfg := clientFor(s.L1, version, ticket)
				resumed := resumes(cfg)
				request(t, there, cfg, http.MethodGet, "/", "")
				if ticket.state == nil {
					t.Fatalf("no ticket from %s", from)
				}
				ticket.closed = true
				request(t, here, cfg, http.MethodGet, "/", "")
				if want := from == to; *resumed != want {
					t.Errorf("a ticket of %s resumes at %s: %t, want %t", from, to, *resumed, want)
				}
			}
		}

		// And what comes of it: the ticket without a certificate is worth nothing
		// where one is needed, although the client has one.
		ticket := &oneTicket{}
		cfg := clientFor(nil, version, ticket)
		request(t, s.public, cfg, http.MethodGet, "/", "")
		if a := request(t, s.mtls, cfg, http.MethodPost, "/token", tokenForm+"c-dn"); a.Error() != "invalid_client" {
			t.Errorf("status %d: %s, want invalid_client", a.Status, a.Text)
		}
		// A ticket with a certificate brings none to the listener that takes none.
		cfg = clientFor(s.L1, version, &oneTicket{})
		if a := request(t, s.mtls, cfg, http.MethodPost, "/token", tokenForm+"c-dn"); a.Status != http.StatusOK {
			t.Fatalf("status %d: %s", a.Status, a.Text)
		}
		if a := request(t, s.public, cfg, http.MethodPost, "/token", tokenForm+"c-dn"); a.Error() != "invalid_client" {
			t.Errorf("status %d: %s, want invalid_client", a.Status, a.Text)
		}
	})
}

// randombit/botan#5818, CVE-2026-34873 (Mbed TLS). A ticket was made while the server
// asked for no certificate; then the operator switches that on. At our listener the
// ticket is gone with its key. Even where the keys are kept, the session resumes without
// a certificate, and so the request has none and is refused.
func TestAttack8TicketFromBeforeCertificatesWereAskedFor(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		t.Attr("attack", "8")
		s := start(t)
		pair := pairFor(t, pkitest.P256)

		_, before := serve(t, Config{Name: "mtls", Handler: s.Server.MTLSHandler(), Pair: pair})
		_, after := serve(t, Config{Name: "mtls", Handler: s.Server.MTLSHandler(), Pair: pair, AskForCertificate: true})
		ticket := &oneTicket{}
		cfg := clientFor(s.L1, version, ticket)
		resumed := resumes(cfg)
		if a := request(t, before, cfg, http.MethodPost, "/token", tokenForm+"c-dn"); a.Error() != "invalid_client" {
			t.Fatalf("while no certificate was asked for: %d: %s", a.Status, a.Text)
		}
		if a := request(t, after, cfg, http.MethodPost, "/token", tokenForm+"c-dn"); *resumed || a.Status != http.StatusOK || a.Cnf() == "" {
			t.Errorf("afterwards: resumed %t, %d: %s, want a full handshake with the certificate, and a bound token", *resumed, a.Status, a.Text)
		}

		keys := [][32]byte{{1}}
		off, on := TLSConfig(pair, false), TLSConfig(pair, true)
		off.SetSessionTicketKeys(keys)
		on.SetSessionTicketKeys(keys)
		ticket = &oneTicket{}
		cfg = clientFor(s.L1, version, ticket)
		resumed = resumes(cfg)
		request(t, serveTLS(t, off, s.Server.MTLSHandler()), cfg, http.MethodGet, "/", "")
		a := request(t, serveTLS(t, on, s.Server.MTLSHandler()), cfg, http.MethodPost, "/token", tokenForm+"c-dn")
		if *resumed && a.Error() != "invalid_client" {
			t.Errorf("resumed without a certificate: %d: %s, want invalid_client", a.Status, a.Text)
		}
		if !*resumed && a.Status != http.StatusOK {
			t.Errorf("a full handshake with the certificate: %d: %s, want a token", a.Status, a.Text)
		}
	})
}

// A certificate on the first connection says nothing about the second one.
func TestNothingCarriesOverBetweenConnections(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		t.Attr("requirement", "M-2-2")
		s := start(t)
		if a := request(t, s.mtls, clientFor(s.L1, version, nil), http.MethodPost, "/token", tokenForm+"c-dn"); a.Status != http.StatusOK {
			t.Fatalf("with the certificate: %d: %s", a.Status, a.Text)
		}
		if a := request(t, s.mtls, clientFor(nil, version, nil), http.MethodPost, "/token", tokenForm+"c-dn"); a.Error() != "invalid_client" {
			t.Errorf("without: %d: %s, want invalid_client", a.Status, a.Text)
		}
	})
}
