package certsource_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// A recording is a request of a proxy (testdata/recordings/README.md).
type recording struct {
	notes  map[string]string
	header http.Header
}

func readRecording(t *testing.T, name string) recording {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rec := recording{notes: make(map[string]string)}
	for bytes.HasPrefix(data, []byte("#")) {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		key, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(string(line), "#")), ":")
		if !ok {
			t.Fatalf("%s: a note without a colon: %s", name, line)
		}
		rec.notes[key], data = strings.TrimSpace(value), rest
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(bytes.TrimRight(data, "\r\n"), "\r\n\r\n"...))))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	rec.header = r.Header
	return rec
}

// Every recorded request is read as it was when the proxy sent it; from a stranger it is
// an attack.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("testdata/recordings/*/*.http")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings (%v)", err)
	}
	have := make(map[string]string) // preset → origin
	for _, name := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(name, "testdata/recordings/"), ".http"), func(t *testing.T) {
			rec := readRecording(t, name)
			folder := filepath.Base(filepath.Dir(name))
			for key, value := range rec.notes {
				switch key {
				case "preset":
					if value != folder {
						t.Errorf("preset %q in the folder %s", value, folder)
					}
				case "origin":
					if value != "recorded" && value != "documented" {
						t.Errorf("origin %q", value)
					}
				case "version", "config", "expect", "field", "chain_field", "verify_field", "trusted_hops":
				default:
					t.Errorf("a note %q that nobody reads", key)
				}
			}
			if rec.notes["version"] == "" || rec.notes["preset"] == "" {
				t.Error("the preset or the version is missing")
			}
			if have[folder] != "recorded" {
				have[folder] = rec.notes["origin"]
			}
			src := preset(t, folder, func(c *certsource.PresetConfig) {
				for key, field := range map[string]*string{"field": &c.Field, "chain_field": &c.ChainField, "verify_field": &c.VerifyField} {
					if v, ok := rec.notes[key]; ok {
						*field = v
					}
				}
				if v, ok := rec.notes["trusted_hops"]; ok {
					if c.TrustedHops, err = strconv.Atoi(v); err != nil {
						t.Fatal(err)
					}
				}
			})
			for range 2 { // from the fields, and from memory
				got, err := src.Certificate(from(t, proxy, rec.header))
				outcome := fmt.Sprintf("x5t#S256=%s, chain=%d", got.Thumbprint(), len(got.Chain()))
				switch reason(err) {
				case "":
				case decision.NoCertificate:
					outcome = "none"
				default:
					outcome = "refused " + string(reason(err))
				}
				if outcome != rec.notes["expect"] {
					t.Errorf("%s (%v), want %s", outcome, err, rec.notes["expect"])
				}
			}
			got, err := src.Certificate(from(t, stranger, rec.header))
			if want := rec.notes["expect"]; got != nil || (reason(err) != decision.SourceUntrusted && want != "none") {
				t.Errorf("from a stranger: %v (%v)", got.Thumbprint(), err)
			}
			if len(certsource.Foreign(from(t, proxy, rec.header), certsource.Describe(src).Fields...)) > 0 {
				t.Errorf("fields of this hop are reported as foreign: %q", certsource.Foreign(from(t, proxy, rec.header), certsource.Describe(src).Fields...))
			}
		})
	}
	// The table of docs/proxies says which presets were run.
	for _, p := range certsource.Presets() {
		if p.Most == certsource.KindAttributes {
			continue
		}
		origin, ok := have[p.Name]
		if !ok {
			t.Errorf("%s has no recording", p.Name)
		} else if p.Run != (origin == "recorded") {
			t.Errorf("%s: the table says run: %v, its recordings are %s", p.Name, p.Run, origin)
		}
		delete(have, p.Name)
	}
	for folder := range have {
		if !slices.ContainsFunc(certsource.Presets(), func(p certsource.Preset) bool { return p.Name == folder }) {
			t.Errorf("recordings of %s, which is no preset", folder)
		}
	}
}
