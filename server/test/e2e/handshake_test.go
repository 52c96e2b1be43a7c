package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

const (
	clientDN = "  - {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: '" + fixture.SubjectDN +
		"', scope: read, resources: [https://rs.test, https://rs2.test]}\n"
	clientSelf = "  - {client_id: c-self, token_endpoint_auth_method: self_signed_tls_client_auth, certificates: [s1.pem]}\n"
)

// small starts a server with c-dn and c-self.
func small(t *testing.T, change ...func(*settings)) *world {
	t.Helper()
	s := settings{clients: clientDN + clientSelf}
	for _, c := range change {
		c(&s)
	}
	return newWorld(serve(t, folder(t, s)))
}

// each runs f for TLS 1.2 and 1.3, by HTTP/1.1 and HTTP/2.
func (w *world) each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, http1 := range []bool{true, false} {
			v := w.with(version, http1)
			t.Run(v.name, func(t *testing.T) { f(t, v) })
		}
	}
}

func TestKeyTypes(t *testing.T) {
	rsa := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA of RSA keys", KeyType: pkitest.RSA2048})
	w := small(t, func(s *settings) {
		s.trust = "{sets: [{name: ca1, anchors: [ca1.pem, rsa.pem]}]}"
		s.files = map[string][]byte{"rsa.pem": rsa.CertPEM()}
	})
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	leaves := map[string]*pkitest.Leaf{}
	for _, kind := range []pkitest.KeyType{pkitest.P256, pkitest.P384, pkitest.P521, pkitest.RSA2048, pkitest.Ed25519} {
		o := fixture.L1Options()
		o.KeyType = kind
		leaves[kind.String()] = w.CA1i.MustLeaf(o)
	}
	leaves["under RSA with SHA-256"] = rsa.MustIntermediate(pkitest.CAOptions{SignatureAlgorithm: x509.SHA256WithRSA}).MustLeaf(fixture.L1Options())
	leaves["under RSA with SHA-1"] = rsa.MustIntermediate(pkitest.CAOptions{SignatureAlgorithm: x509.SHA1WithRSA}).MustLeaf(fixture.L1Options())
	leaves["under ECDSA with SHA-1"] = w.CA1.MustIntermediate(pkitest.CAOptions{SignatureAlgorithm: x509.ECDSAWithSHA1}).MustLeaf(fixture.L1Options())
	w.each(t, func(t *testing.T, w *world) {
		for name, leaf := range leaves {
			t.Run(name, func(t *testing.T) {
				t.Attr("requirement", "T-8446-9")
				c := w.as(t, leaf)
				a := w.token(t, c, "c-dn")
				if strings.HasSuffix(name, "SHA-1") {
					refused(t, a, "invalid_client")
					return
				}
				served(t, w.api(t, c, rsHost, issued(t, a, leaf)))
			})
		}
	})
}

// What the servers ask for in a handshake: a certificate of any issuer, or none.
func TestCertificateRequest(t *testing.T) {
	w := small(t)
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	w.each(t, func(t *testing.T, w *world) {
		for host, asks := range map[string]bool{publicHost: false, mtlsHost: true, rsHost: true} {
			t.Run(host, func(t *testing.T) {
				t.Attr("requirement", "M-6.1-7 M-5-1 M-6.1-6 M-3-5 T-8446-1 F2-5.2.3-4")
				asked := 0
				cfg := w.clientTLS(nil)
				cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked++
					if len(r.AcceptableCAs) != 0 {
						t.Errorf("%d acceptable CAs are listed", len(r.AcceptableCAs))
					}
					return &tls.Certificate{}, nil
				}
				fixture.Get(t, w.http(t, cfg), "https://"+host+"/")
				if got := asked == 1; got != asks || asked > 1 {
					t.Errorf("asked %d times for a certificate, want it to ask: %t", asked, asks)
				}
			})
		}
		// A client that leaves the choice to crypto/tls, which looks at the list.
		cfg := w.clientTLS(nil)
		cfg.Certificates = []tls.Certificate{w.S1.TLS()}
		c := w.http(t, cfg)
		served(t, w.api(t, c, rsHost, issued(t, w.token(t, c, "c-self"), w.S1)))
	})
}

// A tap keeps what came from the server.
type tap struct {
	net.Conn
	mu       sync.Mutex
	received []byte
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, p[:n]...)
	return n, err
}

// records returns the types of the TLS records.
func (c *tap) records() (types []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := c.received; len(b) >= 5; {
		types = append(types, b[0])
		b = b[min(len(b), 5+int(binary.BigEndian.Uint16(b[3:]))):]
	}
	return types
}

// On one connection requests come that need a certificate and some that do not. The
// server asks once, in the handshake, and never again: the client, which would allow
// renegotiation, is asked once; under TLS 1.2 no handshake record comes after the first
// data; and under TLS 1.3 crypto/tls would break off at a CertificateRequest.
func TestNoSecondCertificateRequest(t *testing.T) {
	w := small(t)
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	w.each(t, func(t *testing.T, w *world) {
		for _, leaf := range []*pkitest.Leaf{w.L1, nil} {
			name := "with a certificate"
			if leaf == nil {
				name = "without"
			}
			t.Run(name, func(t *testing.T) {
				t.Attr("requirement", "M-3-6 T-8446-7 T-9113-1 T-9113-2")
				token := issued(t, w.token(t, w.as(t, w.L1), "c-dn"), w.L1)
				var asked atomic.Int32
				var mu sync.Mutex
				var taps []*tap
				cfg := w.clientTLS(nil)
				cfg.Renegotiation = tls.RenegotiateFreelyAsClient
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked.Add(1)
					if leaf == nil {
						return &tls.Certificate{}, nil
					}
					cert := leaf.TLS()
					return &cert, nil
				}
				c := w.http(t, cfg)
				c.Transport.(recorder).next.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := w.dial(ctx, network, address)
					if err != nil {
						return nil, err
					}
					mu.Lock()
					defer mu.Unlock()
					taps = append(taps, &tap{Conn: conn})
					return taps[len(taps)-1], nil
				}
				for range 3 {
					fixture.Get(t, c, fixture.MTLSBase+"/.well-known/oauth-authorization-server")
					if a := w.token(t, c, "c-dn"); (a.AccessToken() != "") != (leaf != nil) {
						t.Errorf("token: %d %s", a.Status, a.Text)
					}
					refused(t, w.token(t, c, "c-self"), "invalid_client")
					w.api(t, c, rsHost, "")
					if a := w.api(t, c, rsHost, token); (a.Status == http.StatusOK) != (leaf != nil) {
						t.Errorf("API: %d", a.Status)
					}
				}
				if n := asked.Load(); len(taps) != 2 || n != 2 {
					t.Errorf("%d connections, asked %d times, want 2 and 2", len(taps), n)
				}
				for _, tap := range taps {
					types := tap.records()
					data := slices.Index(types, 23)
					if data < 0 || slices.Contains(types[data:], 22) {
						t.Errorf("records of the server: %v", types)
					}
				}
			})
		}
	})
}

// What 'certbound token' says first: it does not offer to authenticate later
// (post_handshake_auth is extension 49).
func TestClientOffersNoPostHandshakeAuthentication(t *testing.T) {
	t.Attr("requirement", "M-3-6 T-8446-7 T-9325-1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		head := make([]byte, 5)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		hello := make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(c, hello); err == nil {
			got <- hello
		}
	}()
	dir := folder(t, settings{})
	leaf := fixture.Certs().L1
	write(t, dir, "l1.pem", leaf.ChainPEM())
	write(t, dir, "l1.key", leaf.KeyPEM())
	r := command(t, dir, "token", "--issuer", "https://"+l.Addr().String(), "--client-id", "c-dn", "--cert", "l1.pem", "--key", "l1.key", "--ca", "servers.pem")
	if r.code != 1 {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	extensions := extensionsOf(t, <-got)
	if _, offered := extensions[49]; offered {
		t.Error("post_handshake_auth is offered")
	}
	versions := extensions[43]
	for v := range slices.Chunk(versions[1:], 2) {
		if n := binary.BigEndian.Uint16(v); n < tls.VersionTLS12 {
			t.Errorf("%s is offered", tls.VersionName(n))
		}
	}
}

// extensionsOf returns the extensions of a ClientHello.
func extensionsOf(t *testing.T, hello []byte) map[uint16][]byte {
	t.Helper()
	if len(hello) < 39 || hello[0] != 1 {
		t.Fatalf("no ClientHello: %x", hello)
	}
	b := hello[38:]
	b = b[1+int(b[0]):]                          // session id
	b = b[2+int(binary.BigEndian.Uint16(b)):]    // cipher suites
	b = b[1+int(b[0]):]                          // compression
	b = b[2 : 2+int(binary.BigEndian.Uint16(b))] // extensions
	found := map[uint16][]byte{}
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		found[binary.BigEndian.Uint16(b)] = b[4 : 4+n]
		b = b[4+n:]
	}
	return found
}

// Where the alias sits: at another port of the same host, or at another host on the same
// port, told apart by the server name.
func TestAliasPlaces(t *testing.T) {
	t.Run("another port", func(t *testing.T) {
		t.Attr("requirement", "M-5-12")
		w := small(t, func(s *settings) { s.url = "https://as.test:8444" })
		w.addresses = map[string]string{publicHost: w.public, publicHost + ":8444": w.mtls}
		aliasIsUsed(t, w, "https://as.test:8444/token")
	})
	t.Run("another host on the same port", func(t *testing.T) {
		t.Attr("requirement", "M-5-12")
		w := small(t)
		front := routeByName(t, map[string]string{publicHost: w.public, mtlsHost: w.mtls})
		w.addresses = map[string]string{publicHost: front, mtlsHost: front}
		aliasIsUsed(t, w, fixture.MTLSBase+"/token")
	})
}

func aliasIsUsed(t *testing.T, w *world, want string) {
	t.Helper()
	asked := map[string]int{}
	clientFor := func(at string) *http.Client {
		cfg := w.clientTLS(nil)
		cert := w.L1.TLS()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked[at]++
			return &cert, nil
		}
		return w.http(t, cfg)
	}
	metadata := fixture.Get(t, clientFor("public"), fixture.Issuer+"/.well-known/oauth-authorization-server")
	aliases, _ := metadata.JSON["mtls_endpoint_aliases"].(map[string]any)
	if aliases["token_endpoint"] != want {
		t.Fatalf("alias of the token endpoint: %v, want %s", aliases["token_endpoint"], want)
	}
	form := []string{"grant_type", "client_credentials", "client_id", "c-dn"}
	refused(t, fixture.Post(t, clientFor("public"), fmt.Sprint(metadata.JSON["token_endpoint"]), form...), "invalid_client")
	issued(t, noted(fixture.Post(t, clientFor("alias"), want, form...)), w.L1)
	if asked["public"] != 0 || asked["alias"] != 1 {
		t.Errorf("certificates asked for: %v, want only at the alias", asked)
	}
}

// routeByName forwards connections by their server name, as a proxy does that does not
// end TLS.
func routeByName(t *testing.T, to map[string]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	route := func(c net.Conn) {
		defer c.Close()
		head := make([]byte, 5)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		hello := make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(c, hello); err != nil {
			return
		}
		var target string
		for host, address := range to {
			if name := extensionsOf(t, hello)[0]; len(name) > 5 && string(name[5:]) == host {
				target = address
			}
		}
		up, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer up.Close()
		if _, err := up.Write(append(head, hello...)); err != nil {
			return
		}
		done := make(chan struct{}, 2)
		go func() { _, _ = io.Copy(up, c); done <- struct{}{} }()
		go func() { _, _ = io.Copy(c, up); done <- struct{}{} }()
		<-done
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go route(c)
		}
	}()
	return l.Addr().String()
}

// Both listeners have one server certificate, for both names. A request for the one
// name over a connection to the other gets 421 and is not looked at; on a connection of
// its own, it is served.
func TestMisdirected(t *testing.T) {
	w := small(t)
	w.each(t, func(t *testing.T, w *world) {
		for _, to := range []struct{ connect, host string }{{publicHost, mtlsHost}, {mtlsHost, publicHost}, {mtlsHost, "unknown.test"}} {
			t.Run(to.host+" over "+to.connect, func(t *testing.T) {
				t.Attr("requirement", "M-5-13 T-9113-3 T-9110-1")
				before := w.judged(t)
				c := w.as(t, w.L1)
				send := func(connect, host string) *fixture.Answer {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+connect+"/token",
						strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
					if err != nil {
						t.Fatal(err)
					}
					req.Host = host
					req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					return noted(fixture.Do(t, c, req))
				}
				if a := send(to.connect, to.host); a.Status != http.StatusMisdirectedRequest || a.JSON["error"] != nil || a.AccessToken() != "" {
					t.Errorf("got %d %s, want 421", a.Status, a.Text)
				}
				if after := w.judged(t); after != before {
					t.Errorf("%v decisions on the request, want none", after-before)
				}
				issued(t, send(mtlsHost, mtlsHost), w.L1)
				if after := w.judged(t); after != before+1 {
					t.Errorf("%v decisions on a request that fits, want 1", after-before)
				}
			})
		}
	})
}

// The server as a scanner sees it.
func TestScan(t *testing.T) {
	w := small(t)
	var all []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if !slices.Contains(s.SupportedVersions, tls.VersionTLS13) {
			all = append(all, s.ID)
		}
	}
	for host, address := range map[string]string{publicHost: w.public, mtlsHost: w.mtls} {
		dial := func(change func(*tls.Config)) (tls.ConnectionState, error) {
			cfg := &tls.Config{RootCAs: w.ServerCA.Pool(), ServerName: host, NextProtos: []string{"h2", "http/1.1"}}
			change(cfg)
			c, err := tls.Dial("tcp", address, cfg)
			if err != nil {
				return tls.ConnectionState{}, err
			}
			defer c.Close()
			return c.ConnectionState(), nil
		}
		t.Run("versions of "+host, func(t *testing.T) {
			t.Attr("requirement", "M-7.3-2 T-9325-1")
			for v, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
				if _, err := dial(func(c *tls.Config) { c.MinVersion, c.MaxVersion = v, v }); (err == nil) != want {
					t.Errorf("%s: %v", tls.VersionName(v), err)
				}
			}
			if s, err := dial(func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }); err != nil || s.Version != tls.VersionTLS13 {
				t.Errorf("all versions: %s, %v", tls.VersionName(s.Version), err)
			}
		})
		t.Run("ciphers of "+host, func(t *testing.T) {
			t.Attr("requirement", "M-7.3-2 T-9325-2 F2-5.2.2-1 F2-5.2.3-2 F2-5.2.1-3")
			accepted := 0
			for _, id := range all {
				name := tls.CipherSuiteName(id)
				_, err := dial(func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{id} })
				good := strings.HasPrefix(name, "TLS_ECDHE_") && (strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_"))
				if err == nil {
					accepted++
					if !good {
						t.Errorf("%s is accepted", name)
					}
				}
			}
			if accepted != 3 { // those for a certificate with an ECDSA key
				t.Errorf("%d suites are accepted, want 3", accepted)
			}
		})
		t.Run("names of "+host, func(t *testing.T) {
			t.Attr("requirement", "T-9325-4")
			if _, err := dial(func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "unknown.test", true }); err == nil {
				t.Error("an unknown server name was served")
			}
			for offer, want := range map[string]string{"h2": "h2", "http/1.1": "http/1.1"} {
				if s, err := dial(func(c *tls.Config) { c.NextProtos = []string{offer} }); err != nil || s.NegotiatedProtocol != want {
					t.Errorf("ALPN %s: %q, %v", offer, s.NegotiatedProtocol, err)
				}
			}
		})
	}
}

// The release that built the binary, as 'go version -m' prints it.
func TestGoRelease(t *testing.T) {
	t.Attr("requirement", "T-P-4")
	info, err := buildinfo.ReadFile(programPath)
	if err != nil {
		t.Fatal(err)
	}
	var major, minor, patch int
	if n, _ := fmt.Sscanf(info.GoVersion, "go%d.%d.%d", &major, &minor, &patch); n < 2 || major != 1 {
		t.Fatalf("the binary was built by %q", info.GoVersion)
	}
	if minor < 24 || minor == 24 && patch < 13 || minor == 25 && patch < 7 {
		t.Errorf("the binary was built by %s, in which a resumed session ignores a changed trust (CVE-2025-68121)", info.GoVersion)
	}
}
