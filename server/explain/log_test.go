package explain

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/certbound/certbound/decision"
)

func refusal() *decision.Decision {
	d := decision.New()
	d.ClientID, d.Method, d.Thumbprint, d.Subject, d.Via, d.Peer = "billing", "tls_client_auth", strings.Repeat("A", 43), "CN=mallory,O=Agora", "nginx", "192.0.2.1:4711"
	d.Pass(decision.CheckChain, "RFC 8705, Section 2.1", "clients")
	d.Fail(decision.Check{Name: decision.CheckSubject, Rule: "RFC 8705, Section 2.1.2", Reason: decision.SubjectMismatch, Expected: "CN=billing,O=Agora", Found: `"CN=mallory,O=Agora" (they differ in CN)`})
	d.Warnings = append(d.Warnings, decision.Check{Name: decision.CheckSource, Reason: decision.SourceForeignHeader, Found: "Client-Cert"})
	return d
}

// record writes a refusal as the server does.
func record(w io.Writer, text bool, id string) {
	var h slog.Handler = slog.NewJSONHandler(w, nil)
	if text {
		h = slog.NewTextHandler(w, nil)
	}
	slog.New(h).Warn("request refused", slog.String("request_id", id), slog.String("endpoint", "token"), slog.Int("status", 401),
		slog.String("error", "invalid_client"), slog.Any("decision", refusal()))
}

func TestFindRecord(t *testing.T) {
	var log bytes.Buffer
	log.WriteString("starting\n{\"msg\":\"serving\"}\n{broken 00000000000000aa\n" + strings.Repeat("x", maxLine+10) + " 00000000000000aa\n")
	record(&log, false, "00000000000000aa")
	log.WriteString("2026-11-24T08:00:00 node-1 certbound: ")
	record(&log, false, "00000000000000bb")
	record(&log, true, "00000000000000cc")
	log.WriteString("request_id=00000000000000dd nothing else\n")
	for _, tt := range []struct {
		id   string
		want *decision.Decision
		err  error
	}{
		{"00000000000000aa", refusal(), nil},
		{"00000000000000bb", refusal(), nil},
		{"00000000000000cc", nil, nil},
		{"00000000000000dd", nil, ErrNoRecord},
		{"00000000000000ee", nil, ErrNoRecord},
		{"", nil, ErrNoRecord},
	} {
		t.Run(tt.id, func(t *testing.T) {
			got, err := FindRecord(bytes.NewReader(log.Bytes()), tt.id)
			if !errors.Is(err, tt.err) || (err != nil) != (got == nil) {
				t.Fatalf("%+v %v", got, err)
			}
			if err != nil {
				return
			}
			if got.ID != tt.id || got.Status != 401 || got.Error != "invalid_client" || got.Endpoint != "token" || got.Time.IsZero() {
				t.Errorf("%+v", got)
			}
			if tt.want != nil && !reflect.DeepEqual(got.Decision, tt.want) {
				t.Errorf("%s\nwant\n%s", got.Decision, tt.want)
			}
			// As text, the check that failed is there, and a word about the others.
			if c, ok := got.Decision.Failure(); !ok || c.Reason != decision.SubjectMismatch || c.Expected != "CN=billing,O=Agora" || tt.want == nil && len(got.Notes) == 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

type brokenReader struct{}

var errBroken = errors.New("broken")

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestFindRecordReadError(t *testing.T) {
	if got, err := FindRecord(brokenReader{}, "x"); !errors.Is(err, errBroken) || got != nil {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzRecord(f *testing.F) {
	var log bytes.Buffer
	record(&log, false, "00000000000000aa")
	f.Add(log.String())
	log.Reset()
	record(&log, true, "00000000000000aa")
	f.Add(log.String())
	f.Add(`request_id="00000000000000aa decision.allowed=`)
	f.Fuzz(func(t *testing.T, line string) {
		rec, err := FindRecord(strings.NewReader(line), "00000000000000aa")
		if (err == nil) != (rec != nil) {
			t.Fatalf("%v beside %v", rec, err)
		}
		if rec == nil {
			return
		}
		if rec.Decision == nil || rec.Decision.Allowed {
			t.Errorf("%+v", rec)
		}
		if _, err := Explain(t.Context(), Input{Record: rec}); err != nil {
			t.Error(err)
		}
	})
}
