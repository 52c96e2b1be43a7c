package decision_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/certbound/certbound/decision"
)

var update = flag.Bool("update", false, "write the golden files")

// docs/reasons.md is the table of reasons: what stands in a log has an entry there.
func TestReasonsPage(t *testing.T) {
	want := reasonsPage(t)
	path := filepath.Join("..", "docs", "reasons.md")
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code says; run: go test ./decision -update", path)
	}
	for _, r := range decision.Reasons() {
		if n := strings.Count(want, "\n| `"+string(r)+"` |"); n != 1 {
			t.Errorf("%s: %d rows, want 1", r, n)
		}
	}
}

const reasonsIntro = `# Why a request was refused

<!-- Generated from package decision: go test ./decision -update. Do not edit. -->

Each refusal has one reason from this list. It is ` + "`reason`" + ` in the log record of the request, the label ` + "`reason`" + ` of
the metrics, and ` + "`Reason`" + ` in Go. The log record has the fix beside it, and what was expected and found; often the code that made
the check has a more exact fix than the one here.

The client never reads the reason. It reads an OAuth error code, which is the same for many reasons: from the difference
a stranger would learn which clients exist. To find the record of a request that a client complains about, ask for the header
` + "`Certbound-Request-Id`" + ` of the answer; [operations.md](operations.md#from-a-complaint-to-the-cause) shows the way.
`

// reasonsPage takes the texts from the package, and the order and the headings from
// the comments in its source.
func reasonsPage(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(reasonsIntro)
	heading := "General"
	open := false
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != "Reason" {
			return true
		}
		if doc := spec.Doc.Text(); doc != "" {
			heading, open = strings.TrimSuffix(strings.TrimSpace(doc), "."), false
		}
		if !open {
			fmt.Fprintf(&b, "\n## %s\n\n| reason | it means | what to do |\n| --- | --- | --- |\n", heading)
			open = true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		r := decision.Reason(value)
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r, r.Summary(), r.Fix())
		return true
	})
	return b.String()
}
