package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Protocols of an [Upstream].
const (
	ProtocolAuto  = "auto"  // over TLS what ALPN says, otherwise HTTP/1.1
	ProtocolHTTP1 = "http1" // HTTP/1.1
	ProtocolHTTP2 = "http2" // HTTP/2, without TLS by prior knowledge (h2c); gRPC needs it
)

// UpstreamConfig holds the settings of an [Upstream].
type UpstreamConfig struct {
	// URL is http or https with host and port, or unix: and the path of a socket.
	// Required. It has no path: that of the request is sent on.
	URL string
	// Protocol is one of the constants of this package. If empty, ProtocolAuto.
	Protocol string
	// RootCAs verify an https upstream; if nil, the system's. ServerName is the name
	// in its certificate; if empty, the host of URL.
	RootCAs    *x509.CertPool
	ServerName string
	// Certificate, if set, returns the certificate with which the gateway itself
	// authenticates to an https upstream. It is called for each handshake.
	Certificate func() *tls.Certificate
	// ConnectTimeout bounds connecting and the TLS handshake, each; if zero, 5 s.
	// HeaderTimeout is how long the header of the answer may take once the request is
	// sent; if zero, 60 s, if negative, for ever.
	ConnectTimeout, HeaderTimeout time.Duration
	// MaxIdle bounds the idle connections that are kept. If zero, 256.
	MaxIdle int
	// MaxHeaderBytes bounds the header of an answer. If zero, 256 KiB.
	MaxHeaderBytes int64
}

// An Upstream is where requests go. It is safe for concurrent use.
type Upstream struct {
	transport    *http.Transport
	scheme, host string
}

// NewUpstream reports every wrong setting at once. It does not connect.
func NewUpstream(cfg UpstreamConfig) (*Upstream, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("gateway: upstream: "+format, args...))
	}
	dialer := &net.Dialer{Timeout: cmp.Or(cfg.ConnectTimeout, 5*time.Second), KeepAlive: 30 * time.Second}
	u := &Upstream{scheme: "http", host: "localhost"}
	dial := dialer.DialContext
	if path, ok := strings.CutPrefix(cfg.URL, "unix:"); ok {
		if path == "" {
			fault("URL: unix: needs the path of a socket")
		}
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
	} else {
		p, err := url.Parse(cfg.URL)
		if err != nil || p.Scheme != "http" && p.Scheme != "https" || p.Hostname() == "" || p.User != nil ||
			p.Path != "" && p.Path != "/" || p.RawQuery != "" || p.Fragment != "" {
			fault("URL: expected http or https with a host, without a path, or unix: and a path, found %q", cfg.URL)
		} else {
			u.scheme, u.host = p.Scheme, p.Host
		}
	}
	protocols := new(http.Protocols)
	secure := u.scheme == "https"
	switch cfg.Protocol {
	case "", ProtocolAuto:
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(secure)
	case ProtocolHTTP1:
		protocols.SetHTTP1(true)
	case ProtocolHTTP2:
		protocols.SetHTTP2(secure)
		protocols.SetUnencryptedHTTP2(!secure)
	default:
		fault("Protocol: expected auto, http1 or http2, found %q", cfg.Protocol)
	}
	if !secure && (cfg.RootCAs != nil || cfg.Certificate != nil || cfg.ServerName != "") {
		fault("URL: expected https, since certificates are set, found %q", cfg.URL)
	}
	if cfg.ConnectTimeout < 0 || cfg.MaxIdle < 0 || cfg.MaxHeaderBytes < 0 {
		fault("a time or number is negative")
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	u.transport = &http.Transport{
		DialContext:            dial,
		Protocols:              protocols,
		TLSHandshakeTimeout:    dialer.Timeout,
		ResponseHeaderTimeout:  max(0, cmp.Or(cfg.HeaderTimeout, 60*time.Second)),
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           cmp.Or(cfg.MaxIdle, 256),
		MaxIdleConnsPerHost:    cmp.Or(cfg.MaxIdle, 256),
		MaxResponseHeaderBytes: cmp.Or(cfg.MaxHeaderBytes, 256<<10),
		DisableCompression:     true, // the client asks for what it wants
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	if secure {
		u.transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs, ServerName: cfg.ServerName}
		if get := cfg.Certificate; get != nil {
			u.transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return get(), nil }
		}
	}
	return u, nil
}

// CloseIdle closes the connections that no request uses.
func (u *Upstream) CloseIdle() { u.transport.CloseIdleConnections() }
