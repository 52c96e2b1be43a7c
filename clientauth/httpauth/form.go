package httpauth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/certbound/certbound/decision"
)

// maxClientID bounds a client_id, in characters.
const maxClientID = 512

// form is what the middleware reads of a request.
type form struct {
	clientID string
	// other names a client credential beside the certificate, or is empty.
	other string
	// body is the request body for the next handler, from its start.
	body io.ReadCloser
}

// read finds client_id in the form body (RFC 8705, Section 2; RFC 6749, Section 3.2).
// It returns the failed check, or one without name.
func (f *form) read(w http.ResponseWriter, r *http.Request, limit int64) decision.Check {
	fail := func(reason decision.Reason, found string) decision.Check {
		return decision.Check{
			Name: decision.CheckClient, Rule: "RFC 8705, Section 2", Reason: reason,
			Expected: "client_id, once, in the form body of a POST request", Found: found,
		}
	}
	if inQuery(r.URL.RawQuery) {
		return fail(decision.ClientIDMisplaced, "client_id in the query")
	}
	if r.Method != http.MethodPost {
		return fail(decision.NoClientID, "a "+r.Method+" request")
	}
	types := r.Header["Content-Type"]
	if len(types) > 1 {
		return fail(decision.RequestMalformed, "more than one Content-Type")
	}
	// The usual value needs no parsing.
	if len(types) == 0 || types[0] != "application/x-www-form-urlencoded" {
		media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch {
		case err != nil:
			return fail(decision.NoClientID, "no valid Content-Type")
		case media == "application/json" || strings.HasSuffix(media, "+json"):
			return fail(decision.ClientIDMisplaced, "a JSON body")
		case media != "application/x-www-form-urlencoded":
			return fail(decision.NoClientID, "a body that is not application/x-www-form-urlencoded")
		}
	}

	var id string
	var count int
	if r.PostForm != nil { // a handler before us has read the body
		id, count = r.PostForm.Get("client_id"), len(r.PostForm["client_id"])
		for _, name := range credentials {
			if r.PostForm.Has(name) {
				f.other = name
			}
		}
	} else {
		body, c := readBody(w, r, limit)
		if c.Name != "" {
			return c
		}
		f.body = &rewound{*bytes.NewReader(body), cmp.Or[io.Closer](r.Body, http.NoBody)}
		var fault string
		if id, count, f.other, fault = scan(string(body)); fault != "" {
			c := fail(decision.RequestMalformed, fault)
			c.Expected = "a form that can be read in one way only"
			return c
		}
	}
	switch {
	case count > 1:
		return fail(decision.ParameterRepeated, "client_id more than once")
	case id == "":
		return fail(decision.NoClientID, "a form without client_id")
	case !isClientID(id):
		c := fail(decision.UnknownClient, "a value with other characters, or too long")
		c.Expected = fmt.Sprintf("a client_id of at most %d printable ASCII characters", maxClientID)
		return c
	}
	f.clientID = id
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Basic") {
		f.other = "Authorization: Basic"
	}
	return decision.Check{}
}

// credentials are the form parameters of other authentication methods.
var credentials = []string{"client_secret", "client_assertion"}

// rewound is a body that was read, from its start again.
type rewound struct {
	bytes.Reader
	io.Closer
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, decision.Check) {
	tooLarge := func(found string) decision.Check {
		return decision.Check{
			Name: decision.CheckClient, Reason: decision.RequestTooLarge,
			Expected: fmt.Sprintf("a form of at most %d bytes", limit), Found: found,
		}
	}
	if r.ContentLength > limit {
		return nil, tooLarge(fmt.Sprintf("%d bytes", r.ContentLength))
	}
	var body []byte
	var err error
	switch {
	case r.Body == nil: // a request that was not read from a connection
	case r.ContentLength >= 0:
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	default:
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge("more")
	}
	if err != nil {
		return nil, decision.Check{
			Name: decision.CheckClient, Reason: decision.RequestMalformed,
			Expected: "a complete body", Found: "a body that ends early",
		}
	}
	return body, decision.Check{}
}

// scan finds client_id in a form, how often it stands there, and other credentials. It
// reads what [url.ParseQuery] reads, and refuses what that function would drop, so that
// the next handler cannot come to another client_id.
func scan(body string) (id string, count int, other, fault string) {
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		if strings.IndexByte(pair, ';') >= 0 {
			return "", 0, "", "a semicolon, which some read as a separator"
		}
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(rawKey)
		if err != nil {
			return "", 0, "", "a malformed percent-encoding"
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return "", 0, "", "a malformed percent-encoding"
		}
		switch key {
		case "client_id":
			id, count = value, count+1
		case "client_secret", "client_assertion":
			other = key
		}
	}
	return id, count, other, ""
}

// inQuery reports whether any reading of a query has a client_id.
func inQuery(query string) bool {
	for query != "" {
		end := strings.IndexAny(query, "&;")
		pair, rest := query, ""
		if end >= 0 {
			pair, rest = query[:end], query[end+1:]
		}
		query = rest
		rawKey, _, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(rawKey); err == nil && key == "client_id" {
			return true
		}
	}
	return false
}

// isClientID reports whether s can be a client_id (RFC 6749, Appendix A.1).
func isClientID(s string) bool {
	if len(s) > maxClientID {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
