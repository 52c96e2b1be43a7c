package authserver

import (
	"net/http"
	"time"
)

// For tests of what outside input runs through first.
var (
	MatchRedirect = matchRedirect
	RedirectFault = redirectFault
	WithQuery     = withQuery
)

// CookieOf is cookieValue of a request with these Cookie fields.
func CookieOf(name string, fields ...string) string {
	return cookieValue(&http.Request{Header: http.Header{"Cookie": fields}}, name)
}

// Cookie names.
const (
	BrowserCookie = browserCookie
	SessionCookie = sessionCookie
)

// ParseObject reads the claims of a request object and returns its parameters, and what is
// wrong with it for a client of an issuer.
func ParseObject(payload []byte, clientID, issuer string, now time.Time) (parameters [][2]string, fault string, err error) {
	o, err := parseObjectClaims(payload)
	if err != nil {
		return nil, "", err
	}
	for _, p := range o.form {
		parameters = append(parameters, [2]string{p.name, p.value})
	}
	return parameters, o.fault(clientID, issuer, now), nil
}
