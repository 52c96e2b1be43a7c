package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
)

// maxArtifact bounds what is read from a file or from stdin.
const maxArtifact = 4 << 20

// An artifact is what recognise has found: one kind of thing in one form.
type artifact struct {
	form  string // how it was written, for people
	certs []*x509.Certificate
	token string          // compact JWS
	set   json.RawMessage // JWK set
	// claims is the answer of an introspection endpoint.
	claims json.RawMessage
	notes  []string // what else was in the input, or is odd about its form
}

// An artifactError reports input that is none of the known things.
type artifactError struct {
	Fault string
	Hint  string
}

func (e *artifactError) Error() string { return e.Fault }

// readInput returns the content of a file, or of stdin for "-".
func (a *app) readInput(name string) ([]byte, error) {
	var r io.Reader = a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fileError(err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, fmt.Errorf("%s: is a folder, not a file", name)
		}
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxArtifact+1))
	switch {
	case err != nil:
		return nil, fileError(err)
	case len(data) > maxArtifact:
		return nil, fmt.Errorf("%s: larger than %d MiB", name, maxArtifact>>20)
	}
	return data, nil
}

// fileError turns "open x: no such file" around, so that the name comes first.
func fileError(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}

// recognise finds out what data is. Errors are of type *artifactError, and nothing
// is returned beside one.
func recognise(data []byte) (*artifact, error) {
	a, err := recogniseForm(data)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func recogniseForm(data []byte) (*artifact, error) {
	if len(data) > 0 && data[0] == 0x30 {
		if certs, err := x509.ParseCertificates(data); err == nil && len(certs) > 0 {
			return &artifact{form: "DER", certs: certs}, nil
		}
	}
	text := string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, &artifactError{"the input is empty", "give a certificate, a token or a key set"}
	}
	text, field := cutHeaderName(text)
	switch {
	case strings.HasPrefix(text, "{"), strings.HasPrefix(text, "["):
		return recogniseJSON([]byte(text))
	case strings.Contains(text, "-----BEGIN"):
		return recognisePEM(text)
	case strings.HasPrefix(text, ":"):
		return recogniseByteSequences(text, field)
	}
	if strings.HasPrefix(strings.ToLower(text), "bearer ") {
		text = strings.TrimSpace(text[len("bearer "):])
	}
	if parts := strings.Split(text, "."); len(parts) > 1 {
		switch {
		case len(parts) == 5:
			return nil, &artifactError{"this looks like an encrypted token (five parts)", "only signed tokens can be read without the key"}
		case len(parts) != 3:
			return nil, &artifactError{fmt.Sprintf("this looks like a token, but has %d parts in place of 3", len(parts)), "copy the whole token"}
		}
		return &artifact{form: "compact JWS", token: text}, nil
	}
	der, err := base64.StdEncoding.DecodeString(stripSpace(text))
	if err != nil {
		der, err = base64.RawStdEncoding.DecodeString(stripSpace(text))
	}
	if err == nil {
		certs, perr := parseDER(der)
		if perr != nil {
			return nil, perr
		}
		return &artifact{form: "base64 of DER", certs: certs}, nil
	}
	return nil, &artifactError{
		"this is neither a certificate nor a token nor a key set",
		"known are certificates (PEM, DER, base64, percent-encoded PEM, a Client-Cert value), JWTs and JWK sets",
	}
}

// cutHeaderName takes away the name in front of a header line that was copied whole.
func cutHeaderName(text string) (value, field string) {
	name, rest, ok := strings.Cut(text, ":")
	if !ok || name == "" || len(name) > 64 || strings.HasPrefix(name, "-") ||
		strings.ContainsFunc(name, func(r rune) bool {
			return !(r == '-' || r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z')
		}) {
		return text, ""
	}
	return strings.TrimSpace(rest), name
}

// recognisePEM reads PEM as it is in files, and as proxies put it into one line:
// percent-encoded, or with spaces, tabs or the two characters \n for the line ends.
func recognisePEM(text string) (*artifact, error) {
	a := &artifact{form: "PEM"}
	if strings.Contains(text, "-----BEGIN%20") {
		// PathUnescape, not QueryUnescape: a plus is a character of base64 and
		// never a space (AWS ALB sends it unescaped).
		plain, err := url.PathUnescape(text)
		if err != nil {
			return nil, &artifactError{"the percent-encoded PEM has a bad escape", "copy the whole header value"}
		}
		text, a.form = plain, "percent-encoded PEM"
	}
	if strings.Contains(text, `\n`) {
		text = strings.NewReplacer(`\r`, "", `\n`, "\n").Replace(text)
		a.form = `PEM with \n in place of line ends`
	}
	var other []string
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "-----BEGIN ")
		if !ok {
			break
		}
		label, after, ok := strings.Cut(after, "-----")
		if !ok || len(label) > 64 {
			return nil, &artifactError{"a PEM block has no complete BEGIN line", "copy the whole file"}
		}
		body, after, ok := strings.Cut(after, "-----END "+label+"-----")
		if !ok {
			return nil, &artifactError{fmt.Sprintf("the PEM block %q has no END line", printable(label)), "copy the whole file"}
		}
		rest = after
		if label != "CERTIFICATE" && label != "TRUSTED CERTIFICATE" && label != "X509 CERTIFICATE" {
			other = append(other, label)
			continue
		}
		if a.form == "PEM" && !strings.Contains(strings.TrimSpace(body), "\n") && len(body) > 80 {
			a.form = "PEM on one line"
		}
		if strings.Contains(body, ":") { // headers of RFC 1421, as in "Proc-Type: 4,ENCRYPTED"
			return nil, &artifactError{"the PEM certificate has header lines", "remove the lines between BEGIN and the base64 text"}
		}
		der, err := base64.StdEncoding.DecodeString(stripSpace(body))
		if err != nil {
			return nil, &artifactError{fmt.Sprintf("certificate %d: the PEM body is not base64", len(a.certs)+1), "copy the whole file"}
		}
		certs, perr := parseDER(der)
		if perr != nil {
			return nil, perr
		}
		a.certs = append(a.certs, certs...)
	}
	if len(a.certs) == 0 {
		return nil, pemOther(other)
	}
	for _, label := range other {
		if strings.Contains(label, "PRIVATE KEY") {
			a.notes = append(a.notes, "the input holds a private key too; it is not shown")
		} else {
			a.notes = append(a.notes, fmt.Sprintf("a PEM block %q was left out", printable(label)))
		}
	}
	return a, nil
}

func pemOther(labels []string) *artifactError {
	has := func(part string) bool {
		return slices.ContainsFunc(labels, func(l string) bool { return strings.Contains(l, part) })
	}
	switch {
	case has("CERTIFICATE REQUEST"):
		return &artifactError{"this is a certificate request, not a certificate", "let a CA issue the certificate first"}
	case has("PRIVATE KEY"):
		return &artifactError{"this is a private key, not a certificate", "give the file with the certificate; keep this one secret"}
	case has("PUBLIC KEY"):
		return &artifactError{"this is a public key, not a certificate", "give the file with the certificate"}
	case has("X509 CRL"):
		return &artifactError{"this is a revocation list, not a certificate", "give the file with the certificate"}
	}
	return &artifactError{"there is no CERTIFICATE block in this PEM input", "give the file with the certificate"}
}

// recogniseByteSequences reads the values of Client-Cert and Client-Cert-Chain (RFC
// 9440, Section 2): base64 between colons, a list of them separated by commas.
func recogniseByteSequences(text, field string) (*artifact, error) {
	a := &artifact{form: "byte sequence of RFC 9440"}
	if field != "" {
		a.form += ", field " + field
	}
	for i, item := range strings.Split(text, ",") {
		item = strings.TrimSpace(item)
		body, ok := strings.CutPrefix(item, ":")
		if ok {
			body, ok = strings.CutSuffix(body, ":")
		}
		if !ok {
			return nil, &artifactError{fmt.Sprintf("value %d does not stand between colons", i+1), "a value of Client-Cert is :base64: (RFC 9440, Section 2.1)"}
		}
		der, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return nil, &artifactError{fmt.Sprintf("value %d is not base64", i+1), "copy the whole header value"}
		}
		certs, perr := parseDER(der)
		if perr != nil {
			return nil, perr
		}
		a.certs = append(a.certs, certs...)
	}
	return a, nil
}

// recogniseJSON tells key sets, single keys, token answers and introspection answers
// apart by their members.
func recogniseJSON(data []byte) (*artifact, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			line := 1 + bytes.Count(data[:min(int(se.Offset), len(data))], []byte("\n"))
			return nil, &artifactError{fmt.Sprintf("line %d: not valid JSON", line), "copy the whole document"}
		}
		return nil, &artifactError{"this JSON is not an object", `a key set is an object with a member "keys"`}
	}
	switch {
	case members["keys"] != nil:
		return &artifact{form: "JWK set", set: data}, nil
	case members["kty"] != nil:
		set := slices.Concat([]byte(`{"keys":[`), data, []byte(`]}`))
		return &artifact{form: "JWK", set: set}, nil
	case members["access_token"] != nil:
		var token string
		if json.Unmarshal(members["access_token"], &token) != nil || strings.Count(token, ".") != 2 {
			return nil, &artifactError{"the access token of this answer is not a JWT", "an opaque token means nothing by itself; ask the introspection endpoint"}
		}
		return &artifact{form: "token answer", token: token}, nil
	case members["active"] != nil:
		return &artifact{form: "introspection answer", claims: data}, nil
	case members["jwks"] != nil:
		return recogniseJSON(members["jwks"])
	}
	return nil, &artifactError{"this JSON is neither a key set nor a key nor an answer with a token", `a key set is an object with a member "keys"`}
}

// parseDER returns the certificates in der, of which there is at least one.
func parseDER(der []byte) ([]*x509.Certificate, *artifactError) {
	certs, err := x509.ParseCertificates(der)
	switch {
	case err != nil:
		return nil, &artifactError{"the decoded octets are not an X.509 certificate: " +
			strings.TrimPrefix(err.Error(), "x509: "), "check that nothing was cut off and that a plus sign did not become a space"}
	case len(certs) == 0:
		return nil, &artifactError{"there is no certificate in the input", "give the file with the certificate"}
	}
	return certs, nil
}

func stripSpace(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n':
			return -1
		}
		return r
	}, s)
}
