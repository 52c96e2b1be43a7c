package authserver_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/feed"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// introspects asks about a token as c-rs.
func introspects(t *testing.T, as *fixture.AS, token string) bool {
	t.Helper()
	r := fixture.Post(t, as.As(t, as.L2), fixture.MTLSBase+"/introspect", "client_id", "c-rs", "token", token)
	active, ok := r.JSON["active"].(bool)
	if r.Status != 200 || !ok {
		t.Fatalf("introspection: %d %s", r.Status, r.Text)
	}
	return active
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func revoked(leaf *pkitest.Leaf) authserver.RevokedCertificate {
	return authserver.RevokedCertificate{Thumbprint: certbound.Thumbprint(leaf.Cert), Note: "test", At: time.Now()}
}

func bySerial(leaf *pkitest.Leaf) authserver.RevokedCertificate {
	issuer, serial := authserver.RecordIDs(certsource.NewPresented("test", leaf.Cert, nil))
	return authserver.RevokedCertificate{IssuerKeyID: issuer, Serial: serial, Note: "test", At: time.Now()}
}

// A certificate is stolen together with its key and a token. The operator revokes it by
// name. Introspection calls the token inactive at once, the certificate gets no new one,
// and undoing it brings both back.
func TestRevokeByName(t *testing.T) {
	for name, named := range map[string]func(*pkitest.Leaf) authserver.RevokedCertificate{"by thumbprint": revoked, "by issuer and serial number": bySerial} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "F2-5.3.4-3 W-2.2-3")
			as := fixture.Start(t)
			l1 := as.As(t, as.L1)
			tokens := map[string]string{}
			for _, id := range []string{"c-dn", "c-dn-opaque"} {
				r := fixture.Token(t, l1, id)
				wantOK(t, r)
				tokens[id] = r.AccessToken()
			}
			other := fixture.Token(t, as.As(t, as.L1r), "c-dn").AccessToken()
			if err := as.Store.RevokeCertificate(t.Context(), named(as.L1)); err != nil {
				t.Fatal(err)
			}
			for id, token := range tokens {
				if introspects(t, as, token) {
					t.Errorf("the token of %s is still active", id)
				}
			}
			if !introspects(t, as, other) {
				t.Error("the token of the renewed certificate is not active")
			}
			eventually(t, "the token endpoint refuses the certificate on its open connection", func() bool {
				return fixture.Token(t, l1, "c-dn").Status != 200
			})
			wantIC(t, fixture.Token(t, l1, "c-dn"))
			wantReason(t, as, decision.Revoked)
			wantOK(t, fixture.Token(t, as.As(t, as.L1r), "c-dn"))
			// A client that authenticates with a secret is not refused for its certificate,
			// but gets no token that is bound to it.
			wantIR(t, fixture.Token(t, l1, "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret)))
			wantReason(t, as, decision.Revoked)
			wantOK(t, fixture.Token(t, l1, "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret)))

			if err := as.Store.RestoreCertificate(t.Context(), named(as.L1)); err != nil {
				t.Fatal(err)
			}
			if !introspects(t, as, tokens["c-dn"]) {
				t.Error("the token stays inactive after the certificate was restored")
			}
			eventually(t, "the token endpoint takes the certificate again", func() bool {
				return fixture.Token(t, l1, "c-dn").Status == 200
			})
		})
	}
}

// Another process revokes, with nobody following the store: each request reads it.
func TestRevokeWithoutRun(t *testing.T) {
	store := memstore.New()
	as := fixture.Start(t, func(c *authserver.Config) { c.Store = store })
	cfg := as.Config
	second, err := authserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	as.Listen(t, "mtls.as.test", second.MTLSHandler(), 1)
	l1 := as.As(t, as.L1)
	wantOK(t, fixture.Token(t, l1, "c-dn"))
	if err := store.RevokeCertificate(t.Context(), bySerial(as.L1)); err != nil {
		t.Fatal(err)
	}
	wantIC(t, fixture.Token(t, l1, "c-dn"))
	wantReason(t, as, decision.Revoked)
}

// The CA revokes the certificate of a client that has tokens. What the revocation checker
// says when the client comes back ends the tokens that it has, too.
func TestRevokedByIssuerEndsTokens(t *testing.T) {
	t.Attr("requirement", "M-2.1-6 F2-5.3.4-3")
	as := fixture.Start(t)
	l1 := as.As(t, as.L1)
	token := fixture.Token(t, l1, "c-dn").AccessToken()
	checker := &revoker{}
	replaceCA1(t, as, checker)
	checker.revoked = append(checker.revoked, as.L1.Cert, as.L2.Cert)
	checker.generation.Add(1)
	if !introspects2(t, as, token) {
		t.Fatal("nobody has said that the certificate is revoked")
	}
	wantIC(t, fixture.Token(t, l1, "c-dn"))
	wantReason(t, as, decision.Revoked)
	if introspects2(t, as, token) {
		t.Error("the token is still active")
	}
	// Nothing is recorded of a certificate that no token is bound to.
	wantIC(t, fixture.Token(t, as.As(t, as.L2), "c-dns"))
	if _, err := as.Store.CertificateRevoked(t.Context(), certbound.Thumbprint(as.L2.Cert), "", ""); err == nil {
		t.Error("a certificate without tokens was recorded")
	}
	// It stays revoked when the checker forgets it.
	checker.revoked = nil
	checker.generation.Add(1)
	eventually(t, "the recorded revocation refuses", func() bool { return fixture.Token(t, l1, "c-dn").Status != 200 })
}

// replaceCA1 lets a checker judge the clients of CA1.
func replaceCA1(t *testing.T, as *fixture.AS, checker pki.RevocationChecker) {
	t.Helper()
	if err := as.Paths.Replace(pki.Set{Name: "ca1", Anchors: []*x509.Certificate{as.CA1.Cert}, Revocation: checker}); err != nil {
		t.Fatal(err)
	}
}

// introspects2 asks as a client whose certificate no test revokes.
func introspects2(t *testing.T, as *fixture.AS, token string) bool {
	t.Helper()
	if _, err := as.Store.Client(t.Context(), "c-rs2"); err != nil {
		as.Register(t, &authserver.Client{ID: "c-rs2", AuthMethod: "self_signed_tls_client_auth", JWKS: fixture.JWKSOf(t, as.S2),
			MayIntrospect: true, Introspects: []string{fixture.Resource}})
	}
	r := fixture.Post(t, as.As(t, as.S2), fixture.MTLSBase+"/introspect", "client_id", "c-rs2", "token", token)
	active, ok := r.JSON["active"].(bool)
	if r.Status != 200 || !ok {
		t.Fatalf("introspection: %d %s", r.Status, r.Text)
	}
	return active
}

// A list is a revocation list that is at hand.
type list struct {
	generation atomic.Uint64
	serial     atomic.Pointer[string]
}

func (l *list) Generation() uint64 { return l.generation.Load() }
func (l *list) KnownRevoked(_, serial string) bool {
	s := l.serial.Load()
	return s != nil && *s == serial
}

// The CA revokes a certificate whose thief never comes to the token endpoint again. When
// the list is at hand, its tokens end.
func TestRevocationListEndsTokens(t *testing.T) {
	t.Attr("requirement", "F2-5.3.4-3")
	l := &list{}
	as := fixture.Start(t, func(c *authserver.Config) { c.RevocationList = l })
	token := fixture.Token(t, as.As(t, as.L1), "c-dn").AccessToken()
	other := fixture.Token(t, as.As(t, as.L1r), "c-dn").AccessToken()
	l.serial.Store(new(bySerial(as.L1).Serial))
	l.generation.Add(1)
	eventually(t, "the token is inactive", func() bool { return !introspects(t, as, token) })
	if !introspects(t, as, other) {
		t.Error("the token of another certificate is inactive")
	}
	if !strings.Contains(as.Log(), "certificate revoked, and the tokens that are bound to it") {
		t.Error("the log says nothing of it")
	}
}

// readFeed reads a page as c-rs and checks what holds for every page.
func readFeed(t *testing.T, as *fixture.AS, name string, since int64) *feed.Page {
	t.Helper()
	r := fixture.Post(t, as.As(t, as.L2), fixture.MTLSBase+"/revocations", "client_id", "c-rs", "feed", name, "since", strconv.FormatInt(since, 10))
	if r.Status != 200 || r.Header.Get("Content-Type") != feed.MediaType {
		t.Fatalf("feed: %d %s %s", r.Status, r.Header.Get("Content-Type"), r.Text)
	}
	wantNoStore(t, r)
	var set jose.JSONWebKeySet
	keys := fixture.Get(t, as.As(t, nil), fixture.Issuer+"/jwks")
	if err := json.Unmarshal([]byte(keys.Text), &set); err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(r.Text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if typ := signed.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; typ != feed.Type {
		t.Errorf("typ %v", typ)
	}
	payload, err := signed.Verify(set)
	if err != nil {
		t.Fatal(err)
	}
	page, err := feed.Parse(payload)
	if err != nil {
		t.Fatal(err)
	}
	if page.Issuer != fixture.Issuer || page.Audience != "c-rs" || page.Expires <= page.Issued {
		t.Errorf("page %+v", page)
	}
	return page
}

func TestFeed(t *testing.T) {
	as := fixture.Start(t)
	l1 := as.As(t, as.L1)
	token := fixture.Token(t, l1, "c-dn").AccessToken()
	first := readFeed(t, as, "", 0)
	if len(first.Entries) != 0 || first.More {
		t.Fatalf("at the beginning: %+v", first)
	}
	jti, _ := fixture.Claims(token)["jti"].(string)
	exp, _ := fixture.Claims(token)["exp"].(float64)
	fixture.Post(t, l1, fixture.MTLSBase+"/revoke", "client_id", "c-dn", "token", token)
	if err := as.Store.RevokeCertificate(t.Context(), bySerial(as.L1)); err != nil {
		t.Fatal(err)
	}
	page := readFeed(t, as, first.Feed, first.Next)
	if len(page.Entries) != 2 || page.Entries[0].JTI != jti || page.Entries[0].Expires < int64(exp) ||
		page.Entries[1].X5TS256 != certbound.Thumbprint(as.L1.Cert) || page.Entries[1].Restored {
		t.Fatalf("after a token and a certificate: %+v", page)
	}
	if again := readFeed(t, as, page.Feed, page.Next); len(again.Entries) != 0 || again.Since != page.Next {
		t.Errorf("nothing happened since: %+v", again)
	}
	if err := as.Store.RestoreCertificate(t.Context(), bySerial(as.L1)); err != nil {
		t.Fatal(err)
	}
	if page = readFeed(t, as, page.Feed, page.Next); len(page.Entries) != 1 || !page.Entries[0].Restored {
		t.Errorf("after restoring: %+v", page)
	}
	// The numbers of another store, or of a state that a backup has undone, begin anew.
	for _, stale := range []struct {
		feed  string
		since int64
	}{{"another", page.Next}, {page.Feed, page.Next + 1000}} {
		if p := readFeed(t, as, stale.feed, stale.since); p.Since != 0 || len(p.Entries) != 2 {
			t.Errorf("feed %q since %d: %+v", stale.feed, stale.since, p)
		}
	}
	for range 2*feed.MaxEntries + 1 {
		if err := as.Store.Revoke(t.Context(), fmt.Sprint(time.Now().UnixNano()), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	total, pages := 0, 0
	for more := true; more; pages++ {
		page = readFeed(t, as, page.Feed, page.Next)
		total, more = total+len(page.Entries), page.More
	}
	if pages != 3 || total != 2*feed.MaxEntries+1 {
		t.Errorf("%d entries on %d pages", total, pages)
	}

	t.Run("refusals", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			client *http.Client
			form   []string
			status int
			code   string
		}{
			{"without a certificate", as.As(t, nil), []string{"client_id", "c-rs"}, 401, "invalid_client"},
			{"somebody else's certificate", l1, []string{"client_id", "c-rs"}, 401, "invalid_client"},
			{"not allowed", l1, []string{"client_id", "c-dn"}, 403, "access_denied"},
			{"since is no number", as.As(t, as.L2), []string{"client_id", "c-rs", "since", "x"}, 400, "invalid_request"},
			{"since is negative", as.As(t, as.L2), []string{"client_id", "c-rs", "since", "-1"}, 400, "invalid_request"},
		} {
			t.Run(c.name, func(t *testing.T) {
				wantError(t, fixture.Post(t, c.client, fixture.MTLSBase+"/revocations", c.form...), c.status, c.code)
			})
		}
	})
}
