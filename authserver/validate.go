package authserver

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki/subject"
)

// GrantClientCredentials is the grant type of RFC 6749, Section 4.4.
const GrantClientCredentials = "client_credentials"

// A MetadataError reports a registration that breaks rules, with every fault. On
// the wire it is invalid_client_metadata (RFC 7591, Section 3.2.2).
type MetadataError struct {
	ClientID string
	Faults   []Fault
}

// A Fault is one broken rule.
type Fault struct {
	Member string // the JSON name of the metadata member
	Fault  string // expected, found, what to change
	// Rule is the section of the profile that would be broken, such as "5.3.2.1 (4)" of
	// the FAPI 2.0 Security Profile. Empty for all other faults.
	Rule string
}

func (e *MetadataError) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString("authserver: " + f.Member + ": " + f.Fault)
	}
	return b.String()
}

// subjectMembers lists the five members of RFC 8705, Section 2.1.2, with their values.
func (c *Client) subjectMembers() [5]string {
	return [5]string{c.SubjectDN, c.SANDNS, c.SANURI, c.SANIP, c.SANEmail}
}

// Subject returns the registered subject value for tls_client_auth. It is zero if
// there is none, or more than one.
func (c *Client) Subject() (kind subject.Kind, value string) {
	for i, v := range c.subjectMembers() {
		if v == "" {
			continue
		}
		if value != "" {
			return "", ""
		}
		kind, value = subject.Kinds()[i], v
	}
	return kind, value
}

// Method returns the authentication method with its default, client_secret_basic
// (RFC 7591, Section 2).
func (c *Client) Method() string {
	if c.AuthMethod == "" {
		return ClientSecretBasic
	}
	return c.AuthMethod
}

// Grants returns the grant types with their default: authorization_code (RFC 7591,
// Section 2) for a client with redirect URIs, none for another one without credentials,
// and client_credentials for all others.
func (c *Client) Grants() []string {
	switch {
	case len(c.GrantTypes) > 0:
		return slices.Clone(c.GrantTypes)
	case len(c.RedirectURIs) > 0:
		return []string{GrantAuthorizationCode}
	case c.Method() == None:
		return nil
	}
	return []string{GrantClientCredentials}
}

// mayUse reports whether the client may use a grant type.
func (c *Client) mayUse(grant string) bool {
	switch {
	case len(c.GrantTypes) > 0:
		return slices.Contains(c.GrantTypes, grant)
	case len(c.RedirectURIs) > 0:
		return grant == GrantAuthorizationCode
	}
	return grant == GrantClientCredentials && c.Method() != None
}

// ValidateClient checks a registration against the rules, wherever it comes from:
// configuration, command line or a request. It reports every fault at once, as
// *[MetadataError].
func ValidateClient(c *Client, r Rules) error {
	if v := validate(c, &r); v.faults != nil {
		return &MetadataError{ClientID: c.ID, Faults: v.faults}
	}
	return nil
}

// A validation is what was found out about a registration.
type validation struct {
	c      *Client
	r      *Rules
	faults []Fault

	// What was parsed on the way.
	expected subject.Expected
	set      *jwks.Set
	secret   secretHash
}

func validate(c *Client, r *Rules) *validation {
	v := &validation{c: c, r: r}
	v.identity()
	v.method()
	v.keys()
	v.rotation()
	v.grant()
	v.flow()
	v.pages()
	v.tokens()
	v.profile()
	return v
}

func (v *validation) fault(member, format string, args ...any) {
	v.faults = append(v.faults, Fault{Member: member, Fault: fmt.Sprintf(format, args...)})
}

func (v *validation) identity() {
	if !validClientID(v.c.ID) {
		v.fault("client_id", "expected 1 to 256 printable ASCII characters (RFC 6749, Appendix A.1), found %q", v.c.ID)
	}
	if len(v.c.Name) > 256 || !shownText(v.c.Name) {
		v.fault("client_name", "expected at most 256 bytes of text without control characters, found %d bytes", len(v.c.Name))
	}
}

func (v *validation) method() {
	m := v.c.Method()
	switch {
	case m == clientauth.TLSClientAuth && !v.r.Switches.TLSClientAuth,
		m == clientauth.SelfSignedTLSClientAuth && !v.r.Switches.SelfSignedTLSClientAuth:
		v.fault("token_endpoint_auth_method", "%s is switched off on this server", m)
	case !slices.Contains(v.r.Methods, m):
		v.fault("token_endpoint_auth_method", "expected any of %s, found %q", strings.Join(v.r.Methods, ", "), m)
	}

	var present []string
	for i, value := range v.c.subjectMembers() {
		if value == "" {
			continue
		}
		kind := subject.Kinds()[i]
		present = append(present, string(kind))
		switch {
		case !v.r.Switches.TLSClientAuth:
			v.fault(string(kind), "not known, since tls_client_auth is switched off on this server")
		case m != clientauth.TLSClientAuth:
			// The member alone does not turn the method on (RFC 7591, Section 2).
			v.fault(string(kind), "means something only with tls_client_auth, but the method is %s", m)
		default:
			var err error
			if v.expected, err = subject.New(kind, value); err != nil {
				v.fault(string(kind), "%v", err)
			}
		}
	}
	if m == clientauth.TLSClientAuth {
		if len(present) != 1 {
			found := "none"
			if len(present) > 0 {
				found = strings.Join(present, " and ")
			}
			v.fault("token_endpoint_auth_method", "tls_client_auth needs exactly one of the five subject members, found %s", found)
		}
		switch set := v.c.AnchorSet; {
		case set == "" && v.r.DefaultAnchorSet == "" && v.r.AnchorSets:
			v.fault("certbound_anchor_set", "required, since the server has no default anchor set")
		case set != "" && v.r.HasAnchorSet != nil && !v.r.HasAnchorSet(set):
			v.fault("certbound_anchor_set", "there is no anchor set %q", set)
		}
	} else {
		if v.c.AnchorSet != "" {
			v.fault("certbound_anchor_set", "means something only with tls_client_auth, but the method is %s", m)
		}
		if v.c.SoleEntry {
			v.fault("certbound_sole_san", "means something only with tls_client_auth, but the method is %s", m)
		}
	}
	if v.c.SoleEntry && v.c.SubjectDN != "" {
		v.fault("certbound_sole_san", "means something only with a subject alternative name")
	}
	hashOK := false
	if v.c.SecretHash != "" {
		v.secret, hashOK = parseSecretHash(v.c.SecretHash)
	}
	switch {
	case m == ClientSecretBasic && v.c.SecretHash == "":
		v.fault("certbound_secret_hash", "required with client_secret_basic")
	case m == ClientSecretBasic && !hashOK:
		v.fault("certbound_secret_hash", "not a hash that NewSecret or HashSecret has made")
	case m != ClientSecretBasic && v.c.SecretHash != "":
		v.fault("certbound_secret_hash", "means something only with client_secret_basic, but the method is %s", m)
	}
	switch alg := v.c.SigningAlg; {
	case alg != "" && m != PrivateKeyJWT:
		v.fault("token_endpoint_auth_signing_alg", "means something only with private_key_jwt, but the method is %s", m)
	case alg != "" && !slices.Contains(v.r.AssertionAlgs, alg):
		v.fault("token_endpoint_auth_signing_alg", "expected any of %s, found %q", strings.Join(v.r.AssertionAlgs, ", "), alg)
	}
}

func (v *validation) keys() {
	m, value, uri := v.c.Method(), len(v.c.JWKS) > 0, v.c.JWKSURI
	needs := m == clientauth.SelfSignedTLSClientAuth || m == PrivateKeyJWT
	switch {
	case value && uri != "":
		v.fault("jwks_uri", "jwks and jwks_uri exclude each other (RFC 7591, Section 2)")
	case needs && !value && uri == "":
		v.fault("jwks", "%s needs jwks or jwks_uri", m)
	case v.signsRequests() && !value && uri == "":
		v.fault("jwks", "signed request objects need jwks or jwks_uri (RFC 9101, Section 10.5)")
	}
	if uri != "" {
		err := jwks.CheckURL(uri)
		switch {
		case err != nil:
			v.fault("jwks_uri", "%v", err)
		case !v.r.JWKSURI:
			v.fault("jwks_uri", "key sets by reference are switched off on this server")
		}
	}
	if value {
		set, err := jwks.Parse(v.c.JWKS, jwks.Strict)
		v.set = set
		switch {
		case err != nil:
			v.fault("jwks", "%v", err)
		case m == clientauth.SelfSignedTLSClientAuth && len(set.Keys) == 0:
			v.fault("jwks", "the set has no key; expected one with the client's certificate in x5c (RFC 8705, Section 2.2.2)")
		case m == clientauth.SelfSignedTLSClientAuth && len(set.Certificates) == 0:
			v.fault("jwks", "no key has x5c, whose first entry is the certificate (RFC 8705, Section 2.2.2)")
		case m == PrivateKeyJWT && len(set.Keys) == 0:
			v.fault("jwks", "no key")
		}
	}
}

func (v *validation) grant() {
	v.grantTypes()
	for s := range strings.FieldsSeq(v.c.Scope) {
		if !slices.Contains(v.r.Scopes, s) {
			v.fault("scope", "the server has no scope %q", s)
		}
	}
	if !tidyScope(v.c.Scope) || len(v.c.Scope) > 8<<10 {
		v.fault("scope", "expected scopes with one space between them, at most 8 KiB")
	}
	if len(v.c.Resources) > 1000 || len(v.c.Introspects) > 1000 {
		v.fault("certbound_resources", "expected at most 1,000")
	}
	for _, r := range v.c.Resources {
		if !slices.Contains(v.r.Resources, r) {
			v.fault("certbound_resources", "the server has no resource %q", r)
		}
	}
	if len(v.c.Introspects) > 0 && !v.c.MayIntrospect {
		v.fault("certbound_introspects", "needs certbound_may_introspect")
	}
	for _, r := range v.c.Introspects {
		if !slices.Contains(v.r.Resources, r) {
			v.fault("certbound_introspects", "the server has no resource %q", r)
		}
	}
	if v.c.MayIntrospect && v.c.Method() == None {
		v.fault("certbound_may_introspect", "a public client cannot authenticate at the introspection endpoint")
	}
}

func (v *validation) tokens() {
	if v.c.BoundTokens && !v.r.BoundTokens {
		v.fault("tls_client_certificate_bound_access_tokens", "not known, since certificate-bound tokens are switched off on this server")
	}
	switch v.c.TokenFormat {
	case "", FormatJWT, FormatOpaque:
	default:
		v.fault("certbound_token_format", "expected %s or %s, found %q", FormatJWT, FormatOpaque, v.c.TokenFormat)
	}
	if maximum := int(v.r.MaxTokenLifetime.Seconds()); v.c.TokenLifetime < 0 || v.c.TokenLifetime > maximum {
		v.fault("certbound_token_lifetime", "expected 1 to %d seconds, or 0 for the server's default, found %d", maximum, v.c.TokenLifetime)
	}
}

// tidyScope reports whether scopes stand with one space between them.
func tidyScope(s string) bool {
	return s == "" || s[0] != ' ' && s[len(s)-1] != ' ' && !strings.Contains(s, "  ") && !strings.ContainsAny(s, "\t\r\n\v\f")
}

func validClientID(id string) bool {
	for i := range len(id) {
		if id[i] < 0x20 || id[i] > 0x7e {
			return false
		}
	}
	return id != "" && len(id) <= 256
}

// ParseMetadata reads client metadata from JSON (RFC 7591, Section 2) and checks it
// with [ValidateClient]. Members that are not understood are ignored, and so are
// those whose switch is off. With trusted, the members of our own (certbound_…) and
// client_id are read; they are never taken from a client's own request. Errors are
// of type *[MetadataError].
func ParseMetadata(data []byte, r Rules, trusted bool) (*Client, error) {
	c, faults := parseMetadata(data, r, trusted)
	if c == nil {
		return nil, &MetadataError{Faults: faults}
	}
	if err := ValidateClient(c, r); err != nil {
		faults = append(faults, err.(*MetadataError).Faults...)
	}
	if faults != nil {
		return nil, &MetadataError{ClientID: c.ID, Faults: faults}
	}
	return c, nil
}

func parseMetadata(data []byte, r Rules, trusted bool) (*Client, []Fault) {
	if len(data) > 512<<10 {
		return nil, []Fault{{Member: "client metadata", Fault: "larger than 512 KiB"}}
	}
	members, err := objectMembers(data)
	if err != nil {
		return nil, []Fault{{Member: "client metadata", Fault: err.Error()}}
	}
	c := &Client{}
	return c, c.setMembers(members, &r, trusted)
}

// setMembers sets what is understood (see ParseMetadata).
func (c *Client) setMembers(members []objectMember, r *Rules, trusted bool) (faults []Fault) {
	for _, m := range members {
		own := m.name == "client_id" || strings.HasPrefix(m.name, "certbound_")
		if own && !trusted || !memberKnown(m.name, r) {
			continue
		}
		target := c.member(m.name)
		if target == nil || m.name == "response_types" && !r.Authorization {
			if fault := otherFault(m.name, m.value); fault != "" {
				faults = append(faults, Fault{Member: m.name, Fault: fault})
			}
			continue
		}
		if fault := decodeMember(m.value, target); fault != "" {
			faults = append(faults, Fault{Member: m.name, Fault: fault})
		}
	}
	return faults
}

// otherFault refuses members that are understood well enough to know that what they
// ask for cannot be had here; ignoring them would promise it.
func otherFault(name string, value json.RawMessage) string {
	switch name {
	case "response_types": // without an authorization endpoint; see memberKnown
		var types []string
		if json.Unmarshal(value, &types) != nil {
			return "expected a list of strings"
		}
		if len(types) > 0 {
			return "expected none, since the server has no authorization endpoint"
		}
	case "dpop_bound_access_tokens":
		if string(value) != "false" {
			return "expected false, since the server binds tokens to certificates only"
		}
	case "subject_type":
		if string(value) != `"public"` {
			return `expected "public", since each person has one sub for all clients`
		}
	case "sector_identifier_uri":
		return "expected none, since each person has one sub for all clients"
	case "id_token_encrypted_response_alg", "id_token_encrypted_response_enc",
		"userinfo_signed_response_alg", "userinfo_encrypted_response_alg", "userinfo_encrypted_response_enc",
		"request_object_encryption_alg", "request_object_encryption_enc",
		"authorization_signed_response_alg", "authorization_encrypted_response_alg", "authorization_encrypted_response_enc",
		"introspection_signed_response_alg", "introspection_encrypted_response_alg", "introspection_encrypted_response_enc":
		return "expected none: the server encrypts nothing, and signs ID tokens and access tokens only"
	}
	return ""
}

// flowMembers mean something only where there is an authorization endpoint. Elsewhere
// they are not understood (RFC 7591, Section 2); of response_types it is known that
// none can be had.
var flowMembers = []string{
	"redirect_uris", "response_types", "post_logout_redirect_uris", "require_pushed_authorization_requests",
	"require_signed_request_object", "request_object_signing_alg", "id_token_signed_response_alg", "default_max_age",
}

// memberKnown reports whether the settings let the server know a member.
func memberKnown(name string, r *Rules) bool {
	switch {
	case name == "tls_client_certificate_bound_access_tokens":
		return r.BoundTokens
	case slices.Contains(subject.Kinds(), subject.Kind(name)):
		return r.Switches.TLSClientAuth
	case name != "response_types" && slices.Contains(flowMembers, name):
		return r.Authorization
	}
	return true
}

// member returns a pointer to the field with the JSON name.
func (c *Client) member(name string) any {
	switch name {
	case "client_id":
		return &c.ID
	case "client_name":
		return &c.Name
	case "token_endpoint_auth_method":
		return &c.AuthMethod
	case "tls_client_auth_subject_dn":
		return &c.SubjectDN
	case "tls_client_auth_san_dns":
		return &c.SANDNS
	case "tls_client_auth_san_uri":
		return &c.SANURI
	case "tls_client_auth_san_ip":
		return &c.SANIP
	case "tls_client_auth_san_email":
		return &c.SANEmail
	case "jwks":
		return &c.JWKS
	case "jwks_uri":
		return &c.JWKSURI
	case "tls_client_certificate_bound_access_tokens":
		return &c.BoundTokens
	case "use_mtls_endpoint_aliases":
		return &c.UseEndpointAliases
	case "grant_types":
		return &c.GrantTypes
	case "scope":
		return &c.Scope
	case "token_endpoint_auth_signing_alg":
		return &c.SigningAlg
	case "redirect_uris":
		return &c.RedirectURIs
	case "response_types":
		return &c.ResponseTypes
	case "post_logout_redirect_uris":
		return &c.PostLogoutRedirectURIs
	case "require_pushed_authorization_requests":
		return &c.RequirePAR
	case "require_signed_request_object":
		return &c.RequireSignedRequests
	case "request_object_signing_alg":
		return &c.RequestObjectAlg
	case "id_token_signed_response_alg":
		return &c.IDTokenAlg
	case "default_max_age":
		return &c.DefaultMaxAge
	case "client_uri":
		return &c.URI
	case "logo_uri":
		return &c.LogoURI
	case "policy_uri":
		return &c.PolicyURI
	case "tos_uri":
		return &c.TermsURI
	case "contacts":
		return &c.Contacts
	case "software_id":
		return &c.SoftwareID
	case "software_version":
		return &c.SoftwareVersion
	case "certbound_profile":
		return &c.Profile
	case "certbound_skip_consent":
		return &c.SkipConsent
	case "certbound_registration_token_hash":
		return &c.RegistrationTokenHash
	case "certbound_dynamic":
		return &c.Dynamic
	case "certbound_registered_by":
		return &c.RegisteredBy
	case "certbound_statement_issuer":
		return &c.StatementIssuer
	case "certbound_allowed_methods":
		return &c.AllowedMethods
	case "certbound_allowed_grant_types":
		return &c.AllowedGrantTypes
	case "certbound_allowed_scopes":
		return &c.AllowedScopes
	case "certbound_allowed_anchor_set":
		return &c.AllowedAnchorSet
	case "certbound_anchor_set":
		return &c.AnchorSet
	case "certbound_sole_san":
		return &c.SoleEntry
	case "certbound_resources":
		return &c.Resources
	case "certbound_token_format":
		return &c.TokenFormat
	case "certbound_token_lifetime":
		return &c.TokenLifetime
	case "certbound_may_introspect":
		return &c.MayIntrospect
	case "certbound_introspects":
		return &c.Introspects
	case "certbound_disabled":
		return &c.Disabled
	case "certbound_secret_hash":
		return &c.SecretHash
	case "certbound_next_subject_kind":
		return &c.NextSubjectKind
	case "certbound_next_subject":
		return &c.NextSubject
	case "certbound_next_anchor_set":
		return &c.NextAnchorSet
	case "certbound_next_jwks":
		return &c.NextJWKS
	case "certbound_next_not_before":
		return &c.NextNotBefore
	case "certbound_current_not_after":
		return &c.CurrentNotAfter
	}
	return nil
}

// decodeMember is strict where encoding/json is not: null and the empty string are
// no values (RFC 8705, Section 2.1.2: each of the five is a string that is present).
func decodeMember(value json.RawMessage, target any) string {
	if string(value) == "null" {
		return "expected a value, found null"
	}
	if raw, ok := target.(*json.RawMessage); ok {
		*raw = slices.Clone(value)
		return ""
	}
	if err := json.Unmarshal(value, target); err != nil {
		return fmt.Sprintf("expected a %s", jsonType(target))
	}
	if s, ok := target.(*string); ok && *s == "" {
		return "expected a string that is not empty"
	}
	return ""
}

func jsonType(target any) string {
	switch target.(type) {
	case *string:
		return "string"
	case *bool:
		return "boolean"
	case *int:
		return "whole number"
	case *time.Time:
		return "date (RFC 3339)"
	default:
		return "list of strings"
	}
}
