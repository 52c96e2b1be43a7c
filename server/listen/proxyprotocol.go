package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// The PROXY protocol of HAProxy, versions 1 and 2: a load balancer that passes TLS through
// puts the address of its peer before the first octet of the connection. It is read here,
// and not with one of the libraries, because http.Server asks for the peer's address in
// its accept loop: a library that reads the header when it is asked for would let one
// silent connection stop all others. What is left is small.

// Limits of the header. Version 1 has at most 107 octets with its line end; version 2 has
// 16 and as many as it says, which are addresses and extensions that are not used.
const (
	maxProxyV1     = 107
	maxProxyV2     = 2048
	proxyTimeout   = 5 * time.Second
	pendingProxied = 1024 // connections whose header is awaited
)

// Errors of a header.
var (
	errNoProxyHeader = errors.New("listen: no header of the PROXY protocol")
	errProxyHeader   = errors.New("listen: a malformed header of the PROXY protocol")
)

var proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

// readProxyHeader reads the header, and nothing after it. It returns the address of the
// peer; ok is false if the load balancer speaks for itself (LOCAL, UNKNOWN), as it does
// for its health checks.
func readProxyHeader(r io.Reader) (peer netip.AddrPort, ok bool, err error) {
	// The shortest header of version 1 has 15 octets, "PROXY UNKNOWN\r\n"; one octet more
	// is read only when that is known.
	var head [maxProxyV2]byte
	if _, err := io.ReadFull(r, head[:12]); err != nil {
		return netip.AddrPort{}, false, errNoProxyHeader
	}
	switch {
	case bytes.Equal(head[:12], proxyV2):
		return readProxyV2(r, head[:])
	case bytes.HasPrefix(head[:], []byte("PROXY ")):
		for n := 12; n < maxProxyV1; n++ {
			if _, err := io.ReadFull(r, head[n:n+1]); err != nil {
				return netip.AddrPort{}, false, errProxyHeader
			}
			if head[n] == '\n' {
				return parseProxyV1(string(head[:n+1]))
			}
		}
		return netip.AddrPort{}, false, errProxyHeader
	}
	return netip.AddrPort{}, false, errNoProxyHeader
}

func parseProxyV1(line string) (peer netip.AddrPort, ok bool, err error) {
	line, ok = strings.CutSuffix(line, "\r\n")
	if !ok {
		return netip.AddrPort{}, false, errProxyHeader
	}
	if line == "PROXY UNKNOWN" || strings.HasPrefix(line, "PROXY UNKNOWN ") {
		return netip.AddrPort{}, false, nil
	}
	words := strings.Split(line, " ")
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return netip.AddrPort{}, false, errProxyHeader
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(words[2+i])
		port, err2 := parsePort(words[4+i])
		if err != nil || err2 != nil || addr.Zone() != "" || addr.Is4() != (words[1] == "TCP4") {
			return netip.AddrPort{}, false, errProxyHeader
		}
		ends[i] = netip.AddrPortFrom(addr, port)
	}
	return ends[0], true, nil
}

func parsePort(s string) (uint16, error) {
	n := 0
	if s == "" || len(s) > 5 || len(s) > 1 && s[0] == '0' {
		return 0, errProxyHeader
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, errProxyHeader
		}
		n = 10*n + int(c-'0')
	}
	if n > 65535 {
		return 0, errProxyHeader
	}
	return uint16(n), nil
}

func readProxyV2(r io.Reader, head []byte) (peer netip.AddrPort, ok bool, err error) {
	if _, err := io.ReadFull(r, head[12:16]); err != nil {
		return netip.AddrPort{}, false, errProxyHeader
	}
	n := int(binary.BigEndian.Uint16(head[14:16]))
	if head[12]>>4 != 2 || 16+n > len(head) {
		return netip.AddrPort{}, false, errProxyHeader
	}
	body := head[16 : 16+n]
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, false, errProxyHeader
	}
	switch head[12] & 15 {
	case 0: // LOCAL
		return netip.AddrPort{}, false, nil
	case 1: // PROXY
	default:
		return netip.AddrPort{}, false, errProxyHeader
	}
	switch head[13] {
	case 0x11: // TCP over IPv4
		if n < 12 {
			return netip.AddrPort{}, false, errProxyHeader
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:])), true, nil
	case 0x21: // TCP over IPv6
		if n < 36 {
			return netip.AddrPort{}, false, errProxyHeader
		}
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)), binary.BigEndian.Uint16(body[32:])), true, nil
	case 0x00: // UNSPEC
		return netip.AddrPort{}, false, nil
	}
	return netip.AddrPort{}, false, errProxyHeader
}

// A proxied listener gives connections of load balancers the address that they announce.
// From these the header is demanded; a connection without it, or with a malformed one, is
// closed. From everybody else the connection is as it is, so that a header there is the
// nonsense at the start of a TLS or HTTP stream that it looks like.
type proxied struct {
	net.Listener
	balancers []netip.Prefix
	log       *slog.Logger

	start sync.Once
	ready chan net.Conn
	slots chan struct{}
	done  chan struct{}
	end   sync.Once
	err   error
}

func newProxied(l net.Listener, balancers []netip.Prefix, log *slog.Logger) *proxied {
	return &proxied{
		Listener: l, balancers: balancers, log: log,
		ready: make(chan net.Conn), slots: make(chan struct{}, pendingProxied), done: make(chan struct{}),
	}
}

// Accept implements [net.Listener]. Headers are awaited beside it, so that a load balancer
// that is silent holds up nobody.
func (p *proxied) Accept() (net.Conn, error) {
	p.start.Do(func() { go p.accept() })
	select {
	case c := <-p.ready:
		return c, nil
	case <-p.done:
		return nil, p.err
	}
}

func (p *proxied) accept() {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			p.stop(err)
			return
		}
		if !p.fromBalancer(c) {
			p.hand(c)
			continue
		}
		select {
		case p.slots <- struct{}{}:
		case <-p.done:
			c.Close()
			return
		}
		go func() {
			defer func() { <-p.slots }()
			p.greet(c)
		}()
	}
}

func (p *proxied) fromBalancer(c net.Conn) bool {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := addr.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(p.balancers, func(b netip.Prefix) bool { return b.Contains(ip) })
}

func (p *proxied) greet(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(proxyTimeout))
	peer, ok, err := readProxyHeader(c)
	if err != nil {
		p.log.Debug(err.Error(), "peer", c.RemoteAddr().String())
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	if ok && !believable(c, peer.Addr().Unmap()) {
		p.log.Warn("listen: a header of the PROXY protocol announces a peer that cannot be one; who may connect as a load balancer?",
			"peer", c.RemoteAddr().String(), "announced", peer.Addr().String())
		c.Close()
		return
	}
	if ok {
		c = &announced{c, net.TCPAddrFromAddrPort(peer)}
	}
	p.hand(c)
}

// believable reports whether a load balancer can have the peer. A loopback address says
// that nothing was on a wire, for which plain HTTP is believed (see [certsource.Hop]); the
// header cannot say so, unless the load balancer itself is on this machine.
func believable(c net.Conn, peer netip.Addr) bool {
	if peer.IsUnspecified() || peer.IsMulticast() {
		return false
	}
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	return !peer.IsLoopback() || ok && addr.IP.IsLoopback()
}

func (p *proxied) hand(c net.Conn) {
	select {
	case p.ready <- c:
	case <-p.done:
		c.Close()
	}
}

func (p *proxied) stop(err error) {
	p.end.Do(func() {
		p.err = err
		close(p.done)
	})
}

// Close implements [net.Listener].
func (p *proxied) Close() error {
	err := p.Listener.Close()
	p.stop(net.ErrClosed)
	return err
}

// An announced connection has the address that a load balancer has announced.
type announced struct {
	net.Conn
	peer net.Addr
}

func (a *announced) RemoteAddr() net.Addr { return a.peer }
