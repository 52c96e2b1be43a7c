package oauthclient_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/oauthclient"
	"github.com/certbound/certbound/pkitest"
)

const redirectURI = "https://app.test/cb"

// A peopleWorld is a world whose authorization server knows a person, ann, and rotates
// refresh tokens: an old one is invalid_grant.
type peopleWorld struct {
	*world
	issuer   string
	idSigner *jws.Signer

	// Guarded by world.mu.
	refresh  int            // the number of the refresh token that counts
	expires  int            // expires_in
	nonce    string         // of the ID token
	claims   map[string]any // change those of the ID token
	signer   *jws.Signer    // signs the ID token
	answer   map[string]any // changes the token answer
	userInfo func(rw http.ResponseWriter, r *http.Request) bool
	noPush   bool
	document map[string]any // changes the metadata
}

func newPeopleWorld(t testing.TB) *peopleWorld {
	t.Helper()
	w := &peopleWorld{world: newWorld(t), expires: 300}
	w.issuer = w.as.URL
	key := pkitest.MustKey(pkitest.P256)
	w.idSigner = mustSigner(t, "ES256", key)
	w.signer = w.idSigner
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "id", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	w.metadata = func(doc map[string]any) {
		doc["authorization_endpoint"] = w.issuer + "/authorize?tenant=1"
		doc["authorization_response_iss_parameter_supported"] = true
		if w.noPush {
			delete(doc, "pushed_authorization_request_endpoint")
			delete(doc["mtls_endpoint_aliases"].(map[string]any), "pushed_authorization_request_endpoint")
		}
		maps.Copy(doc, w.document)
	}
	w.token = w.serveToken
	other := func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/jwks":
			rw.Header().Set("Content-Type", "application/json")
			rw.Write(keys)
		case "/pushed_authorization_request":
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusCreated)
			io.WriteString(rw, `{"request_uri":"urn:ietf:params:oauth:request_uri:abc","expires_in":90}`)
		case "/userinfo":
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.userInfo != nil && w.userInfo(rw, r) {
				return
			}
			rw.Header().Set("Content-Type", "application/json")
			io.WriteString(rw, `{"sub":"ann","name":"Ann Example"}`)
		default:
			w.serveAS(rw, r)
		}
	}
	w.as.handle(other)
	w.mtls.handle(other)
	return w
}

func mustSigner(t testing.TB, alg string, key crypto.Signer) *jws.Signer {
	t.Helper()
	s, err := jws.NewSigner(alg, "JWT", "id", key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serveToken is called with mu held.
func (w *peopleWorld) serveToken(rw http.ResponseWriter, r *http.Request) bool {
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		w.refresh = 1
	case "refresh_token":
		if r.PostForm.Get("refresh_token") != fmt.Sprint("r", w.refresh) {
			rw.WriteHeader(http.StatusBadRequest)
			io.WriteString(rw, `{"error":"invalid_grant","error_description":"refresh token is not valid"}`)
			return true
		}
		w.refresh++
	default:
		return false
	}
	w.issued++
	payload, _ := json.Marshal(map[string]any{"iss": w.issuer, "jti": w.issued, "cnf": map[string]any{"x5t#S256": peer(r)}})
	token, err := w.world.signer.Sign(payload)
	if err != nil {
		w.t.Error(err)
	}
	now := time.Now()
	sum := sha256.Sum256([]byte(token))
	claims := map[string]any{"iss": w.issuer, "sub": "ann", "aud": "client-1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"auth_time": now.Unix(), "at_hash": base64.RawURLEncoding.EncodeToString(sum[:16]), "amr": []string{"pwd"}}
	if r.PostForm.Get("grant_type") == "authorization_code" {
		claims["nonce"] = w.nonce
	}
	for name, v := range w.claims {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	payload, _ = json.Marshal(claims)
	id, err := w.signer.Sign(payload)
	if err != nil {
		w.t.Error(err)
	}
	answer := map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": w.expires, "refresh_token": fmt.Sprint("r", w.refresh), "id_token": id}
	for name, v := range w.answer {
		if answer[name] = v; v == nil {
			delete(answer, name)
		}
	}
	json.NewEncoder(rw).Encode(answer)
	return true
}

func (w *peopleWorld) client(change func(*oauthclient.Config)) *oauthclient.Client {
	w.t.Helper()
	return w.world.client(func(cfg *oauthclient.Config) {
		cfg.RedirectURI, cfg.Scopes = redirectURI, []string{"openid", "read"}
		if change != nil {
			change(cfg)
		}
	})
}

func public(cfg *oauthclient.Config) { cfg.AuthMethod = oauthclient.None }

// start starts a request for authorization.
func (w *peopleWorld) start(c *oauthclient.Client) *oauthclient.Pending {
	w.t.Helper()
	p, err := c.Authorize(w.t.Context(), oauthclient.AuthorizationParams{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.set(func() { w.nonce = p.Nonce })
	return p
}

// good is the answer to a request, with changes: name, value, …; an empty value goes.
func (w *peopleWorld) good(p *oauthclient.Pending, pairs ...string) url.Values {
	v := url.Values{"code": {"the-code"}, "state": {p.State}, "iss": {w.issuer}}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v.Del(pairs[i]); pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

func (w *peopleWorld) login(c *oauthclient.Client, save oauthclient.SaveFunc) *oauthclient.Session {
	w.t.Helper()
	p := w.start(c)
	s, err := c.Exchange(w.t.Context(), p, w.good(p), save)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// What a browser carries, and what goes over mutual TLS.
func TestAuthorize(t *testing.T) {
	w := newPeopleWorld(t)
	t.Run("pushed", func(t *testing.T) {
		t.Attr("requirement", "P-2-1 P-2-2 P-2-3 M-5-5 F2-5.3.3.2-1 F2-5.3.3.1-7 F2-5.3.3.1-9")
		c := w.client(func(cfg *oauthclient.Config) { cfg.Resources = []string{"https://rs.test/1", "https://rs.test/2"} })
		var challenges, states, nonces []string
		for range 2 {
			p, err := c.Authorize(t.Context(), oauthclient.AuthorizationParams{LoginHint: "ann", Prompt: "login", MaxAge: new(time.Minute),
				ACRValues: []string{"a", "b"}, UILocales: []string{"de"}, ResponseMode: "form_post"})
			if err != nil {
				t.Fatal(err)
			}
			got := w.mtls.at("/pushed_authorization_request")
			s := got[len(got)-1]
			want := url.Values{"client_id": {"client-1"}, "response_type": {"code"}, "redirect_uri": {redirectURI}, "scope": {"openid read"},
				"state": {p.State}, "nonce": {p.Nonce}, "code_challenge_method": {"S256"}, "resource": {"https://rs.test/1", "https://rs.test/2"},
				"login_hint": {"ann"}, "prompt": {"login"}, "max_age": {"60"}, "acr_values": {"a b"}, "ui_locales": {"de"}, "response_mode": {"form_post"}}
			sum := sha256.Sum256([]byte(p.Verifier))
			want.Set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
			if s.form.Encode() != want.Encode() {
				t.Errorf("pushed %v, want %v", s.form, want)
			}
			if s.cert != thumb(certs().l1) || len(s.header["Authorization"]) > 0 {
				t.Errorf("certificate %q", s.cert)
			}
			u, err := url.Parse(p.URL)
			if err != nil {
				t.Fatal(err)
			}
			query := url.Values{"tenant": {"1"}, "client_id": {"client-1"}, "request_uri": {"urn:ietf:params:oauth:request_uri:abc"}}
			if u.Query().Encode() != query.Encode() || !strings.HasPrefix(p.URL, w.issuer+"/authorize?") {
				t.Errorf("URL %s, want the query %v", p.URL, query)
			}
			if n := len(p.Nonce); n < 22 || n > 64 || len(p.Verifier) < 43 || len(p.State) < 22 {
				t.Errorf("nonce of %d, verifier of %d, state of %d characters", n, len(p.Verifier), len(p.State))
			}
			challenges, states, nonces = append(challenges, s.form.Get("code_challenge")), append(states, p.State), append(nonces, p.Nonce)
		}
		if challenges[0] == challenges[1] || states[0] == states[1] || nonces[0] == nonces[1] {
			t.Error("two requests share a verifier, state or nonce")
		}
	})
	t.Run("an assertion goes to the conventional endpoint", func(t *testing.T) {
		t.Attr("requirement", "P-2-1 GU-2 F2-5.3.3.1-5")
		for _, alias := range []bool{false, true} {
			c := w.client(func(cfg *oauthclient.Config) {
				cfg.AuthMethod, cfg.AssertionAlg, cfg.AssertionKey, cfg.UseEndpointAliases = oauthclient.PrivateKeyJWT, "ES256", pkitest.MustKey(pkitest.P256), alias
			})
			at := w.as
			if alias {
				at = w.mtls
			}
			before := len(at.at("/pushed_authorization_request"))
			w.start(c)
			got := at.at("/pushed_authorization_request")[before:]
			if len(got) != 1 || got[0].form.Get("client_assertion") == "" {
				t.Fatalf("alias %v: %d requests", alias, len(got))
			}
			token, err := jws.Parse(got[0].form.Get("client_assertion"), 1<<14)
			if err != nil {
				t.Fatal(err)
			}
			var claims struct{ Aud any }
			if json.Unmarshal(token.Payload, &claims) != nil || claims.Aud != w.issuer {
				t.Errorf("aud %v, want the issuer as a string", claims.Aud)
			}
		}
	})
	t.Run("without OpenID Connect", func(t *testing.T) {
		c := w.client(func(cfg *oauthclient.Config) { cfg.Scopes = []string{"read"} })
		p, err := c.Authorize(t.Context(), oauthclient.AuthorizationParams{Scopes: []string{"write"}, Resources: []string{"https://rs.test/3"}})
		if err != nil {
			t.Fatal(err)
		}
		got := w.mtls.at("/pushed_authorization_request")
		if f := got[len(got)-1].form; p.Nonce != "" || f.Has("nonce") || f.Get("scope") != "write" || f.Get("resource") != "https://rs.test/3" {
			t.Errorf("pushed %v", f)
		}
	})
	t.Run("not pushed", func(t *testing.T) {
		w := newPeopleWorld(t)
		w.noPush = true
		c := w.client(nil)
		p := w.start(c)
		u, err := url.Parse(p.URL)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		for _, name := range []string{"client_id", "response_type", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method"} {
			if len(q[name]) != 1 {
				t.Errorf("%s: %q", name, q[name])
			}
		}
		if len(w.mtls.all()) != 0 || q.Has("code_verifier") {
			t.Errorf("%d requests with the certificate, query %v", len(w.mtls.all()), q)
		}
		_, err = w.client(func(cfg *oauthclient.Config) { cfg.FAPI2 = true }).Authorize(t.Context(), oauthclient.AuthorizationParams{})
		if !errors.Is(err, oauthclient.ErrNotPushed) {
			t.Errorf("FAPI2: error %v, want ErrNotPushed", err)
		}
	})
	t.Run("an answer without request_uri", func(t *testing.T) {
		w := newPeopleWorld(t)
		w.mtls.handle(w.serveAS)
		if p, err := w.client(nil).Authorize(t.Context(), oauthclient.AuthorizationParams{}); err == nil || p != nil {
			t.Errorf("%v, error %v", p, err)
		}
	})
	t.Run("a server that binds no tokens", func(t *testing.T) {
		w := newPeopleWorld(t)
		w.document = map[string]any{"tls_client_certificate_bound_access_tokens": false}
		_, err := w.client(func(cfg *oauthclient.Config) { cfg.RequireBoundTokens = true }).Authorize(t.Context(), oauthclient.AuthorizationParams{})
		if !errors.Is(err, oauthclient.ErrNotBound) || len(w.mtls.all()) != 0 {
			t.Errorf("error %v", err)
		}
	})
}

// Whoever forges the answer gets neither the code nor the certificate: no connection to a
// token endpoint, conventional or alias.
func TestAttackMixUp(t *testing.T) {
	rows := []struct {
		name, requirement string
		change            func(w *peopleWorld, v url.Values)
		config            func(*oauthclient.Config)
		want              error
	}{
		{name: "another issuer", requirement: "I-2.4-1 G-4.4-1 F2-5.3.3.2-1", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Set("iss", "https://attacker.test") }},
		{name: "the issuer with a slash", requirement: "I-2.4-1", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Set("iss", w.issuer+"/") }},
		{name: "the issuer in capitals", requirement: "I-2.4-1", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Set("iss", strings.Replace(w.issuer, "https", "HTTPS", 1)) }},
		{name: "the alias host", requirement: "I-2.4-1 M-5-9", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Set("iss", w.mtls.URL) }},
		{name: "no issuer", requirement: "I-2.4-2", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Del("iss") }},
		{name: "no issuer, not announced, FAPI2", requirement: "F2-5.3.3.2-1", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Del("iss") }, config: func(cfg *oauthclient.Config) { cfg.FAPI2 = true }},
		{name: "an empty issuer", requirement: "I-2.4-1", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Set("iss", "") }},
		{name: "an error of another issuer", requirement: "I-2.4-1", want: oauthclient.ErrResponseIssuer,
			change: func(w *peopleWorld, v url.Values) { v.Set("iss", "https://attacker.test"); v.Set("error", "x") }},
		{name: "two issuers", requirement: "I-2.4-1", want: oauthclient.ErrResponse,
			change: func(w *peopleWorld, v url.Values) { v.Add("iss", "https://attacker.test") }},
		{name: "two codes", want: oauthclient.ErrResponse, change: func(w *peopleWorld, v url.Values) { v.Add("code", "another") }},
		{name: "another state", want: oauthclient.ErrResponse, change: func(w *peopleWorld, v url.Values) { v.Set("state", "x") }},
		{name: "no state", want: oauthclient.ErrResponse, change: func(w *peopleWorld, v url.Values) { v.Del("state") }},
		{name: "no code", want: oauthclient.ErrResponse, change: func(w *peopleWorld, v url.Values) { v.Del("code") }},
		{name: "a long code", want: oauthclient.ErrResponse, change: func(w *peopleWorld, v url.Values) { v.Set("code", strings.Repeat("c", 5000)) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.requirement != "" {
				t.Attr("requirement", row.requirement)
			}
			w := newPeopleWorld(t)
			connections := 0
			w.mtls = newRecorder(t, nil, w.serveAS, func(srv *http.Server) {
				srv.ConnState = func(_ net.Conn, s http.ConnState) {
					if s == http.StateNew {
						w.set(func() { connections++ })
					}
				}
			})
			if row.config == nil {
				w.noPush = true // or the push would be a connection
			} else {
				w.document = map[string]any{"authorization_response_iss_parameter_supported": false,
					"pushed_authorization_request_endpoint": w.issuer + "/pushed_authorization_request"}
				w.metadataWithoutPushAlias()
			}
			c := w.client(row.config)
			p := w.start(c)
			before := len(w.as.all())
			v := w.good(p)
			row.change(w, v)
			s, err := c.Exchange(t.Context(), p, v, nil)
			if !errors.Is(err, row.want) || s != nil {
				t.Errorf("%v, error %v, want %v", s, err, row.want)
			}
			if got := w.as.all()[before:]; len(got) != 0 {
				t.Errorf("%d requests to the issuer, first %s", len(got), got[0].path)
			}
			if n := w.n(&connections); n != 0 {
				t.Errorf("%d connections to the alias", n)
			}
		})
	}
}

// metadataWithoutPushAlias leaves the conventional endpoint for pushed requests only.
func (w *peopleWorld) metadataWithoutPushAlias() {
	old := w.metadata
	w.metadata = func(doc map[string]any) {
		old(doc)
		delete(doc["mtls_endpoint_aliases"].(map[string]any), "pushed_authorization_request_endpoint")
	}
}

// A server that does not announce iss may leave it out.
func TestIssuerNotAnnounced(t *testing.T) {
	w := newPeopleWorld(t)
	w.document = map[string]any{"authorization_response_iss_parameter_supported": false}
	c := w.client(nil)
	p := w.start(c)
	if _, err := c.Exchange(t.Context(), p, w.good(p, "iss", ""), nil); err != nil {
		t.Error(err)
	}
}

func TestDenied(t *testing.T) {
	w := newPeopleWorld(t)
	c := w.client(nil)
	p := w.start(c)
	_, err := c.Exchange(t.Context(), p, w.good(p, "code", "", "error", "access_denied", "error_description", "no\x00"+strings.Repeat("x", 1000)), nil)
	e, ok := errors.AsType[*oauthclient.AuthorizationError](err)
	if !ok || e.Code != "access_denied" || len(e.Description) > 256 || strings.Contains(e.Description, "\x00") {
		t.Errorf("error %v", err)
	}
	if _, err := c.Exchange(t.Context(), nil, w.good(p), nil); !errors.Is(err, oauthclient.ErrResponse) {
		t.Errorf("a browser that has started nothing: error %v", err)
	}
	if n := len(w.mtls.at("/token")); n != 0 {
		t.Errorf("%d token requests", n)
	}
}

// Two issuers, and metadata of the second that names the alias of the first: what is of
// one never goes to the other.
func TestAttackAliasOfAnotherIssuer(t *testing.T) {
	t.Attr("requirement", "GU-4")
	a, b := newPeopleWorld(t), newPeopleWorld(t)
	b.metadata = func(doc map[string]any) {
		doc["authorization_endpoint"] = b.issuer + "/authorize"
		doc["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": a.mtls.URL + "/token"}
	}
	atA := a.client(nil)
	atB := b.client(func(cfg *oauthclient.Config) {
		cfg.ClientID, cfg.Certificate, cfg.Scopes = "client-of-b", oauthclient.Static(certs().l2.TLS()), []string{"read"}
	})
	pa := a.start(atA)
	if _, err := atB.Exchange(t.Context(), pa, a.good(pa), nil); !errors.Is(err, oauthclient.ErrResponseIssuer) {
		t.Errorf("error %v, want ErrResponseIssuer", err)
	}
	sameIssuer := *pa
	sameIssuer.Issuer = b.issuer
	if _, err := atB.Exchange(t.Context(), &sameIssuer, b.good(pa), nil); !errors.Is(err, oauthclient.ErrResponseIssuer) {
		t.Errorf("error %v, want ErrResponseIssuer for another client", err)
	}
	if got := a.mtls.at("/token"); len(got) != 0 {
		t.Errorf("the code of A went to %s", got[0].path)
	}
	pb := b.start(atB)
	if _, err := atB.Exchange(t.Context(), pb, b.good(pb, "code", "code-of-b"), nil); err != nil {
		t.Fatal(err)
	}
	got := a.mtls.at("/token")
	if len(got) != 1 || got[0].cert != thumb(certs().l2) || got[0].form.Get("client_id") != "client-of-b" || got[0].form.Get("code") != "code-of-b" {
		t.Errorf("at A's alias: %+v", got)
	}
	// With pinned hosts there is not even that.
	pinned := b.client(func(cfg *oauthclient.Config) { cfg.PinAliasHosts, cfg.Scopes = []string{}, []string{"read"} })
	if _, err := pinned.Exchange(t.Context(), b.start(pinned), b.good(pb), nil); err == nil {
		t.Error("no error")
	}
	pp := b.start(pinned)
	if _, err := pinned.Exchange(t.Context(), pp, b.good(pp), nil); !errors.Is(err, oauthclient.ErrHostNotAllowed) {
		t.Errorf("error %v, want ErrHostNotAllowed", err)
	}
}

func TestExchange(t *testing.T) {
	t.Attr("requirement", "M-5-5 M-3-7 F2-5.3.3.1-3")
	w := newPeopleWorld(t)
	c := w.client(func(cfg *oauthclient.Config) { cfg.RequireBoundTokens = true })
	p := w.start(c)
	s, err := c.Exchange(t.Context(), p, w.good(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := w.mtls.at("/token")
	want := url.Values{"grant_type": {"authorization_code"}, "client_id": {"client-1"}, "code": {"the-code"}, "redirect_uri": {redirectURI}, "code_verifier": {p.Verifier}}
	if len(got) != 1 || got[0].form.Encode() != want.Encode() || got[0].cert != thumb(certs().l1) {
		t.Errorf("token request %+v, want %v", got, want)
	}
	if status, _ := get(t, s.HTTPClient(), w.rs.URL+"/x"); status != 200 {
		t.Errorf("status %d at the resource", status)
	}
	rs := w.rs.all()
	if rs[0].cert != got[0].cert || strings.Contains(rs[0].body, "token") {
		t.Errorf("certificate %q at the resource", rs[0].cert)
	}
	id := s.IDToken()
	if id == nil || id.Subject != "ann" || id.Issuer != w.issuer || id.Audience != "client-1" || id.AuthTime.IsZero() || !slices.Equal(id.AMR, []string{"pwd"}) {
		t.Errorf("ID token %+v", id)
	}
	if !slices.Equal(s.Scopes(), []string{"openid", "read"}) {
		t.Errorf("scopes %q", s.Scopes())
	}
	tok, err := s.TokenSource(t.Context()).Token()
	if err != nil || tok.RefreshToken != "" || tok.Expiry.IsZero() {
		t.Errorf("token %v, error %v", tok, err)
	}
}

func TestIDTokenRefused(t *testing.T) {
	stranger := pkitest.MustKey(pkitest.P256)
	rows := []struct {
		name   string
		claims map[string]any
		world  func(*peopleWorld)
		params oauthclient.AuthorizationParams
		config func(*oauthclient.Config)
	}{
		{name: "iss", claims: map[string]any{"iss": "https://attacker.test"}},
		{name: "aud", claims: map[string]any{"aud": "another"}},
		{name: "aud with another", claims: map[string]any{"aud": []string{"client-1", "another"}}},
		{name: "aud is a number", claims: map[string]any{"aud": 1}},
		{name: "azp", claims: map[string]any{"azp": "another"}},
		{name: "expired", claims: map[string]any{"exp": time.Now().Add(-time.Second).Unix()}},
		{name: "exp absent", claims: map[string]any{"exp": nil}},
		{name: "exp out of range", claims: map[string]any{"exp": 1e300}},
		{name: "iat in the future", claims: map[string]any{"iat": time.Now().Add(time.Hour).Unix()}},
		{name: "iat absent", claims: map[string]any{"iat": nil}},
		{name: "sub absent", claims: map[string]any{"sub": nil}},
		{name: "another nonce", claims: map[string]any{"nonce": "x"}},
		{name: "nonce absent", claims: map[string]any{"nonce": nil}},
		{name: "at_hash", claims: map[string]any{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
		{name: "login too long ago", claims: map[string]any{"auth_time": time.Now().Add(-time.Hour).Unix()}, params: oauthclient.AuthorizationParams{MaxAge: new(time.Minute)}},
		{name: "max_age without auth_time", claims: map[string]any{"auth_time": nil}, params: oauthclient.AuthorizationParams{MaxAge: new(time.Minute)}},
		{name: "another key", world: func(w *peopleWorld) { w.signer = mustSigner(w.t, "ES256", stranger) }},
		{name: "another algorithm", world: func(w *peopleWorld) { w.signer = mustSigner(w.t, "EdDSA", pkitest.MustKey(pkitest.Ed25519)) }},
		{name: "not a JWS", world: func(w *peopleWorld) { w.answer = map[string]any{"id_token": "x.y.z"} }},
		{name: "alg none", world: func(w *peopleWorld) { w.answer = map[string]any{"id_token": "eyJhbGciOiJub25lIn0.e30."} }},
		{name: "absent", world: func(w *peopleWorld) { w.answer = map[string]any{"id_token": nil} }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newPeopleWorld(t)
			w.claims = row.claims
			if row.world != nil {
				row.world(w)
			}
			c := w.client(row.config)
			p, err := c.Authorize(t.Context(), row.params)
			if err != nil {
				t.Fatal(err)
			}
			w.set(func() { w.nonce = p.Nonce })
			s, err := c.Exchange(t.Context(), p, w.good(p), func(_ context.Context, state *oauthclient.SessionState) error { return nil })
			if !errors.Is(err, oauthclient.ErrIDToken) || s != nil {
				t.Errorf("%v, error %v, want ErrIDToken", s, err)
			}
			// What nobody will use is given back.
			if got := w.mtls.at("/revocation"); len(got) != 1 || got[0].form.Get("token") != "r1" {
				t.Errorf("%d revocations", len(got))
			}
		})
	}
}

// All algorithms, with the at_hash of each.
func TestIDTokenAlgorithms(t *testing.T) {
	for alg, kind := range map[string]pkitest.KeyType{"ES256": pkitest.P256, "EdDSA": pkitest.Ed25519, "PS256": pkitest.RSA2048, "RS256": pkitest.RSA2048} {
		t.Run(alg, func(t *testing.T) {
			w := newPeopleWorld(t)
			key := pkitest.MustKey(kind)
			w.signer = mustSigner(t, alg, key)
			keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "id", Algorithm: alg, Use: "sig"}}})
			if err != nil {
				t.Fatal(err)
			}
			token := "an-opaque-token"
			w.answer = map[string]any{"access_token": token}
			half := sha256.Sum256([]byte(token))
			w.claims = map[string]any{"at_hash": base64.RawURLEncoding.EncodeToString(half[:16])}
			if alg == "EdDSA" {
				half := sha512.Sum512([]byte(token))
				w.claims = map[string]any{"at_hash": base64.RawURLEncoding.EncodeToString(half[:32])}
			}
			old := w.as.h
			w.as.handle(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/jwks" {
					rw.Write(keys)
					return
				}
				old(rw, r)
			})
			w.login(w.client(nil), nil)
			c := w.client(func(cfg *oauthclient.Config) { cfg.FAPI2 = true })
			p := w.start(c)
			_, err = c.Exchange(t.Context(), p, w.good(p), nil)
			if refused := errors.Is(err, oauthclient.ErrIDToken); refused != (alg == "RS256") {
				t.Errorf("FAPI2: error %v", err)
			}
		})
	}
}

// A server that rotates refresh tokens: each new one is kept before the tokens beside it
// are used, and many callers make one request.
func TestSessionRotation(t *testing.T) {
	t.Attr("requirement", "F2-5.3.3.1-6")
	w := newPeopleWorld(t)
	var mu sync.Mutex
	var kept []string
	var broken error
	save := func(_ context.Context, s *oauthclient.SessionState) error {
		mu.Lock()
		defer mu.Unlock()
		if broken != nil {
			return broken
		}
		kept = append(kept, s.RefreshToken)
		return nil
	}
	w.expires = 0 // each use needs a new token
	c := w.client(nil)
	s := w.login(c, save)
	h := s.HTTPClient()
	for range 2 {
		if status, _ := get(t, h, w.rs.URL+"/x"); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	mu.Lock()
	if !slices.Equal(kept, []string{"r1", "r2", "r3"}) {
		t.Errorf("kept %q", kept)
	}
	broken = errors.New("the database is away")
	mu.Unlock()
	for range 3 {
		if _, err := s.TokenSource(t.Context()).Token(); !errors.Is(err, broken) {
			t.Errorf("error %v, want that of save", err)
		}
	}
	if n := len(w.mtls.at("/token")); n != 4 {
		t.Errorf("%d token requests; what could not be kept was asked for again", n)
	}
	mu.Lock()
	broken = nil
	mu.Unlock()
	w.set(func() { w.expires = 300 })
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := s.TokenSource(t.Context()).Token(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	// One refresh, unless a caller came when the first had ended with a token of no time.
	got := w.mtls.at("/token")
	if last := got[len(got)-1].form.Get("refresh_token"); len(got) != 5 || last != "r4" {
		t.Errorf("%d token requests, the last with %q", len(got), last)
	}
	if st := s.State(); st.RefreshToken != "r5" || kept[len(kept)-1] != "r5" {
		t.Errorf("state has %q, kept is %q", st.RefreshToken, kept[len(kept)-1])
	}
}

// What is wrong beside a new refresh token does not lose it.
func TestSessionKeepsRefreshToken(t *testing.T) {
	w := newPeopleWorld(t)
	w.expires = 0
	s := w.login(w.client(nil), nil)
	w.set(func() { w.claims = map[string]any{"sub": "bob"} })
	if _, err := s.TokenSource(t.Context()).Token(); !errors.Is(err, oauthclient.ErrIDToken) {
		t.Errorf("error %v, want ErrIDToken for another person", err)
	}
	if got := s.State().RefreshToken; got != "r2" {
		t.Errorf("refresh token %q", got)
	}
	w.set(func() { w.claims, w.answer = nil, map[string]any{"id_token": nil, "refresh_token": nil} })
	if _, err := s.TokenSource(t.Context()).Token(); err != nil {
		t.Errorf("a refresh without an ID token and without rotation: %v", err)
	}
	if got := s.State(); got.RefreshToken != "r2" || got.Subject != "ann" {
		t.Errorf("state %+v", got)
	}
}

// The certificate of the client changes.
func TestSessionCertificate(t *testing.T) {
	p := certs()
	t.Run("a public client refreshes with the certificate of the login", func(t *testing.T) {
		t.Attr("requirement", "M-4-3")
		w := newPeopleWorld(t)
		w.expires = 0
		f := newCertFiles(t, p.l1)
		c := w.client(func(cfg *oauthclient.Config) { f.use(cfg); public(cfg) })
		s := w.login(c, nil)
		state := s.State()
		f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
		get(t, s.HTTPClient(), w.rs.URL+"/x")
		tokens, rs := w.mtls.at("/token"), w.rs.all()
		if len(tokens) != 2 || tokens[1].cert != thumb(p.l1) || rs[0].cert != thumb(p.l1) {
			t.Errorf("refresh with %q, resource with %q; want %q", tokens[1].cert, rs[0].cert, thumb(p.l1))
		}
		// After a restart the old certificate is gone.
		_, err := w.client(func(cfg *oauthclient.Config) { f.use(cfg); public(cfg) }).Resume(state, nil)
		if !errors.Is(err, oauthclient.ErrLoginRequired) {
			t.Errorf("error %v, want ErrLoginRequired", err)
		}
	})
	t.Run("a client that authenticates uses the current one", func(t *testing.T) {
		t.Attr("requirement", "M-3-7 M-6.3-2")
		w := newPeopleWorld(t)
		f := newCertFiles(t, p.l1)
		c := w.client(f.use)
		s := w.login(c, nil)
		f.write(p.l1r.ChainPEM(), p.l1r.KeyPEM())
		get(t, s.HTTPClient(), w.rs.URL+"/x") // the old token with the old certificate
		w.set(func() {
			for _, tok := range []string{s.State().AccessToken} {
				w.revoked[tok] = true
			}
		})
		if status, _ := get(t, s.HTTPClient(), w.rs.URL+"/x"); status != 200 {
			t.Errorf("status %d", status)
		}
		tokens, rs := w.mtls.at("/token"), w.rs.all()
		if len(tokens) != 2 || tokens[1].cert != thumb(p.l1r) || tokens[1].form.Get("grant_type") != "refresh_token" {
			t.Errorf("token requests %+v", tokens)
		}
		if rs[0].cert != thumb(p.l1) || rs[len(rs)-1].cert != thumb(p.l1r) {
			t.Errorf("at the resource: %q, then %q", rs[0].cert, rs[len(rs)-1].cert)
		}
		// The same after a restart.
		later := w.client(f.use)
		resumed, err := later.Resume(s.State(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := get(t, resumed.HTTPClient(), w.rs.URL+"/x"); status != 200 || len(w.mtls.at("/token")) != 2 {
			t.Errorf("status %d, %d token requests", status, len(w.mtls.at("/token")))
		}
		state := s.State()
		state.Thumbprint = thumb(p.l2)
		if resumed, err = later.Resume(state, nil); err != nil {
			t.Fatal(err)
		}
		if status, _ := get(t, resumed.HTTPClient(), w.rs.URL+"/x"); status != 200 || len(w.mtls.at("/token")) != 3 {
			t.Errorf("status %d, %d token requests", status, len(w.mtls.at("/token")))
		}
		state.Issuer = "https://another.test"
		if _, err := later.Resume(state, nil); err == nil {
			t.Error("no error for a session of another issuer")
		}
	})
}

// The refresh token does not work any more: one request, then a clear answer.
func TestSessionEnds(t *testing.T) {
	w := newPeopleWorld(t)
	w.expires = 0
	s := w.login(w.client(nil), nil)
	w.set(func() { w.refresh = 77 })
	for range 2 {
		_, err := s.TokenSource(t.Context()).Token()
		if e, ok := errors.AsType[*oauthclient.Error](err); !errors.Is(err, oauthclient.ErrLoginRequired) || !ok || e.Code != "invalid_grant" {
			t.Errorf("error %v, want ErrLoginRequired and the server's", err)
		}
	}
	if n := len(w.mtls.at("/token")); n != 2 {
		t.Errorf("%d token requests", n)
	}
	w.set(func() { w.answer = map[string]any{"refresh_token": nil} })
	s = w.login(w.client(nil), nil)
	if _, err := s.TokenSource(t.Context()).Token(); !errors.Is(err, oauthclient.ErrLoginRequired) {
		t.Errorf("error %v, want ErrLoginRequired without a refresh token", err)
	}
}

func TestUserInfo(t *testing.T) {
	w := newPeopleWorld(t)
	s := w.login(w.client(public), nil)
	t.Run("with the bound token at the alias", func(t *testing.T) {
		t.Attr("requirement", "M-5-5 F2-5.3.3.1-3")
		info, err := s.UserInfo(t.Context())
		if err != nil || info.Subject != "ann" || !strings.Contains(string(info.Claims), "Ann Example") {
			t.Fatalf("%+v, error %v", info, err)
		}
		got := w.mtls.at("/userinfo")
		if len(got) != 1 || got[0].cert != thumb(certs().l1) || !strings.HasPrefix(got[0].header.Get("Authorization"), "Bearer ") || len(w.as.at("/userinfo")) != 0 {
			t.Errorf("requests %+v", got)
		}
	})
	t.Run("a refused token is renewed once", func(t *testing.T) {
		n := 0
		w.set(func() {
			w.userInfo = func(rw http.ResponseWriter, r *http.Request) bool {
				n++
				rw.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
				rw.WriteHeader(401)
				return true
			}
		})
		_, err := s.UserInfo(t.Context())
		if e, ok := errors.AsType[*oauthclient.Error](err); !ok || e.Code != "invalid_token" || e.Endpoint != oauthclient.UserInfoEndpoint {
			t.Errorf("error %v", err)
		}
		if w.n(&n) != 2 {
			t.Errorf("%d requests", n)
		}
	})
	for name, body := range map[string]string{"another person": `{"sub":"bob"}`, "nobody": `{}`, "no object": `[]`} {
		t.Run(name, func(t *testing.T) {
			w.set(func() {
				w.userInfo = func(rw http.ResponseWriter, r *http.Request) bool {
					rw.Header().Set("Content-Type", "application/json")
					io.WriteString(rw, body)
					return true
				}
			})
			if info, err := s.UserInfo(t.Context()); err == nil || info != nil {
				t.Errorf("%+v, error %v", info, err)
			}
		})
	}
}

func TestSessionRevoke(t *testing.T) {
	w := newPeopleWorld(t)
	var last *oauthclient.SessionState
	calls := 0
	s := w.login(w.client(public), func(_ context.Context, state *oauthclient.SessionState) error { last = state; calls++; return nil })
	if err := s.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := w.mtls.at("/revocation")
	if last != nil || calls != 2 {
		t.Errorf("save has %v after %d calls", last, calls)
	}
	if all := append(got, w.as.at("/revocation")...); len(all) != 1 || all[0].form.Get("token") != "r1" || all[0].form.Get("token_type_hint") != "refresh_token" {
		t.Errorf("revocations %+v", all)
	}
	if _, err := s.TokenSource(t.Context()).Token(); !errors.Is(err, oauthclient.ErrLoginRequired) {
		t.Errorf("error %v, want ErrLoginRequired", err)
	}
	if st := s.State(); st.AccessToken != "" || st.RefreshToken != "" {
		t.Errorf("state %+v", st)
	}
}

func TestRedirectURI(t *testing.T) {
	for _, text := range []string{"https://app.test/cb", "http://127.0.0.1:1234/cb", "http://[::1]/cb", "http://localhost/cb", "com.example.app:/cb"} {
		if _, err := oauthclient.New(newWorld(t).config(func(cfg *oauthclient.Config) { cfg.RedirectURI = text })); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"http://app.test/cb", "/cb", "https://app.test/cb#x", "https://u@app.test/", "javascript:alert(1)", "https:///cb", "https://app.test/\x00"} {
		if _, err := oauthclient.New(newWorld(t).config(func(cfg *oauthclient.Config) { cfg.RedirectURI = text })); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestFAPI2Config(t *testing.T) {
	t.Attr("requirement", "F2-5.3.3.1-1 F2-5.3.3.1-2")
	w := newWorld(t)
	for _, change := range []func(*oauthclient.Config){
		func(cfg *oauthclient.Config) { cfg.AuthMethod, cfg.ClientSecret = oauthclient.ClientSecretBasic, "x" },
		func(cfg *oauthclient.Config) { cfg.AuthMethod, cfg.RedirectURI = oauthclient.None, redirectURI },
		func(cfg *oauthclient.Config) {
			cfg.AuthMethod, cfg.AssertionAlg, cfg.AssertionKey = oauthclient.PrivateKeyJWT, "RS256", pkitest.MustKey(pkitest.RSA2048)
		},
	} {
		if _, err := oauthclient.New(w.config(func(cfg *oauthclient.Config) { cfg.FAPI2 = true; change(cfg) })); err == nil {
			t.Error("no error")
		}
	}
	for _, change := range []func(*oauthclient.Config){
		func(cfg *oauthclient.Config) {},
		func(cfg *oauthclient.Config) { cfg.AuthMethod = oauthclient.SelfSignedTLSClientAuth },
		func(cfg *oauthclient.Config) {
			cfg.AuthMethod, cfg.AssertionAlg, cfg.AssertionKey = oauthclient.PrivateKeyJWT, "PS256", pkitest.MustKey(pkitest.RSA2048)
		},
	} {
		if _, err := oauthclient.New(w.config(func(cfg *oauthclient.Config) { cfg.FAPI2 = true; change(cfg) })); err != nil {
			t.Error(err)
		}
	}
}
