package decision_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/certbound/certbound/decision"
)

func TestZeroDecisionRefuses(t *testing.T) {
	var d decision.Decision
	if d.Allowed {
		t.Error("the zero decision allows")
	}
	d.Allow()
	if d.Allowed {
		t.Error("allowed without a check")
	}
	if (decision.Check{}).Outcome != decision.Failed {
		t.Error("a check that was never decided has not failed")
	}
}

func TestAllow(t *testing.T) {
	tests := []struct {
		name  string
		build func(d *decision.Decision)
		want  bool
	}{
		{"passed", func(d *decision.Decision) { d.Pass(decision.CheckChain, "", "") }, true},
		{"passed and skipped", func(d *decision.Decision) {
			d.Pass(decision.CheckChain, "", "")
			d.Skip(decision.CheckRevocation, "", "")
		}, true},
		{"failed among passed", func(d *decision.Decision) {
			d.Pass(decision.CheckChain, "", "")
			d.Fail(decision.Check{Name: decision.CheckSubject, Reason: decision.SubjectMismatch})
			d.Pass(decision.CheckScope, "", "")
		}, false},
		{"failed after Allow", func(d *decision.Decision) {
			d.Pass(decision.CheckChain, "", "")
			d.Allow()
			d.Fail(decision.Check{Name: decision.CheckSubject})
		}, false},
		{"a failure that says it has passed", func(d *decision.Decision) {
			d.Fail(decision.Check{Name: decision.CheckSubject, Outcome: decision.Passed})
		}, false},
		{"a check without outcome", func(d *decision.Decision) {
			d.Checks = append(d.Checks, decision.Check{Name: decision.CheckChain})
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decision.New()
			tt.build(d)
			d.Allow()
			if d.Allowed != tt.want {
				t.Errorf("allowed: %v, want %v\n%s", d.Allowed, tt.want, d)
			}
		})
	}
}

func TestFailureIsTheFirst(t *testing.T) {
	d := decision.New()
	d.Pass(decision.CheckCertificate, "", "")
	d.Fail(decision.Check{Name: decision.CheckChain, Reason: decision.Expired})
	d.Fail(decision.Check{Name: decision.CheckSubject})
	c, ok := d.Failure()
	if !ok || c.Name != decision.CheckChain || d.Reason() != decision.Expired {
		t.Errorf("%+v %v, reason %s", c, ok, d.Reason())
	}
	if got := d.Checks[2].Reason; got != decision.Unspecified {
		t.Errorf("a failure without reason has %q", got)
	}
}

// Every constant of type Reason is in the table of texts, once, with both texts in the
// form that logs and documentation expect.
func TestEveryReasonHasTexts(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []decision.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Reason" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared = append(declared, decision.Reason(value))
		}
		return true
	})
	if len(declared) < 50 {
		t.Fatalf("only %d reasons found in the source", len(declared))
	}
	listed := make(map[decision.Reason]int)
	for _, r := range decision.Reasons() {
		listed[r]++
	}
	for _, r := range declared {
		if listed[r] != 1 {
			t.Errorf("%s: %d times in the table of texts", r, listed[r])
		}
		delete(listed, r)
		for _, text := range []string{r.Summary(), r.Fix()} {
			if text == "" || strings.HasSuffix(text, ".") || strings.ContainsAny(text, "\"\\\n") {
				t.Errorf("%s: text %q", r, text)
			}
		}
		if strings.Trim(string(r), "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
			t.Errorf("%s: not a metric label", r)
		}
	}
	for r := range listed {
		t.Errorf("%s: in the table of texts, but no constant", r)
	}
	unknown := decision.Reason("no such reason")
	if unknown.Summary() != decision.Unspecified.Summary() || unknown.Fix() != decision.Unspecified.Fix() {
		t.Error("an unknown reason has no text")
	}
}

func example() *decision.Decision {
	d := decision.New()
	d.ClientID, d.Method, d.Via, d.Peer = "client-1", "tls_client_auth", "tls", "127.0.0.1:4711"
	d.Pass(decision.CheckChain, "RFC 5280, Section 6", "partners")
	d.Skip(decision.CheckRevocation, "", "switched off")
	d.Fail(decision.Check{
		Name: decision.CheckSubject, Rule: "RFC 8705, Section 2.1.2", Reason: decision.SubjectMismatch,
		Expected: "CN=a", Found: "CN=b",
	})
	d.Warnings = append(d.Warnings, decision.Check{Name: decision.CheckSource, Reason: decision.SourceForeignHeader, Found: "X-Ssl-Cert"})
	d.Allow()
	return d
}

// A subject with a line feed must not write a line of its own.
func TestStringKeepsItsLines(t *testing.T) {
	d := decision.New()
	d.Fail(decision.Check{Name: decision.CheckSubject, Found: "CN=a\nallowed\x1b[2J"})
	if got := d.String(); strings.Contains(got, "\nallowed") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}

func TestLogValue(t *testing.T) {
	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("refused", "decision", example())
	var record struct{ Decision map[string]any }
	if err := json.Unmarshal(buf.Bytes(), &record); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"allowed": false, "client_id": "client-1", "method": "tls_client_auth", "via": "tls", "peer": "127.0.0.1:4711",
		"check": "subject", "reason": "subject_mismatch", "rule": "RFC 8705, Section 2.1.2",
		"expected": "CN=a", "found": "CN=b", "fix": decision.SubjectMismatch.Fix(),
		"warning": "source_foreign_header", "warning_found": "X-Ssl-Cert",
	} {
		if got := record.Decision[key]; got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
}

// What a log has of a decision is all of it: certbound explain reads it back.
func TestLogReadBack(t *testing.T) {
	want := example()
	var buf bytes.Buffer
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("refused", "decision", want)
	var record struct{ Decision decision.Decision }
	if err := json.Unmarshal(buf.Bytes(), &record); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&record.Decision, want) {
		t.Errorf("read back\n%s\nof\n%s", &record.Decision, want)
	}
	buf.Reset()
	slog.New(slog.NewTextHandler(&buf, nil)).Info("refused", "decision", want)
	if line := `decision.checks="chain passed found: partners; revocation skipped found: switched off; subject failed (subject_mismatch) expected: CN=a found: CN=b"`; !strings.Contains(buf.String(), line) {
		t.Errorf("no %s in %s", line, buf.String())
	}
}

func TestOutcomeText(t *testing.T) {
	for _, o := range []decision.Outcome{decision.Failed, decision.Passed, decision.Skipped} {
		text, _ := o.MarshalText()
		got := decision.Passed
		if err := got.UnmarshalText(text); err != nil || got != o {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	got := decision.Passed
	if err := got.UnmarshalText([]byte("perhaps")); err == nil || got != decision.Failed {
		t.Errorf("an unknown outcome: %s, %v", got, err)
	}
}

// A stranger presents a certificate with a subject of 8 kB and sends 3,000 header fields
// that look like those of proxies, again and again over one connection: each request of
// 150 bytes made a record of 100 kB. A decision is bounded, however it was filled.
func TestAttackLogFlood(t *testing.T) {
	d := decision.New()
	long := strings.Repeat("ü\x00", 8<<10)
	d.ClientID, d.Subject, d.Peer = long, long, long
	for range 3000 {
		d.Warnings = append(d.Warnings, decision.Check{Name: decision.CheckSource, Reason: decision.SourceForeignHeader, Found: long})
	}
	d.Fail(decision.Check{Name: decision.CheckSubject, Reason: decision.SubjectMismatch, Expected: long, Found: long, Fix: long})
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("refused", "decision", d)
	if b.Len() > 60<<10 || !utf8.ValidString(b.String()) || strings.Count(b.String(), "\n") != 1 || !strings.Contains(b.String(), "more_warnings=2992") {
		t.Errorf("a record of %d bytes: %.200s", b.Len(), b.String())
	}
}

func TestJSON(t *testing.T) {
	data, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Allowed bool
		Checks  []struct{ Check, Outcome, Reason string }
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := []struct{ Check, Outcome, Reason string }{
		{"chain", "passed", ""}, {"revocation", "skipped", ""}, {"subject", "failed", "subject_mismatch"},
	}
	if got.Allowed || fmt.Sprint(got.Checks) != fmt.Sprint(want) {
		t.Errorf("%+v, want %v", got, want)
	}
}

func ExampleDecision() {
	d := decision.New()
	d.Pass(decision.CheckChain, "RFC 5280, Section 6", "partners")
	d.Fail(decision.Check{
		Name: decision.CheckSubject, Rule: "RFC 8705, Section 2.1.2", Reason: decision.SubjectMismatch,
		Expected: "CN=a", Found: "CN=b",
	})
	d.Allow() // changes nothing: a check has failed
	fmt.Print(d)
	// Output:
	// refused
	//   passed chain (RFC 5280, Section 6)
	//     found: partners
	//   failed subject (RFC 8705, Section 2.1.2)
	//     reason: subject_mismatch
	//     expected: CN=a
	//     found: CN=b
	//     fix: correct the registered value, or issue the certificate with the registered subject
}

func BenchmarkAllowed(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		d := decision.New()
		d.Pass(decision.CheckCertificate, "RFC 8705, Section 2", "")
		d.Pass(decision.CheckChain, "RFC 8705, Section 2.1", "partners")
		d.Pass(decision.CheckSubject, "RFC 8705, Section 2.1.2", "CN=a")
		d.Allow()
		if !d.Allowed {
			b.Fatal(d)
		}
	}
}
