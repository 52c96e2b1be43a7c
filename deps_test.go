package certbound_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/certbound/certbound"

// allowed says what each room may import, beside the standard library: rooms of ours
// and modules of others. A library that people take alone must stay light, so this
// table is not loosened to fix a build.
var allowed = map[string]struct{ ours, modules string }{
	".":                    {},
	"decision":             {},
	"certsource":           {ours: ". decision internal/sfv"},
	"pki/subject":          {ours: "decision internal/stringprep"},
	"pki":                  {ours: "decision pki/subject internal/stringprep"},
	"pki/revocation":       {ours: "decision pki pki/subject internal/stringprep", modules: "golang.org/x/crypto"},
	"clientauth":           {ours: ". decision certsource pki pki/subject internal/stringprep"},
	"clientauth/httpauth":  {ours: ". decision certsource pki pki/subject internal/stringprep clientauth"},
	"internal/memo":        {},
	"internal/metadata":    {},
	"internal/feed":        {},
	"internal/flight":      {},
	"internal/guard":       {},
	"internal/sfv":         {},
	"internal/stringprep":  {},
	"internal/jws":         {},
	"jwks":                 {ours: "internal/jws", modules: "github.com/go-jose/go-jose/v4"},
	"resourceserver":       {ours: ". decision certsource pki/subject internal/stringprep pki clientauth jwks internal/jws", modules: "github.com/go-jose/go-jose/v4"},
	"oauthclient":          {ours: ". jwks", modules: "golang.org/x/oauth2 github.com/go-jose/go-jose/v4"},
	"authserver/pages":     {},
	"authserver":           {ours: ". authserver/pages decision certsource pki pki/subject internal/stringprep clientauth jwks internal/jws", modules: "github.com/go-jose/go-jose/v4"},
	"authserver/memstore":  {ours: ". decision certsource pki pki/subject internal/stringprep clientauth jwks internal/jws authserver authserver/pages", modules: "github.com/go-jose/go-jose/v4"},
	"authserver/storetest": {ours: ". decision certsource pki pki/subject internal/stringprep clientauth jwks internal/jws authserver authserver/pages", modules: "github.com/go-jose/go-jose/v4"},
	"pkitest":              {modules: "golang.org/x/crypto"},
	"pkitest/negative":     {ours: "pkitest", modules: "golang.org/x/crypto"},
	"docs":                 {}, // tests only
	"internal/fixture":     {ours: "*", modules: "github.com/go-jose/go-jose/v4 golang.org/x/oauth2 golang.org/x/crypto"},
	"internal/conformance": {},
}

// Each package of the root module imports what the table allows, its tests only the
// modules that the root module needs anyway, and no library imports the server.
func TestDependencies(t *testing.T) {
	rooms := golist(t, "-f", "{{.ImportPath}}", "./...")
	for _, pkg := range rooms {
		room := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
		if room == "" {
			room = "."
		}
		rule, ok := allowed[room]
		if !ok {
			t.Errorf("%s: a room that the table does not have", room)
			continue
		}
		for _, dep := range golist(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}{{end}}", pkg) {
			path, mod, _ := strings.Cut(dep, " ")
			switch {
			case path == pkg:
			case mod == module:
				dep := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
				if dep == "" {
					dep = "."
				}
				if strings.HasPrefix(dep, "internal/") && dep != "internal/fixture" {
					continue // its own row says what it brings along
				}
				if rule.ours != "*" && !slices.Contains(strings.Fields(rule.ours), dep) {
					t.Errorf("%s must not import %s", room, dep)
				}
			case !slices.Contains(strings.Fields(rule.modules), mod):
				t.Errorf("%s must not import %s of %s", room, path, mod)
			}
		}
	}
	modules := []string{module, "github.com/go-jose/go-jose/v4", "golang.org/x/oauth2", "golang.org/x/crypto"}
	for _, dep := range golist(t, "-deps", "-test", "-f", "{{if not .Standard}}{{with .Module}}{{.Path}}{{end}}{{end}}", "./...") {
		if !slices.Contains(modules, dep) {
			t.Errorf("a test of the root module needs %s", dep)
		}
	}
}

func golist(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	lines := strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
	slices.Sort(lines)
	return slices.Compact(lines)
}
