package jwks_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/certbound/certbound/jwks"
)

func (s *site) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

func blocked(err error) bool {
	_, ok := errors.AsType[*jwks.BlockedError](err)
	return ok
}

// The addresses behind a name that a stranger has registered: none of these may be
// dialled, in whatever spelling.
func TestGuardAddresses(t *testing.T) {
	for _, host := range []string{
		"127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1",
		"203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1",
		"[::]", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::808:808]",
		"[64:ff9b:1::1]", "[100::1]", "[2001::1]", "[2001:db8::1]", "[2002:7f00:1::]", "[3fff::1]", "[fc00::1]", "[fd12:3456::1]",
		"[fe80::1]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "localhost", "[::1]:443",
	} {
		t.Run(host, func(t *testing.T) {
			client := jwks.Guard(jwks.GuardConfig{})
			resp, err := client.Get("https://" + host + "/")
			if resp != nil {
				resp.Body.Close()
			}
			if !blocked(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A name that resolves to a loopback address is refused when it is dialled, also by a
// redirect of a host that is allowed; the canary stays silent.
func TestGuardRedirectInside(t *testing.T) {
	canary := newSite(t, text("{}"))
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, canary.URL, http.StatusFound) })
	u, _ := url.Parse(s.URL)
	pool := s.pool()
	pool.AddCert(canary.Certificate())
	client := jwks.Guard(jwks.GuardConfig{AllowHosts: []string{u.Host}, RootCAs: pool})
	if _, err := client.Get(s.URL); !blocked(err) {
		t.Errorf("redirect: %v", err)
	}
	if s.requests.Load() != 1 {
		t.Fatal("the allowed host was not asked")
	}
	client.CheckRedirect = nil // the dial alone has to do
	if _, err := client.Get(s.URL); !blocked(err) {
		t.Errorf("dial: %v", err)
	}
	if n := canary.requests.Load(); n != 0 {
		t.Errorf("the canary saw %d requests", n)
	}
}

func TestGuardAllowHosts(t *testing.T) {
	s := newSite(t, text("{}"))
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		allow []string
		ok    bool
	}{
		{"nothing", nil, false},
		{"host", []string{"127.0.0.1"}, true},
		{"host and port", []string{"127.0.0.1:" + port}, true},
		{"another port", []string{"127.0.0.1:1"}, false},
		{"another host", []string{"localhost"}, false},
		{"empty", []string{""}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := jwks.Guard(jwks.GuardConfig{AllowHosts: tt.allow, RootCAs: s.pool()}).Get(s.URL)
			if resp != nil {
				resp.Body.Close()
			}
			if tt.ok && err != nil || !tt.ok && !blocked(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestGuardTLS(t *testing.T) {
	s := newSite(t, text("{}"))
	plain := httptest.NewServer(text("{}"))
	t.Cleanup(plain.Close)
	old := httptest.NewUnstartedServer(text("{}"))
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	t.Cleanup(old.Close)
	pool := s.pool()
	pool.AddCert(old.Certificate())

	t.Run("http", func(t *testing.T) {
		if _, err := jwks.Guard(jwks.GuardConfig{AllowPrivate: true}).Get(plain.URL); !blocked(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		if _, err := jwks.Guard(jwks.GuardConfig{AllowPrivate: true, RootCAs: pool}).Get(old.URL); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("unknown CA", func(t *testing.T) {
		_, err := jwks.Guard(jwks.GuardConfig{AllowPrivate: true}).Get(s.URL)
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
	t.Run("certificate of another host", func(t *testing.T) {
		u, _ := url.Parse(s.URL)
		// httptest's certificate names 127.0.0.1, ::1 and example.com.
		_, err := jwks.Guard(jwks.GuardConfig{AllowPrivate: true, RootCAs: pool}).Get("https://localhost:" + u.Port())
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
}
