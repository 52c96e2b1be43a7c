// Package material makes the files that every server of the comparison gets: the same
// CA, the same server certificate, the same client. The servers are separate
// processes, so it is a folder.
package material

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/pkitest"
)

// What all servers are set up for.
const (
	ClientID      = "bench"
	SubjectDN     = "CN=bench,OU=apps,O=Agora,C=GB"
	Resource      = "https://rs.test"
	Scope         = "read"
	TokenLifetime = 10 * time.Minute
)

// Names of the files.
const (
	CAFile         = "ca.pem"
	ServerFile     = "server.pem"
	ServerKeyFile  = "server-key.pem"
	ClientFile     = "client.pem"
	ClientKeyFile  = "client-key.pem"
	AnotherFile    = "another.pem" // a client of the same CA with another subject
	AnotherKeyFile = "another-key.pem"
)

// Make fills a folder.
func Make(dir string) error {
	ca, err := pkitest.NewCA(pkitest.CAOptions{Subject: "CN=Root,O=Agora"})
	if err != nil {
		return err
	}
	server, err1 := ca.Leaf(pkitest.LeafOptions{Subject: "CN=as.test", Server: true})
	client, err2 := ca.Leaf(pkitest.LeafOptions{Subject: SubjectDN})
	another, err3 := ca.Leaf(pkitest.LeafOptions{Subject: "CN=another,OU=apps,O=Agora,C=GB"})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		CAFile:     ca.CertPEM(),
		ServerFile: server.ChainPEM(), ServerKeyFile: server.KeyPEM(),
		ClientFile: client.ChainPEM(), ClientKeyFile: client.KeyPEM(),
		AnotherFile: another.ChainPEM(), AnotherKeyFile: another.KeyPEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Pool returns the CA.
func Pool(dir string) (*x509.CertPool, error) {
	data, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("material: no CA in " + CAFile)
	}
	return pool, nil
}

// Pair returns a certificate with its key.
func Pair(dir, cert, key string) (tls.Certificate, error) {
	return tls.LoadX509KeyPair(filepath.Join(dir, cert), filepath.Join(dir, key))
}

// Thumbprint returns the x5t#S256 of the client.
func Thumbprint(dir string) (string, error) {
	pair, err := Pair(dir, ClientFile, ClientKeyFile)
	if err != nil {
		return "", err
	}
	return certbound.Thumbprint(pair.Leaf), nil
}

// Ready is the line that a server writes to its standard output when it listens.
type Ready struct {
	TokenURL string `json:"token_url"`
}

// WriteReady writes the line of a server that is at an address.
func WriteReady(w io.Writer, url string) error {
	return json.NewEncoder(w).Encode(Ready{TokenURL: url})
}

// ReadReady reads the line.
func ReadReady(r *bufio.Reader) (Ready, error) {
	var ready Ready
	line, err := r.ReadBytes('\n')
	if err != nil {
		return ready, err
	}
	return ready, json.Unmarshal(line, &ready)
}

// Serve is the main function of the servers written in Go: TLS 1.3 on a loopback
// port, a certificate asked for as config says, HTTP/1.1 as the peers have it. It
// returns when the process is told to stop.
func Serve(config func(dir string) (path string, h http.Handler, server *http.Server, tlsConfig *tls.Config, err error)) {
	dir := flag.String("dir", "", "folder with the certificates")
	flag.Parse()
	if err := serve(*dir, config); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func serve(dir string, config func(string) (string, http.Handler, *http.Server, *tls.Config, error)) error {
	path, handler, server, tlsConfig, err := config(dir)
	if err != nil {
		return err
	}
	pair, err := Pair(dir, ServerFile, ServerKeyFile)
	if err != nil {
		return err
	}
	tlsConfig.Certificates = []tls.Certificate{pair}
	tlsConfig.MinVersion = tls.VersionTLS13
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server.Handler = handler
	server.TLSConfig = tlsConfig
	server.ReadHeaderTimeout = 10 * time.Second
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	if err := WriteReady(os.Stdout, "https://"+l.Addr().String()+path); err != nil {
		return err
	}
	return server.ServeTLS(l, "", "")
}
