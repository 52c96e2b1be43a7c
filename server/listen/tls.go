package listen

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// onlyAESGCM leaves of TLS 1.2 what the FAPI 2.0 Security Profile, Section 5.2.2, leaves:
// the suites that BCP 195 recommends (RFC 9325, Section 4.2), forward secrecy with AES-GCM.
func onlyAESGCM(conf *tls.Config) {
	conf.CipherSuites = []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	}
}

// TLSConfig returns the TLS settings of one listener: TLS 1.2 and 1.3 (RFC 9325,
// Section 3.1), under 1.2 only suites with forward secrecy and authenticated encryption
// (Section 4.2), HTTP/2 and HTTP/1.1 by ALPN. A client that asks for a name which the
// certificate is not valid for is turned away in the handshake (Section 3.7).
//
// A client certificate is asked for, or not, and not verified here, but for its size: no
// ClientCAs, no verifying mode. So a client with a self-signed certificate gets as far as
// one from a CA, a refusal is an OAuth error instead of a TLS alert, and a resumed session,
// whose certificate TLS does not look at again, is judged like a new one.
//
// Every listener needs a config of its own.
func TLSConfig(pair *Pair, askForCertificate bool) *tls.Config {
	conf := &tls.Config{
		GetCertificate: pair.forHello,
		MinVersion:     tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.NoClientCert,
	}
	if askForCertificate {
		conf.ClientAuth = tls.RequestClientCert
		// Also called when a session is resumed, whose certificates come from the ticket.
		conf.VerifyConnection = func(s tls.ConnectionState) error { return presentable(s.PeerCertificates) }
	}
	return conf
}

// What a connection keeps of its client's certificates for as long as it is open, and no
// client has: 200 certificates of the usual size pass, and are refused by the application.
const (
	maxPresented = 128 << 10 // bytes of DER, all certificates together
	maxNames     = 1000      // subject alternative names, all certificates together
)

// ErrTooLarge reports a handshake whose client presents too much.
var ErrTooLarge = errors.New("listen: the client presents certificates that are too large")

// presentable bounds the memory of a connection. crypto/tls takes 256 KiB, which can take
// 40 times as much when they are parsed.
func presentable(certs []*x509.Certificate) error {
	size, names := 0, 0
	for _, c := range certs {
		size += len(c.Raw)
		names += len(c.DNSNames) + len(c.URIs) + len(c.EmailAddresses) + len(c.IPAddresses)
	}
	if size > maxPresented || names > maxNames {
		return fmt.Errorf("%w: expected at most %d bytes and %d names, found %d and %d; let the client send its certificate and the intermediates only",
			ErrTooLarge, maxPresented, maxNames, size, names)
	}
	return nil
}

// rotateTickets puts a new ticket key before the one in use, and drops those before
// it: a ticket is opened for two periods at most.
func rotateTickets(conf *tls.Config, keys *[][32]byte) error {
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return fmt.Errorf("listen: ticket key: %w", err)
	}
	next := [][32]byte{key}
	if len(*keys) > 0 {
		next = append(next, (*keys)[0])
	}
	*keys = next
	conf.SetSessionTicketKeys(next)
	return nil
}
