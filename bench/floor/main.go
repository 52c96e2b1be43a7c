// Floor is the least that any token server does for a client_credentials request with
// mutual TLS and a bound ES256 JWT: net/http over TLS 1.3, the form parsed, one
// thumbprint compared, one signature, the answer written. It checks no chain, no
// subject, no grant and no scope, and is no authorization server.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/bench/material"
)

func main() {
	material.Serve(func(dir string) (string, http.Handler, *http.Server, *tls.Config, error) {
		registered, err := material.Thumbprint(dir)
		if err != nil {
			return "", nil, nil, nil, err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", nil, nil, nil, err
		}
		return "/token", handler(registered, key), &http.Server{}, &tls.Config{ClientAuth: tls.RequestClientCert}, nil
	})
}

func handler(registered string, key *ecdsa.PrivateKey) http.Handler {
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"k1"}`))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" ||
			r.PostForm.Get("client_id") != material.ClientID || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		thumbprint := certbound.Thumbprint(r.TLS.PeerCertificates[0])
		if subtle.ConstantTimeCompare([]byte(thumbprint), []byte(registered)) != 1 {
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		now := time.Now().Unix()
		var jti [16]byte
		rand.Read(jti[:])
		claims := make([]byte, 0, 512)
		claims = append(claims, `{"iss":"https://as.test","sub":"bench","client_id":"bench","aud":"`+material.Resource+`","scope":"read","iat":`...)
		claims = strconv.AppendInt(claims, now, 10)
		claims = append(claims, `,"exp":`...)
		claims = strconv.AppendInt(claims, now+600, 10)
		claims = append(claims, `,"jti":"`...)
		claims = base64.RawURLEncoding.AppendEncode(claims, jti[:])
		claims = append(claims, `","cnf":{"x5t#S256":"`+thumbprint+`"}}`...)

		body := make([]byte, 0, 1024)
		body = append(body, `{"access_token":"`...)
		start := len(body)
		body = append(body, header+"."...)
		body = base64.RawURLEncoding.AppendEncode(body, claims)
		sum := sha256.Sum256(body[start:])
		sr, ss, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			http.Error(w, "{}", http.StatusInternalServerError)
			return
		}
		var sig [64]byte
		sr.FillBytes(sig[:32])
		ss.FillBytes(sig[32:])
		body = append(body, '.')
		body = base64.RawURLEncoding.AppendEncode(body, sig[:])
		body = append(body, `","token_type":"Bearer","expires_in":600,"scope":"read"}`...)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(body)
	})
}
