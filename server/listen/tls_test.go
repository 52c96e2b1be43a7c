package listen

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// both runs a test at a listener that asks for certificates and at one that does not.
func both(t *testing.T, f func(t *testing.T, ask bool)) {
	t.Helper()
	t.Run("public", func(t *testing.T) { f(t, false) })
	t.Run("mtls", func(t *testing.T) { f(t, true) })
}

// versionSSL30 is deprecated in crypto/tls, which does not speak it.
const versionSSL30 = 0x0300

// Every version is offered to each listener.
func TestVersionScan(t *testing.T) {
	both(t, func(t *testing.T, ask bool) {
		t.Attr("requirement", "M-7.3-2 T-9325-1 F1-B-7.1-1 F2-5.2.1-2")
		_, address := serve(t, Config{Name: "scan", Handler: tellConnection, Pair: pairFor(t, pkitest.P256), AskForCertificate: ask})
		for version, want := range map[uint16]bool{
			versionSSL30: false, tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
		} {
			cfg := client(nil, publicName)
			cfg.MinVersion, cfg.MaxVersion = version, version
			if version == versionSSL30 { // by hand
				if got := helloIsAnswered(t, address, version); got != want {
					t.Errorf("%s: answered %t, want %t", tls.VersionName(version), got, want)
				}
				continue
			}
			if _, err := handshake(address, cfg); (err == nil) != want {
				t.Errorf("%s: error %v, want it to work: %t", tls.VersionName(version), err, want)
			}
		}
		cfg := client(nil, publicName)
		cfg.MinVersion = tls.VersionTLS10
		if state, err := handshake(address, cfg); err != nil || state.Version != tls.VersionTLS13 {
			t.Errorf("a client that speaks all versions gets %s, error %v, want TLS 1.3", tls.VersionName(state.Version), err)
		}
	})
}

// helloIsAnswered sends a minimal ClientHello of an old version and reports whether
// anything but an alert comes back.
func helloIsAnswered(t *testing.T, address string, version uint16) bool {
	w := tap(t, address)
	body := binary.BigEndian.AppendUint16(nil, version)
	body = append(body, make([]byte, 32)...) // random
	body = append(body, 0, 0, 2, 0, 0x2f, 1, 0)
	hello := append([]byte{1, 0, 0, byte(len(body))}, body...)
	record := append([]byte{22, byte(version >> 8), byte(version), 0, byte(len(hello))}, hello...)
	if _, err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(w)
	return len(answer) > 0 && answer[0] != 21
}

// Every suite that crypto/tls knows is offered to each listener, alone.
func TestCipherScan(t *testing.T) {
	var all []*tls.CipherSuite
	all = append(append(all, tls.CipherSuites()...), tls.InsecureCipherSuites()...)
	both(t, func(t *testing.T, ask bool) {
		t.Attr("requirement", "M-7.3-2 T-9325-2")
		var got []string
		for _, kind := range []pkitest.KeyType{pkitest.P256, pkitest.RSA2048} {
			_, address := serve(t, Config{Name: "scan", Handler: tellConnection, Pair: pairFor(t, kind), AskForCertificate: ask})
			for _, suite := range all {
				if slices.Contains(suite.SupportedVersions, tls.VersionTLS13) {
					continue // fixed by the protocol, and all of them fit
				}
				cfg := client(nil, publicName)
				cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite.ID}
				if state, err := handshake(address, cfg); err == nil {
					got = append(got, tls.CipherSuiteName(state.CipherSuite))
				}
			}
		}
		slices.Sort(got)
		want := []string{
			"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
			"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
		}
		if !slices.Equal(got, want) {
			t.Errorf("accepted suites:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// The same under the profile fapi2: AES-GCM alone, and TLS 1.3 first.
func TestCipherScanFAPI2(t *testing.T) {
	both(t, func(t *testing.T, ask bool) {
		t.Attr("requirement", "F2-5.2.2-1 F2-5.2.3-2")
		var got []string
		for _, kind := range []pkitest.KeyType{pkitest.P256, pkitest.RSA2048} {
			_, address := serve(t, Config{Name: "scan", Handler: tellConnection, Pair: pairFor(t, kind), AskForCertificate: ask, OnlyAESGCM: true})
			for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
				cfg := client(nil, publicName)
				cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite.ID}
				if state, err := handshake(address, cfg); err == nil {
					got = append(got, tls.CipherSuiteName(state.CipherSuite))
				}
			}
			if state, err := handshake(address, client(nil, publicName)); err != nil || state.Version != tls.VersionTLS13 {
				t.Errorf("all versions: %s, %v", tls.VersionName(state.Version), err)
			}
		}
		slices.Sort(got)
		want := []string{
			"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
			"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
		}
		if !slices.Equal(got, want) {
			t.Errorf("accepted suites:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestServerNameAndProtocol(t *testing.T) {
	both(t, func(t *testing.T, ask bool) {
		t.Attr("requirement", "T-9325-4")
		_, address := serve(t, Config{Name: "names", Handler: tellConnection, Pair: pairFor(t, pkitest.P256), AskForCertificate: ask})
		unknown := client(nil, "unknown.test")
		unknown.InsecureSkipVerify = true // the refusal has to be the server's
		if state, err := handshake(address, unknown); err == nil {
			t.Errorf("the server name unknown.test was served, with a certificate for %v", state.PeerCertificates[0].DNSNames)
		}
		if _, err := handshake(address, client(nil, mtlsName)); err != nil {
			t.Errorf("a name of the certificate: %v", err)
		}
		if _, err := handshake(address, client(nil, strings.ToUpper(mtlsName))); err != nil {
			t.Errorf("a name of the certificate in upper case: %v", err)
		}
		for _, test := range []struct {
			offer []string
			want  string // "" for a failed handshake
		}{
			{[]string{"h2", "http/1.1"}, "h2"},
			{[]string{"http/1.1"}, "http/1.1"},
			{[]string{"http/1.1", "h2"}, "h2"},
			{[]string{"spdy/3"}, ""},
		} {
			cfg := client(nil, publicName)
			cfg.NextProtos = test.offer
			state, err := handshake(address, cfg)
			if state.NegotiatedProtocol != test.want || (err == nil) != (test.want != "") {
				t.Errorf("ALPN %v: %q, error %v, want %q", test.offer, state.NegotiatedProtocol, err, test.want)
			}
		}
		if s := look(t, address, client(nil, publicName)); s.Protocol != "HTTP/2.0" {
			t.Errorf("a client that can do both is served by %s, want HTTP/2.0", s.Protocol)
		}
	})
}

// A connection that was made for one name carries a request for another.
func TestHostDiffersFromServerName(t *testing.T) {
	_, address := serve(t, Config{Name: "names", Handler: tellConnection, Pair: pairFor(t, pkitest.P256)})
	c, err := tls.Dial("tcp", address, client(nil, publicName))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", mtlsName)
	answer, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 421 ")) {
		t.Errorf("answer %.60q, error %v, want 421", answer, err)
	}
}

// Certificates are asked for at the one listener, and never at the other.
func TestCertificateRequest(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			both(t, func(t *testing.T, ask bool) {
				_, address := serve(t, Config{Name: "ask", Handler: tellConnection, Pair: pairFor(t, pkitest.P256), AskForCertificate: ask})
				asked, authorities := false, 0
				cfg := client(nil, publicName)
				cfg.MinVersion, cfg.MaxVersion = version, version
				cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked, authorities = true, len(info.AcceptableCAs)
					return new(tls.Certificate), nil
				}
				look(t, address, cfg) // answered without a certificate, too
				if asked != ask || authorities != 0 {
					t.Errorf("asked %t with %d CAs, want %t with none", asked, authorities, ask)
				}
				for name, leaf := range map[string]*pkitest.Leaf{"from a CA": fixture.Certs().L1, "self-signed": fixture.Certs().S1} {
					cfg := client(leaf, publicName)
					cfg.MinVersion, cfg.MaxVersion = version, version
					if s := look(t, address, cfg); (s.Certificates > 0) != ask {
						t.Errorf("%s: the handler sees %d certificates, asked for: %t", name, s.Certificates, ask)
					}
				}
			})
		})
	}
}

// hello12 makes a TLS 1.2 connection whose keys the test knows, and returns a function
// that seals a record as the client, after so many records were sent.
func hello12(t *testing.T, address string) (w *wire, c *tls.Conn, seal func(seq uint64, kind byte, content []byte) []byte) {
	t.Helper()
	w = tap(t, address)
	var keys bytes.Buffer
	cfg := client(nil, publicName)
	cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	cfg.NextProtos, cfg.KeyLogWriter = []string{"http/1.1"}, &keys
	c = tls.Client(w, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	var clientRandom, master []byte
	if _, err := fmt.Sscanf(keys.String(), "CLIENT_RANDOM %x %x", &clientRandom, &master); err != nil {
		t.Fatal(err)
	}
	serverRandom := w.received[5+4+2 : 5+4+2+32]
	// RFC 5246, Sections 5 and 6.3: no MAC keys, two keys of 16, two IVs of 4 octets.
	block := prf(master, append([]byte("key expansion"), append(slices.Clone(serverRandom), clientRandom...)...), 40)
	aead := gcm(t, block[:16])
	return w, c, func(seq uint64, kind byte, content []byte) []byte {
		explicit := binary.BigEndian.AppendUint64(nil, seq)
		header := []byte{kind, 3, 3}
		additional := binary.BigEndian.AppendUint16(append(slices.Clone(explicit), header...), uint16(len(content)))
		sealed := aead.Seal(nil, append(slices.Clone(block[32:36]), explicit...), content, additional)
		out := binary.BigEndian.AppendUint16(header, uint16(len(explicit)+len(sealed)))
		return append(append(out, explicit...), sealed...)
	}
}

// prf is the pseudorandom function of TLS 1.2 (RFC 5246, Section 5).
func prf(secret, seed []byte, n int) (out []byte) {
	sum := func(b ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, b := range b {
			h.Write(b)
		}
		return h.Sum(nil)
	}
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// A client sends a new ClientHello over a TLS 1.2 connection, to present a certificate
// after the fact. The connection ends; it does not change who the client is.
func TestRenegotiation(t *testing.T) {
	both(t, func(t *testing.T, ask bool) {
		t.Attr("requirement", "T-5246-1")
		_, address := serve(t, Config{Name: "renegotiate", Handler: tellConnection, Pair: pairFor(t, pkitest.P256), AskForCertificate: ask})
		plain := []byte("GET / HTTP/1.1\r\nHost: " + publicName + "\r\nConnection: close\r\n\r\n")

		// First that records sealed by hand arrive: a request is answered.
		w, c, seal := hello12(t, address)
		if _, err := w.Write(seal(1, 23, plain)); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
			t.Fatalf("a request sealed by hand: %.60q, error %v, want 200", answer, err)
		}

		w, c, seal = hello12(t, address)
		hello := records(w.sent)[0][5:]
		if hello[0] != 1 {
			t.Fatalf("the first record is not a ClientHello but %d", hello[0])
		}
		if _, err := w.Write(append(seal(1, 22, hello), seal(2, 23, plain)...)); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); err == nil || len(answer) > 0 {
			t.Errorf("answer %.60q, error %v, want an alert", answer, err)
		}
	})
}

// Tickets are encrypted with keys that change: one from before the last change opens,
// one from before two changes does not. The hint says a week at most.
func TestTicketRotation(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Attr("requirement", "T-9325-3")
			s, address := serve(t, Config{Name: "tickets", Handler: tellConnection, Pair: pairFor(t, pkitest.P256), AskForCertificate: true})
			cfg := client(fixture.Certs().L1, publicName)
			cfg.MinVersion, cfg.MaxVersion = version, version
			old := &oneTicket{}
			cfg.ClientSessionCache = old
			look(t, address, cfg)
			old.closed = true // the same ticket each time
			for rotations, want := range []bool{true, true, false, false} {
				if rotations > 0 {
					if err := rotateTickets(s.tls, &s.keys); err != nil {
						t.Fatal(err)
					}
				}
				if got := look(t, address, cfg); got.Resumed != want || got.Certificates == 0 {
					t.Errorf("after %d changes: resumed %t with %d certificates, want %t with the certificate", rotations, got.Resumed, got.Certificates, want)
				}
			}
			if hint := ticketLifetime(t, address, version); hint > 7*24*time.Hour {
				t.Errorf("the lifetime hint of a ticket is %v, want at most a week", hint)
			}
		})
	}
}

// A oneTicket is a session cache that can be closed.
type oneTicket struct {
	state  *tls.ClientSessionState
	closed bool
}

func (c *oneTicket) Get(string) (*tls.ClientSessionState, bool) { return c.state, c.state != nil }
func (c *oneTicket) Put(_ string, s *tls.ClientSessionState) {
	if !c.closed {
		c.state = s
	}
}

// ticketLifetime reads the hint of a NewSessionTicket from the wire.
func ticketLifetime(t *testing.T, address string, version uint16) time.Duration {
	t.Helper()
	w := tap(t, address)
	var keys bytes.Buffer
	cfg := client(nil, publicName)
	cfg.MinVersion, cfg.MaxVersion, cfg.KeyLogWriter, cfg.ClientSessionCache = version, version, &keys, &oneTicket{}
	cfg.NextProtos = []string{"http/1.1"}
	c := tls.Client(w, cfg)
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", publicName)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	read := func(message []byte) time.Duration {
		return time.Duration(binary.BigEndian.Uint32(message[4:])) * time.Second
	}
	if version == tls.VersionTLS12 { // in the clear (RFC 5077, Section 3.3)
		for _, r := range records(w.received) {
			if r[0] == 22 && r[5] == 4 {
				return read(r[5:])
			}
		}
		t.Fatal("no NewSessionTicket was sent")
	}
	var secret []byte
	for line := range strings.Lines(keys.String()) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "SERVER_TRAFFIC_SECRET_0" {
			secret, _ = hex.DecodeString(f[2])
		}
	}
	h, size := sha256.New, 16
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("the suite is %s; this test reads AES-128-GCM", tls.CipherSuiteName(c.ConnectionState().CipherSuite))
	}
	aead, iv := gcm(t, expand(t, h, secret, "key", size)), expand(t, h, secret, "iv", 12)
	for _, r := range records(w.received) {
		// The ticket is the first record under this secret: the nonce is the IV.
		plain, err := aead.Open(nil, iv, r[5:], r[:5])
		if err != nil {
			continue // of the handshake
		}
		if plain[0] != 4 {
			t.Fatalf("the first message is of type %d, want NewSessionTicket", plain[0])
		}
		return read(plain)
	}
	t.Fatal("no NewSessionTicket was sent")
	return 0
}

// expand is HKDF-Expand-Label (RFC 8446, Section 7.1).
func expand(t *testing.T, h func() hash.Hash, secret []byte, label string, n int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(h, secret, string(append(info, 0)), n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
