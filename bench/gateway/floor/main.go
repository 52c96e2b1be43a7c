// Floor is the least that a gateway written with the standard library does: the reverse
// proxy of net/http/httputil behind a check that is written for one issuer with one key.
// The check is real: signature, issuer, audience, end and binding, and what was verified
// is remembered. It has no routes, no log, no metrics and says nothing to the upstream.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/bench/material"
)

func main() {
	material.Serve(func(dir string) (string, http.Handler, *http.Server, *tls.Config, error) {
		data, err := os.ReadFile(filepath.Join(dir, "issuer-public.pem"))
		if err != nil {
			return "", nil, nil, nil, err
		}
		block, _ := pem.Decode(data)
		if block == nil {
			return "", nil, nil, nil, errors.New("floor: issuer-public.pem is not PEM")
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return "", nil, nil, nil, err
		}
		target, err := url.Parse(os.Getenv("UPSTREAM_URL"))
		if err != nil {
			return "", nil, nil, nil, err
		}
		c := &check{key: public.(*ecdsa.PublicKey), known: map[string]claims{}}
		proxy := &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
			Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		}
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !c.allows(r) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			proxy.ServeHTTP(w, r)
		})
		return "/orders", handler, &http.Server{}, &tls.Config{ClientAuth: tls.RequestClientCert}, nil
	})
}

type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
	Cnf      struct {
		X5TS256 string `json:"x5t#S256"`
	} `json:"cnf"`
}

type check struct {
	key *ecdsa.PublicKey

	mu    sync.Mutex
	known map[string]claims
}

func (c *check) allows(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	c.mu.Lock()
	t, ok := c.known[token]
	c.mu.Unlock()
	if !ok {
		if t, ok = c.verify(token); !ok {
			return false
		}
		c.mu.Lock()
		if len(c.known) >= 10_000 {
			clear(c.known)
		}
		c.known[token] = t
		c.mu.Unlock()
	}
	return t.Expires > time.Now().Unix() &&
		subtle.ConstantTimeCompare([]byte(t.Cnf.X5TS256), []byte(certbound.Thumbprint(r.TLS.PeerCertificates[0]))) == 1
}

// header is that of the tokens of material's issuer.
var header = []byte(`{"alg":"ES256","typ":"at+jwt","kid":"k1"}`)

func (c *check) verify(token string) (t claims, ok bool) {
	head, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok {
		return t, false
	}
	h, err1 := base64.RawURLEncoding.DecodeString(head)
	p, err2 := base64.RawURLEncoding.DecodeString(payload)
	s, err3 := base64.RawURLEncoding.DecodeString(signature)
	if errors.Join(err1, err2, err3) != nil || !bytes.Equal(h, header) || len(s) != 64 {
		return t, false
	}
	sum := sha256.Sum256([]byte(token[:len(head)+1+len(payload)]))
	if !ecdsa.Verify(c.key, sum[:], new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:])) {
		return t, false
	}
	if json.Unmarshal(p, &t) != nil {
		return t, false
	}
	return t, t.Issuer != "" && t.Audience == material.Resource
}
