package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/certbound/certbound/server/config"
)

const repository = "../../.."

// readPages returns what is written for readers, by path.
func readPages(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/proxies/*.md"} {
		names, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			pages[name] = string(data)
		}
	}
	if len(pages) < 10 {
		t.Fatalf("only %d pages found", len(pages))
	}
	return pages
}

// fenced returns the blocks of a language.
func fenced(page, language string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

// What differs from run to run: ports, thumbprints, and the spaces that follow from them.
var varying = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`localhost:\d+`), "localhost:PORT"},
	{regexp.MustCompile(`token bound to [\w-]{8}…`), "token bound to THUMBPRINT…"},
	{regexp.MustCompile(`password [A-Z2-7]{16}`), "password PASSWORD"},
	{regexp.MustCompile(` {2,}`), "  "},
}

func normalise(text string) string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return strings.TrimSpace(text)
}

// The first thing that a visitor reads is what the program prints.
func TestReadmeShowsTheStory(t *testing.T) {
	page := readPages(t)[filepath.Join(repository, "README.md")]
	shown := fenced(page, "text")
	if len(shown) != 1 {
		t.Fatalf("README.md: expected one block of text, found %d", len(shown))
	}
	t.Chdir(t.TempDir())
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"dev", "--once", "--port", "0", "--mtls-port", "0", "--api-port", "0"}, nil, &stdout, &stderr)
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if got, want := normalise(shown[0]), normalise(stdout.String()); got != want {
		t.Errorf("README.md shows\n%s\n\nthe program prints\n%s", got, want)
	}
}

var command = regexp.MustCompile(`(?:^|[\s($|])certbound ([a-z](?:\\\n|[^|;&)>\n])*)`)

// Commands on a page exist, with the flags that stand there.
func TestDocumentedCommands(t *testing.T) {
	count := 0
	for name, page := range readPages(t) {
		texts := fenced(page, "sh")
		for _, m := range regexp.MustCompile("`(certbound [^`]+)`").FindAllStringSubmatch(page, -1) {
			texts = append(texts, m[1])
		}
		for _, text := range texts {
			for _, m := range command.FindAllStringSubmatch(text, -1) {
				line := strings.ReplaceAll(m[1], "\\\n", " ")
				count++
				root := newApp(nil, nil, nil).rootCommand()
				root.InitDefaultCompletionCmd()
				cmd, rest, err := root.Find(strings.Fields(strings.NewReplacer("'", "", `"`, "").Replace(line)))
				if err != nil || cmd == root {
					t.Errorf("%s: certbound %s: there is no such command", name, line)
					continue
				}
				for _, word := range rest {
					flag, ok := strings.CutPrefix(word, "--")
					if !ok {
						continue
					}
					flag, _, _ = strings.Cut(flag, "=")
					if cmd.Flags().Lookup(flag) == nil && !inherited(cmd.InheritedFlags(), flag) {
						t.Errorf("%s: certbound %s: there is no flag --%s", name, line, flag)
					}
				}
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d commands found", count)
	}
}

func inherited(flags *pflag.FlagSet, name string) bool { return flags.Lookup(name) != nil }

// A piece of configuration on a page has no key that does not exist. Others' YAML begins
// otherwise.
func TestDocumentedConfiguration(t *testing.T) {
	ours := regexp.MustCompile(`^(#.*\n)*(issuer|listen|store|trust|authentication|tokens|signing_keys|jwks_uri|profile|people|registration|self_probe|log|limits|clients):`)
	count := 0
	for name, page := range readPages(t) {
		for _, block := range fenced(page, "yaml") {
			if !ours.MatchString(block) {
				continue
			}
			count++
			file := filepath.Join(t.TempDir(), "certbound.yaml")
			if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := loadChecked(file, strings.HasPrefix(block, "# gateway.yaml\n"))
			e, ok := errors.AsType[*config.Error](err)
			if !ok {
				continue // a whole file, without fault
			}
			for _, f := range e.Faults {
				if f.Text == "unknown key" {
					t.Errorf("%s: %s: unknown key", name, f.Path)
				}
			}
		}
	}
	if count == 0 {
		t.Error("no configuration found")
	}
}
