package authserver

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// A form holds the parameters of a request body in their order. Parameters without
// a value count as omitted (RFC 6749, Section 3.2).
type form []parameter

type parameter struct{ name, value string }

// get returns the value of a parameter, or "".
func (f form) get(name string) string {
	for i := range f {
		if f[i].name == name {
			return f[i].value
		}
	}
	return ""
}

// all returns the values of the one parameter that may repeat.
func (f form) all(name string) (values []string) {
	for i := range f {
		if f[i].name == name && f[i].value != "" {
			values = append(values, f[i].value)
		}
	}
	return values
}

// A formError says why a body is refused.
type formError struct {
	fault    string
	tooLarge bool
	repeated bool
}

func (e *formError) Error() string { return "authserver: form: " + e.fault }

const formType = "application/x-www-form-urlencoded"

// readForm reads the body of a POST. Errors are of type *formError.
func readForm(w http.ResponseWriter, r *http.Request, maxBytes int64, maxParameters int) (form, error) {
	// Most clients send exactly this.
	if ct := r.Header["Content-Type"]; len(ct) != 1 {
		return nil, &formError{fault: "expected one Content-Type, " + formType}
	} else if ct[0] != formType {
		if mt, _, err := mime.ParseMediaType(ct[0]); err != nil || mt != formType {
			return nil, &formError{fault: "expected Content-Type " + formType}
		}
	}
	if ce := r.Header.Get("Content-Encoding"); ce != "" && !strings.EqualFold(ce, "identity") {
		return nil, &formError{fault: "expected no Content-Encoding"}
	}
	if r.ContentLength > maxBytes {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, &formError{fault: fmt.Sprintf("%d bytes", r.ContentLength), tooLarge: true}
	}
	body, err := readBody(w, r, maxBytes)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &formError{fault: "more", tooLarge: true}
		}
		return nil, &formError{fault: "the body could not be read"}
	}
	return parseForm(body, maxParameters)
}

// usualBody is for most forms.
const usualBody = 4 << 10

func readBody(w http.ResponseWriter, r *http.Request, maxBytes int64) (string, error) {
	if r.ContentLength < 0 { // chunked
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
		return string(data), err
	}
	// What a request announces may never come: memory grows with what is there. net/http reads
	// no more than was announced.
	data := make([]byte, min(r.ContentLength, usualBody))
	n, err := io.ReadFull(r.Body, data)
	for err == nil && int64(n) < r.ContentLength {
		data = append(data, make([]byte, min(r.ContentLength-int64(n), int64(n)))...)
		var more int
		more, err = io.ReadFull(r.Body, data[n:])
		n += more
	}
	if err != nil {
		return "", err
	}
	return string(data), nil
}

// parseForm parses application/x-www-form-urlencoded text. It refuses more than
// maximum parameters, broken escapes, text that is not UTF-8, and a parameter that
// stands twice, resource excepted (RFC 8707, Section 2). Values share memory with
// body where nothing was escaped.
func parseForm(body string, maximum int) (form, error) {
	out := make(form, 0, 8)
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		if len(out) == maximum {
			return nil, &formError{fault: "too many parameters", tooLarge: true}
		}
		name, value, _ := strings.Cut(pair, "=")
		var ok1, ok2 bool
		name, ok1 = unescapeForm(name)
		value, ok2 = unescapeForm(value)
		if !ok1 || !ok2 {
			return nil, &formError{fault: "a parameter is not correctly escaped UTF-8"}
		}
		if name != "resource" {
			for i := range out {
				if out[i].name == name {
					return nil, &formError{fault: "a parameter stands twice", repeated: true}
				}
			}
		}
		out = append(out, parameter{name, value})
	}
	return out, nil
}

// unescapeForm undoes percent-encoding and plus signs.
func unescapeForm(s string) (string, bool) {
	plain := true
	for i := range len(s) {
		if c := s[i]; c == '%' || c == '+' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 {
				return "", false
			}
			b = append(b, hi<<4|lo)
			i += 2
		default:
			b = append(b, c)
		}
	}
	if !utf8.Valid(b) {
		return "", false
	}
	return string(b), true
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
