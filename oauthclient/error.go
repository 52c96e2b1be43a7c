package oauthclient

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/oauth2"
)

// An Error is an answer of the authorization server that is not a success. It wraps an
// *[oauth2.RetrieveError], for callers that know that one.
type Error struct {
	// Endpoint is the name of the endpoint: "token_endpoint".
	Endpoint string
	// Status is the HTTP status.
	Status int
	// Code and Description are "error" and "error_description", cut to a sensible
	// length and to printable characters. Code is empty if the answer has none.
	Code, Description string
	// RequestID is the id under which a Certbound server logs the reason of a refusal,
	// from the header field Certbound-Request-Id of its answer, or empty.
	RequestID string
	// Hint says what the client's side can look at, or is empty.
	Hint string

	retrieve *oauth2.RetrieveError
}

func (e *Error) Error() string {
	s := fmt.Sprintf("oauthclient: %s: status %d", e.Endpoint, e.Status)
	if e.Code != "" {
		s += ": " + e.Code
	}
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.RequestID != "" {
		s += ", request id " + e.RequestID
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error {
	if e.retrieve == nil {
		return nil
	}
	return e.retrieve
}

// newError reads an error answer (RFC 6749, Section 5.2). The server's text is not
// trusted to be short or printable.
func (c *Client) newError(endpoint string, resp *http.Response, body []byte, id *identity) *Error {
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(body, &answer) // an answer that is no JSON has no code
	e := &Error{
		Endpoint:    endpoint,
		Status:      resp.StatusCode,
		Code:        printable(answer.Error, 64),
		Description: printable(answer.Description, 256),
		RequestID:   requestID(resp.Header.Get("Certbound-Request-Id")),
	}
	if 300 <= e.Status && e.Status < 400 {
		e.Hint = "the server redirects; a client does not take its credentials to another address"
	}
	if e.Code == "invalid_client" && id.leaf != nil && c.doesMTLS(endpoint) {
		e.Hint = "sent certificate x5t#S256 " + id.thumbprint
		switch now := c.cfg.Now(); {
		case now.After(id.leaf.NotAfter):
			e.Hint += ", which has expired"
		case now.Before(id.leaf.NotBefore):
			e.Hint += ", which is not valid yet"
		default:
			e.Hint += "; compare it with the registration"
		}
	}
	e.retrieve = &oauth2.RetrieveError{Response: resp, ErrorCode: e.Code, ErrorDescription: e.Description}
	return e
}

// requestID returns s if it is a short word that can go into a log and a command line.
func requestID(s string) string {
	for _, r := range s {
		if !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return ""
		}
	}
	if len(s) > 64 {
		return ""
	}
	return s
}

func printable(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), max)]
}
