package explain

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every recording of a hop is known for what it is: the preset that recorded it is among
// the best. They may be several, since some hops send the same.
func TestDetectRecordings(t *testing.T) {
	files, err := filepath.Glob("../../certsource/testdata/recordings/*/*.http")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		preset := filepath.Base(filepath.Dir(file))
		t.Run(preset+"/"+filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ParseCapture(data)
			if err != nil {
				t.Fatal(err)
			}
			found := Detect(t.Context(), c)
			expect := ""
			for line := range strings.Lines(string(data)) {
				if rest, ok := strings.CutPrefix(line, "# expect: "); ok {
					expect = strings.TrimSpace(rest)
				}
			}
			// How many elements there are is how many hops there can be.
			if hops := map[string]int{"hash.http": 1, "gateway-and-sidecar.http": 2}[filepath.Base(file)]; hops > 0 && found[0].Hops != hops {
				t.Errorf("%d hops, want %d", found[0].Hops, hops)
			}
			var names, all []string
			for _, cand := range found {
				all = append(all, cand.Preset)
				if cand.Fit == found[0].Fit {
					names = append(names, cand.Preset)
				}
			}
			switch {
			case expect == "none":
				// Most hops send nothing at all, or what others say too.
				if len(found) > 0 && (found[0].Fit != None || !slices.Contains(names, preset)) {
					t.Errorf("no certificate, but found %+v", found)
				}
			case strings.HasSuffix(file, "documented-ssl-client-cert.http"):
				if len(found) != 1 || !strings.Contains(found[0].Note, "$ssl_client_escaped_cert") {
					t.Errorf("nginx's deprecated variable: %+v", found)
				}
			case strings.HasPrefix(expect, "refused source_verification_missing"):
				if i := slices.Index(all, preset); i < 0 || found[i].Fit != Lacks || found[i].Missing == "" {
					t.Errorf("expected %s to lack a field, found %+v", preset, found)
				}
			case !slices.Contains(names, preset):
				t.Errorf("%s: expected %s among the best, found %v", expect, preset, names)
			}
		})
	}
}
