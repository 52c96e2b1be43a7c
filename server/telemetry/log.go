package telemetry

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// Formats of the log.
const (
	FormatAuto = "auto" // text on a terminal, JSON otherwise
	FormatText = "text"
	FormatJSON = "json"
)

// NewLogger returns a logger that writes to w. level is debug, info, warn or error; an
// empty format is auto, an empty level info.
//
// Lengths of time are texts with units, such as "1.5s", in both formats; those that are to
// be added up and compared are numbers of milliseconds, under names that end in _ms.
//
// The parts log no secret, token or key. As a second fence, the logger strikes out what
// looks like one, and whatever stands under a name such as client_secret.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	least := slog.LevelInfo
	if level != "" {
		if err := least.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("telemetry: log level: expected debug, info, warn or error, found %q", level)
		}
	}
	if format == "" || format == FormatAuto {
		format = FormatJSON
		if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
			format = FormatText
		}
	}
	options := &slog.HandlerOptions{Level: least, ReplaceAttr: redactAttr}
	switch format {
	case FormatText:
		return slog.New(slog.NewTextHandler(w, options)), nil
	case FormatJSON:
		return slog.New(newJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("telemetry: log format: expected auto, text or json, found %q", format)
}

// Redacted stands in place of what was struck out.
const Redacted = "[redacted]"

// secretNames are names of attributes whose value is never written. They are compared
// without case, hyphens and underscores.
var secretNames = map[string]bool{
	"authorization": true, "proxyauthorization": true, "cookie": true, "setcookie": true,
	"clientsecret": true, "clientsecrethash": true, "secret": true, "secrethash": true, "password": true, "passphrase": true,
	"accesstoken": true, "refreshtoken": true, "idtoken": true, "token": true, "bearer": true, "subjecttoken": true, "actortoken": true,
	"clientassertion": true, "assertion": true, "code": true, "codeverifier": true, "dpop": true,
	"privatekey": true, "pkcs8": true, "pem": true,
}

// secretName reports whether the value under a name is never written.
func secretName(name string) bool {
	var buf [64]byte
	squeezed := buf[:0]
	for i := range len(name) {
		c := name[i]
		if c >= utf8.RuneSelf || len(squeezed) == len(buf) {
			return secretNames[strings.ToLower(squeeze.Replace(name))]
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != '-' && c != '_' && c != '.' {
			squeezed = append(squeezed, c)
		}
	}
	return secretNames[string(squeezed)]
}

var squeeze = strings.NewReplacer("-", "", "_", "", ".", "")

func redactAttr(_ []string, a slog.Attr) slog.Attr {
	if secretName(a.Key) {
		if a.Value.Kind() == slog.KindString && a.Value.String() == "" {
			return a
		}
		a.Value = slog.StringValue(Redacted)
		return a
	}
	switch a.Value.Kind() {
	case slog.KindDuration:
		// JSON would have it as a number of nanoseconds, and text would not.
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindString:
		if s := a.Value.String(); suspicious(s) {
			a.Value = slog.StringValue(Redact(s))
		}
	case slog.KindAny:
		if s, ok := textOf(a.Value.Any()); ok && suspicious(s) {
			if struck := Redact(s); struck != s {
				a.Value = slog.StringValue(struck)
			}
		}
	}
	return a
}

// textOf returns the text that a value is going to be in the log.
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case error:
		return v.Error(), true
	case fmt.Stringer:
		return v.String(), true
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		return string(b), err == nil
	case []byte:
		return string(v), true
	case *slog.Source, nil:
		return "", false
	}
	b, err := json.Marshal(v)
	return string(b), err == nil
}

// suspicious says quickly that there is nothing to strike out, as nearly always.
func suspicious(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !telling[c] {
			continue
		}
		before := s[:i]
		switch c {
		case 'J': // a JWT
			if strings.HasSuffix(before, "ey") {
				return true
			}
		case '_': // cbt_, cbp_
			if strings.HasSuffix(before, "cbt") || strings.HasSuffix(before, "cbp") {
				return true
			}
		case ' ':
			if endsIn(before, "earer") || endsIn(before, "asic") || endsIn(before, "dpop") || endsIn(before, "private") {
				return true
			}
		case '=':
			if endsIn(before, "ecret") || endsIn(before, "ssertion") || endsIn(before, "oken") || endsIn(before, "verifier") {
				return true
			}
		case '"': // the end of a name in a private JWK
			if strings.HasSuffix(before, `"d`) || strings.HasSuffix(before, `"p`) || strings.HasSuffix(before, `"q`) || strings.HasSuffix(before, `"k`) ||
				strings.HasSuffix(before, `"dp`) || strings.HasSuffix(before, `"dq`) || strings.HasSuffix(before, `"qi`) {
				return true
			}
		case ':':
			if strings.HasPrefix(s[i:], "://") {
				return true
			}
		}
	}
	return false
}

// endsIn reports whether s ends in a text of small letters, in whatever case.
func endsIn(s, text string) bool {
	return len(s) >= len(text) && strings.EqualFold(s[len(s)-len(text):], text)
}

// telling are the bytes that suspicious looks around.
var telling = [256]bool{'J': true, '_': true, ' ': true, '=': true, '"': true, ':': true}

var secrets = []struct {
	pattern *regexp.Regexp
	with    string
}{
	// A private key, whole or cut off.
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`), Redacted},
	// JWTs: access tokens and assertions.
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){1,4}`), Redacted},
	// Our opaque tokens and probe credentials.
	{regexp.MustCompile(`\b(cbt|cbp)_[A-Za-z0-9_-]{8,}`), "${1}_" + Redacted},
	// The Authorization field.
	{regexp.MustCompile(`(?i)\b(bearer|basic|dpop) +[A-Za-z0-9._~+/-]{8,}=*`), "$1 " + Redacted},
	// Forms and queries.
	{regexp.MustCompile(`(?i)\b(client_secret|client_assertion|access_token|refresh_token|subject_token|token|code_verifier)=[^&\s"]+`), "$1=" + Redacted},
	// A private JWK.
	{regexp.MustCompile(`"(d|p|q|dp|dq|qi|k)"\s*:\s*"[A-Za-z0-9_-]{8,}"`), `"$1":"` + Redacted + `"`},
	// Credentials in a URL.
	{regexp.MustCompile(`://[^/\s:@]*:[^/\s@]+@`), "://" + Redacted + "@"},
}

// Redact strikes out what looks like a token, a secret or a private key.
func Redact(s string) string {
	for _, x := range secrets {
		s = x.pattern.ReplaceAllString(s, x.with)
	}
	return s
}
