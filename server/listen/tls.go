package listen

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
)

// TLSConfig returns the TLS settings of one listener: TLS 1.2 and 1.3 (RFC 9325,
// Section 3.1), under 1.2 only suites with forward secrecy and authenticated encryption
// (Section 4.2), HTTP/2 and HTTP/1.1 by ALPN. A client that asks for a name which the
// certificate is not valid for is turned away in the handshake (Section 3.7).
//
// A client certificate is asked for, or not, and never verified here: no ClientCAs, no
// verifying mode. So a client with a self-signed certificate gets as far as one from a
// CA, a refusal is an OAuth error instead of a TLS alert, and a resumed session, whose
// certificate TLS does not look at again, is judged like a new one.
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
	}
	return conf
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
