package docs_test

import (
	"strings"
	"testing"
)

// The policies of the two servers are set each on its own: both settings have a place
// in the documentation, with every value.
func TestBothPoliciesAreDocumented(t *testing.T) {
	t.Attr("requirement", "M-3-17")
	for page, words := range map[string][]string{
		"authorization-server.md": {"`Binding`", "`on-request`", "`always-if-certificate`", "`never`", "`AllowUnboundFallback`"},
		"configuration.md":        {"`binding`", "`on-request`", "`always-if-certificate`", "`never`", "`allow_unbound_fallback`"},
		"middleware.md":           {"`Binding`", "`Required`", "`WhenPresent`"},
	} {
		text := read(t, page)
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s does not name %s", page, w)
			}
		}
	}
}

// The copy of the requirements says what was looked at for errata and updates.
func TestErrataWereLookedFor(t *testing.T) {
	t.Attr("requirement", "M-7.2-2")
	_, sources, ok := strings.Cut(read(t, "spec/requirements.md"), "### 31.3 ")
	for _, row := range []string{"| errata of RFC 8705 |", "| update of RFC 8705 |"} {
		if !ok || !strings.Contains(sources, row) {
			t.Errorf("Section 31.3 has no row %q", row)
		}
	}
}
