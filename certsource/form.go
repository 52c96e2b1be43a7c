package certsource

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/sfv"
)

// A form is how a certificate field is written. The certificates are DER, the leaf first.
type form struct {
	// decode returns at least one, or an error.
	decode func(f *fields, field, value string) ([][]byte, error)
	// encode writes the first, or all of them if the form can hold more.
	encode func(ders [][]byte) string
}

// A listForm is how the lines of a chain field are written.
type listForm struct {
	decode func(f *fields, field string, lines []string) ([][]byte, error)
	encode func(ders [][]byte) []string
}

// The forms.
var (
	// formDER is base64 of one DER certificate, in one line.
	formDER = form{decodeDER, encodeDER}
	// formQuotedDER is formDER, perhaps in quotes, as HAProxy's +Q sends it.
	formQuotedDER = form{decodeQuotedDER, encodeQuotedDER}
	// formBase64 is base64 of one certificate, in DER or in PEM.
	formBase64 = form{decodeBase64, encodeDER}
	// formDERs is base64 of DER certificates with commas between them, as Traefik
	// sends them.
	formDERs = form{decodeDERs, encodeDERs}
	// formEscapedDERs is formDERs in percent-encoding.
	formEscapedDERs = form{decodeEscapedDERs, func(d [][]byte) string { return escape(encodeDERs(d), "") }}
	// formItem is Client-Cert of RFC 9440.
	formItem = form{decodeItem, encodeItem}
	// formFoldedPEM is PEM whose line ends have become spaces or tabs.
	formFoldedPEM = form{decodeFoldedPEM, func(d [][]byte) string { return encodeFoldedPEM(d[:1])[0] }}
	// formEscapedPEM is PEM in percent-encoding, one certificate or more. Whether "+",
	// "/" and "=" are encoded differs; form decoding is never undone.
	formEscapedPEM = form{decodeEscapedPEM, func(d [][]byte) string { return escape(encodePEM(d[:1]), "") }}
	// formSafeEscapedPEM is the same as AWS writes it.
	formSafeEscapedPEM = form{decodeEscapedPEM, func(d [][]byte) string { return escape(encodePEM(d[:1]), "+=/") }}
	// formSafeEscapedPEMs is the same for a whole chain.
	formSafeEscapedPEMs = form{decodeEscapedPEM, func(d [][]byte) string { return escape(encodePEM(d), "+=/") }}

	// listDERs is base64 of DER certificates with commas between them.
	listDERs = listForm{decodeListDERs, func(d [][]byte) []string { return []string{encodeDERs(d)} }}
	// listConcatenatedDER is base64 of DER certificates one after the other, in one
	// line, perhaps in quotes: HAProxy's ssl_c_chain_der.
	listConcatenatedDER = listForm{decodeConcatenatedDER, encodeConcatenatedDER}
	// listItems is Client-Cert-Chain of RFC 9440.
	listItems = listForm{decodeItems, encodeItems}
	// listFoldedPEM is formFoldedPEM in each line.
	listFoldedPEM = listForm{decodeFoldedPEMs, encodeFoldedPEM}
)

func decodeDER(f *fields, field, value string) ([][]byte, error) {
	der, err := f.base64(field, value)
	if err != nil {
		return nil, err
	}
	return [][]byte{der}, nil
}

// base64 decodes one line, and says what else it may be that has arrived.
func (f *fields) base64(field, value string) ([]byte, error) {
	der, err := sfv.Base64(value)
	if err == nil {
		return der, nil
	}
	switch {
	case strings.HasPrefix(value, pemBegin[:10]):
		return nil, f.fault(field, "PEM where base64 of the DER is expected")
	case value[0] == ':':
		return nil, f.fault(field, "colons around the base64; that is the form of RFC 9440, for the source rfc9440")
	case value[0] == '"':
		return nil, f.fault(field, "base64 in quotes; let the proxy send it without them (HAProxy: %%[…] without +Q)")
	case strings.IndexByte(value, '%') >= 0:
		return nil, f.halfDecoded(field, "percent-encoding in base64")
	case strings.IndexByte(value, ' ') >= 0:
		return nil, f.halfDecoded(field, "a space in base64, where a plus sign may have been")
	}
	return nil, f.fault(field, "%s", faultOf(err))
}

func decodeQuotedDER(f *fields, field, value string) ([][]byte, error) {
	if inner, ok := unquote(value); ok {
		value = inner
	}
	return decodeDER(f, field, value)
}

func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s, false
	}
	return s[1 : len(s)-1], true
}

func decodeBase64(f *fields, field, value string) ([][]byte, error) {
	data, err := f.base64(field, value)
	if err != nil {
		return nil, err
	}
	if text := string(data); strings.HasPrefix(text, pemBegin) {
		return f.pem(field, text, false)
	}
	return [][]byte{data}, nil
}

func decodeDERs(f *fields, field, value string) ([][]byte, error) {
	return decodeListDERs(f, field, []string{value})
}

func decodeListDERs(f *fields, field string, lines []string) ([][]byte, error) {
	var ders [][]byte
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if len(ders) == f.maxCerts {
				return nil, f.tooMany(field)
			}
			if part == "" {
				return nil, f.fault(field, "a comma without a certificate before or after it")
			}
			der, err := f.base64(field, part)
			if err != nil {
				return nil, err
			}
			ders = append(ders, der)
		}
	}
	return ders, nil
}

func decodeEscapedDERs(f *fields, field, value string) ([][]byte, error) {
	text, err := f.unescape(field, value)
	if err != nil {
		return nil, err
	}
	return decodeDERs(f, field, text)
}

func decodeConcatenatedDER(f *fields, field string, lines []string) ([][]byte, error) {
	value := lines[0]
	if inner, ok := unquote(value); ok {
		value = inner
	}
	data, err := f.base64(field, value)
	if err != nil {
		return nil, err
	}
	var ders [][]byte
	for len(data) > 0 {
		if len(ders) == f.maxCerts {
			return nil, f.tooMany(field)
		}
		var one asn1.RawValue
		rest, err := asn1.Unmarshal(data, &one)
		if err != nil {
			return nil, f.fault(field, "not DER certificates one after the other")
		}
		ders, data = append(ders, one.FullBytes), rest
	}
	return ders, nil
}

func decodeItem(f *fields, field, value string) ([][]byte, error) {
	der, err := sfv.ByteSequence(value)
	if err != nil {
		return nil, f.fault(field, "%s", faultOf(err))
	}
	return [][]byte{der}, nil
}

func decodeItems(f *fields, field string, lines []string) ([][]byte, error) {
	ders, err := sfv.ByteSequences(lines, f.maxCerts-1)
	if errors.Is(err, sfv.ErrTooMany) {
		return nil, f.tooMany(field)
	}
	if err != nil {
		return nil, f.fault(field, "%s", faultOf(err))
	}
	return ders, nil
}

func decodeFoldedPEM(f *fields, field, value string) ([][]byte, error) {
	if strings.Contains(value, "%0A") || strings.Contains(value, "%20") || strings.Contains(value, "%0a") {
		return nil, f.halfDecoded(field, "percent-encoding where PEM is expected as it is")
	}
	return f.pem(field, value, true)
}

func decodeFoldedPEMs(f *fields, field string, lines []string) ([][]byte, error) {
	var ders [][]byte
	for _, line := range lines {
		more, err := decodeFoldedPEM(f, field, line)
		if err != nil {
			return nil, err
		}
		if ders = append(ders, more...); len(ders) > f.maxCerts {
			return nil, f.tooMany(field)
		}
	}
	return ders, nil
}

func decodeEscapedPEM(f *fields, field, value string) ([][]byte, error) {
	if strings.HasPrefix(value, "-----BEGIN+") {
		return nil, f.halfDecoded(field, "form encoding, in which a plus sign is a space")
	}
	text, err := f.unescape(field, value)
	if err != nil {
		return nil, err
	}
	return f.pem(field, text, false)
}

// unescape undoes percent-encoding, once and completely.
func (f *fields) unescape(field, value string) (string, error) {
	if strings.ContainsAny(value, " \t") {
		return "", f.halfDecoded(field, "white space where everything is percent-encoded")
	}
	text, ok := unescape(value)
	if !ok {
		return "", f.fault(field, "a percent sign without two hexadecimal digits")
	}
	if strings.IndexByte(text, '%') >= 0 {
		return "", f.halfDecoded(field, "percent-encoded twice")
	}
	return text, nil
}

// unescape decodes percent-encoding and nothing else: form decoding would turn the
// plus signs of base64 into spaces.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		var b [1]byte
		if _, err := hex.Decode(b[:], []byte(s[i+1:i+3])); err != nil {
			return "", false
		}
		out = append(out, b[0])
		i += 2
	}
	return string(out), true
}

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"
)

// pem splits PEM text. At least one certificate is returned, or an error. folded says
// that line ends may have become spaces.
func (f *fields) pem(field, text string, folded bool) ([][]byte, error) {
	var ders [][]byte
	for text = trimSpace(text); text != "" || ders == nil; text = trimSpace(text) {
		body, ok := strings.CutPrefix(text, pemBegin)
		if !ok {
			return nil, f.fault(field, "not PEM: no %s", strings.Trim(pemBegin, "-"))
		}
		body, text, ok = strings.Cut(body, pemEnd)
		if !ok {
			return nil, f.fault(field, "not PEM: no %s; the value may have been cut at a line end", strings.Trim(pemEnd, "-"))
		}
		if len(ders) == f.maxCerts {
			return nil, f.tooMany(field)
		}
		if !folded && strings.IndexByte(body, ' ') >= 0 {
			return nil, f.halfDecoded(field, "a space in base64, where a plus sign may have been")
		}
		joined, even := joinLines(body)
		if !even {
			return nil, f.halfDecoded(field, "lines of different lengths, so that some spaces may have been plus signs")
		}
		der, err := sfv.Base64(joined)
		if err != nil {
			return nil, f.fault(field, "not PEM: %s", faultOf(err))
		}
		ders = append(ders, der)
	}
	return ders, nil
}

// joinLines joins the lines of a PEM body. They are even if all but the last have the
// same length, and that is no shorter.
func joinLines(body string) (joined string, even bool) {
	var b strings.Builder
	b.Grow(len(body))
	width, last := 0, 0
	for line := range strings.FieldsFuncSeq(body, isSpace) {
		switch {
		case width == 0:
			width = len(line)
		case last != width || len(line) > width:
			return "", false
		}
		last = len(line)
		b.WriteString(line)
	}
	return b.String(), true
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }

func trimSpace(s string) string { return strings.TrimFunc(s, isSpace) }

func (f *fields) halfDecoded(field, fault string) *ParseError {
	return f.because(decision.SourceHalfDecoded, field, "%s", fault)
}
