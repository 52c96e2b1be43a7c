package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
)

// The program with the profile fapi2, as a scanner and a client see it.
func TestFAPI2(t *testing.T) {
	dir := folder(t, settings{more: "profile: fapi2\npeople: {enabled: true, login: accounts}\n", clients: clientDN})
	config, err := os.ReadFile(filepath.Join(dir, "certbound.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), "methods: [tls_client_auth, self_signed_tls_client_auth, client_secret_basic, private_key_jwt, none]",
		"methods: [tls_client_auth, self_signed_tls_client_auth, private_key_jwt]", 1)
	write(t, dir, "certbound.yaml", []byte(text))
	if r := command(t, dir, "config", "check", "--profile", "fapi2", "--quiet", "certbound.yaml"); r.code != 0 || r.stdout != "" {
		t.Fatalf("%d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
	w := newWorld(serve(t, dir))

	for host, address := range map[string]string{publicHost: w.public, mtlsHost: w.mtls} {
		t.Run("suites of "+host, func(t *testing.T) {
			t.Attr("requirement", "F2-5.2.2-1 F2-5.2.3-2 F2-5.2.1-2 F2-5.2.1-3")
			dial := func(change func(*tls.Config)) (tls.ConnectionState, error) {
				cfg := &tls.Config{RootCAs: w.ServerCA.Pool(), ServerName: host}
				change(cfg)
				c, err := tls.Dial("tcp", address, cfg)
				if err != nil {
					return tls.ConnectionState{}, err
				}
				defer c.Close()
				return c.ConnectionState(), nil
			}
			var got []string
			for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
				state, err := dial(func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{s.ID} })
				if err == nil {
					got = append(got, tls.CipherSuiteName(state.CipherSuite))
				}
			}
			slices.Sort(got)
			// Those for a certificate with an ECDSA key.
			if want := []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}; !slices.Equal(got, want) {
				t.Errorf("accepted suites: %v", got)
			}
			if state, err := dial(func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }); err != nil || state.Version != tls.VersionTLS13 {
				t.Errorf("all versions: %s, %v", tls.VersionName(state.Version), err)
			}
			if _, err := dial(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }); err == nil {
				t.Error("TLS 1.1 is accepted")
			}
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		t.Attr("requirement", "F2-5.2.1-1")
		for _, address := range []string{w.public, w.mtls} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/.well-known/oauth-authorization-server", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				continue // as good
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				t.Errorf("status %d", resp.StatusCode)
			}
		}
	})
	t.Run("HSTS, and no CORS", func(t *testing.T) {
		t.Attr("requirement", "F2-5.2.3-1 F2-5.2.3-3")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fixture.Issuer+"/authorize?client_id=c-dn", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://app.test")
		r := fixture.Do(t, w.as(t, nil), req)
		if !strings.Contains(r.Header.Get("Strict-Transport-Security"), "max-age=") {
			t.Errorf("%v", r.Header)
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s", name, r.Header.Get(name))
			}
		}
	})
	t.Run("metadata and a bound token", func(t *testing.T) {
		t.Attr("requirement", "F2-5.3.2.1-1 F2-5.3.2.1-4 F2-5.3.2.1-5 F2-5.3.2.1-6 F2-5.2.2.1-2")
		doc := fixture.Get(t, w.as(t, nil), fixture.Issuer+"/.well-known/openid-configuration")
		if doc.JSON["require_pushed_authorization_requests"] != true || doc.JSON["tls_client_certificate_bound_access_tokens"] != true || doc.JSON["mtls_endpoint_aliases"] == nil {
			t.Error(doc.Text)
		}
		r := w.token(t, w.as(t, w.L1), "c-dn")
		if r.Status != 200 || r.Cnf() == "" {
			t.Errorf("%d %s", r.Status, r.Text)
		}
		if r := w.token(t, w.as(t, nil), "c-dn"); r.Error() != "invalid_client" {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	t.Run("a setting that breaks it stops the start", func(t *testing.T) {
		t.Attr("requirement", "F2-5.4.1-1")
		write(t, dir, "broken.yaml", []byte(text+"\nsigning_keys: {algorithm: RS256}\n"))
		if r := command(t, dir, "serve", "--config", "broken.yaml"); r.code != 1 || !strings.Contains(r.stderr, "signing_keys.algorithm: fapi2 has PS256, ES256, EdDSA only") {
			t.Errorf("%d %s", r.code, r.stderr)
		}
	})
}
