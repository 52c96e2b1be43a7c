// Package docs_test holds the documentation to the code: what it shows compiles, what it
// lists is all there is, and where it points there is something.
package docs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth/httpauth"
	"github.com/certbound/certbound/oauthclient"
	"github.com/certbound/certbound/resourceserver"
)

const root = ".."

// pages returns the pages that are written for readers. The copies of specifications in
// docs/spec are not.
func pages(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/proxies/*.md", "bench/*.md", "examples/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	if len(out) < 5 {
		t.Fatalf("only %d pages found", len(out))
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// blocks returns the fenced blocks of a language.
func blocks(page, language string) []string {
	var out []string
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] != "```"+language {
			continue
		}
		start := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		out = append(out, strings.Join(lines[start:i], "\n"))
	}
	return out
}

// Go code on a page stands line for line in an Example or a test, where the compiler sees it.
func TestGoCodeIsCompiled(t *testing.T) {
	var sources []string
	for _, dir := range []string{".", "authserver", "authserver/memstore", "certsource", "clientauth/httpauth", "oauthclient", "pki", "pkitest/negative", "resourceserver", "resourceserver/grpcresource"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			sources = append(sources, flat(read(t, f)))
		}
	}
	count := 0
	for _, page := range pages(t) {
		for _, block := range blocks(read(t, page), "go") {
			count++
			if strings.Contains(block, "\npackage main\n") && strings.HasSuffix(page, "grpc.md") {
				continue // a whole program: server/test/e2e builds and runs it
			}
			if !slices.ContainsFunc(sources, func(s string) bool { return strings.Contains(s, flat(block)) }) {
				t.Errorf("%s: not in any Example; put the code there and copy it from there:\n%s", page, block)
			}
		}
	}
	if count < 5 {
		t.Errorf("only %d blocks found", count)
	}
}

// flat leaves out the indentation, which is another on the page.
func flat(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

var (
	link  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	fence = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]*`")
)

func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if filepath.Base(target) == "conformance.md" {
				continue // written from the outcome of the tests, this one included
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s, which does not exist", page, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s: link to %s: no such heading; there are %q", page, m[1], anchors(read(t, target)))
			}
		}
	}
}

// anchors are the headings as a forge names them.
func anchors(page string) []string {
	var out []string
	fenced := false
	for line := range strings.SplitSeq(page, "\n") {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		title := strings.TrimLeft(line, "#")
		if fenced || title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		out = append(out, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title)))
	}
	return out
}

// A table of settings has every setting, and no setting that does not exist.
func TestSettingsAreDocumented(t *testing.T) {
	for _, tt := range []struct {
		page string
		of   any
		tag  string // json: the page names members, not fields
	}{
		{"authorization-server.md", authserver.Config{}, ""},
		{"authorization-server.md", authserver.MTLSFeature{}, ""},
		{"authorization-server.md", authserver.KeyRotation{}, ""},
		{"authorization-server.md", authserver.HookQuestion{}, ""},
		{"authorization-server.md", authserver.Client{}, "json"},
		{"middleware.md", httpauth.Config{}, ""},
		{"middleware.md", httpauth.Client{}, ""},
		{"middleware.md", httpauth.Refusal{}, ""},
		{"middleware.md", resourceserver.Config{}, ""},
		{"middleware.md", resourceserver.Keys{}, ""},
		{"middleware.md", resourceserver.Introspection{}, ""},
		{"middleware.md", resourceserver.RevocationFeed{}, ""},
		{"middleware.md", resourceserver.Token{}, ""},
		{"middleware.md", certsource.Hop{}, ""},
		{"middleware.md", certsource.PresetConfig{}, ""},
		{"client.md", oauthclient.Config{}, ""},
		{"client.md", oauthclient.Error{}, ""},
	} {
		page := read(t, tt.page)
		typ := reflect.TypeOf(tt.of)
		for f := range typ.Fields() {
			name := f.Name
			if tt.tag != "" {
				name, _, _ = strings.Cut(f.Tag.Get(tt.tag), ",")
			}
			if !f.IsExported() || name == "-" {
				continue
			}
			if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "."+name+"`") {
				t.Errorf("%s says nothing of %s of %s", tt.page, name, typ)
			}
		}
	}
}

// The presets that the page lists are those of the code.
func TestPresetsAreDocumented(t *testing.T) {
	page := read(t, "middleware.md")
	for _, p := range certsource.Presets() {
		if !strings.Contains(page, "`"+p.Name+"`") {
			t.Errorf("middleware.md does not name the preset %s", p.Name)
		}
	}
}
