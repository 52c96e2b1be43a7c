package explain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseCapture(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // fields as name=value, or the line of the error
		host, id   string
	}{
		{"head", "POST /token HTTP/1.1\r\nHost: as.test\r\nX-Cert: abc\r\n\r\n", "Host=as.test X-Cert=abc", "as.test", ""},
		{"only lines", "X-Cert: abc\nx_cert:def", "X-Cert=abc x_cert=def", "", ""},
		{"comments", "# preset: nginx\n\nGET / HTTP/2\nX-Cert: a", "X-Cert=a", "", ""},
		{"body", "POST /token HTTP/1.1\nHost: h\n\ngrant_type=client_credentials&client_id=billing", "Host=h", "h", "billing"},
		{"a body with two", "POST /token HTTP/1.1\nHost: h\n\nclient_id=a&client_id=b", "Host=h", "h", ""},
		{"a body of JSON", "POST /token HTTP/1.1\nHost: h\n\n{\"client_id\":\"a\"}", "Host=h", "h", ""},
		{"curl -v", "* Connected\n> POST /token HTTP/2\n> Host: as.test\n> Client-Cert: :MII=:\n>\n< HTTP/2 400\n< date: x\n", "Host=as.test Client-Cert=:MII=:", "as.test", ""},
		{"HTTP/2", ":method: POST\n:authority: as.test\nx-cert: a", "x-cert=a", "as.test", ""},
		{"folded", "X-Cert: -----BEGIN\n\tabc\n\tdef\nX-B: c", "X-Cert=-----BEGIN\n\tabc\n\tdef X-B=c", "", ""},
		{"raw PEM", "X-Cert: -----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\nX-B: c", "X-Cert=-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE----- X-B=c", "", ""},
		{"JSON", `{"headers":{"Host":"h","x-cert":["a","b"]}}`, "Host=h x-cert=a x-cert=b", "h", ""},
		{"JSON without headers", `{"X-Cert":"a"}`, "X-Cert=a", "", ""},
		{"spaces around", "X-Cert :  a \t", "X-Cert=a", "", ""},

		{"nothing", "", "0", "", ""},
		{"a request without fields", "GET / HTTP/1.1\n\n", "0", "", ""},
		{"prose", "X-A: b\nthis is no header", "2", "", ""},
		{"a name with a space", "X A: b", "1", "", ""},
		{"JSON that ends", `{"a":`, "0", "", ""},
		{"JSON with a number", `{"a":1}`, "0", "", ""},
		{"JSON with a bad name", `{"a b":"c"}`, "0", "", ""},
		{"too many", strings.Repeat("X-A: b\n", 1001), "1001", "", ""},
		{"too large", strings.Repeat("a", maxCapture+1), "0", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseCapture([]byte(tt.text))
			if err != nil {
				e, ok := errors.AsType[*CaptureError](err)
				if !ok || fmt.Sprint(e.Line) != tt.want || c != nil {
					t.Errorf("%v, want line %s", err, tt.want)
				}
				return
			}
			var got []string
			for _, f := range c.Fields {
				got = append(got, f.Name+"="+f.Value)
			}
			if strings.Join(got, " ") != tt.want || c.Host != tt.host || c.ClientID != tt.id {
				t.Errorf("%q, host %q, client %q", got, c.Host, c.ClientID)
			}
		})
	}
}

// FuzzCapture: no panic, nothing beside an error, only the declared error; what is read
// can be explained.
func FuzzCapture(f *testing.F) {
	files, _ := filepath.Glob("../../certsource/testdata/recordings/*/*.http")
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil {
			f.Add(data)
		}
	}
	f.Add([]byte(`{"headers":{"Client-Cert":":MII=:"}}`))
	f.Add([]byte("> GET / HTTP/2\n> client-cert: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCapture(data)
		if err != nil {
			if _, ok := errors.AsType[*CaptureError](err); !ok || c != nil {
				t.Errorf("%v beside %v", err, c)
			}
			return
		}
		r, err := Explain(t.Context(), Input{Capture: c})
		if err != nil || r == nil || len(r.Decision.Checks) == 0 {
			t.Errorf("%+v %v", r, err)
		}
	})
}
