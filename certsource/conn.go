package certsource

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
)

// ConnContext records what is known of a connection, for the sources. Set it as
// [http.Server.ConnContext] of every listener; without it no peer is a trusted proxy.
// An own ConnContext calls it:
//
//	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
//		return certsource.ConnContext(mine(ctx, c), c)
//	}
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	info := new(conn)
	switch addr := c.RemoteAddr().(type) {
	case *net.TCPAddr:
		peer := addr.AddrPort()
		info.addr = peer.Addr().Unmap().WithZone("")
		info.peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()).String()
	case *net.UnixAddr:
		info.unix = true
		info.peer = "unix"
	default:
		if addr != nil { // a listener of the caller's: known to logs, trusted by nobody
			info.peer = addr.String()
		}
	}
	return context.WithValue(ctx, connKey{}, info)
}

// Peer returns the peer of the connection that ctx belongs to, as [ConnContext] saw
// it: an address with its port, "unix", or "" if there is no record. It is meant for
// logs; no header and no middleware changes it.
func Peer(ctx context.Context) string {
	if c := connOf(ctx); c != nil {
		return c.peer
	}
	return ""
}

type connKey struct{}

// conn is what is known of a connection.
type conn struct {
	addr netip.Addr // of a TCP peer, unmapped, without zone
	unix bool
	peer string

	tls atomic.Pointer[tlsMemory]
}

// tlsMemory is the certificate of the connection itself. It is kept so that the
// requests of a kept-alive connection, of which HTTP/2 has many at a time, neither
// parse nor hash.
type tlsMemory struct {
	certs     []*x509.Certificate
	presented *Presented
}

func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// A TLS is the native source: the certificate of the TLS connection that the request
// came on. It proves possession of the key, since crypto/tls has checked
// CertificateVerify (RFC 8705, Section 1.2); a resumed session carries the certificate
// over (RFC 8446, Section 2.2). Whether the certificate is genuine, and still valid,
// is for others to say, for each request anew.
//
// The listener must ask for a certificate and demand nothing: [tls.RequestClientCert]
// with ClientCAs nil, since Go's clients do not send a certificate whose issuer is not
// listed there.
type TLS struct{}

// Name returns "tls".
func (TLS) Name() string { return "tls" }

// Describe implements [Describer].
func (TLS) Describe() Description { return Description{Most: KindCertificate} }

// Certificate returns the certificates of the connection. With [ConnContext] they are
// hashed once for a connection.
func (TLS) Certificate(r *http.Request) (*Presented, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, ErrNoCertificate
	}
	certs := r.TLS.PeerCertificates
	c := connOf(r.Context())
	if c != nil {
		// The certificates are compared, by identity, because a handler may
		// have replaced r.TLS.
		if m := c.tls.Load(); m != nil && slices.Equal(m.certs, certs) {
			return m.presented, nil
		}
	}
	p := NewPresented("tls", certs[0], certs[1:])
	if c != nil {
		c.tls.Store(&tlsMemory{certs, p})
	}
	return p, nil
}
