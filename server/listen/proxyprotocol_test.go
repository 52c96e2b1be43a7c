package listen

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
)

func v2(command, family byte, body ...byte) string {
	return string(proxyV2) + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + string(body)
}

var (
	tcp4 = []byte{203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 1, 187}
	tcp6 = append(append(append([]byte{0x20, 1, 0xd, 0xb8}, make([]byte, 11)...), 7), append(make([]byte, 16), 0x30, 0x39, 1, 187)...)
)

func TestProxyHeader(t *testing.T) {
	tests := []struct {
		name, in string
		want     string // the peer, or "" for the load balancer itself
		err      error
	}{
		{"version 1", "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n", "203.0.113.7:12345", nil},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n", "[2001:db8::7]:12345", nil},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", "", nil},
		{"version 1, unknown with more", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "", nil},
		{"version 1 with a line feed alone", "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\n", "", errProxyHeader},
		{"version 1 without line end", "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443" + strings.Repeat(" ", 100), "", errProxyHeader},
		{"version 1 cut off", "PROXY TCP4 203.0.113.7", "", errProxyHeader},
		{"version 1, IPv6 as TCP4", "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", "", errProxyHeader},
		{"version 1, IPv4 as TCP6", "PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n", "", errProxyHeader},
		{"version 1 with a zone", "PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n", "", errProxyHeader},
		{"version 1, a port too high", "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n", "", errProxyHeader},
		{"version 1, a port with a zero", "PROXY TCP4 203.0.113.7 192.0.2.1 012 443\r\n", "", errProxyHeader},
		{"version 1, a signed port", "PROXY TCP4 203.0.113.7 192.0.2.1 +12 443\r\n", "", errProxyHeader},
		{"version 1, two spaces", "PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n", "", errProxyHeader},
		{"version 1, UDP", "PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n", "", errProxyHeader},
		{"version 2", v2(0x21, 0x11, tcp4...), "203.0.113.7:12345", nil},
		{"version 2, IPv6", v2(0x21, 0x21, tcp6...), "[2001:db8::7]:12345", nil},
		{"version 2 with extensions", v2(0x21, 0x11, append(bytes.Clone(tcp4), 1, 0, 1, 'x')...), "203.0.113.7:12345", nil},
		{"version 2, local", v2(0x20, 0x00), "", nil},
		{"version 2, local with addresses", v2(0x20, 0x11, tcp4...), "", nil},
		{"version 2, unspecified", v2(0x21, 0x00), "", nil},
		{"version 2, addresses too short", v2(0x21, 0x11, tcp4[:11]...), "", errProxyHeader},
		{"version 2, cut off", v2(0x21, 0x11, tcp4...)[:20], "", errProxyHeader},
		{"version 2, too long", v2(0x21, 0x11, make([]byte, 4096)...), "", errProxyHeader},
		{"version 2, UDP", v2(0x21, 0x12, tcp4...), "", errProxyHeader},
		{"version 2, a socket", v2(0x21, 0x31, make([]byte, 216)...), "", errProxyHeader},
		{"version 2, an unknown command", v2(0x22, 0x11, tcp4...), "", errProxyHeader},
		{"version 3", v2(0x31, 0x11, tcp4...), "", errProxyHeader},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", errNoProxyHeader},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03xxxx", "", errNoProxyHeader},
		{"nothing", "", "", errNoProxyHeader},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rest := "GET"
			r := strings.NewReader(tt.in + rest)
			peer, ok, err := readProxyHeader(r)
			if err != tt.err || ok != (tt.want != "") || ok && peer.String() != tt.want {
				t.Fatalf("%v %v %v, want %q %v", peer, ok, err, tt.want, tt.err)
			}
			if left, _ := io.ReadAll(r); err == nil && string(left) != rest {
				t.Errorf("left for TLS: %q", left)
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, s := range []string{"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\nGET", "PROXY UNKNOWN\r\n", v2(0x21, 0x11, tcp4...), v2(0x20, 0), "", "PROXY "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		peer, ok, err := readProxyHeader(r)
		if err != nil && (ok || peer.IsValid() || err != errProxyHeader && err != errNoProxyHeader) {
			t.Errorf("%v %v beside %v", peer, ok, err)
		}
		if ok != peer.IsValid() {
			t.Errorf("%v %v", peer, ok)
		}
		if read := len(data) - r.Len(); read > maxProxyV2 {
			t.Errorf("%d octets read", read)
		}
	})
}

// serveProxied serves on loopback what a handler sees of its peer.
func serveProxied(t *testing.T, balancers ...netip.Prefix) (address string) {
	_, address = serve(t, Config{
		Name: "proxied", ProxyProtocol: balancers,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, certsource.Peer(r.Context())) }),
	})
	return address
}

func ask(t *testing.T, address, header string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, header+"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, _ := io.ReadAll(c)
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return body
}

// The address of the header counts, from the load balancers that are named, and only from
// these; they have to send one.
func TestProxyProtocol(t *testing.T) {
	const header = "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n"
	trusted := serveProxied(t, netip.MustParsePrefix("127.0.0.0/8"))
	// Connections whose header never comes hold up nobody.
	for range 3 {
		c, err := net.Dial("tcp", trusted)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if got := ask(t, trusted, header); got != "203.0.113.7:12345" {
		t.Errorf("peer %q", got)
	}
	if got := ask(t, trusted, v2(0x20, 0)); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("a health check: peer %q", got)
	}
	for name, start := range map[string]string{"no header": "", "a malformed header": "PROXY TCP4 x\r\n"} {
		if got := ask(t, trusted, start); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	// Attack 2: somebody else announces the proxy's address.
	t.Attr("attack", "2")
	others := serveProxied(t, netip.MustParsePrefix("192.0.2.0/24"))
	if got := ask(t, others, header); strings.Contains(got, "203.0.113.7") {
		t.Errorf("from a stranger: peer %q", got)
	}
	if got := ask(t, others, ""); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("from a stranger without header: peer %q", got)
	}
	if got := ask(t, serveProxied(t), header); strings.Contains(got, "203.0.113.7") {
		t.Errorf("with nobody named: peer %q", got)
	}
	if _, err := New(Config{Name: "x", Handler: http.NotFoundHandler(), ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}); err == nil {
		t.Error("everybody as load balancer was taken")
	}
}

// addressed is a connection from another address than it has.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.from }

type addressedListener struct {
	net.Listener
	from net.Addr
}

func (l addressedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return addressed{c, l.from}, nil
}

// A neighbour in the network of the load balancers, for which the PROXY protocol is
// switched on, connects himself and announces 127.0.0.1, plain or mapped into IPv6. With a
// proxy on the same machine as hop, over plain HTTP, he was taken for it, and his
// Client-Cert for the word of the proxy. Such a connection is closed.
func TestAttackAnnouncedLoopback(t *testing.T) {
	neighbour := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 66), Port: 4711}
	source, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}})
	if err != nil {
		t.Fatal(err)
	}
	mapped := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}, tcp6[16:]...)
	loopback4 := append([]byte{127, 0, 0, 1}, tcp4[4:]...)
	loopback6 := append(append(make([]byte, 15), 1), tcp6[16:]...)
	start := func(from *net.TCPAddr, balancer string) (address string) {
		s, err := New(Config{Name: "proxied", Logger: quiet, ProxyProtocol: []netip.Prefix{netip.MustParsePrefix(balancer)},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p, err := source.Certificate(r)
				_, refused := errors.AsType[*certsource.UntrustedPeerError](err)
				fmt.Fprintf(w, "%t refused as a stranger's: %t", p != nil, refused)
			})})
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open("127.0.0.1:0", "--listen")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(addressedListener{l, from}) }()
		t.Cleanup(func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			<-done
		})
		return l.Addr().String()
	}
	victim := certsource.Presets()[0].Forward(fixture.Certs().L1.Cert).Get("Client-Cert")
	send := func(address, header string) string {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, header+"GET / HTTP/1.1\r\nHost: x\r\nClient-Cert: "+victim+"\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(c)
		_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
		return body
	}
	address := start(neighbour, "10.0.0.0/8")
	for name, header := range map[string]string{
		"127.0.0.1":             "PROXY TCP4 127.0.0.1 192.0.2.1 1 2\r\n",
		"::1":                   "PROXY TCP6 ::1 2001:db8::1 1 2\r\n",
		"mapped":                "PROXY TCP6 ::ffff:127.0.0.1 2001:db8::1 1 2\r\n",
		"127.0.0.1 in binary":   v2(0x21, 0x11, loopback4...),
		"::1 in binary":         v2(0x21, 0x21, loopback6...),
		"mapped in binary":      v2(0x21, 0x21, mapped...),
		"an address of nobody":  "PROXY TCP4 0.0.0.0 192.0.2.1 1 2\r\n",
		"an address of a group": "PROXY TCP4 224.0.0.1 192.0.2.1 1 2\r\n",
	} {
		if got := send(address, header); got != "" {
			t.Errorf("%s: answered: %s", name, got)
		}
	}
	if got := send(address, "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n"); got != "false refused as a stranger's: true" {
		t.Errorf("a peer behind the load balancer: %q", got)
	}
	// A load balancer on this machine can have peers there.
	if got := send(start(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, "127.0.0.0/8"), "PROXY TCP4 127.0.0.1 192.0.2.1 1 2\r\n"); got != "true refused as a stranger's: false" {
		t.Errorf("a load balancer on this machine: %q", got)
	}
}

// A unix socket: the peer is known as one, a left-over socket is replaced, one in use is
// not, and neither is a file.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certbound.sock")
	l, err := Open("unix:"+path, "--listen")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open("unix:"+path, "--listen"); !errors.Is(err, ErrInUse) {
		t.Errorf("a socket in use: %v", err)
	}
	s, err := New(Config{Name: "unix", Logger: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, certsource.Peer(r.Context()))
	})})
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "unix" {
		t.Errorf("peer %q", body)
	}
	client.CloseIdleConnections()
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as if the process had been killed
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err = Open("unix:"+path, "--listen")
	if err != nil {
		t.Fatalf("a left-over socket: %v", err)
	}
	l.Close()
	if _, err := Open("unix:"+filepath.Dir(path), "--listen"); !errors.Is(err, ErrAddress) && !errors.Is(err, ErrInUse) {
		t.Errorf("a folder: %v", err)
	}
}
