package certsource_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
)

// The peers of these tests.
const (
	proxy    = "192.0.2.1:40000"
	stranger = "198.51.100.1:40000"
)

var (
	root   = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"})
	middle = root.MustIntermediate(pkitest.CAOptions{Subject: "CN=Intermediate"})
	client = middle.MustLeaf(pkitest.LeafOptions{Subject: "CN=client"})
	other  = middle.MustLeaf(pkitest.LeafOptions{Subject: "CN=other"})
	edge   = root.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge"}) // the proxy's own certificate
)

// byAddress trusts the proxy by its address.
var byAddress = certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, InsecurePrivateNetwork: true}

type addr struct {
	net.Conn
	remote net.Addr
}

func (a addr) RemoteAddr() net.Addr { return a.remote }

// request is a request that came over a connection from peer: an address with port,
// "unix", or "" for a server without ConnContext.
func request(t testing.TB, peer string, header ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequest("POST", "https://origin.example/", nil)
	r.TLS = nil
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	var remote net.Addr
	switch peer {
	case "":
		return r
	case "unix":
		remote = &net.UnixAddr{Net: "unix"}
	default:
		remote = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(peer))
	}
	return r.WithContext(certsource.ConnContext(r.Context(), addr{remote: remote}))
}

// over makes r a request over TLS with a client certificate, if one is given.
func over(r *http.Request, leaf *pkitest.Leaf) *http.Request {
	r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	if leaf != nil {
		r.TLS.PeerCertificates = leaf.Chain()
	}
	return r
}

func item(cert *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":"
}

// isDeclared reports whether err is one of the errors that a Source may return.
func isDeclared(err error) bool {
	_, parse := errors.AsType[*certsource.ParseError](err)
	_, peer := errors.AsType[*certsource.UntrustedPeerError](err)
	return parse || peer || errors.Is(err, certsource.ErrNoCertificate)
}

// reason returns the reason of an error, or "" for nil.
func reason(err error) decision.Reason {
	if err == nil {
		return ""
	}
	return certsource.Check(err).Reason
}

func TestNone(t *testing.T) {
	r := over(request(t, proxy, "Client-Cert", item(client.Cert)), client)
	if p, err := (certsource.None{}).Certificate(r); p != nil || !errors.Is(err, certsource.ErrNoCertificate) {
		t.Errorf("%v, %v", p, err)
	}
}

// A server that takes its certificates from TLS, over HTTP/1.1 and HTTP/2: each
// connection has its certificate, parsed and hashed once.
func TestTLS(t *testing.T) {
	var seen []*certsource.Presented
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := certsource.TLS{}.Certificate(r)
		if err != nil && !errors.Is(err, certsource.ErrNoCertificate) {
			t.Error(err)
		}
		if peer := certsource.Peer(r.Context()); peer != r.RemoteAddr {
			t.Errorf("peer %q, want %q", peer, r.RemoteAddr)
		}
		seen = append(seen, p)
	}))
	srv.Config.ConnContext = certsource.ConnContext
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()

	// A subject that x509 would write differently: what counts are the octets.
	odd := root.MustLeaf(pkitest.LeafOptions{RawSubject: []byte("\x30\x15\x31\x13\x30\x11\x06\x03\x55\x04\x03\x1e\x0a\x00c\x00l\x00i\x00e\x00n")})
	for _, tt := range []struct {
		name string
		leaf *pkitest.Leaf
		h2   bool
	}{{"HTTP/1.1", client, false}, {"HTTP/2", client, true}, {"no certificate", nil, false}, {"an odd encoding", odd, false}} {
		t.Run(tt.name, func(t *testing.T) {
			transport := srv.Client().Transport.(*http.Transport).Clone()
			defer transport.CloseIdleConnections()
			transport.ForceAttemptHTTP2 = tt.h2
			if !tt.h2 {
				transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			if tt.leaf != nil {
				transport.TLSClientConfig.Certificates = []tls.Certificate{tt.leaf.TLS()}
			}
			seen = nil
			for range 3 {
				resp, err := (&http.Client{Transport: transport}).Get(srv.URL)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if (resp.ProtoMajor == 2) != tt.h2 {
					t.Fatalf("protocol %s", resp.Proto)
				}
			}
			if tt.leaf == nil {
				if seen[0].Kind() != certsource.KindNone {
					t.Errorf("a certificate from nowhere: %v", seen[0].Leaf())
				}
				return
			}
			if seen[0] != seen[1] || seen[1] != seen[2] {
				t.Error("the certificate of one connection was made more than once")
			}
			if tt.leaf == odd {
				t.Attr("requirement", "M-3.1-3")
			}
			if got := seen[0]; got.Thumbprint() != certbound.ThumbprintDER(tt.leaf.TLS().Certificate[0]) || len(got.Chain()) != len(tt.leaf.Chain())-1 || got.Via != "tls" {
				t.Errorf("%s with %d more via %s", got.Thumbprint(), len(got.Chain()), got.Via)
			}
		})
	}
}

// A handler that replaces r.TLS must not get the certificate of before.
func TestTLSMemoryIsChecked(t *testing.T) {
	r := over(request(t, proxy), client)
	first, err := certsource.TLS{}.Certificate(r)
	if err != nil {
		t.Fatal(err)
	}
	second, err := certsource.TLS{}.Certificate(over(r, other))
	if err != nil || second.Thumbprint() != certbound.Thumbprint(other.Cert) || second == first {
		t.Errorf("%v (%v), want the other certificate", second.Thumbprint(), err)
	}
}

func TestPresented(t *testing.T) {
	whole := certsource.NewPresented("x", client.Cert, client.Chain()[1:])
	alone := certsource.NewPresented("x", client.Cert, nil)
	if whole.Digest() == alone.Digest() {
		t.Error("a leaf with its chain and without it have one digest: a refusal of the one would poison the other")
	}
	if again := certsource.NewPresented("y", client.Cert, client.Chain()[1:]); again.Digest() != whole.Digest() {
		t.Error("the digest depends on more than the certificates")
	}
	var none *certsource.Presented
	if none.Kind() != certsource.KindNone || none.Leaf() != nil || none.Thumbprint() != "" || none.Attributes() != nil || none.Chain() != nil || none.Digest() != [32]byte{} {
		t.Error("nil has something")
	}
	attributes := certsource.NewAttributes("x", certsource.Attributes{SANDNS: []string{"a"}})
	if attributes.Kind() != certsource.KindAttributes || attributes.Thumbprint() != "" || attributes.Leaf() != nil {
		t.Error("attributes have a certificate")
	}
	fingerprint := certsource.NewFingerprint("x", [32]byte{1})
	if fingerprint.Kind() != certsource.KindFingerprint || fingerprint.Leaf() != nil || len(fingerprint.Thumbprint()) != certbound.ThumbprintLen {
		t.Error("a fingerprint is not one")
	}
	for kind, want := range []string{"none", "attributes", "fingerprint", "certificate", "certificate"} {
		if got := certsource.Kind(kind).String(); got != want {
			t.Errorf("kind %d: %s", kind, got)
		}
	}
}

// Attack 9: the client opens a connection to the public host, which asks for no
// certificate, and sends a Host that belongs to the mutual-TLS host on it. A server that
// chooses its rules by wildcard, or compares text as it stands, serves it.
func TestAttackServerNameAndHostDiffer(t *testing.T) {
	t.Attr("attack", "9")
	handler := certsource.RequireAuthority(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	tests := []struct {
		name, sni, host string
		want            int
	}{
		{"the same", "mtls.as.test", "mtls.as.test", 200},
		{"the same with port", "mtls.as.test", "mtls.as.test:8443", 200},
		{"the same in upper case", "mtls.as.test", "MTLS.AS.TEST", 200},
		{"the same with a trailing dot", "mtls.as.test", "mtls.as.test.", 200},
		{"the same with dot and port", "mtls.as.test", "Mtls.as.test.:443", 200},
		{"an address without server name", "", "192.0.2.1", 200},
		{"an address and port without server name", "", "192.0.2.1:443", 200},
		{"an IPv6 address without server name", "", "[2001:db8::1]:443", 200},
		{"another host", "as.test", "mtls.as.test", 421},
		{"another host with port", "as.test", "mtls.as.test:443", 421},
		{"another host in upper case", "as.test", "MTLS.AS.TEST", 421},
		{"another host with a trailing dot", "as.test", "mtls.as.test.", 421},
		{"the parent", "mtls.as.test", "as.test", 421},
		{"a wildcard as host", "mtls.as.test", "*.as.test", 421},
		{"a sibling under the wildcard", "a.as.test", "b.as.test", 421},
		{"two trailing dots", "mtls.as.test", "mtls.as.test..", 421},
		{"a Kelvin sign", "k.test", "\u212a.test", 421},
		{"no server name", "", "mtls.as.test", 421},
		{"no host", "mtls.as.test", "", 421},
		{"neither", "", "", 421},
		{"only a port", "mtls.as.test", ":443", 421},
		{"an address for a name", "mtls.as.test", "192.0.2.1", 421},
		{"an IPv6 address for a name", "mtls.as.test", "[2001:db8::1]", 421},
		{"a name in brackets", "mtls.as.test", "[mtls.as.test]", 421},
		{"brackets not closed", "", "[2001:db8::1", 421},
		{"IPv6 without brackets", "", "2001:db8::1", 421},
		{"two ports", "mtls.as.test", "mtls.as.test:1:2", 421},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = tt.host
			r.TLS = &tls.ConnectionState{ServerName: tt.sni}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("%d, want %d", w.Code, tt.want)
			}
		})
	}
	r := httptest.NewRequest("GET", "/", nil)
	w := httptest.NewRecorder()
	if handler.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("without TLS: %d", w.Code)
	}
}

func TestHopIsRefusedAtStart(t *testing.T) {
	prefix := netip.MustParsePrefix
	tests := []struct {
		name string
		hop  certsource.Hop
		ok   bool
	}{
		{"a prefix", certsource.Hop{Prefixes: []netip.Prefix{prefix("192.0.2.1/32")}}, true},
		{"a thumbprint", certsource.Hop{Thumbprints: []string{certbound.Thumbprint(edge.Cert)}}, true},
		{"a unix socket", certsource.Hop{UnixSocket: true}, true},
		{"nobody", certsource.Hop{}, false},
		{"only the private network", certsource.Hop{InsecurePrivateNetwork: true}, false},
		{"everybody", certsource.Hop{Prefixes: []netip.Prefix{prefix("0.0.0.0/0")}}, false},
		{"everybody over IPv6", certsource.Hop{Prefixes: []netip.Prefix{prefix("::/0")}}, false},
		{"the zero prefix", certsource.Hop{Prefixes: []netip.Prefix{{}}}, false},
		{"an IPv4-mapped prefix", certsource.Hop{Prefixes: []netip.Prefix{prefix("::ffff:192.0.2.0/120")}}, false},
		{"a thumbprint in hex", certsource.Hop{Thumbprints: []string{strings.Repeat("ab", 32)}}, false},
		{"a thumbprint that is not canonical", certsource.Hop{Thumbprints: []string{strings.Repeat("A", 42) + "B"}}, false},
		{"a thumbprint with a line feed", certsource.Hop{Thumbprints: []string{strings.Repeat("A", 43) + "\n"}}, false},
		{"a good and a bad setting", certsource.Hop{UnixSocket: true, Prefixes: []netip.Prefix{{}}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.ok && tt.hop.Prefixes == nil && tt.hop.Thumbprints == nil {
				t.Attr("requirement", "H-4-5")
			}
			_, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: tt.hop})
			_, err2 := certsource.NewHeaderField(certsource.HeaderFieldConfig{Hop: tt.hop, Field: "X-Cert", Format: certsource.FormatDER})
			_, err3 := certsource.NewAttributeFields(certsource.AttributeFieldsConfig{Hop: tt.hop, SANDNS: "X-DNS",
				Verification: certsource.Verification{By: "edge", Anchors: "partners"}})
			for _, err := range []error{err, err2, err3} {
				if (err == nil) != tt.ok {
					t.Errorf("error %v, want to start: %v", err, tt.ok)
				}
			}
		})
	}
}

// Attack 2: a certificate header from somebody who is not the proxy, with the public
// certificate of a victim: from another address, from an address that a header or a
// rewritten RemoteAddr claims, from the proxy's network without what the proxy has.
func TestAttackForgedHeader(t *testing.T) {
	t.Attr("attack", "2")
	pinned := certsource.Hop{Prefixes: byAddress.Prefixes, Thumbprints: []string{certbound.Thumbprint(edge.Cert)}}
	tests := []struct {
		name string
		hop  certsource.Hop
		req  *http.Request
		ok   bool
	}{
		{"the proxy", byAddress, request(t, proxy), true},
		{"the proxy, IPv4-mapped", byAddress, request(t, "[::ffff:192.0.2.1]:1"), true},
		{"the proxy over TLS", certsource.Hop{Prefixes: byAddress.Prefixes}, over(request(t, proxy), nil), true},
		{"the proxy with its certificate", pinned, over(request(t, proxy), edge), true},
		{"loopback without TLS", certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, request(t, "127.0.0.1:1"), true},
		{"loopback, IPv6", certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("::1/128")}}, request(t, "[::1]:1"), true},
		{"a unix socket", certsource.Hop{UnixSocket: true}, request(t, "unix"), true},
		{"a pinned certificate from anywhere", certsource.Hop{Thumbprints: pinned.Thumbprints}, over(request(t, stranger), edge), true},

		{"another address", byAddress, request(t, stranger), false},
		{"a header that names the proxy", byAddress, request(t, stranger, "X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1"), false},
		{"no record of the connection", byAddress, request(t, ""), false},
		{"plain HTTP from the proxy's address", certsource.Hop{Prefixes: byAddress.Prefixes}, request(t, proxy), false},
		{"the proxy's network without its certificate", pinned, over(request(t, proxy), nil), false},
		{"the proxy's network with another certificate", pinned, over(request(t, proxy), other), false},
		{"the proxy's certificate from another network", pinned, over(request(t, stranger), edge), false},
		{"a unix socket that is not trusted", byAddress, request(t, "unix"), false},
		{"TCP where a unix socket is trusted", certsource.Hop{UnixSocket: true}, request(t, "127.0.0.1:1"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.RemoteAddr = proxy // whatever middleware has written there
			tt.req.Header.Set("Client-Cert", item(client.Cert))
			src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: tt.hop})
			if err != nil {
				t.Fatal(err)
			}
			p, err := src.Certificate(tt.req)
			if _, forged := errors.AsType[*certsource.UntrustedPeerError](err); forged == tt.ok || (p == nil) == tt.ok {
				t.Fatalf("%v (%v), want it believed: %v", p.Thumbprint(), err, tt.ok)
			}
			// Without a field such a peer is one without a certificate.
			tt.req.Header.Del("Client-Cert")
			if p, err := src.Certificate(tt.req); p != nil || !errors.Is(err, certsource.ErrNoCertificate) {
				t.Errorf("without a field: %v (%v)", p.Thumbprint(), err)
			}
		})
	}
	t.Run("twice in one request", func(t *testing.T) {
		src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
		if err != nil {
			t.Fatal(err)
		}
		r := request(t, proxy, "Client-Cert", item(client.Cert), "client-cert", item(other.Cert))
		if p, err := src.Certificate(r); p != nil || reason(err) != decision.SourceRepeated {
			t.Errorf("%v (%v)", p.Thumbprint(), err)
		}
	})
}

// Attack 26: a server that tries several header sources in turn lets the client fill in
// the one that the proxy does not set. Here one source counts, and the others are
// reported.
func TestAttackAnotherSourceIsTried(t *testing.T) {
	t.Attr("attack", "26")
	// How the hops of docs/spec/proxies.md forward certificates.
	known := []string{
		"X-Ssl-Cert", "Ssl-Client-Cert", "Ssl_client_cert", "X-Ssl-Client-Cert", "X-Client-Cert", "X-Forwarded-Client-Cert",
		"X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info", "X_forwarded_tls_client_cert", "X-Amzn-Mtls-Clientcert",
		"X-Amzn-Mtls-Clientcert-Leaf", "Cloudfront-Viewer-Cert-Pem", "X-Arr-Clientcert", "Cf-Client-Cert-Der-Base64", "Cf-Client-Cert-Sha256",
		"X-Ssl-Client-Verify", "X-Ssl-Client-Der", "Ssl-Client-Subject-Dn", "Ssl-Client-Verify", "Client-To-Edge", "Client-Certificate",
		"X-Ssl-Client-Dn", "X-Client-Cert-Chain",
	}
	rfc9440, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
	if err != nil {
		t.Fatal(err)
	}
	header, err := certsource.NewHeaderField(certsource.HeaderFieldConfig{Hop: byAddress, Field: "X-SSL-Cert", Format: certsource.FormatDER})
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range []certsource.Source{certsource.TLS{}, certsource.None{}, rfc9440, header} {
		t.Run(src.Name(), func(t *testing.T) {
			r := request(t, proxy)
			var want []string
			own := certsource.Describe(src).Fields
			for _, name := range append(known, "Client-Cert", "Client-Cert-Chain") {
				if !slices.Contains(own, name) {
					r.Header[name] = []string{item(client.Cert)}
					want = append(want, name)
				}
			}
			if p, err := src.Certificate(r); p != nil || !errors.Is(err, certsource.ErrNoCertificate) {
				t.Errorf("%v (%v), want no certificate", p.Thumbprint(), err)
			}
			slices.Sort(want)
			if got := certsource.Foreign(r, own...); !slices.Equal(got, want) {
				t.Errorf("reported:\n%q, want\n%q", got, want)
			}
		})
	}
	usual := request(t, proxy, "Accept", "*/*", "Content-Type", "a/b", "User-Agent", "x", "X-Request-Id", "1", "Cookie", "c", "Cache-Control", "no-cache", "Client-Cert", "own")
	if got := certsource.Foreign(usual, "client-cert"); got != nil {
		t.Errorf("usual fields are reported: %q", got)
	}
}

func TestRFC9440(t *testing.T) {
	leaf, chain := item(client.Cert), item(middle.Cert)
	tests := []struct {
		name      string
		header    []string
		want      *x509.Certificate
		wantChain []*x509.Certificate
		wantErr   decision.Reason
	}{
		{name: "leaf", header: []string{"Client-Cert", leaf}, want: client.Cert},
		{name: "leaf and chain", header: []string{"Client-Cert", leaf, "Client-Cert-Chain", chain},
			want: client.Cert, wantChain: []*x509.Certificate{middle.Cert}},
		{name: "chain in two lines", header: []string{"Client-Cert", leaf, "Client-Cert-Chain", chain, "Client-Cert-Chain", item(root.Cert)},
			want: client.Cert, wantChain: []*x509.Certificate{middle.Cert, root.Cert}},
		{name: "chain with leaf and copies", header: []string{"Client-Cert", leaf, "Client-Cert-Chain", leaf + ", " + chain + ", " + chain},
			want: client.Cert, wantChain: []*x509.Certificate{middle.Cert}},
		{name: "without colons", header: []string{"Client-Cert", strings.Trim(leaf, ":")}, wantErr: decision.SourceMalformed},
		{name: "nothing", wantErr: decision.NoCertificate},
		{name: "empty field", header: []string{"Client-Cert", ""}, wantErr: decision.SourceMalformed},
		{name: "empty sequence", header: []string{"Client-Cert", "::"}, wantErr: decision.SourceMalformed},
		{name: "chain alone", header: []string{"Client-Cert-Chain", chain}, wantErr: decision.SourceMalformed},
		{name: "two values", header: []string{"Client-Cert", leaf + ", " + leaf}, wantErr: decision.SourceMalformed},
		{name: "two equal lines", header: []string{"Client-Cert", leaf, "Client-Cert", leaf}, wantErr: decision.SourceRepeated},
		{name: "not a certificate", header: []string{"Client-Cert", ":aGk=:"}, wantErr: decision.SourceMalformed},
		{name: "trailing octets", header: []string{"Client-Cert", ":" + base64.StdEncoding.EncodeToString(append(slices.Clone(client.Cert.Raw), 0)) + ":"}, wantErr: decision.SourceMalformed},
		{name: "bad chain", header: []string{"Client-Cert", leaf, "Client-Cert-Chain", chain + ", x"}, wantErr: decision.SourceMalformed},
		{name: "chain of something else", header: []string{"Client-Cert", leaf, "Client-Cert-Chain", ":aGk=:"}, wantErr: decision.SourceMalformed},
	}
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // from the field, and from memory
				got, err := src.Certificate(request(t, proxy, tt.header...))
				if reason(err) != tt.wantErr || !isDeclared(err) && err != nil {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				if err != nil {
					if got != nil {
						t.Fatalf("a certificate beside error %v", err)
					}
					continue
				}
				if !got.Leaf().Equal(tt.want) || !slices.EqualFunc(got.Chain(), tt.wantChain, (*x509.Certificate).Equal) {
					t.Errorf("%v with %d more", got.Leaf().Subject, len(got.Chain()))
				}
				if got.Via != "rfc9440" || got.VerifiedBy != "" {
					t.Errorf("via %q, verified by %q", got.Via, got.VerifiedBy)
				}
			}
		})
	}
}

// One value is decoded once, whichever connection it comes on; with another chain it is
// another value.
func TestRFC9440Memory(t *testing.T) {
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
	if err != nil {
		t.Fatal(err)
	}
	get := func(peer string, header ...string) *certsource.Presented {
		t.Helper()
		p, err := src.Certificate(request(t, peer, header...))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	leaf := item(client.Cert)
	first := get(proxy, "Client-Cert", leaf)
	if get("192.0.2.2:1", "Client-Cert", leaf) != first {
		t.Error("decoded twice")
	}
	whole := get(proxy, "Client-Cert", leaf, "Client-Cert-Chain", item(middle.Cert))
	if len(whole.Chain()) != 1 {
		t.Error("the chain of the second request is that of the first")
	}
	if again := get(proxy, "Client-Cert", leaf); len(again.Chain()) != 0 {
		t.Error("the chain of the third request is that of the second")
	}
}

func TestRFC9440Limits(t *testing.T) {
	cfg := certsource.RFC9440Config{Hop: byAddress}
	src, err := certsource.NewRFC9440(cfg)
	if err != nil {
		t.Fatal(err)
	}
	leaf := item(client.Cert)
	for _, n := range []int{9, 10, 199} {
		chain := strings.TrimSuffix(strings.Repeat(item(middle.Cert)+", ", n), ", ")
		_, err := src.Certificate(request(t, proxy, "Client-Cert", leaf, "Client-Cert-Chain", chain))
		e, ok := errors.AsType[*certsource.ParseError](err)
		if ok != (n > 9) || ok && (e.Field != "Client-Cert-Chain" || e.Reason != decision.SourceTooLarge) {
			t.Errorf("%d certificates: %v", n+1, err)
		}
	}
	if _, err := src.Certificate(request(t, proxy, "Client-Cert", ":"+strings.Repeat("A", 70_000)+":")); reason(err) != decision.SourceTooLarge {
		t.Errorf("70 kB: %v", err)
	}
	cfg.MaxCertificates, cfg.MaxBytes = 200, 1<<20
	if src, err = certsource.NewRFC9440(cfg); err != nil {
		t.Fatal(err)
	}
	chain := strings.TrimSuffix(strings.Repeat(item(middle.Cert)+", ", 199), ", ")
	if _, err := src.Certificate(request(t, proxy, "Client-Cert", leaf, "Client-Cert-Chain", chain)); err != nil {
		t.Errorf("raised limits: %v", err)
	}
	cfg.MaxBytes = -1
	if _, err := certsource.NewRFC9440(cfg); err == nil {
		t.Error("a negative limit was taken")
	}
}

func TestOthers(t *testing.T) {
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress, Others: certsource.TLS{}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		req  *http.Request
		want *x509.Certificate
	}{
		{"stranger with a certificate", over(request(t, stranger), other), other.Cert},
		{"stranger with a certificate and a field", over(request(t, stranger, "Client-Cert", item(client.Cert)), other), other.Cert},
		{"stranger with a field", over(request(t, stranger, "Client-Cert", item(client.Cert)), nil), nil},
		{"proxy with a field and its own certificate", over(request(t, proxy, "Client-Cert", item(client.Cert)), edge), client.Cert},
		{"proxy with its own certificate", over(request(t, proxy), edge), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := src.Certificate(tt.req)
			if tt.want == nil {
				if p != nil || !errors.Is(err, certsource.ErrNoCertificate) {
					t.Errorf("%v (%v), want none", p.Thumbprint(), err)
				}
			} else if !tt.want.Equal(p.Leaf()) {
				t.Errorf("%v (%v)", p.Thumbprint(), err)
			}
		})
	}
}

func TestVerification(t *testing.T) {
	good := certsource.Verification{By: "edge", Anchors: "partners"}
	perRequest := certsource.Verification{By: "edge", Anchors: "partners", Field: "X-Verify", Success: "SUCCESS"}
	for name, v := range map[string]certsource.Verification{
		"no anchors":        {By: "edge"},
		"no name":           {Anchors: "partners"},
		"no success":        {By: "edge", Anchors: "partners", Field: "X-Verify"},
		"no field":          {By: "edge", Anchors: "partners", Success: "SUCCESS"},
		"field alone":       {Field: "X-Verify", Success: "SUCCESS"},
		"the field itself":  {By: "edge", Anchors: "partners", Field: "client-cert", Success: "SUCCESS"},
		"not a field name":  {By: "edge", Anchors: "partners", Field: "X Verify", Success: "SUCCESS"},
		"a colon in a name": {By: "edge", Anchors: "partners", Field: "X-Verify:", Success: "SUCCESS"},
	} {
		if _, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress, Verification: v}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	tests := []struct {
		name   string
		v      certsource.Verification
		header []string
		want   string
	}{
		{"not said", certsource.Verification{}, []string{"X-Verify", "SUCCESS"}, ""},
		{"said once for all", good, nil, "edge (anchors: partners)"},
		{"said for this request", perRequest, []string{"X-Verify", "SUCCESS"}, "edge (anchors: partners)"},
		{"not said for this request", perRequest, nil, ""},
		{"failed", perRequest, []string{"X-Verify", "FAILED:self signed certificate"}, ""},
		{"another spelling", perRequest, []string{"X-Verify", "success"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress, Verification: tt.v})
			if err != nil {
				t.Fatal(err)
			}
			for _, header := range [][]string{nil, tt.header} { // the outcome is not remembered
				r := request(t, proxy, append(header, "Client-Cert", item(client.Cert))...)
				p, err := src.Certificate(r)
				want := tt.want
				if header == nil && tt.v.Field != "" {
					want = ""
				}
				if err != nil || p.VerifiedBy != want {
					t.Errorf("%q (%v), want %q", p.VerifiedBy, err, want)
				}
			}
		})
	}
}

func TestHeaderField(t *testing.T) {
	der := base64.StdEncoding.EncodeToString(client.Cert.Raw)
	text := string(client.CertPEM())
	apache := strings.ReplaceAll(strings.TrimSpace(text), "\n", " ")
	nginx := escape(text)
	sum := certsource.NewPresented("", client.Cert, nil).Digest()
	fingerprint := hex.EncodeToString(sum[:])
	colons := strings.ToUpper(strings.Join(pairs(fingerprint), ":"))
	both := escape(text + string(pkitest.PEM(middle.Cert)))

	tests := []struct {
		name    string
		format  certsource.HeaderFormat
		values  []string
		want    certsource.Kind
		chain   int
		wantErr decision.Reason
	}{
		{"DER", certsource.FormatDER, []string{der}, certsource.KindCertificate, 0, ""},
		{"DER without padding", certsource.FormatDER, []string{strings.TrimRight(der, "=")}, certsource.KindCertificate, 0, ""},
		{"DER, no value", certsource.FormatDER, nil, 0, 0, decision.NoCertificate},
		{"DER, empty", certsource.FormatDER, []string{""}, 0, 0, decision.NoCertificate},
		{"DER twice", certsource.FormatDER, []string{der, der}, 0, 0, decision.SourceRepeated},
		{"DER and empty", certsource.FormatDER, []string{der, ""}, 0, 0, decision.SourceRepeated},
		{"DER in quotes", certsource.FormatDER, []string{`"` + der + `"`}, 0, 0, decision.SourceMalformed},
		{"DER in colons", certsource.FormatDER, []string{":" + der + ":"}, 0, 0, decision.SourceMalformed},
		{"DER, URL-safe", certsource.FormatDER, []string{base64.URLEncoding.EncodeToString(append(client.Cert.Raw, 0xfb, 0xff))}, 0, 0, decision.SourceMalformed},
		{"DER after form decoding", certsource.FormatDER, []string{strings.ReplaceAll(der, string(der[9]), " ")}, 0, 0, decision.SourceHalfDecoded},
		{"PEM where DER is set", certsource.FormatDER, []string{apache}, 0, 0, decision.SourceMalformed},
		{"escaped PEM where DER is set", certsource.FormatDER, []string{nginx}, 0, 0, decision.SourceMalformed},
		{"two DER", certsource.FormatDER, []string{der + "," + der}, 0, 0, decision.SourceMalformed},

		{"PEM with spaces", certsource.FormatPEM, []string{apache}, certsource.KindCertificate, 0, ""},
		{"PEM with tabs", certsource.FormatPEM, []string{strings.ReplaceAll(strings.TrimSpace(text), "\n", "\t")}, certsource.KindCertificate, 0, ""},
		{"PEM in one line", certsource.FormatPEM, []string{strings.ReplaceAll(text, "\n", "")}, certsource.KindCertificate, 0, ""},
		{"PEM with chain", certsource.FormatPEM, []string{apache + " " + strings.ReplaceAll(string(pkitest.PEM(middle.Cert)), "\n", " ")}, certsource.KindCertificate, 1, ""},
		{"PEM, Apache without a certificate", certsource.FormatPEM, []string{"(null)"}, 0, 0, decision.NoCertificate},
		{"PEM, first line only", certsource.FormatPEM, []string{"-----BEGIN CERTIFICATE-----"}, 0, 0, decision.SourceMalformed},
		{"PEM, empty block", certsource.FormatPEM, []string{"-----BEGIN CERTIFICATE----- -----END CERTIFICATE-----"}, 0, 0, decision.SourceMalformed},
		{"PEM, only spaces", certsource.FormatPEM, []string{"   "}, 0, 0, decision.SourceMalformed},
		{"PEM and more", certsource.FormatPEM, []string{apache + " more"}, 0, 0, decision.SourceMalformed},
		{"PEM of a key", certsource.FormatPEM, []string{strings.ReplaceAll(apache, "CERTIFICATE", "PUBLIC KEY")}, 0, 0, decision.SourceMalformed},
		{"DER where PEM is set", certsource.FormatPEM, []string{der}, 0, 0, decision.SourceMalformed},
		{"escaped where PEM is set", certsource.FormatPEM, []string{nginx}, 0, 0, decision.SourceHalfDecoded},
		{"PEM, too many", certsource.FormatPEM, []string{strings.Repeat(apache+" ", 11)}, 0, 0, decision.SourceTooLarge},

		{"escaped PEM", certsource.FormatEscapedPEM, []string{nginx}, certsource.KindCertificate, 0, ""},
		{"escaped PEM, plus and slash as they are", certsource.FormatEscapedPEM, []string{strings.NewReplacer("%2B", "+", "%2F", "/", "%3D", "=").Replace(nginx)}, certsource.KindCertificate, 0, ""},
		{"escaped PEM, lower-case digits", certsource.FormatEscapedPEM, []string{strings.NewReplacer("%2B", "%2b", "%0A", "%0a").Replace(nginx)}, certsource.KindCertificate, 0, ""},
		{"escaped PEM with chain", certsource.FormatEscapedPEM, []string{both}, certsource.KindCertificate, 1, ""},
		{"escaped PEM, cut escape", certsource.FormatEscapedPEM, []string{nginx + "%2"}, 0, 0, decision.SourceMalformed},
		{"escaped PEM, wrong escape", certsource.FormatEscapedPEM, []string{nginx + "%zz"}, 0, 0, decision.SourceMalformed},
		{"escaped twice", certsource.FormatEscapedPEM, []string{escape(nginx)}, 0, 0, decision.SourceHalfDecoded},

		{"fingerprint", certsource.FormatSHA256, []string{fingerprint}, certsource.KindFingerprint, 0, ""},
		{"fingerprint with colons", certsource.FormatSHA256, []string{colons}, certsource.KindFingerprint, 0, ""},
		{"fingerprint of SHA-1", certsource.FormatSHA256, []string{fingerprint[:40]}, 0, 0, decision.SourceMalformed},
		{"fingerprint with wrong separators", certsource.FormatSHA256, []string{strings.ReplaceAll(colons, ":", "-")}, 0, 0, decision.SourceMalformed},
		{"fingerprint with misplaced colons", certsource.FormatSHA256, []string{strings.Repeat(":", 31) + fingerprint}, 0, 0, decision.SourceMalformed},
		{"fingerprint in base64url", certsource.FormatSHA256, []string{certbound.Thumbprint(client.Cert)}, 0, 0, decision.SourceMalformed},
		{"fingerprint not hexadecimal", certsource.FormatSHA256, []string{strings.Repeat("g", 64)}, 0, 0, decision.SourceMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, err := certsource.NewHeaderField(certsource.HeaderFieldConfig{Hop: byAddress, Field: "x-ssl-cert", Format: tt.format})
			if err != nil {
				t.Fatal(err)
			}
			r := request(t, proxy)
			if tt.values != nil {
				r.Header["X-Ssl-Cert"] = tt.values
			}
			p, err := src.Certificate(r)
			if reason(err) != tt.wantErr || err != nil && p != nil {
				t.Fatalf("%v, error %v, want %q", p, err, tt.wantErr)
			}
			if p.Kind() != tt.want || err == nil && p.Thumbprint() != certbound.Thumbprint(client.Cert) || len(p.Chain()) != tt.chain {
				t.Errorf("%s %s with %d more", p.Kind(), p.Thumbprint(), len(p.Chain()))
			}
			// From a stranger it is nothing but forged.
			r2 := request(t, stranger)
			r2.Header = r.Header
			if p, err := src.Certificate(r2); p != nil || tt.values != nil && reason(err) != decision.SourceUntrusted {
				t.Errorf("from a stranger: %v (%v)", p.Thumbprint(), err)
			}
		})
	}
	for name, cfg := range map[string]certsource.HeaderFieldConfig{
		"no format":       {Hop: byAddress, Field: "X-Cert"},
		"unknown format":  {Hop: byAddress, Field: "X-Cert", Format: 9},
		"no field":        {Hop: byAddress, Format: certsource.FormatDER},
		"not a field":     {Hop: byAddress, Field: "X Cert", Format: certsource.FormatDER},
		"a field and CR":  {Hop: byAddress, Field: "X-Cert\r", Format: certsource.FormatDER},
		"a negative size": {Hop: byAddress, Field: "X-Cert", Format: certsource.FormatDER, MaxBytes: -1},
	} {
		if _, err := certsource.NewHeaderField(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// escape is what nginx does for $ssl_client_escaped_cert.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	return b.String()
}

func pemOf(c *x509.Certificate) []byte { return pkitest.PEM(c) }

func pairs(s string) (out []string) {
	for c := range slices.Chunk([]byte(s), 2) {
		out = append(out, string(c))
	}
	return out
}

func TestAttributeFields(t *testing.T) {
	verified := certsource.Verification{By: "edge", Anchors: "partners", Field: "SSL_CLIENT_VERIFY", Success: "SUCCESS"}
	good := certsource.AttributeFieldsConfig{
		Hop: byAddress, Verification: verified,
		SubjectDN: "SSL_CLIENT_DN", DNSyntax: certsource.DNSyntaxLegacy, SANDNS: "SSL_CLIENT_DNS", SANURI: "SSL_CLIENT_URI",
	}
	for name, change := range map[string]func(*certsource.AttributeFieldsConfig){
		"no verification":        func(c *certsource.AttributeFieldsConfig) { c.Verification = certsource.Verification{} },
		"no syntax":              func(c *certsource.AttributeFieldsConfig) { c.DNSyntax = certsource.DNSyntaxUnset },
		"unknown syntax":         func(c *certsource.AttributeFieldsConfig) { c.DNSyntax = 9 },
		"syntax without subject": func(c *certsource.AttributeFieldsConfig) { c.SubjectDN = "" },
		"one field twice":        func(c *certsource.AttributeFieldsConfig) { c.SANURI = "ssl_client_dns" },
		"no field": func(c *certsource.AttributeFieldsConfig) {
			*c = certsource.AttributeFieldsConfig{Hop: byAddress, Verification: verified}
		},
	} {
		cfg := good
		change(&cfg)
		if _, err := certsource.NewAttributeFields(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	src, err := certsource.NewAttributeFields(good)
	if err != nil {
		t.Fatal(err)
	}
	dn := "/C=US/CN=client"
	many := make([]string, 0, 202)
	for range 101 {
		many = append(many, "SSL_CLIENT_DNS", "a.example")
	}
	tests := []struct {
		name         string
		header       []string
		wantVerified bool
		wantDNS      []string
		wantErr      decision.Reason
	}{
		{name: "several values in several lines", header: []string{"SSL_CLIENT_DN", dn, "SSL_CLIENT_DNS", "a.example", "SSL_CLIENT_DNS", "b.example", "SSL_CLIENT_VERIFY", "SUCCESS"},
			wantVerified: true, wantDNS: []string{"a.example", "b.example"}},
		{name: "a comma is part of a value", header: []string{"SSL_CLIENT_DN", dn, "SSL_CLIENT_DNS", "a.example,b.example", "SSL_CLIENT_VERIFY", "SUCCESS"},
			wantVerified: true, wantDNS: []string{"a.example,b.example"}},
		{name: "not verified", header: []string{"SSL_CLIENT_DN", dn, "SSL_CLIENT_VERIFY", "FAILED:expired"}},
		{name: "not said to be verified", header: []string{"SSL_CLIENT_DN", dn}},
		{name: "nothing", wantErr: decision.NoCertificate},
		{name: "empty", header: []string{"SSL_CLIENT_DN", "", "SSL_CLIENT_VERIFY", "NONE"}, wantErr: decision.NoCertificate},
		{name: "two subjects", header: []string{"SSL_CLIENT_DN", dn, "SSL_CLIENT_DN", "/CN=admin", "SSL_CLIENT_VERIFY", "SUCCESS"}, wantErr: decision.SourceRepeated},
		{name: "too many values", header: many, wantErr: decision.SourceTooLarge},
		{name: "too large", header: []string{"SSL_CLIENT_DNS", strings.Repeat("a", 65<<10)}, wantErr: decision.SourceTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := src.Certificate(request(t, proxy, tt.header...))
			if reason(err) != tt.wantErr {
				t.Fatalf("error %v, want %q", err, tt.wantErr)
			}
			if err != nil {
				if p != nil {
					t.Error("names beside an error")
				}
				return
			}
			a := p.Attributes()
			if !slices.Equal(a.SubjectDN, []string{dn}) || a.DNSyntax != certsource.DNSyntaxLegacy || !slices.Equal(a.SANDNS, tt.wantDNS) || (p.VerifiedBy != "") != tt.wantVerified {
				t.Errorf("%+v, verified by %q", a, p.VerifiedBy)
			}
		})
	}
	if _, err := src.Certificate(request(t, stranger, "SSL_CLIENT_DN", dn, "SSL_CLIENT_VERIFY", "SUCCESS")); reason(err) != decision.SourceUntrusted {
		t.Errorf("from a stranger: %v", err)
	}
}

type broken struct{ certsource.None }

func (broken) Certificate(*http.Request) (*certsource.Presented, error) {
	return nil, errors.New("broken")
}

func TestCheck(t *testing.T) {
	_, err := broken{}.Certificate(nil)
	if got := certsource.Check(err); got.Reason != decision.HookFailed || got.Outcome != decision.Failed {
		t.Errorf("an unknown error: %+v", got)
	}
	if got := certsource.Check(certsource.ErrNoCertificate); got.Name != decision.CheckCertificate || got.Found != "" {
		t.Errorf("%+v", got)
	}
	if d := certsource.Describe(struct{ certsource.Source }{certsource.None{}}); d.Most != certsource.KindCertificate {
		t.Errorf("a source that says nothing: %+v", d)
	}
	if certsource.Peer(context.Background()) != "" || certsource.Peer(request(t, "unix").Context()) != "unix" {
		t.Error("peer")
	}
}
