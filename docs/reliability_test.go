package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each row of reliability.md names the test that produces its fault, and that test exists.
func TestReliabilityNamesTests(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		tests.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`Test[A-Z]\w+`)
	last := ""
	for line := range strings.Lines(read(t, filepath.Join(root, "docs", "reliability.md"))) {
		header := strings.HasPrefix(line, "|---")
		if !strings.HasPrefix(line, "|") || header || !strings.HasPrefix(last, "|") {
			last = line
			continue
		}
		last = line
		found := name.FindAllString(line, -1)
		if len(found) == 0 && !strings.HasSuffix(strings.TrimSpace(line), "| the same |") {
			t.Errorf("no test in the row: %s", line)
		}
		for _, test := range found {
			if !strings.Contains(tests.String(), "func "+test+"(t ") {
				t.Errorf("there is no %s", test)
			}
		}
	}
}
