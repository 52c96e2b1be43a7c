// Package metadata reads authorization server metadata (RFC 8414) as RFC 8705,
// Section 5, asks a client and a resource server to: the issuer has to be the one that
// was asked for, and mtls_endpoint_aliases counts for direct endpoints only.
package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/certbound/certbound/internal/jws"
)

// Limits of what an issuer can send.
const (
	MaxBytes   = 256 << 10
	maxListLen = 1000
)

// An Error says why metadata cannot be used. Nothing of such a document is used.
type Error struct {
	Issuer string // the issuer that was asked for
	Member string // the member at fault, or empty
	Fault  string // expected and found, and what to change
	Err    error
}

func (e *Error) Error() string {
	s := "metadata of " + e.Issuer + ": "
	if e.Member != "" {
		s += e.Member + ": "
	}
	s += e.Fault
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// direct lists the endpoints that a client calls itself (RFC 8705, Section 5). All
// other members of mtls_endpoint_aliases are ignored.
var direct = []string{
	"token_endpoint",
	"revocation_endpoint",
	"introspection_endpoint",
	"pushed_authorization_request_endpoint",
	"device_authorization_endpoint",
	"backchannel_authentication_endpoint",
	"userinfo_endpoint",
	"registration_endpoint",
	"certbound_revocation_feed_endpoint", // of ours (docs/revocation.md)
}

// IsDirect reports whether an endpoint may have an alias.
func IsDirect(name string) bool { return slices.Contains(direct, name) }

// A Document is validated metadata. It is immutable.
type Document struct {
	Issuer  string
	JWKSURI string // https, or empty
	// BoundTokens is tls_client_certificate_bound_access_tokens; absent is false.
	BoundTokens bool
	// ResponseIssuer is authorization_response_iss_parameter_supported (RFC 9207,
	// Section 3); absent is false.
	ResponseIssuer     bool
	AuthMethods        []string
	GrantTypes         []string
	ProtectedResources []string // RFC 9728, Section 4
	Raw                json.RawMessage

	endpoints map[string]string // top level, unchecked but for being strings
	aliases   map[string]string // direct endpoints only, checked
}

// ErrNoEndpoint reports metadata without the endpoint.
var ErrNoEndpoint = errors.New("metadata: no such endpoint")

// Endpoint returns the URL of an endpoint by its metadata name. A caller that does
// mutual TLS gets the alias of a direct endpoint if there is one, and otherwise, as
// any other caller, the conventional URL (RFC 8705, Section 5).
func (d *Document) Endpoint(name string, mtls bool) (string, error) {
	if alias, ok := d.Alias(name); ok && mtls {
		return alias, nil
	}
	text, ok := d.endpoints[name]
	if !ok {
		return "", &Error{Issuer: d.Issuer, Member: name, Fault: "absent; the server does not offer this endpoint", Err: ErrNoEndpoint}
	}
	if fault := checkURL(text); fault != "" {
		return "", &Error{Issuer: d.Issuer, Member: name, Fault: fault}
	}
	return text, nil
}

// Alias returns the entry of mtls_endpoint_aliases.
func (d *Document) Alias(name string) (string, bool) {
	alias, ok := d.aliases[name]
	return alias, ok
}

// Aliases returns all entries that count, by name.
func (d *Document) Aliases() map[string]string { return d.aliases }

// checkURL returns what is wrong with the URL of an endpoint.
func checkURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "not a URL; expected an absolute https URL"
	case u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		return "not an absolute https URL"
	case u.User != nil:
		return "a URL with user information; expected none"
	case strings.Contains(text, "#"):
		return "a URL with a fragment; expected none"
	}
	return ""
}

// CheckEndpoint returns an error unless text is an absolute https URL without user
// information and fragment.
func CheckEndpoint(text string) error {
	if fault := checkURL(text); fault != "" {
		return fmt.Errorf("%q: %s", text, fault)
	}
	return nil
}

// CheckIssuer returns an error unless issuer is an https URL without query and
// fragment (RFC 8414, Section 2).
func CheckIssuer(issuer string) error {
	fault := checkURL(issuer)
	if fault == "" && strings.Contains(issuer, "?") {
		fault = "a URL with a query; expected none"
	}
	if fault != "" {
		return fmt.Errorf("issuer %q: %s", issuer, fault)
	}
	return nil
}

// WellKnown inserts /.well-known/suffix between host and path of an identifier (RFC 8414,
// Section 3.1; RFC 9728, Section 3.1). A slash at the end of the path goes.
func WellKnown(identifier, suffix string) (string, error) {
	u, err := url.Parse(identifier)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("identifier %q: not a URL", identifier)
	}
	origin := u.Scheme + "://" + u.Host
	at := origin + "/.well-known/" + suffix + strings.TrimSuffix(u.EscapedPath(), "/")
	if u.RawQuery != "" { // allowed in a resource identifier, not in an issuer
		at += "?" + u.RawQuery
	}
	return at, nil
}

// Parse reads a metadata document for an issuer. Errors are of type *[Error].
func Parse(data []byte, issuer string) (*Document, error) {
	d := &Document{
		Raw:       slices.Clone(data),
		endpoints: make(map[string]string),
		aliases:   make(map[string]string),
	}
	var fault *Error
	fail := func(member, text string) {
		if fault == nil {
			fault = &Error{Issuer: issuer, Member: member, Fault: text}
		}
	}
	text := func(name string, value []byte) string {
		s, ok := jws.Text(value)
		if !ok {
			fail(name, "not a string")
		}
		return s
	}
	list := func(name string, value []byte) (out []string) {
		if err := json.Unmarshal(value, &out); err != nil {
			fail(name, "not an array of strings")
		}
		if len(out) > maxListLen {
			fail(name, "longer than allowed")
		}
		return out
	}
	var aliases []byte
	err := jws.Members(data, func(member, value []byte) {
		switch name := string(member); name {
		case "issuer":
			d.Issuer = text(name, value)
		case "jwks_uri":
			d.JWKSURI = text(name, value)
		case "tls_client_certificate_bound_access_tokens":
			switch string(value) {
			case "true":
				d.BoundTokens = true
			case "false":
			default:
				fail(name, "neither true nor false")
			}
		case "authorization_response_iss_parameter_supported":
			switch string(value) {
			case "true":
				d.ResponseIssuer = true
			case "false":
			default:
				fail(name, "neither true nor false")
			}
		case "token_endpoint_auth_methods_supported":
			d.AuthMethods = list(name, value)
		case "grant_types_supported":
			d.GrantTypes = list(name, value)
		case "protected_resources":
			d.ProtectedResources = list(name, value)
		case "mtls_endpoint_aliases":
			aliases = value
		default:
			if strings.HasSuffix(name, "_endpoint") {
				d.endpoints[name] = text(name, value)
			}
		}
	})
	if err != nil {
		return nil, &Error{Issuer: issuer, Fault: "not a JSON object that can be trusted", Err: err}
	}
	// The issuer comes first: of another issuer's document nothing is used, not even
	// to complain about it (RFC 8414, Section 3.3).
	if d.Issuer != issuer {
		return nil, &Error{Issuer: issuer, Member: "issuer", Fault: fmt.Sprintf("expected %q, found %q; configure the issuer exactly as the server writes it", issuer, clip(d.Issuer))}
	}
	if fault != nil {
		return nil, fault
	}
	if d.JWKSURI != "" {
		if f := checkURL(d.JWKSURI); f != "" {
			return nil, &Error{Issuer: issuer, Member: "jwks_uri", Fault: f}
		}
	}
	if aliases != nil {
		if err := d.readAliases(aliases, issuer); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *Document) readAliases(data []byte, issuer string) error {
	const member = "mtls_endpoint_aliases"
	var fault *Error
	err := jws.Members(data, func(name, value []byte) {
		if !IsDirect(string(name)) || fault != nil {
			return // ignored, whatever it is (RFC 8705, Section 5)
		}
		alias, ok := jws.Text(value)
		f := "not a string"
		if ok {
			if f = checkURL(alias); f == "" && Private(alias) && !Private(issuer) {
				f = "a private address, which the issuer is not"
			}
		}
		if f != "" {
			fault = &Error{Issuer: issuer, Member: member + "." + string(name), Fault: f}
			return
		}
		d.aliases[string(name)] = alias
	})
	if err != nil {
		return &Error{Issuer: issuer, Member: member, Fault: "not an object of endpoints", Err: err}
	}
	if fault != nil {
		return fault
	}
	return nil
}

// Private reports whether the host of a URL is a loopback, private or link-local
// address, or localhost. It does not look a name up.
func Private(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return true
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast()
}

func clip(s string) string { return s[:min(len(s), 200)] }

// Fetch gets the metadata of an issuer: RFC 8414 first, and where the server answers
// 404, the path of OpenID Connect Discovery. It follows no redirect: another host has
// no say in what the issuer's endpoints are.
func Fetch(ctx context.Context, client *http.Client, issuer string) (*Document, error) {
	if err := CheckIssuer(issuer); err != nil {
		return nil, &Error{Issuer: issuer, Fault: "not an issuer identifier", Err: err}
	}
	at, err := WellKnown(issuer, "oauth-authorization-server")
	if err != nil {
		return nil, &Error{Issuer: issuer, Fault: "not an issuer identifier", Err: err}
	}
	data, status, err := GetJSON(ctx, client, at)
	if err == nil && status == http.StatusNotFound {
		data, status, err = GetJSON(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	}
	if err != nil {
		return nil, &Error{Issuer: issuer, Fault: "cannot be fetched", Err: err}
	}
	if status != http.StatusOK {
		return nil, &Error{Issuer: issuer, Fault: fmt.Sprintf("expected status 200 at %s, found %d", at, status)}
	}
	return Parse(data, issuer)
}

// GetJSON gets a JSON document of at most MaxBytes without following redirects. data
// is nil unless the status is 200.
func GetJSON(ctx context.Context, client *http.Client, at string) (data []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := NoRedirect(client).Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode, nil
	}
	data, err = ReadJSON(resp, MaxBytes)
	return data, resp.StatusCode, err
}

// ReadJSON reads the body of an answer that must be JSON of at most max bytes.
func ReadJSON(resp *http.Response, max int64) ([]byte, error) {
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json") {
		return nil, errors.New("expected Content-Type application/json, found another")
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("expected at most %d bytes, found more", max)
	}
	return data, nil
}

// NoRedirect returns a copy of client that takes a redirect for the answer.
func NoRedirect(client *http.Client) *http.Client {
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}
