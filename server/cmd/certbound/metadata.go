package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/server/config"
)

// metadataFlags are the members of a registration as flags.
type metadataFlags struct {
	cert, method, name                   string
	dn, sanDNS, sanURI, sanIP, sanEmail  string
	jwks, jwksURI, scope, anchorSet      string
	tokenFormat, tokenLifetime           string
	resources, introspects               []string
	unbound, soleSAN, mayIntrospect, off bool
	newSecret                            bool

	// For clients with a person before them, and of their keys.
	grants, redirects, logouts, contacts   []string
	profile, uri, logo, policy, terms      string
	signingAlg, requestAlg, idTokenAlg     string
	requirePAR, requireSigned, skipConsent bool
	maxAge                                 int
}

func (m *metadataFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&m.cert, "cert", "", "certificate `FILE` of the client, to read the metadata from ('-' for stdin)")
	f.StringVar(&m.method, "method", "", "authentication `METHOD`: tls_client_auth, self_signed_tls_client_auth, private_key_jwt, client_secret_basic or none")
	f.StringVar(&m.dn, "dn", "", "subject as RFC 4514 `TEXT`; OpenSSL's /C=…/CN=… is converted")
	f.StringVar(&m.sanDNS, "san-dns", "", "dNSName (`HOST`) of the certificate")
	f.StringVar(&m.sanURI, "san-uri", "", "`URI` of the certificate")
	f.StringVar(&m.sanIP, "san-ip", "", "iPAddress (`IP`) of the certificate")
	f.StringVar(&m.sanEmail, "san-email", "", "rfc822Name (`MAILBOX`) of the certificate")
	f.BoolVar(&m.soleSAN, "sole-san", false, "the SAN must be the only one of its kind")
	f.StringVar(&m.anchorSet, "anchor-set", "", "`NAME` of the CAs for this client")
	f.StringVar(&m.jwks, "jwks", "", "JWK set `FILE`")
	f.StringVar(&m.jwksURI, "jwks-uri", "", "`URL` of the JWK set")
	f.BoolVar(&m.newSecret, "new-secret", false, "make a new client secret")
	f.StringVar(&m.name, "name", "", "`NAME` for people")
	f.StringVar(&m.scope, "scope", "", "`SCOPES` that it may have, separated by spaces")
	f.StringArrayVar(&m.resources, "resource", nil, "`URI` that it may ask tokens for (repeatable)")
	f.BoolVar(&m.unbound, "unbound", false, "do not bind its tokens to its certificate")
	f.StringVar(&m.tokenFormat, "token-format", "", "`FORMAT`: jwt or opaque")
	f.StringVar(&m.tokenLifetime, "token-lifetime", "", "`TIME` that its tokens are valid, such as 5m")
	f.BoolVar(&m.mayIntrospect, "may-introspect", false, "let it use the introspection endpoint")
	f.StringArrayVar(&m.introspects, "introspects", nil, "`URI` of a resource that it serves (repeatable)")
	f.BoolVar(&m.off, "disabled", false, "refuse the client for now")
	f.StringArrayVar(&m.grants, "grant", nil, "grant `TYPE`: client_credentials, authorization_code or refresh_token (repeatable)")
	f.StringArrayVar(&m.redirects, "redirect-uri", nil, "redirect `URI`, compared as it stands (repeatable)")
	f.StringArrayVar(&m.logouts, "logout-uri", nil, "`URI` for the browser after a logout (repeatable)")
	f.StringVar(&m.profile, "profile", "", "`PROFILE` for this client: fapi2")
	f.BoolVar(&m.requirePAR, "require-par", false, "refuse its authorization requests that were not pushed")
	f.BoolVar(&m.requireSigned, "require-signed-requests", false, "refuse its authorization requests without a signed request object")
	f.StringVar(&m.requestAlg, "request-alg", "", "the one `ALGORITHM` of its request objects")
	f.StringVar(&m.signingAlg, "assertion-alg", "", "the one `ALGORITHM` of private_key_jwt")
	f.StringVar(&m.idTokenAlg, "id-token-alg", "", "the `ALGORITHM` of ID tokens, that of the server")
	f.IntVar(&m.maxAge, "max-age", 0, "`SECONDS` after which a person has to log in again")
	f.BoolVar(&m.skipConsent, "skip-consent", false, "do not ask people what they allow")
	f.StringVar(&m.uri, "client-uri", "", "home page (`URL`) for the pages that people see")
	f.StringVar(&m.logo, "logo-uri", "", "`URL` of its logo")
	f.StringVar(&m.policy, "policy-uri", "", "`URL` of what it does with data")
	f.StringVar(&m.terms, "tos-uri", "", "`URL` of its terms of service")
	f.StringArrayVar(&m.contacts, "contact", nil, "`WHO` to talk to (repeatable)")
	_ = cmd.RegisterFlagCompletionFunc("grant", cobra.FixedCompletions(
		[]string{authserver.GrantClientCredentials, authserver.GrantAuthorizationCode, authserver.GrantRefreshToken}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions([]string{authserver.ProfileFAPI2}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("method", cobra.FixedCompletions(
		[]string{clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth, authserver.PrivateKeyJWT,
			authserver.ClientSecretBasic, authserver.None}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("token-format", cobra.FixedCompletions(
		[]string{authserver.FormatJWT, authserver.FormatOpaque}, cobra.ShellCompDirectiveNoFileComp))
}

// findings are what applyMetadata wants to tell.
type findings struct {
	secret          string
	candidates      []candidate
	warnings, notes []string
}

func (f *findings) warn(format string, args ...any) {
	f.warnings = append(f.warnings, fmt.Sprintf(format, args...))
}

func (f *findings) note(format string, args ...any) {
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

// A candidate is a name of the certificate that could be registered.
type candidate struct {
	Member  subject.Kind `json:"member"`
	Value   string       `json:"value"`
	Flag    string       `json:"flag"`
	Remarks []string     `json:"remarks,omitempty"`
}

var subjectFlags = map[subject.Kind]string{
	subject.DN: "--dn", subject.SANDNS: "--san-dns", subject.SANURI: "--san-uri",
	subject.SANIP: "--san-ip", subject.SANEmail: "--san-email",
}

// applyMetadata changes c as the flags say.
func (a *app) applyMetadata(cmd *cobra.Command, m *metadataFlags, c *authserver.Client, file *config.File) (*findings, error) {
	f := &findings{}
	set := cmd.Flags().Changed

	given := m.subjects()
	if len(given) > 1 {
		var names []string
		for _, g := range given {
			names = append(names, subjectFlags[g.Member])
		}
		return nil, usagef(cmd, "a client has exactly one subject value (RFC 8705, Section 2.1.2), found %s; keep one", strings.Join(names, " and "))
	}
	if n := countTrue(m.jwks != "", m.jwksURI != ""); n > 1 {
		return nil, usagef(cmd, "--jwks and --jwks-uri exclude each other; keep one")
	}

	for flag, target := range map[string]*string{
		"name": &c.Name, "scope": &c.Scope, "anchor-set": &c.AnchorSet, "token-format": &c.TokenFormat, "profile": &c.Profile,
		"client-uri": &c.URI, "logo-uri": &c.LogoURI, "policy-uri": &c.PolicyURI, "tos-uri": &c.TermsURI,
		"request-alg": &c.RequestObjectAlg, "assertion-alg": &c.SigningAlg, "id-token-alg": &c.IDTokenAlg,
	} {
		if set(flag) {
			*target = cmd.Flag(flag).Value.String()
		}
	}
	c.Scope = strings.Join(strings.Fields(c.Scope), " ")
	for flag, list := range map[string]struct{ to, from *[]string }{
		"resource": {&c.Resources, &m.resources}, "grant": {&c.GrantTypes, &m.grants}, "redirect-uri": {&c.RedirectURIs, &m.redirects},
		"logout-uri": {&c.PostLogoutRedirectURIs, &m.logouts}, "contact": {&c.Contacts, &m.contacts},
	} {
		if set(flag) {
			*list.to = slices.DeleteFunc(*list.from, func(s string) bool { return s == "" }) // --redirect-uri '' takes all away
		}
	}
	for flag, b := range map[string]struct {
		to   *bool
		from bool
	}{
		"require-par": {&c.RequirePAR, m.requirePAR}, "require-signed-requests": {&c.RequireSignedRequests, m.requireSigned}, "skip-consent": {&c.SkipConsent, m.skipConsent},
	} {
		if set(flag) {
			*b.to = b.from
		}
	}
	if set("max-age") {
		c.DefaultMaxAge = m.maxAge
	}
	if set("introspects") {
		c.Introspects, c.MayIntrospect = m.introspects, len(m.introspects) > 0
	}
	if set("may-introspect") {
		c.MayIntrospect = m.mayIntrospect
	}
	if set("unbound") {
		c.BoundTokens = !m.unbound
	}
	if set("sole-san") {
		c.SoleEntry = m.soleSAN
	}
	if set("disabled") {
		c.Disabled = m.off
	}
	if set("token-lifetime") {
		d, err := config.ParseDuration(m.tokenLifetime)
		if err != nil {
			return nil, usagef(cmd, "--token-lifetime: %v", err)
		}
		c.TokenLifetime = int(time.Duration(d) / time.Second)
	}

	before := c.AuthMethod
	if set("method") {
		c.AuthMethod = m.method
	}
	if len(given) == 1 {
		if err := setSubject(c, given[0], f); err != nil {
			return nil, fmt.Errorf("%s: %w", subjectFlags[given[0].Member], err)
		}
		if c.AuthMethod == "" {
			c.AuthMethod = clientauth.TLSClientAuth
		}
	}
	if m.jwks != "" {
		data, err := a.readInput(m.jwks)
		if err != nil {
			return nil, err
		}
		found, err := recogniseJSON(data)
		if err != nil || found.set == nil {
			return nil, fmt.Errorf("%s: expected a JWK set", inputName(m.jwks))
		}
		c.JWKS, c.JWKSURI = found.set, ""
	}
	if m.jwksURI != "" {
		c.JWKS, c.JWKSURI = nil, m.jwksURI
	}
	if m.cert != "" {
		if err := a.applyCertificate(m.cert, c, len(given) == 1, file, f); err != nil {
			return nil, err
		}
	}
	if c.AuthMethod == "" {
		switch {
		case len(c.JWKS) > 0 || c.JWKSURI != "":
			return nil, usagef(cmd, "--method is missing: private_key_jwt or self_signed_tls_client_auth")
		default:
			return nil, usagef(cmd, "how does the client prove who it is? Give --cert FILE, a subject such as --dn, or --method")
		}
	}
	if c.AuthMethod != before {
		dropForeign(c)
	}
	if m.newSecret || c.AuthMethod == authserver.ClientSecretBasic && c.SecretHash == "" {
		f.secret, c.SecretHash = authserver.NewSecret()
	}
	return f, nil
}

// dropForeign takes away what belonged to the method before.
func dropForeign(c *authserver.Client) {
	c.CancelRotation()
	if c.AuthMethod != clientauth.TLSClientAuth {
		c.SubjectDN, c.SANDNS, c.SANURI, c.SANIP, c.SANEmail = "", "", "", "", ""
		c.SoleEntry, c.AnchorSet = false, ""
	}
	if c.AuthMethod != clientauth.SelfSignedTLSClientAuth && c.AuthMethod != authserver.PrivateKeyJWT {
		c.JWKS, c.JWKSURI = nil, ""
	}
	if c.AuthMethod != authserver.ClientSecretBasic {
		c.SecretHash = ""
	}
	if c.AuthMethod != authserver.PrivateKeyJWT {
		c.SigningAlg = ""
	}
}

func countTrue(values ...bool) (n int) {
	for _, v := range values {
		if v {
			n++
		}
	}
	return n
}

// subjects returns the subject flags that were given.
func (m *metadataFlags) subjects() []candidate {
	var out []candidate
	for i, value := range []string{m.dn, m.sanDNS, m.sanURI, m.sanIP, m.sanEmail} {
		if value != "" {
			out = append(out, candidate{Member: subject.Kinds()[i], Value: value})
		}
	}
	return out
}

// setSubject makes s the one subject value of c. A DN in OpenSSL's form is converted.
func setSubject(c *authserver.Client, s candidate, f *findings) error {
	if s.Member == subject.DN && strings.HasPrefix(s.Value, "/") {
		n, err := subject.ParseLegacy(s.Value)
		if err != nil {
			return err
		}
		s.Value = n.String()
		f.note("converted from OpenSSL's slash form to RFC 4514: %s", s.Value)
	}
	if _, err := subject.New(s.Member, s.Value); err != nil {
		if ve, ok := errors.AsType[*subject.ValueError](err); ok {
			return fmt.Errorf("%q cannot be registered: %s", s.Value, ve.Fault)
		}
		return err
	}
	f.warnings = append(f.warnings, subject.Advice(s.Member, s.Value)...)
	c.SubjectDN, c.SANDNS, c.SANURI, c.SANIP, c.SANEmail = "", "", "", "", ""
	*map[subject.Kind]*string{
		subject.DN: &c.SubjectDN, subject.SANDNS: &c.SANDNS, subject.SANURI: &c.SANURI,
		subject.SANIP: &c.SANIP, subject.SANEmail: &c.SANEmail,
	}[s.Member] = s.Value
	return nil
}

// applyCertificate proposes metadata for a certificate, takes them, and says what is
// odd about it.
func (a *app) applyCertificate(name string, c *authserver.Client, subjectGiven bool, file *config.File, f *findings) error {
	data, err := a.readInput(name)
	if err != nil {
		return err
	}
	found, err := recognise(data)
	if err == nil && len(found.certs) == 0 {
		err = &artifactError{"this is no certificate (" + found.form + ")", "give the file with the certificate"}
	}
	if err != nil {
		e, _ := errors.AsType[*artifactError](err)
		return hinted(fmt.Errorf("%s: %w", inputName(name), err), "%s", e.Hint)
	}
	for _, n := range found.notes {
		f.note("%s: %s", inputName(name), n)
	}
	leaf := found.certs[0]
	if c.AuthMethod == "" {
		c.AuthMethod = clientauth.TLSClientAuth
		if isSelfSigned(leaf) {
			c.AuthMethod = clientauth.SelfSignedTLSClientAuth
			f.note("the certificate is self-signed: %s, with the certificate in x5c", c.AuthMethod)
		}
	}
	switch c.AuthMethod {
	case clientauth.SelfSignedTLSClientAuth:
		if !isSelfSigned(leaf) {
			f.note("the certificate was issued by a CA (%s), but is registered as it stands: after a renewal it has to be registered again", nameText(leaf.RawIssuer))
		}
		if err := registerCertificate(c, leaf); err != nil {
			return err
		}
	case clientauth.TLSClientAuth:
		if err := proposeSubject(c, leaf, subjectGiven, f); err != nil {
			return err
		}
		checkPath(c, found.certs, file, f)
	default:
		return fmt.Errorf("--cert belongs to tls_client_auth and self_signed_tls_client_auth, not to %s", c.AuthMethod)
	}
	f.warnings = append(f.warnings, authserver.CertificateAdvice(c, leaf, a.now())...)
	return nil
}

// registerCertificate makes the certificate the only one of the client.
func registerCertificate(c *authserver.Client, leaf *x509.Certificate) error {
	key, err := jwks.FromCertificate(leaf.Raw)
	if err != nil {
		return err
	}
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
	if err != nil {
		return err
	}
	c.JWKS, c.JWKSURI = data, ""
	return nil
}

// proposeSubject chooses the subject value: a URI or a host name says more than a DN,
// if it is the only one of its kind; a wildcard says less.
func proposeSubject(c *authserver.Client, leaf *x509.Certificate, given bool, f *findings) error {
	described, err := subject.Describe(leaf)
	if err != nil {
		return err
	}
	count := map[subject.Kind]int{}
	var usable []candidate
	for _, d := range described {
		cand := candidate{Member: d.Kind, Value: d.Value, Flag: subjectFlags[d.Kind], Remarks: d.Remarks}
		f.candidates = append(f.candidates, cand)
		if d.Value != "" {
			count[d.Kind]++
			usable = append(usable, cand)
		}
		if d.Kind == subject.SANDNS && strings.HasPrefix(d.Value, "*") {
			f.warn("the certificate has the wildcard %s: matching takes it literally, and whoever else has this certificate is the same client", d.Value)
		}
	}
	if !given {
		chosen := -1
		for _, kind := range []subject.Kind{subject.SANURI, subject.SANDNS, subject.DN, subject.SANEmail, subject.SANIP} {
			chosen = slices.IndexFunc(usable, func(x candidate) bool {
				return x.Member == kind && count[kind] == 1 && !strings.HasPrefix(x.Value, "*")
			})
			if chosen >= 0 {
				break
			}
		}
		if chosen < 0 {
			chosen = 0
		}
		if len(usable) == 0 {
			return hinted(errors.New("the certificate has no name that can be registered"), "issue it with a subject or a SAN")
		}
		if err := setSubject(c, usable[chosen], f); err != nil {
			return err
		}
	} else {
		kind, value := c.Subject()
		expected, err := subject.New(kind, value)
		if err == nil {
			if err := expected.Match(leaf); err != nil {
				f.warn("this certificate does not have the registered value: %s", strings.TrimPrefix(err.Error(), "subject: "))
			}
		}
	}
	kind, value := c.Subject()
	var others []string
	for _, u := range usable {
		if u.Member != kind || u.Value != value {
			others = append(others, fmt.Sprintf("%s %s", u.Flag, shellQuote(u.Value)))
		}
	}
	if len(others) > 0 && !given {
		f.warn("the certificate has more than one name; a client has one. Registered is %s; in its place could be: %s", kind, strings.Join(others, ", "))
	}
	return nil
}

// checkPath looks whether the server would trust the certificate.
func checkPath(c *authserver.Client, certs []*x509.Certificate, file *config.File, f *findings) {
	if file == nil {
		return
	}
	quiet := slog.New(slog.DiscardHandler) // what is loaded is news for a server's log
	v, err := pki.NewValidator(pki.Config{Logger: quiet})
	if err != nil {
		return
	}
	if _, err := pki.NewFileWatcher(v, pki.WatchConfig{Sets: file.FileSets(), Logger: quiet}); err != nil {
		f.warn("the trust anchors cannot be read, so the certificate was not checked; see 'certbound config check'")
		return
	}
	set := orWord(c.AnchorSet, file.Trust.Default)
	if _, err := v.Verify(context.Background(), set, pki.Chain{Leaf: certs[0], Rest: certs[1:]}); err != nil {
		text := strings.TrimPrefix(err.Error(), "pki: ")
		if pe, ok := errors.AsType[*pki.Error](err); ok {
			text = pe.Reason.Summary()
			if pe.Found != "" {
				text += ": " + pe.Found
			}
			text += "; " + pe.Reason.Fix()
		}
		f.warn("the server would refuse this certificate by anchor set %q: %s", set, text)
	}
}

func thumbprintOfX5C(text string) string {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return certbound.ThumbprintDER(der)
}

// shellQuote returns s as one word for a POSIX shell.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@%+,", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
