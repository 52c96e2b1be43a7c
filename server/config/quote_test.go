package config

import (
	"testing"
	"unicode/utf8"

	yaml "github.com/goccy/go-yaml"
)

// CVE-2025-1097 (ingress-nginx). A tenant's text was written into a configuration as it
// stood, and could close its value and add settings. What 'config check' prints can
// be kept as a file, with names of clients in it: whatever they hold, each reads back as
// one value, which is the text.
func FuzzAttackTextInConfig(f *testing.F) {
	f.Attr("attack", "21")
	f.Add("billing")
	for _, seed := range []string{
		"", " ", "a\nlisten: {public: {insecure_plain_http: true}}", "a: b", "a #b", "#", "- a", "]", "}", ", b", "a, b", "[a", "{a", "*a", "&a", "!a", "|", ">",
		"'", `"`, `\`, `a\nb`, "%", "@", "`", "?", "? a", ": a", "a:", "~", "null", "true", "NO", "1", "1e3", "0x1", "1_000", ".5", "=", "---", "...", "<<",
		"\t", "a\tb", "\r", "\x00", "\x7f", "\u0085", "\u2028", "\ufeff", "é", "\U0001f600", "2001-01-01", "1:30", ".inf", ".NaN", "0o7", "+1", "env:X", "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return // YAML is UTF-8
		}
		quoted := quoteIfNeeded(s)
		var doc struct {
			Name   any
			List   []any
			Nested struct{ Name any }
			Next   any
		}
		text := "name: " + quoted + "\nlist: [x, " + quoted + ", y]\nnested:\n  name: " + quoted + "\nnext: end\n"
		if err := yaml.UnmarshalWithOptions([]byte(text), &doc, yaml.Strict()); err != nil {
			t.Fatalf("%q is written as %s, which YAML refuses: %v", s, quoted, err)
		}
		if doc.Name != s || doc.Nested.Name != s || doc.Next != "end" || len(doc.List) != 3 || doc.List[1] != s {
			t.Errorf("%q is written as %s and reads back as %#v", s, quoted, doc)
		}
	})
}
