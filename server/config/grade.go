package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
)

// A Result is how a configuration stands to a rule of a profile.
type Result string

const (
	// Always is a rule that no setting can break.
	Always Result = "always"
	// Passed is a rule that this configuration keeps.
	Passed Result = "pass"
	// Failed is a rule that it breaks.
	Failed Result = "fail"
	// Yours is a rule that no configuration of ours can keep or break: the operator does.
	Yours Result = "yours"
	// NotApplicable is a rule about something that is not there.
	NotApplicable Result = "n/a"
)

// A Grade is the judgement of one rule.
type Grade struct {
	// Rule is the section, such as "5.3.2.1 (4)". Level is MUST or SHOULD, and Demand what
	// it asks for.
	Rule, Level, Demand string
	Result              Result
	Reason              string
	// Changes say what to change, and where.
	Changes []Fault
}

// GradeProfiles are the profiles that a configuration can be graded by.
func GradeProfiles() []string { return []string{authserver.ProfileFAPI2} }

// LoadGraded reads a file as [Load] does, but leaves it to [File.Grade] to say what breaks
// the profile that the file names.
func LoadGraded(name string) (*File, error) {
	data, err := readLimited(name, maxFile)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return parseGraded(name, data, os.LookupEnv)
}

func parseGraded(name string, data []byte, lookupEnv func(string) (string, bool)) (*File, error) {
	file := &File{}
	err := file.parse(name, data, root(), &file.Config, lookupEnv, func() []Fault {
		held := file.Profile
		file.Profile = ""
		defer func() { file.Profile = held }()
		return file.rules()
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// A grader knows what a file breaks.
type grader struct {
	f      *File
	set    bool // the file names the profile
	breaks map[string][]Fault
}

// Grade judges the configuration of an authorization server by the rules of the FAPI 2.0
// Security Profile for one, with mutual TLS: all of them, in their order. What the rules of
// the server itself say is asked of them.
func (f *File) Grade() []Grade {
	g := &grader{f: f, set: f.Profile == authserver.ProfileFAPI2, breaks: map[string][]Fault{}}
	g.server()
	var out []Grade
	for _, r := range fapi2Rules {
		grade := Grade{Rule: r.rule, Level: r.level, Demand: r.demand, Result: Always, Reason: r.always}
		if r.check != nil {
			grade.Result, grade.Reason = r.check(g)
		}
		if faults := g.breaks[r.rule]; len(faults) > 0 {
			grade.Result, grade.Reason, grade.Changes = Failed, "what stands here breaks it", faults
		} else if grade.Result == Failed {
			grade.Changes = []Fault{f.fault("profile", "set it to "+authserver.ProfileFAPI2, "is not set")}
		}
		out = append(out, grade)
	}
	return out
}

// server asks the rules of the authorization server what the profile would refuse.
func (g *grader) server() {
	held := g.f.Profile
	g.f.Profile = authserver.ProfileFAPI2
	cfg, rules := g.f.serverConfig(), g.f.Rules()
	g.f.Profile = held
	cfg.Store, cfg.Paths, cfg.HasAnchorSet, cfg.Source = memstore.New(), new(pki.Validator), g.f.HasAnchorSet, certsource.TLS{}
	cfg.JWKS = jwks.NewFetcher(jwks.FetcherConfig{})
	if _, err := authserver.New(cfg); err != nil {
		for _, e := range unjoin(err) {
			if se, ok := errors.AsType[*authserver.SettingError](e); ok && se.Rule != "" {
				g.broken(se.Rule, settings[se.Setting], se.Fault)
			}
		}
	}
	// A method is told once, where the server has it, not again with each client.
	for i, c := range g.f.clients {
		me, ok := errors.AsType[*authserver.MetadataError](authserver.ValidateClient(c, rules))
		if !ok {
			continue
		}
		for _, fault := range me.Faults {
			if fault.Rule == "" {
				continue
			}
			member := fault.Member
			if own := members[member]; own != "" {
				member = own
			}
			g.broken(fault.Rule, fmt.Sprintf("clients[%d].%s", i, member), fault.Fault)
		}
	}
	if plain := g.f.Telemetry.Endpoint; strings.HasPrefix(plain, "http://") && !loopbackURL(plain) {
		g.broken("5.2.1 (1)", "telemetry.endpoint", "traces leave this machine without TLS; use https")
	}
}

func (g *grader) broken(rule, key, text string) {
	text, _, _ = strings.Cut(text, " (FAPI 2.0 Security Profile, ") // the rule stands beside it
	g.breaks[rule] = append(g.breaks[rule], g.f.fault(key, "", "%s", text))
}

func loopbackURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback() || u.Hostname() == "localhost"
}

// byKey is the result of a rule that the key profile alone turns on.
func byKey(with, without string) func(*grader) (Result, string) {
	return func(g *grader) (Result, string) {
		if g.set {
			return Passed, with
		}
		return Failed, without
	}
}

// people is the result of a rule about the flows with a person in them.
func people(always string) func(*grader) (Result, string) {
	return func(g *grader) (Result, string) {
		if !g.f.People.Enabled {
			return NotApplicable, "people.enabled is false: there is no authorization endpoint"
		}
		return Always, always
	}
}

// plain lists the listeners whose TLS a proxy ends.
func (g *grader) plain() string {
	var out []string
	if g.f.Listen.Public.InsecurePlainHTTP {
		out = append(out, "listen.public")
	}
	if g.f.Listen.MTLS.InsecurePlainHTTP {
		out = append(out, "listen.mtls")
	}
	return strings.Join(out, " and ")
}

// ownTLS is a result that is the proxy's where a proxy ends TLS.
func ownTLS(own func(*grader) (Result, string), proxy string) func(*grader) (Result, string) {
	return func(g *grader) (Result, string) {
		r, reason := own(g)
		if plain := g.plain(); plain != "" && r != Failed && r != NotApplicable {
			return Yours, plain + " takes plain HTTP from a proxy; " + proxy
		}
		return r, reason
	}
}

func keeps(reason string) func(*grader) (Result, string) {
	return func(*grader) (Result, string) { return Passed, reason }
}

func always(reason string) func(*grader) (Result, string) {
	return func(*grader) (Result, string) { return Always, reason }
}

func yours(reason string) func(*grader) (Result, string) {
	return func(*grader) (Result, string) { return Yours, reason }
}

func none(reason string) func(*grader) (Result, string) {
	return func(*grader) (Result, string) { return NotApplicable, reason }
}

// A gradedRule is a rule of the FAPI 2.0 Security Profile. Without a check it is one that
// the code always keeps.
type gradedRule struct {
	rule, level, demand string
	always              string
	check               func(*grader) (Result, string)
}

// fapi2Rules are the rules for authorization servers of the FAPI 2.0 Security Profile
// (final), and those for everybody that concern one.
var fapi2Rules = []gradedRule{
	{"5.2.1 (1)", "MUST", "endpoints are offered over TLS only, and connections to others use TLS", "", func(g *grader) (Result, string) {
		if plain := g.plain(); plain != "" {
			return Yours, plain + " takes plain HTTP: only the proxy may reach it, and the proxy offers TLS only"
		}
		if host, _, err := net.SplitHostPort(g.f.Listen.Admin.Address); err == nil && g.f.Listen.Admin.Address != "" {
			if addr, err := netip.ParseAddr(host); err != nil || !addr.IsLoopback() {
				return Yours, "listen.admin is plain HTTP beyond this machine: only your monitoring may reach it"
			}
		}
		return Passed, "each listener that clients reach ends TLS itself; key sets, providers and directories are fetched over https (CRLs and OCSP answers are signed and may come over http)"
	}},
	{"5.2.1 (2)", "MUST", "TLS 1.2 or later", "", ownTLS(always("TLS 1.2 and 1.3"), "its versions are yours")},
	{"5.2.1 (3)", "MUST", "TLS as BCP 195 recommends it", "", ownTLS(always("TLS 1.3 is preferred; under 1.2 forward secrecy with authenticated encryption, no renegotiation, no compression"), "its settings are yours")},
	{"5.2.1 (4)", "SHOULD", "DNSSEC", "", yours("sign the zones of issuer and listen.mtls.url")},
	{"5.2.1 (5)", "MUST", "server certificates are checked (RFC 9525)", "no connection of ours skips the check", nil},
	{"5.2.2 (1)", "MUST", "endpoints that are not for browsers: under TLS 1.2 only the suites that BCP 195 recommends", "",
		ownTLS(byKey("ECDHE with AES-GCM alone, on both listeners", "under TLS 1.2 ChaCha20-Poly1305 is offered as well"), "its suites are yours: ECDHE with AES-GCM alone")},
	{"5.2.2.1", "SHOULD", "the CAs that may issue client certificates are published", "", func(g *grader) (Result, string) {
		var names []string
		for _, s := range g.f.Trust.Sets {
			if g.f.HasAnchorSet(s.Name) {
				names = append(names, s.Name)
			}
		}
		if len(names) == 0 {
			return NotApplicable, "no CA issues client certificates (trust.sets)"
		}
		return Yours, "tell the members of the ecosystem what is in trust.sets: " + strings.Join(names, ", ")
	}},
	{"5.2.3 (1)", "MUST", "endpoints for browsers resist TLS stripping", "",
		people("each answer has Strict-Transport-Security for two years; preload the host if you can")},
	{"5.2.3 (2)", "MUST", "endpoints for browsers: under TLS 1.2 only suites that BCP 195 allows", "", ownTLS(always("see 5.2.2 (1)"), "its suites are yours")},
	{"5.2.3 (3)", "MUST", "no CORS on the authorization endpoint", "", people("it has none, and no setting for it")},
	{"5.3.2.1 (1)", "MUST", "metadata as OpenID Connect Discovery and RFC 8414 have them", "one document at both well-known places", nil},
	{"5.3.2.1 (2)", "MUST", "no resource owner password credentials", "the grant does not exist", nil},
	{"5.3.2.1 (3)", "MUST", "confidential clients only", "", keeps("authentication.methods and clients have no method none")},
	{"5.3.2.1 (4)", "MUST", "sender-constrained access tokens only", "",
		byKey("each client has tls_client_certificate_bound_access_tokens, and a token that is bound to nothing is refused", "a client may be registered without tls_client_certificate_bound_access_tokens")},
	{"5.3.2.1 (5)", "MUST", "the mechanism is mutual TLS or DPoP", "", keeps("mutual TLS")},
	{"5.3.2.1 (6)", "MUST", "clients authenticate by mutual TLS or private_key_jwt", "", func(g *grader) (Result, string) {
		return Passed, "authentication.methods: " + strings.Join(g.f.Authentication.Methods, ", ")
	}},
	{"5.3.2.1 (7)", "MUST", "no open redirectors", "browsers are sent to redirect URIs that are registered, compared octet for octet, and to nobody else", nil},
	{"5.3.2.1 (8)", "MUST", "the issuer is the audience of client assertions, as a string", "", func(g *grader) (Result, string) {
		if !slices.Contains(g.f.Authentication.Methods, authserver.PrivateKeyJWT) {
			return NotApplicable, "authentication.methods has no private_key_jwt"
		}
		return byKey("nothing else is accepted", "the token endpoint, its alias and an array are accepted as well")(g)
	}},
	{"5.3.2.1 (9)", "MUST", "refresh tokens are not rotated", "", func(g *grader) (Result, string) {
		if !g.f.People.Enabled {
			return NotApplicable, "people.enabled is false: there are no refresh tokens"
		}
		return Passed, "those of clients that authenticate, with bound tokens, are not"
	}},
	{"5.3.2.1 (10)", "MAY", "nonces for DPoP", "", none("tokens are bound by mutual TLS")},
	{"5.3.2.1 (11)", "MUST", "authorization codes live for at most 60 seconds", "", func(g *grader) (Result, string) {
		if !g.f.People.Enabled {
			return people("")(g)
		}
		return Passed, "people.code_lifetime: " + time.Duration(g.f.People.CodeLifetime).String()
	}},
	{"5.3.2.1 (12)", "MUST", "codes can be bound to a DPoP key", "", none("tokens are bound by mutual TLS")},
	{"5.3.2.1 (13)", "MUST", "JWTs with iat or nbf up to 10 seconds ahead are accepted, those of more than 60 are not", "exactly 10 seconds ahead are accepted", nil},
	{"5.3.2.1 (14)", "SHOULD", "access tokens have no more rights than needed", "", func(g *grader) (Result, string) {
		if n := len(g.f.Tokens.Resources); n > 1 {
			return Yours, fmt.Sprintf("a token is for the resources and scopes that were asked for; there are %d resources: let each client have the ones that it needs", n)
		}
		return Yours, "a token is for the resources and scopes that were asked for; let each client have the scopes that it needs"
	}},
	{"5.3.2.2 (1)", "MUST", "response_type is code", "", people("there is no other")},
	{"5.3.2.2 (2)", "MUST", "clients push requests, and authenticate for that", "", people("at /par and at its alias")},
	{"5.3.2.2 (3)", "MUST", "requests that were not pushed are refused", "", func(g *grader) (Result, string) {
		switch {
		case !g.f.People.Enabled:
			return people("")(g)
		case g.f.People.RequirePAR:
			return Passed, "people.require_pushed_authorization_requests is true"
		}
		return byKey("the profile demands it of each client", "people.require_pushed_authorization_requests is false")(g)
	}},
	{"5.3.2.2 (4)", "MUST", "pushed requests without client authentication are refused", "", people("a client without credentials is refused, and no client under the profile is public")},
	{"5.3.2.2 (5)", "MUST", "PKCE with S256", "", people("each request needs it, of each client")},
	{"5.3.2.2 (6)", "MUST", "pushed requests have redirect_uri", "", func(g *grader) (Result, string) {
		if !g.f.People.Enabled {
			return people("")(g)
		}
		return byKey("one without is refused", "it may be left out if one is registered")(g)
	}},
	{"5.3.2.2 (7)", "MUST", "iss in authorization responses (RFC 9207)", "", people("in each, errors included")},
	{"5.3.2.2 (8)", "MUST", "no redirect URI with http", "", people("but for loopback addresses of native apps, none can be registered")},
	{"5.3.2.2 (9)", "MUST", "a code is used once", "", people("a second use is refused and ends what the first has brought")},
	{"5.3.2.2 (10)", "MUST", "no 307 where a request has credentials of a person", "", people("303 everywhere")},
	{"5.3.2.2 (11)", "SHOULD", "303 for redirects", "", people("303 everywhere")},
	{"5.3.2.2 (12)", "MUST", "a request_uri lives for less than 600 seconds", "", func(g *grader) (Result, string) {
		if !g.f.People.Enabled {
			return people("")(g)
		}
		return Passed, "people.request_lifetime: " + time.Duration(g.f.People.RequestLifetime).String()
	}},
	{"5.3.2.2 (13)", "SHOULD", "people know what they consent to", "", func(g *grader) (Result, string) {
		if !g.f.People.Enabled {
			return people("")(g)
		}
		var missing []string
		for _, s := range g.f.Tokens.Scopes {
			if !slices.ContainsFunc(g.f.People.ScopeTexts, func(t ScopeText) bool { return t.Scope == s }) && !standardScope(s) {
				missing = append(missing, s)
			}
		}
		if len(missing) > 0 {
			return Yours, "the page shows these scopes without words of people; write them into people.scope_texts: " + strings.Join(missing, ", ")
		}
		return Yours, "each scope has words of people (people.scope_texts); read them once as one of your users"
	}},
	{"5.3.2.2 (14)", "MUST", "with OpenID Connect, a nonce of 64 characters is accepted", "", people("up to 512 are")},
	{"5.4.1 (1)", "MUST", "JWTs are signed with PS256, ES256 or EdDSA", "", func(g *grader) (Result, string) {
		if !g.set {
			return Failed, "assertions, request objects and statements may be signed with RS256"
		}
		return Passed, "signing_keys.algorithm: " + g.f.SigningKeys.Algorithm + "; nothing else is accepted from clients"
	}},
	{"5.4.1 (2)", "MUST", "RSA keys have 2,048 bits or more", "shorter keys are refused in certificates and in key sets, and none is made", nil},
	{"5.4.1 (3)", "MUST", "keys of elliptic curves have 224 bits or more", "P-256, P-384, P-521 and Ed25519 are known, and no others", nil},
	{"5.4.1 (4)", "MUST", "credentials that are not for people have 128 bits of entropy", "codes, tokens, references and sessions have 256", nil},
	{"5.4.2 (1)", "MUST", "key sets by reference come over TLS", "a jwks_uri is an https URL", nil},
	{"5.4.2 (2)", "SHOULD", "no x5u and jku, and no kid twice", "tokens name their key by kid alone, which is the key's thumbprint", nil},
	{"5.4.3", "MUST", "with a kid that stands twice, other attributes decide", "each key that fits is tried, up to 8; for certificates kid does not count", nil},
	{"6.7", "SHOULD", "a client cannot choose a client_id that looks like a person", "clients that register themselves get a random one that begins with cbd_", nil},
}

func standardScope(s string) bool {
	return slices.Contains([]string{"openid", "profile", "email", "address", "phone", "offline_access"}, s)
}
