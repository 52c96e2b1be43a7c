package oauthclient_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound/oauthclient"
)

// What a client offers in its ClientHello (FAPI 2.0 Security Profile, Section 5.2.2 (2)).
func TestOfferedSuites(t *testing.T) {
	for name, fapi := range map[string]bool{"with the profile": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			if fapi {
				t.Attr("requirement", "F2-5.2.2-2")
			}
			var mu sync.Mutex
			var offered []uint16
			conf := serverTLS(tls.NoClientCert)
			conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				mu.Lock()
				defer mu.Unlock()
				offered = slices.Clone(hello.CipherSuites)
				return nil, nil
			}
			s := newRecorder(t, conf, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, "{}")
			})
			c := newWorld(t).client(func(cfg *oauthclient.Config) { cfg.Issuer, cfg.FAPI2 = s.URL, fapi })
			if _, err := c.TokenSource(t.Context()).Token(); err == nil {
				t.Fatal("a token without metadata")
			}
			mu.Lock()
			defer mu.Unlock()
			chacha, gcm := 0, 0
			for _, id := range offered {
				switch suite := tls.CipherSuiteName(id); {
				case id>>8 == 0x13: // of TLS 1.3
				case strings.HasPrefix(suite, "TLS_ECDHE_") && strings.Contains(suite, "_AES_") && strings.Contains(suite, "_GCM_"):
					gcm++
				case fapi:
					t.Errorf("%s is offered", suite)
				case strings.Contains(suite, "CHACHA20"):
					chacha++
				}
			}
			if gcm != 4 || !fapi && chacha != 2 {
				t.Errorf("%d suites with AES-GCM, %d with ChaCha20", gcm, chacha)
			}
		})
	}
}
