package certsource_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certbound/certbound/certsource"
)

var update = flag.Bool("update", false, "write golden files")

const proxyDocs = "../docs/proxies"

// The table of docs/proxies/README.md is made of the presets.
func TestPresetTable(t *testing.T) {
	const begin, end = "<!-- presets: written by go test ./certsource -run TestPresetTable -update -->\n", "<!-- end -->"
	name := filepath.Join(proxyDocs, "README.md")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", name)
	}
	want := before + begin + presetTable() + end + after
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(data) != want {
		t.Errorf("the table of %s is not that of the presets; run this test with -update and read the difference", name)
	}
}

func presetTable() string {
	var b strings.Builder
	b.WriteString("| hop | preset | certificate in | how it is written | chain | demanded beside it | tested |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	code := func(names ...string) string {
		var out []string
		for _, n := range names {
			if n != "" {
				out = append(out, "`"+n+"`")
			}
		}
		return strings.Join(out, ", ")
	}
	for _, p := range certsource.Presets() {
		field := code(p.Field)
		if field == "" {
			field = "as configured"
		}
		chain := p.Chain
		if p.ChainField != "" {
			n := p.ChainField
			if strings.HasSuffix(n, "-") {
				n += "0…"
			}
			chain += ": " + code(n)
		}
		demanded := code(append([]string{p.VerifyField}, p.Flags...)...)
		if demanded == "" {
			demanded = "nothing"
		} else {
			demanded += ": " + p.Values
		}
		if p.NeverVerifies {
			demanded += "; it verifies nothing"
		}
		tested := "documented, not run"
		if p.Run {
			tested = "run in the tests"
		}
		if p.Field == "" {
			tested = "unit tests"
		}
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s | %s | %s | %s | %s |\n", p.Title, p.Config, code(p.Name), field, p.Form, chain, demanded, tested)
	}
	return b.String()
}

// The file that a preset names is there, and speaks of the preset.
func TestPresetFiles(t *testing.T) {
	for _, p := range certsource.Presets() {
		data, err := os.ReadFile(filepath.Join(proxyDocs, p.Config))
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		if !strings.Contains(string(data), p.Name) {
			t.Errorf("%s does not name the preset %s", p.Config, p.Name)
		}
	}
}
