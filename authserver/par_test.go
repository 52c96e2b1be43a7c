package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

// clock is a clock that a test moves forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time             { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration)    { c.ahead.Add(int64(d)) }
func (c *clock) use(cfg *authserver.Config) { cfg.Now = c.now }

func TestPAR(t *testing.T) {
	as := startPeople(t)
	post := func(t *testing.T, base string, pairs ...string) *fixture.Answer {
		t.Helper()
		return push(t, as, as.L1, base, requestOf(pairs...))
	}
	proves(t, "P-2-1 P-2-2 P-2.2-1 F2-5.3.2.2-2 F2-5.3.2.2-12 F2-5.4.1-4", "a client authenticates with its certificate and client_id", func(t *testing.T) {
		seen := map[string]bool{}
		for range 20 {
			r := post(t, fixture.MTLSBase)
			uri, _ := r.JSON["request_uri"].(string)
			expires, _ := r.JSON["expires_in"].(float64)
			if r.Status != 201 || len(uri) != len("urn:ietf:params:oauth:request_uri:")+43 || expires != 90 || seen[uri] || r.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%d %s", r.Status, r.Text)
			}
			seen[uri] = true
			wantNoStore(t, r)
		}
		if !as.LastDecision().Allowed {
			t.Errorf("%s", as.LastDecision())
		}
	})
	proves(t, "P-2.3-1 F2-5.3.2.2-4", "without the right credential", func(t *testing.T) {
		wantIC(t, push(t, as, as.L2, fixture.MTLSBase, requestOf()))
		wantIC(t, push(t, as, nil, fixture.MTLSBase, requestOf()))
		wantIC(t, push(t, as, as.L1, fixture.Issuer, requestOf())) // the host that sees no certificates
		wantIC(t, post(t, fixture.MTLSBase, "client_id", "nobody"))
		r := fixture.Get(t, as.As(t, as.L1), fixture.MTLSBase+"/par")
		if r.Status != http.StatusMethodNotAllowed {
			t.Errorf("GET: %d", r.Status)
		}
	})
	proves(t, "P-2-1", "a client with a signed assertion, for this endpoint", func(t *testing.T) {
		for _, aud := range []string{fixture.Issuer, fixture.Issuer + "/par", fixture.MTLSBase + "/par", fixture.Issuer + "/token"} {
			assertion := as.Assertion(t, map[string]any{"aud": aud, "iss": "w-pkj", "sub": "w-pkj"})
			v := requestOf("client_id", "w-pkj", "client_assertion", assertion,
				"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
			if r := push(t, as, nil, fixture.Issuer, v); r.Status != 201 {
				t.Errorf("%s: %d %s", aud, r.Status, r.Text)
			}
			wantIC(t, push(t, as, nil, fixture.Issuer, v)) // twice
		}
	})
	t.Run("a public client is identified only", func(t *testing.T) {
		if r := push(t, as, nil, fixture.Issuer, requestOf("client_id", "w-pub")); r.Status != 201 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	proves(t, "P-2.1-1", "request_uri is refused", func(t *testing.T) {
		wantIR(t, post(t, fixture.MTLSBase, "request_uri", "urn:ietf:params:oauth:request_uri:x"))
	})
	t.Run("a machine client has no business here", func(t *testing.T) {
		wantError(t, post(t, fixture.MTLSBase, "client_id", "c-dn"), 400, "unauthorized_client")
	})
	for _, tt := range refusedRequests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.ids != "" {
				t.Attr("requirement", tt.ids)
			}
			wantError(t, post(t, fixture.MTLSBase, tt.change...), 400, tt.code)
			if tt.reason != "" {
				wantReason(t, as, tt.reason)
			}
		})
	}
	t.Run("the same parameter twice", func(t *testing.T) {
		v := requestOf()
		v.Add("scope", "openid")
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, v))
		wantReason(t, as, decision.ParameterRepeated)
	})
}

// refusedRequests are requests that are refused wherever they come.
var refusedRequests = []struct {
	name, ids string
	change    []string
	code      string
	reason    decision.Reason
	page      bool // not told to the client
}{
	{"redirect_uri of somebody else", "F2-5.3.2.1-7", []string{"redirect_uri", "https://evil.test/cb"}, "invalid_request", decision.RedirectMismatch, true},
	{"no redirect_uri with openid", "", []string{"redirect_uri", ""}, "invalid_request", decision.RedirectMismatch, true},
	{"no response_type", "", []string{"response_type", ""}, "invalid_request", decision.RequestMalformed, false},
	{"response_type token", "M-6.4-1 F2-5.3.2.2-1 OA-6 G-2.1.2-1", []string{"response_type", "token"}, "unsupported_response_type", decision.ResponseUnsupported, false},
	{"response_type id_token", "F2-5.3.2.2-1", []string{"response_type", "id_token"}, "unsupported_response_type", decision.ResponseUnsupported, false},
	{"response_type code token", "M-6.4-1 F2-5.3.2.2-1", []string{"response_type", "code token"}, "unsupported_response_type", decision.ResponseUnsupported, false},
	{"response_type none", "", []string{"response_type", "none"}, "unsupported_response_type", decision.ResponseUnsupported, false},
	{"response_mode fragment", "", []string{"response_mode", "fragment"}, "invalid_request", decision.ResponseUnsupported, false},
	{"response_mode jwt", "", []string{"response_mode", "jwt"}, "invalid_request", decision.ResponseUnsupported, false},
	{"no code_challenge", "F2-5.3.2.2-5 OA-6", []string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request", decision.ChallengeMissing, false},
	{"method without challenge", "F2-5.3.2.2-5", []string{"code_challenge", ""}, "invalid_request", decision.ChallengeMissing, false},
	{"code_challenge of no SHA-256", "", []string{"code_challenge", "short"}, "invalid_request", decision.RequestMalformed, false},
	{"code_challenge in base64", "", []string{"code_challenge", strings.Repeat("+", 43)}, "invalid_request", decision.RequestMalformed, false},
	{"scope that the client has not", "", []string{"scope", "openid admin"}, "invalid_scope", decision.ScopeNotAllowed, false},
	{"scope that nobody has", "", []string{"scope", "openid nothing"}, "invalid_scope", decision.ScopeNotAllowed, false},
	{"scope with two spaces", "", []string{"scope", "openid  read"}, "invalid_scope", decision.ScopeNotAllowed, false},
	{"resource that does not exist", "U-2-1", []string{"resource", "https://other.test"}, "invalid_target", decision.ResourceNotAllowed, false},
	{"resource with a fragment", "U-2-1", []string{"resource", fixture.Resource + "#x"}, "invalid_target", decision.ResourceNotAllowed, false},
	{"resource that is relative", "U-2-1", []string{"resource", "/api"}, "invalid_target", decision.ResourceNotAllowed, false},
	{"prompt that is none of ours", "", []string{"prompt", "create"}, "invalid_request", decision.RequestMalformed, false},
	{"prompt none with another", "", []string{"prompt", "none login"}, "invalid_request", decision.RequestMalformed, false},
	{"max_age that is no number", "", []string{"max_age", "-1"}, "invalid_request", decision.RequestMalformed, false},
	{"max_age beyond all times", "", []string{"max_age", "99999999999999999999"}, "invalid_request", decision.RequestMalformed, false},
	{"a state that is too long", "", []string{"state", strings.Repeat("s", 2049)}, "invalid_request", decision.RequestMalformed, false},
	{"a state with a control character", "", []string{"state", "a\r\nb"}, "invalid_request", decision.RequestMalformed, false},
	{"a nonce that is too long", "", []string{"nonce", strings.Repeat("n", 513)}, "invalid_request", decision.RequestMalformed, false},
	{"a login_hint that is too long", "", []string{"login_hint", strings.Repeat("h", 513)}, "invalid_request", decision.RequestMalformed, false},
	{"a login_hint that turns the line", "", []string{"login_hint", "ann\u202enna"}, "invalid_request", decision.RequestMalformed, false},
	{"seventeen acr_values", "", []string{"acr_values", strings.Repeat("a ", 17)}, "invalid_request", decision.RequestMalformed, false},
	{"id_token_hint that is none", "", []string{"id_token_hint", "e30.e30.e30"}, "invalid_request", decision.RequestMalformed, false},
}

// TestAttackPKCEDowngrade: whoever can change the request of a client in the browser takes the
// challenge out, or shows the verifier by asking for plain, and then uses a stolen code.
func TestAttackPKCEDowngrade(t *testing.T) {
	t.Attr("requirement", "F2-5.3.2.2-5 OA-6")
	as := startPeople(t)
	b := newBrowser(t, as)
	for name, change := range map[string][]string{
		"no challenge":       {"code_challenge", "", "code_challenge_method", ""},
		"plain":              {"code_challenge", verifier, "code_challenge_method", "plain"},
		"plain by default":   {"code_challenge", verifier, "code_challenge_method", ""},
		"method in capitals": {"code_challenge_method", "s256"},
		"another method":     {"code_challenge_method", "S512"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, client := range []string{"w-dn", "w-pub", "w-own"} {
				q := response(t, b.get(authorizeURL(append(change, "client_id", client)...)))
				if q.Get("error") != "invalid_request" || q.Get("code") != "" || q.Get("state") != "s t+/=" {
					t.Errorf("%s: %v", client, q)
				}
				wantReason(t, as, decision.ChallengeMissing)
			}
			wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf(change...)))
		})
	}
}

func TestPushedRequest(t *testing.T) {
	c := new(clock)
	as := startPeople(t, c.use)
	b := newBrowser(t, as)
	proves(t, "M-5-10 P-7-1", "pushed at the alias, opened at the issuer", func(t *testing.T) {
		wantCode(t, b.code(pushed(t, as), "ann"))
	})
	proves(t, "P-2.2-1", "the request_uri of another client", func(t *testing.T) {
		uri := pushed(t, as)
		wantErrorPage(t, b.get(strings.Replace(uri, "client_id=w-dn", "client_id=w-dns", 1)), 400, "invalid_request_uri")
		wantReason(t, as, decision.RequestOfOther)
		wantErrorPage(t, b.get(strings.Replace(uri, "client_id=w-dn&", "", 1)), 400, "unauthorized_client")
		wantCode(t, response(t, b.get(uri))) // it is not spoiled
	})
	t.Run("expired", func(t *testing.T) {
		uri := pushed(t, as)
		c.forward(91 * time.Second)
		wantErrorPage(t, b.get(uri), 400, "invalid_request_uri")
		wantReason(t, as, decision.RequestExpired)
	})
	t.Run("re-used", func(t *testing.T) {
		uri := pushed(t, as)
		wantCode(t, response(t, b.get(uri)))
		wantErrorPage(t, b.get(uri), 400, "invalid_request_uri")
		wantReason(t, as, decision.RequestUnknown)
	})
	t.Run("reload and step back show the same page", func(t *testing.T) {
		b := newBrowser(t, as)
		uri := pushed(t, as, "prompt", "consent")
		first := b.get(uri)
		if again := b.get(uri); again.at != first.at || again.Text != first.Text {
			t.Errorf("%s, then %s", first.at, again.at)
		}
		c.forward(20 * time.Minute) // longer than a request_uri lives that nobody has opened
		consent := b.submit(first, "name", "ann")
		for _, again := range []page{b.get(consent.at), b.get(uri)} {
			if again.Status != 200 || again.Text != consent.Text {
				t.Errorf("%d %s", again.Status, again.Text)
			}
		}
		if back := b.get(first.at); back.Status != 200 || back.Text != first.Text {
			t.Errorf("%d %s", back.Status, back.Text)
		}
		wantCode(t, response(t, b.submit(consent, "decision", "allow")))
		wantErrorPage(t, b.submit(consent, "decision", "allow"), 400, "invalid_request_uri")
		wantErrorPage(t, b.get(first.at), 400, "invalid_request_uri")
	})
	t.Run("a flow that takes too long", func(t *testing.T) {
		b := newBrowser(t, as)
		p := b.get(pushed(t, as))
		c.forward(31 * time.Minute)
		wantErrorPage(t, b.submit(p, "name", "ann"), 400, "invalid_request_uri")
		wantReason(t, as, decision.RequestExpired)
	})
	t.Run("another browser", func(t *testing.T) {
		one, other := newBrowser(t, as), newBrowser(t, as)
		uri := pushed(t, as)
		p := one.get(uri)
		wantErrorPage(t, other.get(uri), 403, "cookie")
		other.get(authorizeURL()) // so that it has a cookie
		wantErrorPage(t, other.get(uri), 400, "another browser")
		wantReason(t, as, decision.BrowserMismatch)
		wantErrorPage(t, other.get(p.at), 400, "another browser")
		to, body := form(t, p, "name", "eve")
		wantErrorPage(t, other.do(http.MethodPost, to, body), 400, "another browser")
		// The one who began goes on.
		wantCode(t, response(t, one.submit(one.submit(p, "name", "ben"), "decision", "allow")))
	})
	t.Run("a reference that has not begun", func(t *testing.T) {
		u, _ := url.Parse(pushed(t, as))
		reference := strings.TrimPrefix(u.Query().Get("request_uri"), "urn:ietf:params:oauth:request_uri:")
		for _, path := range []string{"/authorize", "/login", "/consent"} {
			wantErrorPage(t, b.get(fixture.Issuer+path+"?flow="+reference), 400, "invalid_request_uri")
		}
	})
	t.Run("a request_uri of a web server", func(t *testing.T) {
		for _, uri := range []string{"https://app.test/request.jwt", "urn:ietf:params:oauth:request_uri:x", "urn:other", "http://127.0.0.1/"} {
			wantErrorPage(t, b.get(pushedURL("w-dn", uri)), 400, "request_uri_not_supported")
			wantReason(t, as, decision.RequestByReference)
		}
	})
	t.Run("parameters beside request_uri do not count", func(t *testing.T) {
		q := response(t, b.get(pushed(t, as)+"&state=other&redirect_uri=https%3A%2F%2Fevil.test%2F&response_mode=form_post"))
		wantCode(t, q)
	})
	t.Run("a client that must push", func(t *testing.T) {
		q := response(t, b.get(authorizeURL("client_id", "w-par")))
		if q.Get("error") != "invalid_request" {
			t.Errorf("%v", q)
		}
		wantReason(t, as, decision.RequestNotPushed)
		wantCode(t, b.code(pushed(t, as, "client_id", "w-par", "prompt", "login consent"), "ann"))
	})
}

// TestFAPI2Requests holds a client of the profile to the rules for its requests.
func TestFAPI2Requests(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	proves(t, "F2-5.3.2.2-3", "a request that was not pushed", func(t *testing.T) {
		q := response(t, b.get(authorizeURL("client_id", "w-fapi")))
		if q.Get("error") != "invalid_request" || q.Get("code") != "" {
			t.Errorf("%v", q)
		}
		// Nor by a detour.
		p := b.do(http.MethodPost, fixture.Issuer+"/authorize", requestOf("client_id", "w-fapi").Encode())
		if q := response(t, p); q.Get("error") != "invalid_request" {
			t.Errorf("%v", q)
		}
	})
	proves(t, "F2-5.3.2.2-5", "without PKCE, or with plain", func(t *testing.T) {
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "w-fapi", "code_challenge", "", "code_challenge_method", "")))
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "w-fapi", "code_challenge_method", "plain")))
	})
	proves(t, "F2-5.3.2.2-6", "without redirect_uri", func(t *testing.T) {
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "w-fapi", "redirect_uri", "", "scope", "read")))
		wantReason(t, as, decision.RedirectMismatch)
	})
	proves(t, "F2-5.3.2.2-4", "without a certificate", func(t *testing.T) {
		wantIC(t, push(t, as, nil, fixture.MTLSBase, requestOf("client_id", "w-fapi")))
	})
	proves(t, "F2-5.3.2.2-14 F2-5.3.2.2-7 F2-5.3.2.2-10 F2-5.3.2.2-11", "a nonce of 64 characters, and 303 with iss", func(t *testing.T) {
		nonce := strings.Repeat("n", 64)
		code := wantCode(t, b.code(pushed(t, as, "client_id", "w-fapi", "nonce", nonce), "ann"))
		r := fixture.Post(t, as.As(t, as.L1), fixture.MTLSBase+"/token", "client_id", "w-fapi", "grant_type", "authorization_code",
			"code", code, "redirect_uri", callback, "code_verifier", verifier)
		wantOK(t, r)
		if id, _ := r.JSON["id_token"].(string); fixture.Claims(id)["nonce"] != nonce {
			t.Errorf("%s", r.Text)
		}
	})
	t.Run("the whole server", func(t *testing.T) {
		as := startPeople(t, func(c *authserver.Config) { c.Authorization.RequirePAR = true })
		if q := response(t, newBrowser(t, as).get(authorizeURL())); q.Get("error") != "invalid_request" {
			t.Errorf("%v", q)
		}
	})
}

// signObject signs a request object of w-signed with changes to its claims; nil removes one.
func signObject(t testing.TB, as *fixture.AS, typ string, changes map[string]any) string {
	t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": "w-signed", "client_id": "w-signed", "aud": fixture.Issuer, "exp": now.Add(time.Minute).Unix(), "nbf": now.Unix(),
		"response_type": "code", "redirect_uri": callback, "scope": "openid read", "state": "s t+/=",
		"code_challenge": challengeOf(verifier), "code_challenge_method": "S256",
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signPayload(t, as.AssertionKey.Key, jose.ES256, typ, payload)
}

func signPayload(t testing.TB, key any, alg jose.SignatureAlgorithm, typ string, payload []byte) string {
	t.Helper()
	opts := new(jose.SignerOptions)
	if typ != "" {
		opts = opts.WithType(jose.ContentType(typ))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRequestObject(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	pushObject := func(t *testing.T, object string, pairs ...string) *fixture.Answer {
		t.Helper()
		v := url.Values{"client_id": {"w-signed"}, "request": {object}}
		for i := 0; i+1 < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return push(t, as, as.L1, fixture.MTLSBase, v)
	}
	uriOf := func(r *fixture.Answer) string { s, _ := r.JSON["request_uri"].(string); return s }
	now := time.Now()
	proves(t, "FM-5.3.1-1 P-3-1", "pushed, of every type that is one", func(t *testing.T) {
		for _, typ := range []string{"oauth-authz-req+jwt", "OAUTH-AUTHZ-REQ+JWT", "application/oauth-authz-req+jwt", "JWT", ""} {
			r := pushObject(t, signObject(t, as, typ, nil))
			if r.Status != 201 {
				t.Fatalf("%q: %d %s", typ, r.Status, r.Text)
			}
			wantCode(t, response(t, b.codePage(pushedURL("w-signed", uriOf(r)), "ann")))
		}
	})
	t.Run("at the authorization endpoint", func(t *testing.T) {
		at := fixture.Issuer + "/authorize?" + url.Values{"client_id": {"w-signed"}, "request": {signObject(t, as, "", nil)}}.Encode()
		wantCode(t, response(t, b.codePage(at, "ann")))
	})
	t.Run("without one", func(t *testing.T) {
		if q := response(t, b.get(authorizeURL("client_id", "w-signed"))); q.Get("error") != "invalid_request" {
			t.Errorf("%v", q)
		}
		wantReason(t, as, decision.RequestNotSigned)
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "w-signed")))
	})
	t.Run("max_age and resource of their own types", func(t *testing.T) {
		for _, v := range []any{30, "30"} {
			if r := pushObject(t, signObject(t, as, "", map[string]any{"max_age": v, "resource": []string{fixture.Resource, fixture.Resource2}})); r.Status != 201 {
				t.Errorf("%v: %d %s", v, r.Status, r.Text)
			}
		}
		if r := pushObject(t, signObject(t, as, "", map[string]any{"resource": fixture.Resource, "claims": map[string]any{"userinfo": nil}, "aud": []string{fixture.Issuer}})); r.Status != 201 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	// Anybody can add parameters to the URL that a client has sent the browser to. They
	// do not count: state, redirect_uri and scope are those that were signed.
	t.Run("parameters outside the request object", func(t *testing.T) {
		t.Attr("requirement", "P-3-1")
		outside := []string{"state", "evil", "redirect_uri", "https://evil.test/cb", "scope", "openid read write", "code_challenge", challengeOf("x"), "response_mode", "form_post"}
		r := pushObject(t, signObject(t, as, "", map[string]any{"scope": "openid"}), outside...)
		if r.Status != 201 {
			t.Fatalf("%d %s", r.Status, r.Text)
		}
		p := b.get(pushedURL("w-signed", uriOf(r)) + "&prompt=consent")
		code := wantCode(t, response(t, p))
		token := fixture.Post(t, as.As(t, as.L1), fixture.MTLSBase+"/token", "client_id", "w-signed", "grant_type", "authorization_code",
			"code", code, "redirect_uri", callback, "code_verifier", verifier)
		wantOK(t, token)
		if token.JSON["scope"] != "openid" {
			t.Errorf("%v", token.JSON["scope"])
		}
		v := url.Values{"client_id": {"w-signed"}, "request": {signObject(t, as, "", map[string]any{"scope": "openid"})}}
		for i := 0; i+1 < len(outside); i += 2 {
			v.Set(outside[i], outside[i+1])
		}
		wantCode(t, response(t, b.get(fixture.Issuer+"/authorize?"+v.Encode())))
		// What is missing inside is missing.
		if r := pushObject(t, signObject(t, as, "", map[string]any{"code_challenge": nil}), "code_challenge", challengeOf(verifier)); r.Status != 400 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	proves(t, "P-3-2", "client_id of another client", func(t *testing.T) {
		wantError(t, pushObject(t, signObject(t, as, "", map[string]any{"client_id": "w-dn", "iss": nil})), 400, "invalid_request_object")
	})
	other := signPayload(t, as.L1.Key, jose.ES256, "", []byte(`{}`))
	for name, object := range map[string]string{
		"no client_id":              signObject(t, as, "", map[string]any{"client_id": nil}),
		"iss of another":            signObject(t, as, "", map[string]any{"iss": "w-dn"}),
		"sub, as in an assertion":   signObject(t, as, "", map[string]any{"sub": "w-signed"}),
		"no aud":                    signObject(t, as, "", map[string]any{"aud": nil}),
		"aud of another":            signObject(t, as, "", map[string]any{"aud": "https://other.test"}),
		"aud of the alias":          signObject(t, as, "", map[string]any{"aud": fixture.MTLSBase}),
		"aud of the PAR endpoint":   signObject(t, as, "", map[string]any{"aud": fixture.Issuer + "/par"}),
		"no exp":                    signObject(t, as, "", map[string]any{"exp": nil}),
		"no nbf":                    signObject(t, as, "", map[string]any{"nbf": nil}),
		"expired":                   signObject(t, as, "", map[string]any{"exp": now.Add(-11 * time.Second).Unix(), "nbf": now.Add(-time.Minute).Unix()}),
		"nbf to come":               signObject(t, as, "", map[string]any{"nbf": now.Add(time.Minute).Unix(), "exp": now.Add(2 * time.Minute).Unix()}),
		"iat to come":               signObject(t, as, "", map[string]any{"iat": now.Add(time.Minute).Unix()}),
		"nbf 62 minutes ago":        signObject(t, as, "", map[string]any{"nbf": now.Add(-62 * time.Minute).Unix()}),
		"exp 61 minutes after nbf":  signObject(t, as, "", map[string]any{"exp": now.Add(61 * time.Minute).Unix()}),
		"exp as text":               signObject(t, as, "", map[string]any{"exp": "tomorrow"}),
		"a state that is a number":  signObject(t, as, "", map[string]any{"state": 1}),
		"a scope that is a list":    signObject(t, as, "", map[string]any{"scope": []string{"openid"}}),
		"request within":            signObject(t, as, "", map[string]any{"request": "x"}),
		"request_uri within":        signObject(t, as, "", map[string]any{"request_uri": "urn:x"}),
		"typ of an assertion":       signObject(t, as, "client-authentication+jwt", nil),
		"typ of an access token":    signObject(t, as, "at+jwt", nil),
		"a key of somebody else":    other,
		"not signed":                base64URL(`{"alg":"none"}`) + "." + base64URL(`{"client_id":"w-signed"}`) + ".",
		"HS256 with the public key": signPayload(t, as.AssertionKey.Cert.RawSubjectPublicKeyInfo, jose.HS256, "", []byte(`{}`)),
		"encrypted":                 "a.b.c.d.e",
		"JSON":                      `{"payload":""}`,
		"too long":                  strings.Repeat("a", 17<<10),
		"nothing":                   "..",
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, pushObject(t, object), 400, "invalid_request_object")
			wantReason(t, as, decision.RequestObjectInvalid)
			// The redirect URI outside is nobody's word: only the person is told.
			if len(object) < 8<<10 {
				v := requestOf("client_id", "w-signed", "request", object)
				wantErrorPage(t, b.get(fixture.Issuer+"/authorize?"+v.Encode()), 400, "invalid_request_object")
			}
		})
	}
	t.Run("a member that stands twice", func(t *testing.T) {
		object := signPayload(t, as.AssertionKey.Key, jose.ES256, "", []byte(`{"client_id":"w-signed","state":"a","state":"b"}`))
		wantError(t, pushObject(t, object), 400, "invalid_request_object")
	})
	t.Run("another algorithm than the registered one", func(t *testing.T) {
		as.Register(t, &authserver.Client{ID: "w-ps256", AuthMethod: authserver.None, GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{callback},
			Scope: "read", JWKS: fixture.JWKSOf(t, as.AssertionKey), RequestObjectAlg: "PS256"})
		v := url.Values{"client_id": {"w-ps256"}, "request": {signObject(t, as, "", map[string]any{"client_id": "w-ps256", "iss": nil})}}
		wantError(t, push(t, as, nil, fixture.Issuer, v), 400, "invalid_request_object")
	})
	t.Run("keys behind a URL", func(t *testing.T) {
		as.Keys.Serve("/w-uri", fixture.JWKSOf(t, as.AssertionKey))
		as.Register(t, &authserver.Client{ID: "w-uri", AuthMethod: authserver.None, GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{callback},
			Scope: "openid read", JWKSURI: "https://keys.test/w-uri", RequireSignedRequests: true})
		v := url.Values{"client_id": {"w-uri"}, "request": {signObject(t, as, "", map[string]any{"client_id": "w-uri", "iss": "w-uri"})}}
		if r := push(t, as, nil, fixture.Issuer, v); r.Status != 201 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	t.Run("a client without keys", func(t *testing.T) {
		v := url.Values{"client_id": {"w-pub"}, "request": {signObject(t, as, "", map[string]any{"client_id": "w-pub", "iss": nil})}}
		wantError(t, push(t, as, nil, fixture.Issuer, v), 400, "invalid_request_object")
	})
}

// codePage is login and consent where they are needed.
func (b *browser) codePage(to, name string) page {
	b.t.Helper()
	p := b.get(to)
	if strings.Contains(p.at, "/login?") {
		p = b.submit(p, "name", name)
	}
	if p.Status == 200 {
		p = b.submit(p, "decision", "allow")
	}
	return p
}

// FuzzRequestObject: claims are never read in two ways, and what they say is said by the
// request too.
func FuzzRequestObject(f *testing.F) {
	f.Add([]byte(`{"client_id":"c","aud":"https://as.test","exp":1,"nbf":0,"state":"x","resource":["a","b"],"max_age":3}`))
	f.Add([]byte(`{"client_id":"c","client_id":"d"}`))
	f.Add([]byte(`{"exp":1e400}`))
	f.Add([]byte(`{"max_age":null,"resource":[null],"aud":null}`))
	f.Add([]byte(`{"max_age":"3"}`))
	f.Add([]byte(`{"nbf":-9223372036854775809,"aud":[]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		parameters, fault, err := authserver.ParseObject(payload, "c", fixture.Issuer, time.Now())
		if err != nil {
			if parameters != nil || fault != "" {
				t.Error("something beside an error")
			}
			return
		}
		var members map[string]any
		if json.Unmarshal(payload, &members) != nil {
			t.Fatal("accepted, but encoding/json cannot read it")
		}
		for _, p := range parameters {
			switch v := members[p[0]].(type) {
			case string:
				if v != p[1] {
					t.Errorf("%s is %q, and was %q", p[0], p[1], v)
				}
			case float64, []any:
				if p[0] != "max_age" && p[0] != "resource" {
					t.Errorf("%s is a %T", p[0], v)
				}
			default:
				t.Errorf("%s is a %T", p[0], v)
			}
		}
		if fault == "" && members["client_id"] != "c" {
			t.Errorf("client_id is %v", members["client_id"])
		}
	})
}
