package httpauth_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/clientauth/httpauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// loopback is the proxy of these tests: 127.0.0.1. Strangers come from 127.0.0.2.
var loopback = certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}

func item(cert *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":"
}

// An origin is a server behind a proxy.
type origin struct {
	*server
	dial func() (net.Conn, error)
}

// startOrigin runs the middleware behind a proxy that speaks plain HTTP over loopback.
func startOrigin(t testing.TB, changes ...func(*httpauth.Config)) *origin {
	t.Helper()
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: loopback})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, append([]func(*httpauth.Config){func(c *httpauth.Config) { c.Source = src }}, changes...)...)
	s.Start()
	t.Cleanup(s.Close)
	return &origin{s, func() (net.Conn, error) { return net.Dial("tcp", s.Listener.Addr().String()) }}
}

// send writes a token request for client_id with the given header lines, octet by
// octet, and returns the answer.
func (o *origin) send(t testing.TB, id string, lines ...string) answer {
	t.Helper()
	conn, err := o.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return exchange(t, conn, id, lines...)
}

func exchange(t testing.TB, conn net.Conn, id string, lines ...string) answer {
	t.Helper()
	form := "client_id=" + id + "&scope=read"
	var b strings.Builder
	fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: origin\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(form))
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n" + form)
	return raw(t, conn, b.String())
}

func raw(t testing.TB, conn net.Conn, request string) answer {
	t.Helper()
	go io.WriteString(conn, request) // the server may answer before it has read all
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	decode(body, &a.json)
	return a
}

// ir checks that a is 400 invalid_request, and that nothing was looked up.
func (a answer) ir(t *testing.T, o *origin) {
	t.Helper()
	if a.status != 400 || a.error() != "invalid_request" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s, want 400 invalid_request", a.status, a.header, a.body)
	}
	if d := o.decision(); d.Allowed || d.ClientID != "" {
		t.Errorf("the request went on: %s", d)
	}
}

func TestOrigin(t *testing.T) {
	c := fixture.Certs()
	o := startOrigin(t)
	leaf, issuer := "Client-Cert: "+item(c.L1.Cert), "Client-Cert-Chain: "+item(c.CA1i.Cert)
	der := base64.StdEncoding.EncodeToString(c.L1.Cert.Raw)
	self := "Client-Cert: " + item(c.S1.Cert)
	const allowed, refused, malformed = "allowed", "invalid_client", "invalid_request"

	tests := []struct {
		name, requirement string
		id                string
		lines             []string
		want              string
		reason            decision.Reason
	}{
		{"leaf and chain", "H-2.4-8 H-2.4-11 H-B3-1", "c-dn", []string{leaf, issuer}, allowed, ""},
		{"self-signed", "H-2.4-8", "c-self", []string{self}, allowed, ""},
		{"no field", "H-2.4-8 H-2.4-11", "c-dn", nil, refused, decision.NoCertificate},
		{"the field of another client", "H-2.4-8", "c-dn", []string{"Client-Cert: " + item(c.L2.Cert), issuer}, refused, decision.SubjectMismatch},
		{"names in other letters", "H-5.1-1", "c-dn", []string{"cLIENT-cERT: " + item(c.L1.Cert), "client-cert-chain: " + item(c.CA1i.Cert)}, allowed, ""},
		{"outer spaces", "S-8941-6", "c-dn", []string{"Client-Cert:   " + item(c.L1.Cert) + "   ", issuer}, allowed, ""},
		{"padding removed", "S-8941-4", "c-dn", []string{strings.ReplaceAll(leaf, "=", ""), strings.ReplaceAll(issuer, "=", "")}, allowed, ""},
		{"a parameter", "S-8941-5", "c-dn", []string{leaf + ";x", issuer + `;a=1;b="c"`}, allowed, ""},
		{"chain with root", "H-2.3-2 H-2.3-7", "c-dn", []string{leaf, issuer + ", " + item(c.CA1.Cert)}, allowed, ""},
		{"chain in two lines", "H-2.3-9", "c-dn", []string{leaf, issuer, "Client-Cert-Chain: " + item(c.CA1.Cert)}, allowed, ""},
		{"chain in another order", "H-2.3-4", "c-dn", []string{leaf, "Client-Cert-Chain: " + item(c.CA1.Cert) + ", " + item(c.L2.Cert) + ", " + item(c.CA1i.Cert)}, allowed, ""},
		{"chain that starts with the leaf", "H-2.3-6", "c-dn", []string{leaf, "Client-Cert-Chain: " + item(c.L1.Cert) + ", " + item(c.CA1i.Cert)}, allowed, ""},
		{"chain of the leaf alone", "H-2.3-6", "c-dn", []string{leaf, "Client-Cert-Chain: " + item(c.L1.Cert)}, refused, decision.ChainIncomplete},
		{"without the chain", "H-O-4", "c-dn", []string{leaf}, refused, decision.ChainIncomplete},
		{"an unknown CA in the chain is no anchor", "H-O-4 H-2.3-7", "c-dn", []string{"Client-Cert: " + item(c.L1CAX.Cert), "Client-Cert-Chain: " + item(c.CAX.Cert)}, refused, decision.UnknownAuthority},
		{"a self-signed leaf with the names", "H-O-4", "c-dn", []string{"Client-Cert: " + item(pkitest.MustSelfSigned(fixture.L1Options()).Cert)}, refused, decision.UnknownAuthority},
		{"a name with an underscore", "", "c-self", []string{"Client_Cert: " + item(c.S1.Cert)}, malformed, decision.SourceLookAlike},

		{"without colons", "H-2.1-2 H-O-3", "c-dn", []string{"Client-Cert: " + der}, malformed, decision.SourceMalformed},
		{"with one colon", "H-2.1-2 H-O-3", "c-dn", []string{"Client-Cert: :" + der}, malformed, decision.SourceMalformed},
		{"URL-safe alphabet", "H-2.1-2 H-O-3", "c-dn", []string{"Client-Cert: :" + base64.URLEncoding.EncodeToString(append([]byte{0xfb, 0xff, 0xbf}, c.L1.Cert.Raw...)) + ":"}, malformed, decision.SourceMalformed},
		{"a space inside", "H-2.1-3 H-O-3 S-8941-3", "c-dn", []string{"Client-Cert: :" + der[:64] + " " + der[64:] + ":"}, malformed, decision.SourceMalformed},
		{"a tab inside", "H-2.1-3 H-O-3", "c-dn", []string{"Client-Cert: :" + der[:64] + "\t" + der[64:] + ":"}, malformed, decision.SourceMalformed},
		{"a folded line", "H-2.1-3", "c-dn", []string{"Client-Cert: :" + der[:64] + "\r\n " + der[64:] + ":"}, malformed, decision.SourceMalformed},
		{"an escape inside", "H-2.1-3 H-O-3", "c-dn", []string{"Client-Cert: :" + strings.TrimRight(der, "=") + "%3D:"}, malformed, decision.SourceMalformed},
		{"PEM armour inside", "H-2.1-3 H-O-3", "c-dn", []string{"Client-Cert: :-----BEGIN CERTIFICATE-----" + der + "-----END CERTIFICATE-----:"}, malformed, decision.SourceMalformed},
		{"a string", "H-2.2-2", "c-dn", []string{`Client-Cert: "` + der + `"`}, malformed, decision.SourceMalformed},
		{"a token", "H-2.2-2", "c-dn", []string{"Client-Cert: abc"}, malformed, decision.SourceMalformed},
		{"an inner list", "H-2.2-2", "c-dn", []string{"Client-Cert: (" + item(c.L1.Cert) + ")"}, malformed, decision.SourceMalformed},
		{"a list", "H-2.2-4", "c-dn", []string{leaf + ", " + item(c.L2.Cert)}, malformed, decision.SourceMalformed},
		{"two equal lines", "H-2.2-5 S-8941-1", "c-dn", []string{leaf, leaf, issuer}, malformed, decision.SourceRepeated},
		{"two different lines", "H-2.2-5 S-8941-1", "c-dn", []string{leaf, "Client-Cert: " + item(c.L2.Cert), issuer}, malformed, decision.SourceRepeated},
		{"an empty field", "H-O-3", "c-dn", []string{"Client-Cert:"}, malformed, decision.SourceMalformed},
		{"an empty sequence", "H-O-3", "c-dn", []string{"Client-Cert: ::"}, malformed, decision.SourceMalformed},
		{"trailing octets", "H-O-3", "c-dn", []string{"Client-Cert: :" + base64.StdEncoding.EncodeToString(append(append([]byte{}, c.L1.Cert.Raw...), 0)) + ":"}, malformed, decision.SourceMalformed},
		{"DER of something else", "H-O-3", "c-dn", []string{"Client-Cert: :" + base64.StdEncoding.EncodeToString(c.L1.Cert.RawSubject) + ":"}, malformed, decision.SourceMalformed},
		{"chain without leaf", "H-2.3-5", "c-dn", []string{issuer}, malformed, decision.SourceMalformed},
		{"chain with a token", "H-2.3-3", "c-dn", []string{leaf, issuer + ", abc"}, malformed, decision.SourceMalformed},
		{"chain with a string", "H-2.3-3", "c-dn", []string{leaf, issuer + `, "abc"`}, malformed, decision.SourceMalformed},
		{"chain of 200 certificates", "", "c-dn", []string{leaf, issuer + strings.Repeat(", "+item(c.CA1.Cert), 199)}, malformed, decision.SourceTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.requirement != "" {
				t.Attr("requirement", tt.requirement)
			}
			a := o.send(t, tt.id, tt.lines...)
			switch tt.want {
			case allowed:
				want, method := c.L1, clientauth.TLSClientAuth
				if tt.id == "c-self" {
					want, method = c.S1, clientauth.SelfSignedTLSClientAuth
				}
				a.ok(t, tt.id, method, want)
			case refused:
				a.ic(t)
			case malformed:
				a.ir(t, o)
			}
			if got := o.decision().Reason(); got != tt.reason {
				t.Errorf("reason %q, want %q", got, tt.reason)
			}
			if a.header.Get("Client-Cert") != "" || a.header.Get("Client-Cert-Chain") != "" {
				t.Error("the field is in the response")
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("the answer may be cached: %v", a.header)
			}
		})
	}

	// What net/http refuses before us.
	t.Run("control characters", func(t *testing.T) {
		t.Attr("requirement", "S-9110-1")
		for _, c := range []string{"\r", "\n x", "\x00"} {
			if a := o.send(t, "c-dn", "Client-Cert: :"+der[:8]+c+der[8:]+":"); a.status != 400 {
				t.Errorf("%q: %d", c, a.status)
			}
		}
	})
	t.Run("a space before the colon", func(t *testing.T) {
		t.Attr("requirement", "H-O-5")
		if a := o.send(t, "c-self", "Client-Cert : "+item(c.S1.Cert)); a.status != 400 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("trailer", func(t *testing.T) {
		t.Attr("requirement", "S-9110-3")
		conn, err := o.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		form := "client_id=c-self&scope=read"
		raw(t, conn, fmt.Sprintf("POST / HTTP/1.1\r\nHost: origin\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\nTrailer: Client-Cert\r\n\r\n%x\r\n%s\r\n0\r\n%s\r\n\r\n", len(form), form, self)).ic(t)
		if got := o.decision().Reason(); got != decision.NoCertificate {
			t.Errorf("reason %s", got)
		}
	})
	t.Run("a chain of 200 kB", func(t *testing.T) {
		t.Attr("requirement", "H-3.2-1")
		conn, err := o.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if a := exchange(t, conn, "c-self", self, "Client-Cert-Chain: :"+strings.Repeat("A", 200<<10)+":"); a.status != 400 && a.status != 431 {
			t.Errorf("%d %s", a.status, a.body)
		}
		exchange(t, conn, "c-self", self).ok(t, "c-self", clientauth.SelfSignedTLSClientAuth, c.S1)
	})
	t.Run("RSA-4096 with three intermediates", func(t *testing.T) {
		t.Attr("requirement", "H-3.2-2")
		var err error
		ca := c.CA1
		var chain []string
		for i := range 3 {
			ca = ca.MustIntermediate(pkitest.CAOptions{Subject: fmt.Sprintf("CN=CA %d", i), KeyType: pkitest.RSA3072})
			chain = append([]string{item(ca.Cert)}, chain...)
		}
		options := fixture.L1Options()
		if options.Key, err = rsa.GenerateKey(rand.Reader, 4096); err != nil {
			t.Fatal(err)
		}
		large := ca.MustLeaf(options)
		o.send(t, "c-dn", "Client-Cert: "+item(large.Cert), "Client-Cert-Chain: "+strings.Join(chain, ", ")).ok(t, "c-dn", clientauth.TLSClientAuth, large)
	})
}

// The example of RFC 9440 is what a proxy sends: a self-signed registration of its leaf
// takes it, if the dates did not count.
func TestOriginAppendixA(t *testing.T) {
	data, err := os.ReadFile("../../testdata/rfc9440/leaf.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	head, err := os.ReadFile("../../testdata/rfc9440/appendix-a.http")
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := bytes.Cut(bytes.TrimSpace(head), []byte("origin.example\r\n"))
	o := startOrigin(t, func(c *httpauth.Config) {
		c.Methods, c.Subjects, c.Paths = httpauth.SelfSigned, nil, nil
		c.Certificates = clientauth.Certificates(fixed(block.Bytes))
		date := mustParse(block.Bytes).NotBefore
		c.Now = nowAt(date)
	})
	a := o.send(t, "any", string(fields))
	if a.status != 200 || a.json["x5t#S256"] != "v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes" {
		t.Errorf("%d %s\n%s", a.status, a.body, o.decision())
	}
}

// Strangers: the same request from another address, and from nobody that is known.
func TestOriginTrust(t *testing.T) {
	c := fixture.Certs()
	self := "Client-Cert: " + item(c.S1.Cert)

	t.Run("another address", func(t *testing.T) {
		t.Attr("requirement", "H-4-3 M-6.1-5 M-6.5-2 S-8941-2")
		t.Attr("attack", "2")
		o := startOrigin(t)
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		conn, err := from.Dial("tcp", o.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		exchange(t, conn, "c-self", self, "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1").ir(t, o)
		if got := o.decision(); got.Reason() != decision.SourceUntrusted || !strings.HasPrefix(got.Peer, "127.0.0.2:") {
			t.Errorf("%s", got)
		}
		exchange(t, conn, "c-self").ic(t)
		o.send(t, "c-self", self).ok(t, "c-self", clientauth.SelfSignedTLSClientAuth, c.S1)
	})
	t.Run("unix socket", func(t *testing.T) {
		t.Attr("requirement", "H-4-6 H-4-7")
		src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: certsource.Hop{UnixSocket: true}})
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, func(cfg *httpauth.Config) { cfg.Source = src })
		path := filepath.Join(t.TempDir(), "s")
		s.Listener.Close()
		s.Listener = listen(t, "unix", path)
		s.Start()
		t.Cleanup(s.Close)
		o := &origin{s, func() (net.Conn, error) { return net.Dial("unix", path) }}
		o.send(t, "c-self", self).ok(t, "c-self", clientauth.SelfSignedTLSClientAuth, c.S1)
	})
	t.Run("mutual TLS with a pinned proxy", func(t *testing.T) {
		t.Attr("requirement", "H-4-7 H-4-3 H-O-1 H-1.2-4")
		edge := c.CA2.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge"})
		src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: certsource.Hop{Thumbprints: []string{certbound.Thumbprint(edge.Cert)}}})
		if err != nil {
			t.Fatal(err)
		}
		// The proxy's own certificate is registered for a client, so that taking
		// it for the client's would be seen.
		s := start(t, func(cfg *httpauth.Config) {
			cfg.Source = src
			inner := cfg.Certificates
			cfg.Certificates = func(ctx ctx, id string) (clientauth.SelfSigned, bool, error) {
				if id == "c-edge" {
					return clientauth.SelfSigned{Certificates: certificates(edge)}, true, nil
				}
				return inner(ctx, id)
			}
		})
		field := func(cert *x509.Certificate) []string { return []string{"Client-Cert", item(cert)} }
		s.post(t, edge, "client_id=c-self&scope=read", field(c.S1.Cert)...).ok(t, "c-self", clientauth.SelfSignedTLSClientAuth, c.S1)
		s.post(t, edge, "client_id=c-edge").ic(t)
		if got := s.decision().Reason(); got != decision.NoCertificate {
			t.Errorf("the proxy's certificate: %s", got)
		}
		o := &origin{server: s}
		s.post(t, c.S2, "client_id=c-self", field(c.S1.Cert)...).ir(t, o)
		s.post(t, nil, "client_id=c-self", field(c.S1.Cert)...).ir(t, o)
		s.post(t, c.S1, "client_id=c-self").ic(t) // for a listener behind a proxy TLS is not a source
	})
	t.Run("strangers with TLS", func(t *testing.T) {
		t.Attr("requirement", "H-O-2")
		edge := c.CA2.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge"})
		src, err := certsource.NewRFC9440(certsource.RFC9440Config{
			Hop:    certsource.Hop{Thumbprints: []string{certbound.Thumbprint(edge.Cert)}},
			Others: certsource.TLS{},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, func(cfg *httpauth.Config) { cfg.Source = src })
		s.post(t, c.S2, "client_id=c-self", "Client-Cert", item(c.S1.Cert)).ic(t)
		if d := s.decision(); d.Thumbprint != certbound.Thumbprint(c.S2.Cert) {
			t.Errorf("treated as %s", d.Thumbprint)
		}
		s.post(t, c.S2, "client_id=c-selves&scope=read", "Client-Cert", item(c.S1.Cert)).ok(t, "c-selves", clientauth.SelfSignedTLSClientAuth, c.S2)
	})
	t.Run("the proxy verifies", func(t *testing.T) {
		t.Attr("requirement", "H-O-4")
		if _, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: loopback, Verification: certsource.Verification{By: "edge"}}); err == nil {
			t.Error("a proxy that verifies against nobody knows what was taken")
		}
		src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: loopback, Verification: certsource.Verification{By: "edge", Anchors: "CAX"}})
		if err != nil {
			t.Fatal(err)
		}
		o := startOrigin(t, func(cfg *httpauth.Config) { cfg.Source = src })
		o.send(t, "c-dn", "Client-Cert: "+item(c.L1CAX.Cert)).ok(t, "c-dn", clientauth.TLSClientAuth, c.L1CAX)
		o.send(t, "c-dn", "Client-Cert: "+item(c.L2.Cert)).ic(t)
	})
	t.Run("no ConnContext", func(t *testing.T) {
		src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: loopback})
		if err != nil {
			t.Fatal(err)
		}
		s := serve(t, func(cfg *httpauth.Config) { cfg.Source = src })
		s.Config.ConnContext = nil
		s.Start()
		t.Cleanup(s.Close)
		o := &origin{s, func() (net.Conn, error) { return net.Dial("tcp", s.Listener.Addr().String()) }}
		o.send(t, "c-self", self).ir(t, o)
	})
}

// Named header fields: the two forms of a whole certificate, a fingerprint, and single
// attributes.
func TestOriginHeaderFields(t *testing.T) {
	c := fixture.Certs()
	header := func(format certsource.HeaderFormat) certsource.Source {
		src, err := certsource.NewHeaderField(certsource.HeaderFieldConfig{Hop: loopback, Field: "X-SSL-Cert", Format: format})
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	with := func(src certsource.Source) func(*httpauth.Config) {
		return func(cfg *httpauth.Config) { cfg.Source = src }
	}
	t.Run("base64 DER", func(t *testing.T) {
		o := startOrigin(t, with(header(certsource.FormatDER)))
		o.send(t, "c-self", "X-SSL-Cert: "+strings.Trim(item(c.S1.Cert), ":")).ok(t, "c-self", clientauth.SelfSignedTLSClientAuth, c.S1)
		o.send(t, "c-self", "X-SSL-Cert: "+item(c.S1.Cert)).ir(t, o)
		o.send(t, "c-self", "X-SSL-Cert:").ic(t)
		// Another field than the configured one is not read.
		o.send(t, "c-self", "Client-Cert: "+item(c.S1.Cert)).ic(t)
		if w := o.decision().Warnings; len(w) != 1 || w[0].Reason != decision.SourceForeignHeader || w[0].Found != "Client-Cert" {
			t.Errorf("warnings %+v", w)
		}
	})
	t.Run("PEM with chain", func(t *testing.T) {
		o := startOrigin(t, with(header(certsource.FormatPEM)))
		text := strings.ReplaceAll(strings.TrimSpace(string(c.L1.ChainPEM())), "\n", " ")
		o.send(t, "c-dn", "X-SSL-Cert: "+text).ok(t, "c-dn", clientauth.TLSClientAuth, c.L1)
		o.send(t, "c-dn", "X-SSL-Cert: "+text[:200]).ir(t, o)
	})
	t.Run("fingerprint", func(t *testing.T) {
		o := startOrigin(t, with(header(certsource.FormatSHA256)), func(cfg *httpauth.Config) {
			cfg.Methods, cfg.Subjects, cfg.Paths = httpauth.SelfSigned, nil, nil
		})
		sum := certsource.NewPresented("", c.S1.Cert, nil).Digest()
		o.send(t, "c-self", fmt.Sprintf("X-SSL-Cert: %x", sum)).ok(t, "c-self", clientauth.SelfSignedTLSClientAuth, c.S1)
		sum[0] ^= 1
		o.send(t, "c-self", fmt.Sprintf("X-SSL-Cert: %x", sum)).ic(t)
	})
	t.Run("attributes", func(t *testing.T) {
		for _, tt := range []struct {
			syntax certsource.DNSyntax
			right  string
			wrong  []string
		}{
			{certsource.DNSyntaxLDAP, "CN=client-1,OU=apps,O=Example,C=GB", []string{"/C=GB/O=Example/OU=apps/CN=client-1", "C=GB,O=Example,OU=apps,CN=client-1", "CN=client-1,OU=apps,O=Example"}},
			{certsource.DNSyntaxLegacy, "/C=GB/O=Example/OU=apps/CN=client-1", []string{"CN=client-1,OU=apps,O=Example,C=GB", "/CN=client-1/OU=apps/O=Example/C=GB", "/C=GB/O=Example/OU=apps/CN=client-1/x", "/C=GB/O=Example/OU=apps/CN=client-1/CN=client-1"}},
		} {
			src, err := certsource.NewAttributeFields(certsource.AttributeFieldsConfig{
				Hop:          loopback,
				Verification: certsource.Verification{By: "edge", Anchors: "CA1", Field: "SSL_CLIENT_VERIFY", Success: "SUCCESS"},
				SubjectDN:    "SSL_CLIENT_DN", DNSyntax: tt.syntax, SANDNS: "SSL_CLIENT_DNS",
			})
			if err != nil {
				t.Fatal(err)
			}
			o := startOrigin(t, with(src), func(cfg *httpauth.Config) { cfg.Methods, cfg.Certificates, cfg.Paths = httpauth.PKI, nil, nil })
			right, verified := "SSL_CLIENT_DN: "+tt.right, "SSL_CLIENT_VERIFY: SUCCESS"
			if a := o.send(t, "c-dn", right, verified); a.status != 200 || a.json["x5t#S256"] != "" {
				t.Errorf("%s: %d %s\n%s", tt.right, a.status, a.body, o.decision())
			}
			if a := o.send(t, "c-dns", "SSL_CLIENT_DNS: a.example", "SSL_CLIENT_DNS: client-1.example", verified); a.status != 200 {
				t.Errorf("several values in several lines: %d %s\n%s", a.status, a.body, o.decision())
			}
			for _, lines := range [][]string{
				{right},
				{right, "SSL_CLIENT_VERIFY: FAILED:self signed"},
				{right, verified, "SSL_CLIENT_VERIFY: FAILED"},
				{right, "SSL_CLIENT_DN: /CN=x", verified},
			} {
				if a := o.send(t, "c-dn", lines...); a.status != 400 || o.decision().Allowed {
					t.Errorf("%q: %d %s", lines, a.status, a.body)
				}
			}
			for _, wrong := range tt.wrong {
				o.send(t, "c-dn", "SSL_CLIENT_DN: "+wrong, verified).ic(t)
			}
		}
	})
}

// Several requests on one connection of the proxy, for different clients.
func TestOriginKeepAlive(t *testing.T) {
	c := fixture.Certs()
	o := startOrigin(t)
	conn, err := o.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		exchange(t, conn, "c-self", "Client-Cert: "+item(c.S1.Cert)).ok(t, "c-self", clientauth.SelfSignedTLSClientAuth, c.S1)
		exchange(t, conn, "c-selves", "Client-Cert: "+item(c.S2.Cert)).ok(t, "c-selves", clientauth.SelfSignedTLSClientAuth, c.S2)
		exchange(t, conn, "c-self", "Client-Cert: "+item(c.S2.Cert)).ic(t)
		exchange(t, conn, "c-self").ic(t)
	}
}
