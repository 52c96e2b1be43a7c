package authserver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki/subject"
)

// Registration holds the settings of dynamic registration (RFC 7591) and of what clients
// do with their registrations (RFC 7592). The zero value is off. Enabled alone admits
// holders of an initial access token ([NewInitialToken]) and nobody else.
//
// What a client gets is never more than what stands here or with its initial access
// token. Its set of trust anchors, its audiences and all other members of our own come
// from there, never from its request and never from a software statement.
type Registration struct {
	Enabled bool
	// Open lets anybody register.
	Open bool
	// OpenGrantTypes are the grant types for clients that came without a token and
	// without a statement. If nil, authorization_code and refresh_token: a client that
	// needs no person is one that the operator should know.
	OpenGrantTypes []string
	// OpenLimit is how many of these clients a process registers within OpenWindow. If
	// zero, 100 within an hour.
	OpenLimit  int
	OpenWindow time.Duration

	// Methods are the authentication methods for clients whose token names none. If
	// nil, those of the server.
	Methods []string
	// Scopes are for clients whose token names none. If empty, such a client has no
	// scope.
	Scopes []string
	// Resources likewise. If empty, the default resource.
	Resources []string
	// AnchorSet and Profile are for clients whose token or statement names none.
	AnchorSet, Profile string

	// Statements lists whose software statements are believed (RFC 7591, Section 2.3).
	// If empty, statements are not understood, which means that they are ignored.
	Statements []StatementIssuer

	// MaxClients is how many clients that have registered themselves there can be. If
	// zero, 10,000. The last quarter of them is not for those who came without a token and
	// without a statement, so that strangers cannot shut out who was invited. Several
	// processes on one store may exceed it by what they register within a minute.
	MaxClients int
}

// Prefixes of the values that registration makes, so that one that leaks is recognised.
const (
	initialTokenPrefix      = "cbi_" // initial access tokens
	registrationTokenPrefix = "cbm_" // registration access tokens, which manage one client
	dynamicClientPrefix     = "cbd_" // ids of clients that have registered themselves
)

// NewInitialToken returns the value of an initial access token, which is shown once, and
// the hash to save (RFC 7591, Section 1.2).
func NewInitialToken() (value string, hash [32]byte) {
	value = initialTokenPrefix + randomText(32)
	return value, sha256.Sum256([]byte(value))
}

func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (r *Registration) setDefaults(cfg *Config) {
	def(&r.OpenLimit, 100)
	def(&r.OpenWindow, time.Hour)
	def(&r.MaxClients, 10_000)
	if r.Methods == nil {
		r.Methods = cfg.AuthMethods
	}
	if r.OpenGrantTypes == nil {
		r.OpenGrantTypes = []string{GrantAuthorizationCode, GrantRefreshToken}
	}
	r.Statements = slices.Clone(r.Statements)
	for i := range r.Statements {
		r.Statements[i].setDefaults()
	}
}

// checkRegistration reports wrong settings of dynamic registration.
func (cfg *Config) checkRegistration(bad func(setting, format string, args ...any)) {
	r := &cfg.Registration
	if !r.Enabled {
		return
	}
	if _, ok := cfg.Store.(GrantStore); !ok && cfg.Store != nil {
		bad("Registration.Enabled", "is set, but the store %T keeps no initial access tokens; use one that is a GrantStore", cfg.Store)
	}
	subset := func(setting string, values, of []string, what string) {
		for _, v := range values {
			if !slices.Contains(of, v) {
				bad(setting, "%q is not one of %s", v, what)
			}
		}
	}
	subset("Registration.Methods", r.Methods, cfg.AuthMethods, "AuthMethods")
	subset("Registration.Scopes", r.Scopes, cfg.Rules().Scopes, "Scopes")
	subset("Registration.Resources", r.Resources, cfg.Resources, "Resources")
	subset("Registration.OpenGrantTypes", r.OpenGrantTypes, []string{GrantClientCredentials, GrantAuthorizationCode, GrantRefreshToken}, "the grant types of the server")
	if r.AnchorSet != "" && cfg.HasAnchorSet != nil && !cfg.HasAnchorSet(r.AnchorSet) {
		bad("Registration.AnchorSet", "there is no anchor set %q", r.AnchorSet)
	}
	if r.Profile != "" && r.Profile != ProfileFAPI2 {
		bad("Registration.Profile", "expected %s, found %q", ProfileFAPI2, r.Profile)
	}
	if r.OpenLimit < 0 || r.OpenWindow < 0 || r.MaxClients < 0 {
		bad("Registration.OpenLimit, OpenWindow, MaxClients", "must not be negative")
	}
	for i := range r.Statements {
		r.Statements[i].check(cfg, func(format string, args ...any) {
			bad("Registration.Statements", "%q: %s", r.Statements[i].Issuer, fmt.Sprintf(format, args...))
		})
	}
}

// A ground is why a client may register, and what it may have.
type ground struct {
	by              string // for people
	initial         [32]byte
	open            bool
	statementIssuer string

	methods, grantTypes, scopes, resources []string
	anchorSet, profile                     string
}

// A registry is what a server knows of the clients that have registered themselves.
type registry struct {
	store GrantStore

	mu        sync.Mutex
	open      []time.Time // when strangers have registered, the oldest first
	count     int
	strangers int // of these
	counted   time.Time
}

// admit counts a stranger, or refuses one too many.
func (r *registry) admit(now time.Time, limit int, window time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = slices.DeleteFunc(r.open, func(t time.Time) bool { return !now.Before(t.Add(window)) })
	if len(r.open) >= limit {
		return false
	}
	r.open = append(r.open, now)
	return true
}

// recountEvery is how long the number of clients is believed, since other processes and
// the command line change it too.
const recountEvery = time.Minute

// full reports whether there are as many clients as there can be, of all or of strangers.
func (r *registry) full(ctx context.Context, now time.Time, limit int, open bool) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counted.IsZero() || now.Sub(r.counted) >= recountEvery {
		count, strangers, after := 0, 0, ""
		for {
			page, err := r.store.Clients(ctx, after, 1000)
			if err != nil {
				return false, err
			}
			for _, c := range page {
				if c.Dynamic {
					count++
					if c.RegisteredBy == registeredOpenly {
						strangers++
					}
				}
			}
			if len(page) < 1000 {
				break
			}
			after = page[len(page)-1].ID
		}
		r.count, r.strangers, r.counted = count, strangers, now
	}
	return r.count >= limit || open && r.strangers >= limit-limit/4, nil
}

func (r *registry) changed(c *Client, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count += by
	if c.RegisteredBy == registeredOpenly {
		r.strangers += by
	}
}

// registeredOpenly is Client.RegisteredBy of who came without a token and without a statement.
const registeredOpenly = "open"

// The refusals of registration (RFC 7591, Section 3.2.2; RFC 7592; RFC 6750).
var (
	refuseMetadataBody  = &refusal{http.StatusBadRequest, "invalid_client_metadata", "the body is not the JSON object that is expected", false}
	refuseMetadataType  = &refusal{http.StatusUnsupportedMediaType, "invalid_client_metadata", "the request must have the Content-Type application/json", false}
	refuseMetadataLarge = &refusal{http.StatusRequestEntityTooLarge, "invalid_client_metadata", "the request is too large", false}
	refuseRegister      = &refusal{http.StatusUnauthorized, "invalid_token", "an initial access token, or a software statement, is needed to register", false}
	refuseInitial       = &refusal{http.StatusUnauthorized, "invalid_token", "the initial access token is not valid", false}
	refuseManage        = &refusal{http.StatusUnauthorized, "invalid_token", "the registration access token is missing or not valid", false}
	refuseManageOff     = &refusal{http.StatusForbidden, "access_denied", "the operator has disabled the client", false}
	refuseManageMethod  = &refusal{http.StatusMethodNotAllowed, "invalid_request", "the request must use GET, PUT or DELETE", false}
	refuseOpenLimit     = &refusal{http.StatusTooManyRequests, "temporarily_unavailable", "too many clients have registered, try again later", false}
	refuseFull          = &refusal{http.StatusServiceUnavailable, "temporarily_unavailable", "the server takes no more registrations", false}
	refuseChanged       = &refusal{http.StatusConflict, "invalid_request", "the registration was changed at the same time, read it and try again", false}
)

// begin prepares an exchange of an endpoint whose body is not a form.
func (x *exchange) begin() {
	header := x.w.Header()
	header["Cache-Control"] = headerNoStore
	header["Pragma"] = headerNoCache
	x.d = decision.New()
	x.d.Peer = certsource.Peer(x.ctx())
}

// register is the registration endpoint (RFC 7591, Section 3).
func (x *exchange) register() {
	x.begin()
	if refused := x.registerClient(); refused != nil {
		x.refuse(refused)
	}
}

func (x *exchange) registerClient() *refusal {
	if x.r.Method != http.MethodPost {
		x.w.Header()["Allow"] = headerPost
		return x.fail(refuseMethod, decision.Check{Name: decision.CheckMetadata, Rule: "RFC 7591, Section 3.1",
			Reason: decision.RequestMalformed, Expected: "POST", Found: clip(x.r.Method, 16)})
	}
	// Who may register is decided before the body counts for anything.
	g, refused := x.grounds()
	if refused != nil {
		return refused
	}
	members, refused := x.readMetadata()
	if refused != nil {
		return refused
	}
	members, statement, issuer, refused := x.mergeStatement(members)
	if refused != nil {
		return refused
	}
	cfg := &x.s.cfg.Registration
	switch {
	case issuer != nil:
		g.statementIssuer = issuer.Issuer
		if g.by == "" {
			g.by = "statement of " + issuer.Issuer
			def(&g.anchorSet, issuer.AnchorSet)
			issuer.narrow(g)
		}
	case g.by == "" && !cfg.Open:
		return x.unauthorized(refuseRegister, "", decision.Check{Name: decision.CheckToken, Rule: "RFC 7591, Section 3",
			Reason: decision.NoToken, Expected: "an initial access token"})
	case g.by == "":
		g.by, g.open, g.grantTypes = registeredOpenly, true, cfg.OpenGrantTypes
	}
	def(&g.anchorSet, cfg.AnchorSet)
	def(&g.profile, cfg.Profile)

	c := &Client{}
	faults := c.setMembers(members, &x.s.rules, false)
	c.ID = dynamicClientPrefix + randomText(16)
	c.Dynamic, c.RegisteredBy, c.StatementIssuer = true, g.by, g.statementIssuer
	c.AllowedMethods, c.AllowedGrantTypes, c.AllowedScopes = g.methods, g.grantTypes, g.scopes
	c.Resources, c.Profile = g.resources, g.profile
	c.AllowedAnchorSet = g.anchorSet
	if c.Method() == clientauth.TLSClientAuth {
		c.AnchorSet = g.anchorSet
	}
	secret := ""
	if c.Method() == ClientSecretBasic {
		secret, c.SecretHash = NewSecret()
	}
	if refused := x.judgeMetadata(c, faults); refused != nil {
		return refused
	}

	full, err := x.s.registry.full(x.ctx(), x.now, cfg.MaxClients, g.open)
	if err != nil {
		return x.unavailable(decision.CheckClient, err)
	}
	if full {
		return x.fail(refuseFull, decision.Check{Name: decision.CheckClient, Reason: decision.RegistrationLimit,
			Expected: fmt.Sprintf("fewer than %d clients that have registered themselves", cfg.MaxClients)})
	}
	if g.open && !x.s.registry.admit(x.now, cfg.OpenLimit, cfg.OpenWindow) {
		x.w.Header()["Retry-After"] = []string{strconv.Itoa(int(cfg.OpenWindow.Seconds()))}
		return x.fail(refuseOpenLimit, decision.Check{Name: decision.CheckClient, Reason: decision.RegistrationLimit,
			Expected: fmt.Sprintf("at most %d within %v", cfg.OpenLimit, cfg.OpenWindow)})
	}
	token := registrationTokenPrefix + randomText(32)
	c.RegistrationTokenHash = registrationTokenHash(token)
	c.Created = x.now.UTC().Truncate(time.Second)
	switch err := x.s.registry.store.RegisterClient(x.ctx(), c, g.initial, x.now); {
	case errors.Is(err, ErrUsed):
		return x.unauthorized(refuseInitial, "invalid_token", decision.Check{Name: decision.CheckToken, Rule: "RFC 7591, Section 3", Reason: decision.TokenInactive,
			Found: "the last use was made by somebody else"})
	case err != nil:
		return x.unavailable(decision.CheckClient, err)
	}
	x.s.registry.changed(c, 1)
	x.s.ClientChanged(c.ID)
	x.registered(c, "client registered")
	x.answerClient(http.StatusCreated, c, token, secret, statement)
	return nil
}

// grounds reads the initial access token. Without one the ground has no name yet.
func (x *exchange) grounds() (*ground, *refusal) {
	cfg := &x.s.cfg.Registration
	g := &ground{methods: cfg.Methods, scopes: cfg.Scopes, resources: cfg.Resources,
		grantTypes: []string{GrantClientCredentials, GrantAuthorizationCode, GrantRefreshToken}}
	if len(x.r.Header["Authorization"]) == 0 {
		return g, nil
	}
	bad := func(reason decision.Reason, found string) *refusal {
		return x.unauthorized(refuseInitial, "invalid_token", decision.Check{Name: decision.CheckToken, Rule: "RFC 7591, Section 3", Reason: reason, Found: found})
	}
	value, ok := bearerToken(x.r)
	if !ok {
		return nil, bad(decision.TokenMalformed, "not one Authorization: Bearer")
	}
	g.initial = sha256.Sum256([]byte(value))
	t, err := x.s.registry.store.InitialToken(x.ctx(), g.initial)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, bad(decision.TokenInactive, "no initial access token has this value")
	case err != nil:
		return nil, x.unavailable(decision.CheckToken, err)
	case !t.Expires.IsZero() && !x.now.Before(t.Expires):
		return nil, bad(decision.TokenExpired, t.Name)
	case t.Uses == 0:
		return nil, bad(decision.TokenInactive, t.Name+" was used up")
	}
	x.d.Pass(decision.CheckToken, "RFC 7591, Section 3", t.Name)
	g.by, g.anchorSet, g.profile = "token "+t.Name, t.AnchorSet, t.Profile
	for _, list := range []struct{ to, from *[]string }{{&g.methods, &t.Methods}, {&g.scopes, &t.Scopes}, {&g.resources, &t.Resources}} {
		if len(*list.from) > 0 {
			*list.to = *list.from
		}
	}
	return g, nil
}

// unauthorized refuses with 401 and the challenge of RFC 6750, Section 3.
func (x *exchange) unauthorized(r *refusal, code string, c decision.Check) *refusal {
	challenge := x.s.challengeBearer[0]
	if code != "" {
		challenge += `, error="` + code + `"`
	}
	x.w.Header()["Www-Authenticate"] = []string{challenge}
	return x.fail(r, c)
}

// maxBearer bounds the tokens of registration.
const maxBearer = 512

// bearerToken reads the one Authorization field (RFC 6750, Section 2.1).
func bearerToken(r *http.Request) (string, bool) {
	values := r.Header["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	scheme, value, _ := strings.Cut(values[0], " ")
	value = strings.TrimLeft(value, " ")
	if !strings.EqualFold(scheme, "Bearer") || value == "" || len(value) > maxBearer || strings.ContainsAny(value, " ,\t") {
		return "", false
	}
	return value, true
}

func registrationTokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isRegistrationToken compares in constant time. A client without a hash, or none, costs
// the same and matches nothing.
func isRegistrationToken(c *Client, token string) bool {
	want, dynamic := strings.Repeat("A", 43), false
	if c != nil && c.Dynamic && len(c.RegistrationTokenHash) == len(want) {
		want, dynamic = c.RegistrationTokenHash, true
	}
	return subtle.ConstantTimeCompare([]byte(registrationTokenHash(token)), []byte(want)) == 1 && dynamic
}

// readMetadata reads the body of a registration (RFC 7591, Section 3.1).
func (x *exchange) readMetadata() ([]objectMember, *refusal) {
	bad := func(r *refusal, reason decision.Reason, expected, found string) ([]objectMember, *refusal) {
		return nil, x.fail(r, decision.Check{Name: decision.CheckMetadata, Rule: "RFC 7591, Section 3.1", Reason: reason, Expected: expected, Found: found})
	}
	ct := x.r.Header["Content-Type"]
	if len(ct) != 1 {
		return bad(refuseMetadataType, decision.RequestMalformed, "one Content-Type, application/json", fmt.Sprintf("%d", len(ct)))
	}
	if mt, _, err := mime.ParseMediaType(ct[0]); err != nil || mt != "application/json" {
		return bad(refuseMetadataType, decision.RequestMalformed, "Content-Type application/json", clip(ct[0], 64))
	}
	if ce := x.r.Header.Get("Content-Encoding"); ce != "" && !strings.EqualFold(ce, "identity") {
		return bad(refuseMetadataType, decision.RequestMalformed, "no Content-Encoding", clip(ce, 32))
	}
	limit := x.s.cfg.MaxBody
	atMost := fmt.Sprintf("at most %d bytes", limit)
	if x.r.ContentLength > limit {
		x.w.Header().Set("Connection", "close") // nobody reads the rest
		return bad(refuseMetadataLarge, decision.RequestTooLarge, atMost, fmt.Sprintf("%d", x.r.ContentLength))
	}
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return bad(refuseMetadataLarge, decision.RequestTooLarge, atMost, "more")
	}
	if err != nil {
		return bad(refuseMetadataBody, decision.RequestMalformed, "", "the body could not be read")
	}
	members, err := objectMembers(body)
	if err != nil {
		return bad(refuseMetadataBody, decision.RequestMalformed, "a JSON object, each member once", err.Error())
	}
	return members, nil
}

// judgeMetadata applies what the ground allows, and then the rules of every registration.
func (x *exchange) judgeMetadata(c *Client, faults []Fault) *refusal {
	fault := func(member, format string, args ...any) {
		faults = append(faults, Fault{Member: member, Fault: fmt.Sprintf(format, args...)})
	}
	if m := c.Method(); !slices.Contains(c.AllowedMethods, m) {
		fault("token_endpoint_auth_method", "expected any of %s, found %q", strings.Join(c.AllowedMethods, ", "), m)
	}
	c.GrantTypes = c.Grants()
	for _, g := range c.GrantTypes {
		if !slices.Contains(c.AllowedGrantTypes, g) {
			fault("grant_types", "expected any of %s, found %q", strings.Join(c.AllowedGrantTypes, ", "), g)
		}
	}
	if len(c.GrantTypes) == 0 {
		fault("redirect_uris", "a public client needs at least one")
	}
	if c.mayUse(GrantAuthorizationCode) && len(c.ResponseTypes) == 0 {
		c.ResponseTypes = []string{"code"}
	}
	if c.Scope == "" {
		c.Scope = strings.Join(c.AllowedScopes, " ")
	}
	for s := range strings.FieldsSeq(c.Scope) {
		if !slices.Contains(c.AllowedScopes, s) {
			fault("scope", "the client cannot have the scope %q", s)
		}
	}
	if me, ok := errors.AsType[*MetadataError](ValidateClient(c, x.s.rules)); ok {
		faults = append(faults, me.Faults...)
	}
	if len(faults) == 0 {
		x.d.ClientID, x.d.Method = c.ID, c.Method()
		x.d.Pass(decision.CheckMetadata, "RFC 7591, Section 2", c.RegisteredBy)
		return nil
	}
	check := decision.Check{Name: decision.CheckMetadata, Rule: "RFC 7591, Section 2", Reason: decision.MetadataInvalid,
		Found: clip((&MetadataError{Faults: faults}).Error(), 2048)}
	code := "invalid_client_metadata"
	for _, f := range faults {
		if strings.HasPrefix(f.Member, "certbound_") {
			// Not the client's fault: what it was given does not fit the server.
			return x.fail(refuseServer, check)
		}
		if f.Member == "redirect_uris" {
			code = "invalid_redirect_uri"
		}
	}
	return x.fail(&refusal{http.StatusBadRequest, code, describeFaults(faults), false}, check)
}

// describeFaults tells a client what is wrong with what it has sent, in the characters of
// an error_description (RFC 6749, Section 5.2).
func describeFaults(faults []Fault) string {
	var b strings.Builder
	for i, f := range faults {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Member + ": " + f.Fault)
		if b.Len() > 1024 {
			break
		}
	}
	text := strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\':
			return '/'
		case r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, b.String())
	return text[:min(len(text), 1024)]
}

// registered tells the operator of a registration, with what is odd about it.
func (x *exchange) registered(c *Client, message string) {
	log := x.s.cfg.Logger
	log.LogAttrs(x.ctx(), slog.LevelInfo, message, slog.String("request_id", x.id), slog.String("client_id", c.ID),
		slog.String("method", c.Method()), slog.String("registered_by", c.RegisteredBy))
	for _, text := range x.advice(c) {
		log.LogAttrs(x.ctx(), slog.LevelWarn, "registration: "+text, slog.String("request_id", x.id), slog.String("client_id", c.ID))
	}
}

// advice is what the registration linter says of a client, and of the certificate that it
// comes with, if it comes with one.
func (x *exchange) advice(c *Client) []string {
	var out []string
	switch c.Method() {
	case clientauth.TLSClientAuth:
		kind, value := c.Subject()
		for _, a := range subject.Advice(kind, value) {
			out = append(out, string(kind)+": "+a)
		}
		if x.h.certificate == nil {
			break
		}
		p, err := x.h.certificate(x.r)
		leaf := p.Leaf()
		if err != nil || leaf == nil {
			break
		}
		x.d.Thumbprint = p.Thumbprint()
		if expected, err := subject.New(kind, value); err == nil {
			if err := expected.Match(leaf); err != nil {
				out = append(out, "the certificate on this connection does not have the registered value: "+strings.TrimPrefix(err.Error(), "subject: "))
				break // it is another one: that of a portal, or of an operator
			}
		}
		out = append(append(out, nameAdvice(c, leaf)...), CertificateAdvice(c, leaf, x.now)...)
	case clientauth.SelfSignedTLSClientAuth:
		set, err := jwks.Parse(c.JWKS, jwks.Lenient)
		if err != nil {
			break
		}
		for _, key := range set.Keys {
			if len(key.Certificates) > 0 {
				out = append(out, CertificateAdvice(c, key.Certificates[0], x.now)...)
			}
		}
	}
	return out[:min(len(out), 20)]
}

// answerClient writes the metadata of a client (RFC 7591, Section 3.2.1; RFC 7592,
// Section 3): all that is registered, defaults included, and nothing of our own.
func (x *exchange) answerClient(status int, c *Client, token, secret, statement string) {
	type plain Client
	shown := plain(*c)
	shown.AuthMethod, shown.GrantTypes = c.Method(), c.Grants()
	if c.mayUse(GrantAuthorizationCode) {
		def(&shown.IDTokenAlg, x.s.cfg.SigningAlg)
	}
	data, err := json.Marshal(shown)
	answer := map[string]json.RawMessage{}
	if err == nil {
		err = json.Unmarshal(data, &answer)
	}
	for name := range answer {
		if strings.HasPrefix(name, "certbound_") {
			delete(answer, name)
		}
	}
	set := func(name string, value any) {
		if b, e := json.Marshal(value); e == nil {
			answer[name] = b
		} else {
			err = e
		}
	}
	set("client_id_issued_at", c.Created.Unix())
	set("registration_access_token", token)
	set("registration_client_uri", join(x.s.cfg.Issuer, registerPath+"/"+c.ID))
	if secret != "" {
		set("client_secret", secret)
		set("client_secret_expires_at", 0)
	}
	if statement != "" {
		set("software_statement", statement)
	}
	body, e := json.Marshal(answer)
	if err = errors.Join(err, e); err != nil {
		x.refuse(x.fail(refuseServer, decision.Check{Name: decision.CheckMetadata, Reason: decision.Unspecified, Found: err.Error()}))
		return
	}
	x.d.Allow()
	x.write(status, body)
}

// registerPath is where the registration endpoint lies below the issuer.
const registerPath = "/register"
