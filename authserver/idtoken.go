package authserver

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/jws"
)

// scopeOpenID asks for an ID token and for UserInfo.
const scopeOpenID = "openid"

// idClaims are the claims of an ID token (OpenID Connect Core, Section 2). There is no
// cnf: an ID token is no credential, and what is known of the person is at UserInfo
// (Section 5.4).
type idClaims struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Audience   audience `json:"aud"`
	Issued     int64    `json:"iat"`
	Expires    int64    `json:"exp"`
	AuthTime   int64    `json:"auth_time,omitempty"`
	Nonce      string   `json:"nonce,omitempty"`
	ACR        string   `json:"acr,omitempty"`
	AMR        []string `json:"amr,omitempty"`
	SessionID  string   `json:"sid,omitempty"`
	AccessHash string   `json:"at_hash,omitempty"`
}

// idToken makes the ID token beside an access token. key is nil if that is opaque.
func (x *exchange) idToken(g *grant, key *signingKey, accessToken, nonce string) (string, *refusal) {
	if key == nil {
		var err error
		if key, err = x.s.signingKey(x.ctx(), x.now); err != nil {
			return "", x.unavailable(decision.CheckToken, err)
		}
	}
	p := g.person
	claims := idClaims{
		Issuer: x.s.cfg.Issuer, Subject: p.Subject, Audience: audience{g.client.ID},
		Issued: g.issued.Unix(), Expires: g.issued.Add(g.client.lifetime).Unix(),
		Nonce: nonce, ACR: p.ACR, AMR: p.AMR, SessionID: p.SessionID,
		AccessHash: leftHalf(key.Alg, accessToken),
	}
	if !p.AuthTime.IsZero() {
		claims.AuthTime = p.AuthTime.Unix()
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", x.signingFailed(err)
	}
	value, err := key.id.Sign(payload)
	if err != nil {
		return "", x.signingFailed(err)
	}
	return value, nil
}

// leftHalf is at_hash: half of the digest that belongs to the algorithm of the ID token
// (OpenID Connect Core, Section 3.1.3.6), SHA-512 for EdDSA with Ed25519.
func leftHalf(alg, value string) string {
	if alg == jws.EdDSA {
		sum := sha512.Sum512([]byte(value))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// readIDToken reads an ID token of this server, as in id_token_hint, expired ones too. It
// returns nil and a reason if it is none.
func (s *Server) readIDToken(ctx context.Context, value string) (*idClaims, decision.Reason, error) {
	payload, reason, err := s.ownToken(ctx, value, "JWT")
	if err != nil || reason != "" {
		return nil, reason, err
	}
	claims := new(idClaims)
	switch {
	case json.Unmarshal(payload, claims) != nil || claims.Subject == "" || len(claims.Audience) != 1:
		return nil, decision.TokenMalformed, nil
	case claims.Issuer != s.cfg.Issuer:
		return nil, decision.IssuerMismatch, nil
	case time.Unix(claims.Issued, 0).After(s.cfg.Now().Add(time.Minute)):
		return nil, decision.TokenNotYetValid, nil
	}
	return claims, "", nil
}
