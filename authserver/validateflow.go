package authserver

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what a registration can hold.
const (
	maxRedirectURIs = 50
	maxRegisterURI  = 2048
	maxContacts     = 20
	maxDefaultAge   = 10 * 366 * 24 * 3600 // seconds
)

// signsRequests reports whether the client has said that it signs request objects.
func (v *validation) signsRequests() bool {
	return v.c.RequireSignedRequests || v.c.RequestObjectAlg != ""
}

// grantTypes checks grant types and response types against each other (RFC 7591,
// Section 2.1).
func (v *validation) grantTypes() {
	c := v.c
	known := []string{GrantClientCredentials}
	if v.r.Authorization {
		known = append(known, GrantAuthorizationCode, GrantRefreshToken)
	}
	for i, g := range c.GrantTypes {
		switch {
		case !slices.Contains(known, g):
			v.fault("grant_types", "expected %s, found %q", strings.Join(known, ", "), g)
		case slices.Contains(c.GrantTypes[:i], g):
			v.fault("grant_types", "%s is listed twice", g)
		}
	}
	if c.Method() == None && slices.Contains(c.GrantTypes, GrantClientCredentials) {
		v.fault("grant_types", "a public client cannot have %s (RFC 6749, Section 4.4)", GrantClientCredentials)
	}
	code := c.mayUse(GrantAuthorizationCode)
	if slices.Contains(c.GrantTypes, GrantRefreshToken) && !code {
		v.fault("grant_types", "%s needs %s", GrantRefreshToken, GrantAuthorizationCode)
	}
	if code && v.r.Authorization && len(c.RedirectURIs) == 0 {
		v.fault("redirect_uris", "%s needs at least one", GrantAuthorizationCode)
	}
	for _, t := range c.ResponseTypes {
		switch {
		case !v.r.Authorization:
			v.fault("response_types", "expected none, since the server has no authorization endpoint")
		case t != "code":
			v.fault("response_types", "expected code, found %q", t)
		case !code:
			v.fault("response_types", "code needs the grant type %s", GrantAuthorizationCode)
		}
	}
	if len(c.ResponseTypes) > 1 {
		v.fault("response_types", "expected one, found %d", len(c.ResponseTypes))
	}
}

// flow checks the members of the authorization code flow.
func (v *validation) flow() {
	c := v.c
	for _, list := range []struct {
		member string
		uris   []string
	}{{"redirect_uris", c.RedirectURIs}, {"post_logout_redirect_uris", c.PostLogoutRedirectURIs}} {
		if len(list.uris) > maxRedirectURIs {
			v.fault(list.member, "expected at most %d, found %d", maxRedirectURIs, len(list.uris))
			continue
		}
		for i, uri := range list.uris {
			if fault := redirectFault(uri, c.Method() == None); fault != "" {
				v.fault(list.member, "%q: %s", clip(uri, 128), fault)
			} else if slices.Contains(list.uris[:i], uri) {
				v.fault(list.member, "%q is listed twice", clip(uri, 128))
			}
		}
	}
	if alg := c.RequestObjectAlg; alg != "" && !slices.Contains(v.r.AssertionAlgs, alg) {
		v.fault("request_object_signing_alg", "expected any of %s, found %q", strings.Join(v.r.AssertionAlgs, ", "), alg)
	}
	if alg := c.IDTokenAlg; alg != "" && len(v.r.IDTokenAlgs) > 0 && !slices.Contains(v.r.IDTokenAlgs, alg) {
		v.fault("id_token_signed_response_alg", "expected any of %s, found %q", strings.Join(v.r.IDTokenAlgs, ", "), alg)
	}
	if c.DefaultMaxAge < 0 || c.DefaultMaxAge > maxDefaultAge {
		v.fault("default_max_age", "expected 0 to %d seconds, found %d", maxDefaultAge, c.DefaultMaxAge)
	}
}

// redirectFault says what is wrong with a redirect URI, or "". They are compared as
// exact strings (RFC 9700, Section 2.1), so what looks like a pattern is refused.
func redirectFault(uri string, public bool) string {
	if len(uri) > maxRegisterURI {
		return "longer than 2,048 bytes"
	}
	for i := range len(uri) {
		switch c := uri[i]; {
		case c <= 0x20 || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0:
			return "has a character that cannot stand in a URI (RFC 3986, Section 2)"
		case c == '#':
			return "has a fragment (RFC 6749, Section 3.1.2)"
		case c == '*':
			return "has a *, but redirect URIs are compared as they are; register each one"
		}
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "":
		return "not an absolute URI"
	case u.User != nil:
		return "has user information"
	}
	for segment := range strings.SplitSeq(u.Path, "/") { // decoded, so that %2e counts
		if segment == ".." || segment == "." {
			return "has a dot segment in its path"
		}
	}
	switch scheme := u.Scheme; { // url.Parse makes it lower case
	case scheme == "https":
		if fault := hostFault(u); fault != "" {
			return fault
		}
		if !strings.HasPrefix(uri, "https://") {
			return "write the scheme as https://"
		}
	case scheme == "http":
		// RFC 8252, Sections 7.3 and 8.3: the address, not the name localhost, which
		// may lead elsewhere.
		addr, err := netip.ParseAddr(u.Hostname())
		if err != nil || !addr.IsLoopback() || addr.Is4In6() || addr.Zone() != "" || strings.HasSuffix(u.Host, ":") || !strings.HasPrefix(uri, "http://") {
			return "http is for native apps on a loopback address only, such as http://127.0.0.1/callback; use https"
		}
	case !strings.Contains(scheme, "."):
		return "expected https, a loopback address, or the scheme of an app in the form of a reversed domain name (RFC 8252, Section 7.1)"
	case !public:
		return "an app's own scheme is for public clients only; use https"
	case u.Opaque == "" && u.Host == "" && u.Path == "":
		return "nothing stands after the scheme"
	}
	return ""
}

// hostFault says what is wrong with the host of an https URL.
func hostFault(u *url.URL) string {
	host := u.Hostname()
	switch {
	case host == "" || u.Opaque != "":
		return "has no host"
	case strings.Contains(u.Host, "%"):
		return "has an escape in its host"
	case strings.ToLower(host) != host:
		return "write the host in lower case"
	case strings.HasSuffix(u.Host, ":"):
		return "has a colon without a port"
	}
	return ""
}

// pages checks what people see.
func (v *validation) pages() {
	c := v.c
	for _, m := range []struct{ member, value string }{
		{"client_uri", c.URI}, {"logo_uri", c.LogoURI}, {"policy_uri", c.PolicyURI}, {"tos_uri", c.TermsURI},
	} {
		if m.value == "" {
			continue
		}
		u, err := url.Parse(m.value)
		if err != nil || len(m.value) > maxRegisterURI || u.Scheme != "https" || u.User != nil || hostFault(u) != "" || !shownText(m.value) {
			v.fault(m.member, "expected an https URL of at most 2,048 bytes, without user information")
		}
	}
	if len(c.Contacts) > maxContacts {
		v.fault("contacts", "expected at most %d, found %d", maxContacts, len(c.Contacts))
	}
	for _, s := range c.Contacts {
		if s == "" || len(s) > 256 || !shownText(s) {
			v.fault("contacts", "expected 1 to 256 bytes of text each")
			break
		}
	}
	for _, m := range []struct{ member, value string }{{"software_id", c.SoftwareID}, {"software_version", c.SoftwareVersion}} {
		if len(m.value) > 256 || !shownText(m.value) {
			v.fault(m.member, "expected at most 256 bytes of text without control characters")
		}
	}
}

// shownText reports whether s can be shown to people: UTF-8 without what ends or turns
// a line (Unicode, categories Cc, Cf, Zl and Zp).
func shownText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}
