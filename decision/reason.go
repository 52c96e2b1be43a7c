package decision

// A Reason says why a check failed. The set is closed, so a reason is a metric
// label and a test can name it.
type Reason string

// The reasons. [Reason.Summary] has each in a sentence, [Reason.Fix] what to do.
const (
	Unspecified Reason = "unspecified"
	BadSetting  Reason = "setting_invalid"

	// The certificate and how it arrived.
	NoCertificate        Reason = "no_certificate"
	NotEnough            Reason = "certificate_incomplete" // fingerprint or attributes where more is needed
	SourceMalformed      Reason = "source_malformed"
	SourceRepeated       Reason = "source_field_repeated"
	SourceLookAlike      Reason = "source_field_lookalike"  // Client_Cert beside Client-Cert
	SourceHopByHop       Reason = "source_field_hop_by_hop" // named in Connection
	SourceTooLarge       Reason = "source_field_too_large"
	SourceHalfDecoded    Reason = "source_field_half_decoded"
	SourceTooFewHops     Reason = "source_too_few_hops"
	SourceUnverified     Reason = "source_verification_missing"
	SourceContradiction  Reason = "source_contradicts_itself"
	SourceProxyOwn       Reason = "source_proxys_own_certificate"
	SourceUntrusted      Reason = "source_untrusted_peer"
	SourceForeignHeader  Reason = "source_foreign_header"
	ListenerWithout      Reason = "listener_without_certificates"
	MisdirectedRequest   Reason = "misdirected_request"
	CertificateUnparsed  Reason = "certificate_unparsed"
	CertificateForbidden Reason = "certificate_names_unusable" // NUL, a type twice in an RDN

	// The client.
	NoClientID        Reason = "no_client_id"
	ClientIDMisplaced Reason = "client_id_misplaced" // in the query or in JSON
	ParameterRepeated Reason = "parameter_repeated"
	UnknownClient     Reason = "unknown_client"
	AmbiguousClient   Reason = "ambiguous_client" // known to both look-ups
	ClientDisabled    Reason = "client_disabled"
	ClientMisconfig   Reason = "client_misconfigured"
	MethodDisabled    Reason = "method_disabled"
	MethodMismatch    Reason = "method_mismatch"
	SeveralMethods    Reason = "several_methods"
	SecretMismatch    Reason = "secret_mismatch"
	AssertionInvalid  Reason = "assertion_invalid"
	AssertionReplayed Reason = "assertion_replayed"
	LookupFailed      Reason = "lookup_failed"
	HookFailed        Reason = "hook_failed"
	HookRefused       Reason = "hook_refused"

	// The path.
	NoAnchors         Reason = "no_anchors"
	ChainIncomplete   Reason = "chain_incomplete"
	UnknownAuthority  Reason = "unknown_authority"
	ChainTooLong      Reason = "chain_too_long"
	Expired           Reason = "expired"
	NotYetValid       Reason = "not_yet_valid"
	BadSignature      Reason = "bad_signature"
	NotCA             Reason = "issuer_not_ca"
	NameConstraint    Reason = "name_constraint"
	CriticalExtension Reason = "critical_extension"
	ExtKeyUsage       Reason = "extended_key_usage"
	KeyUsage          Reason = "key_usage"
	LeafIsCA          Reason = "leaf_is_ca"
	WeakKey           Reason = "weak_key"
	WeakSignature     Reason = "weak_signature"
	CertificatePolicy Reason = "certificate_policy"
	LifetimeTooLong   Reason = "lifetime_too_long"
	IssuerNotPinned   Reason = "issuer_not_pinned"
	Revoked           Reason = "revoked"
	RevocationUnknown Reason = "revocation_unknown"
	PathInvalid       Reason = "path_invalid" // any other fault of the path

	// What is registered for the client.
	SubjectMismatch   Reason = "subject_mismatch"
	SubjectAbsent     Reason = "subject_absent" // no entry of the registered kind
	NotRegistered     Reason = "certificate_not_registered"
	KeySetUnavailable Reason = "key_set_unavailable"
	KeySetEmpty       Reason = "key_set_empty"

	// The registration.
	MetadataInvalid     Reason = "metadata_invalid"
	StatementInvalid    Reason = "statement_invalid"
	StatementUnapproved Reason = "statement_unapproved"
	RegistrationLimit   Reason = "registration_limit"

	// The grant.
	GrantUnsupported   Reason = "grant_unsupported"
	GrantNotAllowed    Reason = "grant_not_allowed"
	ScopeNotAllowed    Reason = "scope_not_allowed"
	ResourceNotAllowed Reason = "resource_not_allowed"
	BindingNeeded      Reason = "binding_needs_certificate"
	CallerNotAllowed   Reason = "caller_not_allowed"
	RequestMalformed   Reason = "request_malformed"
	RequestTooLarge    Reason = "request_too_large"
	RequestLimit       Reason = "request_limit"
	RouteUnknown       Reason = "route_unknown" // no rule of the configuration covers what is asked for
	MethodNotAllowed   Reason = "method_not_allowed"
	PathAmbiguous      Reason = "path_ambiguous" // two programs could take it for different ones

	// What a person has allowed.
	CodeUnknown         Reason = "code_unknown"
	CodeExpired         Reason = "code_expired"
	CodeUsed            Reason = "code_used"
	CodeVerifier        Reason = "code_verifier_mismatch"
	RedirectURIMismatch Reason = "redirect_uri_mismatch" // at the token endpoint
	GrantOfAnother      Reason = "grant_of_another_client"
	GrantExpired        Reason = "grant_expired"
	GrantRevoked        Reason = "grant_revoked"
	RefreshUnknown      Reason = "refresh_token_unknown"
	RefreshExpired      Reason = "refresh_token_expired"
	RefreshReused       Reason = "refresh_token_reused"
	PersonDisabled      Reason = "person_disabled"

	// The authorization request, and the person.
	RedirectMismatch     Reason = "redirect_uri_not_registered"
	ResponseUnsupported  Reason = "response_unsupported" // response_type or response_mode
	ChallengeMissing     Reason = "code_challenge_missing"
	RequestNotPushed     Reason = "request_not_pushed"
	RequestNotSigned     Reason = "request_not_signed"
	RequestByReference   Reason = "request_by_reference" // request_uri that no pushed request has given
	RequestObjectInvalid Reason = "request_object_invalid"
	RequestUnknown       Reason = "request_unknown" // never made, or ended
	RequestExpired       Reason = "request_expired"
	RequestOfOther       Reason = "request_of_another_client"
	BrowserMismatch      Reason = "browser_mismatch"
	CookieMissing        Reason = "cookie_missing"
	CrossSite            Reason = "cross_site" // a form that was not sent from our page
	LoginRequired        Reason = "login_required"
	ConsentRequired      Reason = "consent_required"
	ConsentDenied        Reason = "consent_denied"
	LoginFailed          Reason = "login_failed"
	LoginUnusable        Reason = "login_unusable" // what the login returned cannot be a person

	// The token.
	NoToken            Reason = "no_token"
	TokenTwice         Reason = "token_sent_twice"
	TokenMalformed     Reason = "token_malformed"
	TokenType          Reason = "token_type"
	TokenSignature     Reason = "token_signature"
	TokenKeyUnknown    Reason = "token_key_unknown"
	TokenExpired       Reason = "token_expired"
	TokenNotYetValid   Reason = "token_not_yet_valid"
	TokenInactive      Reason = "token_inactive"
	TokenRevoked       Reason = "token_revoked"
	IssuerMismatch     Reason = "issuer_mismatch"
	IssuerUnavailable  Reason = "issuer_unavailable"
	AudienceMismatch   Reason = "audience_mismatch"
	ScopeInsufficient  Reason = "insufficient_scope"
	NotBound           Reason = "token_not_bound"
	BindingMismatch    Reason = "binding_mismatch"
	BindingUncheckable Reason = "binding_uncheckable" // cnf with a member that we cannot check
	BindingMalformed   Reason = "binding_malformed"
)

// Reasons returns every reason, for metrics that start at zero and for
// documentation.
func Reasons() []Reason {
	out := make([]Reason, 0, len(texts))
	for _, t := range texts {
		out = append(out, t.reason)
	}
	return out
}

// Summary returns the reason in one sentence.
func (r Reason) Summary() string { return r.text().summary }

// Fix returns what an operator can do about it, in one sentence.
func (r Reason) Fix() string { return r.text().fix }

func (r Reason) text() text {
	if t, ok := byReason[r]; ok {
		return t
	}
	return byReason[Unspecified]
}
