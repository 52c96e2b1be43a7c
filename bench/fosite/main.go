// Fosite is the peer github.com/ory/fosite, set up for the same grant: it has no
// tls_client_auth of its own, so that its hook for client authentication compares the
// subject of the certificate, which crypto/tls has verified; the token is a JWT with
// cnf, signed with ES256. The store is fosite's own, in memory.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"net/http"
	"net/url"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/bench/material"
)

// subject as crypto/x509 prints it.
const subject = material.SubjectDN

func main() {
	material.Serve(func(dir string) (string, http.Handler, *http.Server, *tls.Config, error) {
		pool, err := material.Pool(dir)
		if err != nil {
			return "", nil, nil, nil, err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", nil, nil, nil, err
		}
		return "/token", handler(key), &http.Server{}, &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}, nil
	})
}

func handler(key *ecdsa.PrivateKey) http.Handler {
	store := storage.NewMemoryStore()
	store.Clients[material.ClientID] = &fosite.DefaultClient{
		ID:         material.ClientID,
		GrantTypes: []string{"client_credentials"},
		Scopes:     []string{material.Scope},
		Audience:   []string{material.Resource},
	}
	config := &fosite.Config{
		AccessTokenLifespan: material.TokenLifetime,
		AccessTokenIssuer:   "https://as.test",
		GlobalSecret:        []byte("a secret that this grant does not use"),
		ClientAuthenticationStrategy: func(ctx context.Context, r *http.Request, form url.Values) (fosite.Client, error) {
			client, err := store.GetClient(ctx, form.Get("client_id"))
			if err != nil {
				return nil, fosite.ErrInvalidClient
			}
			if len(r.TLS.VerifiedChains) == 0 || r.TLS.PeerCertificates[0].Subject.String() != subject {
				return nil, fosite.ErrInvalidClient
			}
			return client, nil
		},
	}
	strategy := &oauth2.DefaultJWTStrategy{
		Signer:          &jwt.DefaultSigner{GetPrivateKey: func(context.Context) (interface{}, error) { return key, nil }},
		HMACSHAStrategy: compose.NewOAuth2HMACStrategy(config),
		Config:          config,
	}
	provider := compose.Compose(config, store, strategy, compose.OAuth2ClientCredentialsGrantFactory)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		session := &oauth2.JWTSession{
			JWTClaims: &jwt.JWTClaims{Subject: material.ClientID, Extra: map[string]interface{}{}},
			JWTHeader: &jwt.Headers{Extra: map[string]interface{}{"typ": "at+jwt", "kid": "k1"}},
		}
		if len(r.TLS.PeerCertificates) > 0 {
			session.JWTClaims.Extra["cnf"] = certbound.Confirm(r.TLS.PeerCertificates[0])
		}
		request, err := provider.NewAccessRequest(ctx, r, session)
		if err != nil {
			provider.WriteAccessError(ctx, w, request, err)
			return
		}
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
		request.GrantAudience(material.Resource)
		response, err := provider.NewAccessResponse(ctx, request)
		if err != nil {
			provider.WriteAccessError(ctx, w, request, err)
			return
		}
		provider.WriteAccessResponse(ctx, w, request, response)
	})
}
