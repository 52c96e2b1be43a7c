package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/bench/material"
	"github.com/certbound/certbound/internal/jws"
)

// A world is what all servers have around them: an API, an issuer with its keys, and
// clients.
type world struct {
	dir        string
	body       string // of the API's answer
	upstream   string // host and port of the API
	keys       string // host and port of the issuer's keys
	jwk        jose.JSONWebKey
	thumbprint string
	signer     *jws.Signer
	forger     *jws.Signer
	built      map[string]string
	escaped    map[string]string // certificates as Envoy writes them, by file
	closers    []func() error

	client, another, nobody *tls.Config
}

func newWorld() (w *world, err error) {
	w = &world{body: strings.Repeat("x", 1024), built: map[string]string{}}
	if w.dir, err = os.MkdirTemp("", "certbound-bench-"); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, func() error { return os.RemoveAll(w.dir) })
	if err := w.fill(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) close() {
	for i := len(w.closers) - 1; i >= 0; i-- {
		w.closers[i]()
	}
}

func (w *world) fill() error {
	if err := material.Make(w.dir); err != nil {
		return err
	}
	key, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	another, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if w.signer, err1 = jws.NewSigner(jws.ES256, "at+jwt", "k1", key); err1 != nil {
		return err1
	}
	if w.forger, err1 = jws.NewSigner(jws.ES256, "at+jwt", "k1", another); err1 != nil {
		return err1
	}
	w.jwk = jose.JSONWebKey{Key: &key.PublicKey, KeyID: "k1", Algorithm: jws.ES256, Use: "sig"}
	spki, err1 := x509.MarshalPKIXPublicKey(&key.PublicKey)
	pool, err2 := material.Pool(w.dir)
	server, err3 := material.Pair(w.dir, material.ServerFile, material.ServerKeyFile)
	client, err4 := material.Pair(w.dir, material.ClientFile, material.ClientKeyFile)
	other, err5 := material.Pair(w.dir, material.AnotherFile, material.AnotherKeyFile)
	thumbprint, err6 := material.Thumbprint(w.dir)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	w.thumbprint = thumbprint
	w.escaped = map[string]string{}
	for _, name := range []string{material.ClientFile, material.AnotherFile} {
		w.escaped[name] = escape(read(filepath.Join(w.dir, name)))
	}
	config := func(pairs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: pool, Certificates: pairs, MinVersion: tls.VersionTLS13}
	}
	w.client, w.another, w.nobody = config(client), config(other), config()
	if err := errors.Join(
		os.WriteFile(filepath.Join(w.dir, "issuer-public.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o644),
		os.WriteFile(filepath.Join(w.dir, "server-and-key.pem"), append(read(filepath.Join(w.dir, material.ServerFile)), read(filepath.Join(w.dir, material.ServerKeyFile))...), 0o600),
		os.Chmod(w.dir, 0o755),
	); err != nil {
		return err
	}
	api := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, w.body) })
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{w.jwk}})
	if err != nil {
		return err
	}
	keys := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/jwk-set+json")
		rw.Write(set)
	})
	if w.upstream, err = w.serve(api, nil); err != nil {
		return err
	}
	w.keys, err = w.serve(keys, &tls.Config{Certificates: []tls.Certificate{server}})
	return err
}

func (w *world) serve(h http.Handler, config *tls.Config) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h, TLSConfig: config, ReadHeaderTimeout: 10 * time.Second}
	w.closers = append(w.closers, s.Close)
	go func() {
		if config != nil {
			_ = s.ServeTLS(l, "", "")
		} else {
			_ = s.Serve(l)
		}
	}()
	return l.Addr().String(), nil
}

func (w *world) build(ctx context.Context, folder, pkg string) (string, error) {
	name := folder + " " + pkg
	if path, ok := w.built[name]; ok {
		return path, nil
	}
	path := filepath.Join(w.dir, fmt.Sprintf("server-%d", len(w.built)))
	cmd := exec.CommandContext(ctx, "go", "build", "-C", folder, "-o", path, pkg)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s in %s: %w\n%s", pkg, folder, err, out)
	}
	w.built[name] = path
	return path, nil
}

// sign returns a token that nobody has seen, bound to a certificate unless x5t is empty.
func (w *world) sign(by *jws.Signer, aud, x5t string, ends time.Time) string {
	var jti [16]byte
	rand.Read(jti[:])
	claims := fmt.Appendf(nil, `{"iss":"https://as.test","sub":"bench","client_id":"bench","aud":%q,"scope":%q,"iat":%d,"exp":%d,"jti":%q`,
		aud, material.Scope, ends.Add(-material.TokenLifetime).Unix(), ends.Unix(), base64.RawURLEncoding.EncodeToString(jti[:]))
	if x5t != "" {
		claims = fmt.Appendf(claims, `,"cnf":{"x5t#S256":%q}`, x5t)
	}
	token, err := by.Sign(append(claims, '}'))
	if err != nil {
		panic(err) // there is a key, and it fits
	}
	return token
}

func (w *world) token() string {
	return w.sign(w.signer, material.Resource, w.thumbprint, time.Now().Add(material.TokenLifetime))
}

func (w *world) forged() string {
	return w.sign(w.forger, material.Resource, w.thumbprint, time.Now().Add(material.TokenLifetime))
}

func (w *world) ended() string {
	return w.sign(w.signer, material.Resource, w.thumbprint, time.Now().Add(-time.Minute))
}

func (w *world) elsewhere() string {
	return w.sign(w.signer, "https://elsewhere.test", w.thumbprint, time.Now().Add(material.TokenLifetime))
}

func (w *world) unbound() string {
	return w.sign(w.signer, material.Resource, "", time.Now().Add(material.TokenLifetime))
}

// hold opens connections, makes a request over each, and calls do while all of them wait.
func (w *world) hold(ctx context.Context, s *server, n int, do func()) error {
	u, err := url.Parse(s.url)
	if err != nil {
		return err
	}
	config := w.client.Clone()
	config.NextProtos = []string{"http/1.1"}
	config.ServerName = u.Hostname()
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", u.Path, u.Host, w.token())
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range n {
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(conn, bytes.NewReader(request)); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, %w", resp.StatusCode, err)
		}
	}
	do()
	return nil
}
