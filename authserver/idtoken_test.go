package authserver_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/internal/metadata"
)

// verifyID verifies an ID token as a client does: with the key set of the server.
func verifyID(t *testing.T, b *grantBench, token string) (claims map[string]any, alg string) {
	t.Helper()
	object, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(fixture.Get(t, b.As(t, nil), fixture.Issuer+"/jwks").Text), &set); err != nil {
		t.Fatal(err)
	}
	header := object.Signatures[0].Header
	keys := set.Key(header.KeyID)
	if len(keys) != 1 {
		t.Fatalf("%d keys with the kid %q", len(keys), header.KeyID)
	}
	payload, err := object.Verify(keys[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if typ := header.ExtraHeaders[jose.HeaderType]; typ != "JWT" {
		t.Errorf("typ is %v", typ)
	}
	return claims, header.Algorithm
}

func TestIDToken(t *testing.T) {
	for _, alg := range []string{"ES256", "PS256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			b := startGrants(t, func(c *authserver.Config) { c.SigningAlg = alg })
			l1 := b.As(t, b.L1)
			for _, client := range []string{"p-dn", "p-opaque"} {
				code, verifier, g := b.allow(t, client, nil)
				r := b.redeem(t, l1, client, code, verifier)
				wantOK(t, r)
				claims, used := verifyID(t, b, r.JSON["id_token"].(string))
				half := func(value string) string {
					if alg == "EdDSA" {
						sum := sha512.Sum512([]byte(value))
						return base64.RawURLEncoding.EncodeToString(sum[:32])
					}
					sum := sha256.Sum256([]byte(value))
					return base64.RawURLEncoding.EncodeToString(sum[:16])
				}
				want := map[string]any{
					"iss": fixture.Issuer, "sub": alice, "aud": client, "nonce": g.Nonce, "acr": "silver", "amr": []any{"pwd", "otp"},
					"auth_time": float64(g.AuthTime.Unix()), "sid": "sid-1", "at_hash": half(r.AccessToken()), "iat": claims["iat"], "exp": claims["exp"],
				}
				if used != alg || !reflect.DeepEqual(claims, want) {
					t.Errorf("%s: %v, want %v", used, claims, want)
				}
				iat, exp := int64(claims["iat"].(float64)), int64(claims["exp"].(float64))
				if now := b.now().Unix(); iat < now-60 || iat > now+1 || exp-iat != 600 {
					t.Errorf("iat %d, exp %d", iat, exp)
				}
				// A refresh does not make the login younger, and has no nonce (OpenID
				// Connect Core, Section 12.2).
				b.later(time.Minute)
				again := b.refresh(t, l1, client, refreshToken(r))
				wantOK(t, again)
				renewed, _ := verifyID(t, b, again.JSON["id_token"].(string))
				delete(want, "nonce")
				want["at_hash"], want["iat"], want["exp"] = half(again.AccessToken()), renewed["iat"], renewed["exp"]
				if !reflect.DeepEqual(renewed, want) || renewed["iat"].(float64) < claims["iat"].(float64)+59 {
					t.Errorf("%v, want %v", renewed, want)
				}
			}
		})
	}
	t.Run("none without openid", func(t *testing.T) {
		b := startGrants(t)
		code, verifier, _ := b.allow(t, "p-dn", func(g *authserver.Grant, _ *authserver.Code) { g.Scope = "read" })
		if r := b.redeem(t, b.As(t, b.L1), "p-dn", code, verifier); r.Status != 200 || r.JSON["id_token"] != nil {
			t.Error(r.Text)
		}
	})
	t.Run("names that JSON has to escape", func(t *testing.T) {
		b := startGrants(t)
		code, verifier, _ := b.allow(t, "p-dn", func(g *authserver.Grant, _ *authserver.Code) {
			g.Subject, g.ACR, g.AMR, g.Nonce = `a"b\c`, `"urn:x"`, []string{`"`, `\`}, `","sub":"mallory`
		})
		r := b.redeem(t, b.As(t, b.L1), "p-dn", code, verifier)
		wantOK(t, r)
		claims, _ := verifyID(t, b, r.JSON["id_token"].(string))
		access := fixture.Claims(r.AccessToken())
		for name, want := range map[string]any{"sub": `a"b\c`, "acr": `"urn:x"`, "amr": []any{`"`, `\`}} {
			if !reflect.DeepEqual(claims[name], want) || !reflect.DeepEqual(access[name], want) {
				t.Errorf("%s: %v and %v", name, claims[name], access[name])
			}
		}
	})
}

func TestPeopleMetadata(t *testing.T) {
	b := startGrants(t)
	doc := fixture.Get(t, b.As(t, nil), fixture.Issuer+"/.well-known/openid-configuration")
	proves(t, "F2-5.3.2.1-1 I-2.3-1 D-3.2-1", "what OpenID Connect Discovery and RFC 8414 ask for", func(t *testing.T) {
		for name, want := range map[string]any{
			"issuer": fixture.Issuer, "authorization_endpoint": fixture.Issuer + "/authorize", "token_endpoint": fixture.Issuer + "/token",
			"pushed_authorization_request_endpoint": fixture.Issuer + "/par", "userinfo_endpoint": fixture.Issuer + "/userinfo",
			"end_session_endpoint": fixture.Issuer + "/logout", "jwks_uri": fixture.Issuer + "/jwks",
			"response_types_supported": []any{"code"}, "response_modes_supported": []any{"query", "form_post"},
			"grant_types_supported":            []any{"client_credentials", "authorization_code", "refresh_token"},
			"code_challenge_methods_supported": []any{"S256"}, "subject_types_supported": []any{"public"},
			"id_token_signing_alg_values_supported": []any{"ES256"}, "acr_values_supported": []any{"silver"},
			"authorization_response_iss_parameter_supported": true, "request_parameter_supported": true,
			"request_uri_parameter_supported": false, "claims_parameter_supported": false,
			"prompt_values_supported": []any{"none", "login", "consent", "select_account"},
			"claim_types_supported":   []any{"normal"}, "require_pushed_authorization_requests": nil, "require_signed_request_object": nil,
		} {
			if got := doc.JSON[name]; !reflect.DeepEqual(got, want) {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		for _, scope := range []string{"openid", "offline_access", "email", "read"} {
			if !slices.Contains(stringsOf(doc.JSON["scopes_supported"]), scope) {
				t.Errorf("no scope %s", scope)
			}
		}
		for _, claim := range []string{"sub", "auth_time", "email_verified", "phone_number", "address", "updated_at"} {
			if !slices.Contains(stringsOf(doc.JSON["claims_supported"]), claim) {
				t.Errorf("no claim %s", claim)
			}
		}
		for _, absent := range []string{"token", "id_token", "implicit", "password", "plain", "none"} {
			for _, member := range []string{"response_types_supported", "grant_types_supported", "code_challenge_methods_supported", "id_token_signing_alg_values_supported"} {
				if slices.Contains(stringsOf(doc.JSON[member]), absent) {
					t.Errorf("%s has %s", member, absent)
				}
			}
		}
		if strings.Contains(doc.Text, "[]") || strings.Contains(doc.Text, "{}") || strings.Contains(doc.Text, "null") {
			t.Errorf("empty members: %s", doc.Text)
		}
	})
	proves(t, "M-5-2 M-5-3 M-5-4 M-9.2-2 F2-5.2.2.1-2", "every direct endpoint has an alias, and nothing else has", func(t *testing.T) {
		aliases := doc.JSON["mtls_endpoint_aliases"].(map[string]any)
		for name, at := range aliases {
			conventional, _ := doc.JSON[name].(string)
			if !metadata.IsDirect(name) || conventional == "" || at != fixture.MTLSBase+strings.TrimPrefix(conventional, fixture.Issuer) {
				t.Errorf("%s: %v, top level %q", name, at, conventional)
			}
		}
		for name := range doc.JSON {
			if metadata.IsDirect(name) && aliases[name] == nil {
				t.Errorf("%s has no alias", name)
			}
		}
		for _, browser := range []string{"/authorize", "/login", "/consent", "/logout"} {
			if r := fixture.Get(t, b.As(t, b.L1), fixture.MTLSBase+browser); r.Status != 404 {
				t.Errorf("%s is served on the mutual-TLS listener: %d", browser, r.Status)
			}
		}
	})
	t.Run("what is demanded of all", func(t *testing.T) {
		b := startGrants(t, func(c *authserver.Config) {
			c.Authorization.RequirePAR, c.Authorization.RequireSignedRequests = true, true
		})
		doc := fixture.Get(t, b.As(t, nil), fixture.Issuer+"/.well-known/oauth-authorization-server")
		if doc.JSON["require_pushed_authorization_requests"] != true || doc.JSON["require_signed_request_object"] != true {
			t.Error(doc.Text)
		}
	})
	t.Run("a server for machines has none of it", func(t *testing.T) {
		as := fixture.Start(t)
		doc := fixture.Get(t, as.As(t, nil), fixture.Issuer+"/.well-known/openid-configuration")
		for _, name := range []string{"authorization_endpoint", "userinfo_endpoint", "end_session_endpoint", "response_types_supported", "code_challenge_methods_supported",
			"request_uri_parameter_supported", "claims_parameter_supported", "subject_types_supported", "pushed_authorization_request_endpoint"} {
			if v, has := doc.JSON[name]; has {
				t.Errorf("%s is %v", name, v)
			}
		}
	})
}
