package config

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

type peer struct{ net.Conn }

func (peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 1} }

// The proxy is known by its subject or by its SPIFFE ID, in a certificate from the set of
// the proxies; with the same names from the CA of the clients it is nobody.
func TestProxyKnownByName(t *testing.T) {
	dir := pkiFiles(t)
	proxies, clients := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Proxies"}), pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Clients"})
	for name, ca := range map[string]*pkitest.CA{"proxy-ca.pem": proxies, "client-ca.pem": clients} {
		if err := os.WriteFile(filepath.Join(dir, name), ca.CertPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Replace(base, "listen: {", "listen: {mtls: {source: caddy, proxy: {subjects: ['CN=edge,O=Agora'], spiffe_ids: [spiffe://agora.example/edge], anchor_set: proxies}}, ", 1)
	text = strings.Replace(text, "sets: [", "sets: [{name: proxies, anchors: [proxy-ca.pem]}, ", 1)
	file, err := Parse(filepath.Join(dir, "certbound.yaml"), []byte(text), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	paths, err := pki.NewValidator(pki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.NewFileWatcher(paths, pki.WatchConfig{Sets: file.FileSets()}); err != nil {
		t.Fatal(err)
	}
	cfg, err := file.AuthServer(paths)
	if err != nil {
		t.Fatal(err)
	}
	client := clients.MustLeaf(pkitest.LeafOptions{Subject: "CN=client"})
	for name, tt := range map[string]struct {
		leaf *pkitest.Leaf
		ok   bool
	}{
		"subject":                                {proxies.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge,O=Agora"}), true},
		"subject in another case":                {proxies.MustLeaf(pkitest.LeafOptions{Subject: "CN=EDGE,O=agora"}), true},
		"SPIFFE ID":                              {proxies.MustLeaf(pkitest.LeafOptions{URI: []string{"spiffe://agora.example/edge"}}), true},
		"another name":                           {proxies.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge2,O=Agora"}), false},
		"subject from the clients' CA":           {clients.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge,O=Agora"}), false},
		"SPIFFE ID from the clients' CA":         {clients.MustLeaf(pkitest.LeafOptions{URI: []string{"spiffe://agora.example/edge"}}), false},
		"SPIFFE ID in a self-signed certificate": {pkitest.MustSelfSigned(pkitest.LeafOptions{URI: []string{"spiffe://agora.example/edge"}}), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "G-4.13-2 H-4-3")
			r := httptest.NewRequest(http.MethodPost, "/token", nil)
			r.Header.Set("X-SSL-Client-Cert", base64.StdEncoding.EncodeToString(client.Cert.Raw))
			r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: tt.leaf.Chain()}
			got, err := cfg.Source.Certificate(r.WithContext(certsource.ConnContext(r.Context(), peer{})))
			_, refused := errors.AsType[*certsource.UntrustedPeerError](err)
			if tt.ok && (err != nil || !client.Cert.Equal(got.Leaf())) || !tt.ok && (got != nil || !refused) {
				t.Errorf("%v (%v), want it believed: %v", got.Thumbprint(), err, tt.ok)
			}
		})
	}
}
