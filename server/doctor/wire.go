package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/server/probe"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 256 << 10

// An identity is a certificate that belongs to no client: self-signed, made anew for each
// run, forgotten at its end.
type identity struct {
	cert       tls.Certificate
	thumbprint string
}

func newIdentity(name string) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: strings.TrimPrefix(name, "CN=")},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	return &identity{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, certbound.EncodeThumbprint(sha256.Sum256(der))}, nil
}

// A hello says how to connect.
type hello struct {
	name     string    // SNI; if empty, that of the target
	who      *identity // nil: no certificate
	min, max uint16
	suites   []uint16
	cache    tls.ClientSessionCache
	protos   []string
}

// A line is an open connection.
type line struct {
	*tls.Conn
	d     *doctor
	t     *target
	r     *bufio.Reader
	asked bool
	cas   [][]byte
}

// connect makes a connection. The server's certificate is looked at in serverCertificate
// and pinned there; here it is not, so that one fault does not hide the others.
func (d *doctor) connect(ctx context.Context, t *target, h hello) (*line, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	raw, err := d.cfg.Dial(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	l := &line{d: d, t: t}
	name := h.name
	if name == "" {
		name = t.name
	}
	protos := h.protos
	if protos == nil {
		protos = []string{"http/1.1"}
	}
	l.Conn = tls.Client(raw, &tls.Config{
		ServerName: name, MinVersion: h.min, MaxVersion: h.max, CipherSuites: h.suites,
		ClientSessionCache: h.cache, NextProtos: protos,
		InsecureSkipVerify: true, //nolint:gosec // see above; nothing secret goes to an unknown server
		GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			l.asked, l.cas = true, info.AcceptableCAs
			if h.who == nil {
				return new(tls.Certificate), nil
			}
			return &h.who.cert, nil
		},
	})
	_ = raw.SetDeadline(time.Now().Add(d.cfg.Timeout))
	if err := l.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	l.r = bufio.NewReader(l.Conn)
	return l, nil
}

// verified reports whether the server on this line is the one whose certificate is valid.
func (l *line) verified() bool {
	certs := l.ConnectionState().PeerCertificates
	if l.t.leaf == nil || len(certs) == 0 {
		return false
	}
	for _, t := range l.d.targets() {
		if t.leaf != nil && certs[0].Equal(t.leaf) {
			return true
		}
	}
	return false
}

// A reply is an answer with its body.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// exchange sends a request as it stands and reads the answer.
func (l *line) exchange(request []byte) (*reply, error) {
	_ = l.SetDeadline(time.Now().Add(l.d.cfg.Timeout))
	if _, err := l.Write(request); err != nil {
		return nil, err
	}
	for range 5 {
		res, err := http.ReadResponse(l.r, &http.Request{Method: strings.SplitN(string(request[:min(8, len(request))]), " ", 2)[0]})
		if err != nil {
			return nil, err
		}
		if res.StatusCode < 200 {
			continue
		}
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
		if err != nil {
			return nil, err
		}
		if len(body) > maxAnswer {
			return nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
		l.d.read(res.Header.Get("Date"))
		return &reply{res.StatusCode, res.Header, body}, nil
	}
	return nil, errors.New("nothing but informational answers")
}

// A header is a list of fields, spelled as they are to be sent.
type header [][2]string

// get writes a GET request with fields as they are spelled.
func get(path, host string, fields header) []byte {
	return request(http.MethodGet, path, host, fields, "")
}

func request(method, path, host string, fields header, body string) []byte {
	var b bytes.Buffer
	b.WriteString(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: certbound-doctor\r\n")
	for _, f := range fields {
		b.WriteString(f[0] + ": " + f[1] + "\r\n")
	}
	if body != "" || method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

var errUnknownServer = errors.New("the server's certificate is not the valid one; the probe credential is not sent there")

// believed asks what the server believes of this line, with fields beside.
func (l *line) believed(host string, fields header) (*probe.Answer, *reply, error) {
	if !l.verified() {
		return nil, nil, errUnknownServer
	}
	if host == "" {
		host = l.t.authority()
	}
	res, err := l.exchange(get(probe.Path, host, append(header{{"Authorization", "Bearer " + l.d.cfg.Credential}}, fields...)))
	if err != nil {
		return nil, nil, err
	}
	a, err := parseAnswer(res)
	return a, res, err
}

// parseAnswer returns nil if the answer is no answer to a probe.
func parseAnswer(res *reply) (*probe.Answer, error) {
	if res.status != http.StatusOK {
		return nil, nil
	}
	a := new(probe.Answer)
	if err := json.Unmarshal(res.body, a); err != nil || a.Listener == "" || a.Kind == "" {
		return nil, fmt.Errorf("status 200, but not the answer to a probe")
	}
	return a, nil
}

// verifyingConfig is for connections that net/http makes: the server's certificate has to
// be the one that was found valid.
func (d *doctor) verifyingConfig(t *target, who *identity) *tls.Config {
	return &tls.Config{
		ServerName: t.name, RootCAs: d.cfg.RootCAs, NextProtos: []string{"h2"}, Time: d.cfg.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if who == nil {
				return new(tls.Certificate), nil
			}
			return &who.cert, nil
		},
	}
}

func readAll(r io.Reader, buf []byte) ([]byte, error) {
	b := bytes.NewBuffer(buf)
	n, err := io.Copy(b, io.LimitReader(r, maxAnswer+1))
	if err == nil && n > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return b.Bytes(), err
}
