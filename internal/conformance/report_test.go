package main

import (
	"io"
	"os"
	"strings"
	"testing"
)

const events = `{"Action":"attr","Package":"github.com/certbound/certbound/pki","Test":"TestA/https://127.0.0.1:4711/x","Key":"requirement","Value":"M-2-1 M-2-2"}
{"Action":"output","Package":"github.com/certbound/certbound/pki","Test":"TestA/https://127.0.0.1:4711/x","Output":"noise\n"}
{"Action":"pass","Package":"github.com/certbound/certbound/pki","Test":"TestA/https://127.0.0.1:4711/x"}
{"Action":"attr","Package":"github.com/certbound/certbound","Test":"TestB","Key":"attack","Value":"1"}
{"Action":"output","Package":"github.com/certbound/certbound","Test":"TestB","Output":"why it failed\n"}
{"Action":"fail","Package":"github.com/certbound/certbound","Test":"TestB"}
{"Action":"output","Package":"github.com/certbound/certbound/pki","Output":"ok  \tgithub.com/certbound/certbound/pki\t0.1s\n"}
{"Action":"fail","Package":"github.com/certbound/certbound"}
`

func TestReadRun(t *testing.T) {
	var printed strings.Builder
	res, err := readRun(strings.NewReader(events), &printed)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := printed.String(), "why it failed\nok  \tgithub.com/certbound/certbound/pki\t0.1s\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if res.passed != 1 || res.failed != 1 || len(res.failedPackages) != 1 {
		t.Errorf("passed %d, failed %d, packages %v", res.passed, res.failed, res.failedPackages)
	}
	var table strings.Builder
	err = res.write(&table,
		[]row{{"M-2-1", "one"}, {"M-2-2", "two"}, {"M-2-3", "three"}},
		[]row{{"attack 1", "some"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 of 3 rows have a passing test",
		"| M-2-1 | one | `pki` TestA/https://127.0.0.1:PORT/x | pass |",
		"| M-2-3 | three |  | no test |",
		"| 1 | some | `certbound` TestB | fail |",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, table.String())
		}
	}
}

func TestUnknownRow(t *testing.T) {
	res, err := readRun(strings.NewReader(events), new(strings.Builder))
	if err != nil {
		t.Fatal(err)
	}
	if err := res.write(new(strings.Builder), []row{{"M-2-1", "one"}}, nil); err == nil {
		t.Error("a test that names a row that does not exist was taken")
	}
}

// The documents that the table rests on parse whole.
func TestRows(t *testing.T) {
	for name, tt := range map[string]struct {
		parse func() ([]row, error)
		want  int
	}{
		"requirements": {func() ([]row, error) { return open(t, "requirements.md", requirementRows) }, 650},
		"attacks":      {func() ([]row, error) { return open(t, "attacks.md", attackRows) }, 26},
	} {
		list, err := tt.parse()
		if err != nil {
			t.Fatal(err)
		}
		if len(list) < tt.want {
			t.Errorf("%s: %d rows, want at least %d", name, len(list), tt.want)
		}
		seen := map[string]bool{}
		for _, r := range list {
			if seen[r.id] || r.text == "" {
				t.Errorf("%s: row %q stands twice or is empty", name, r.id)
			}
			seen[r.id] = true
		}
	}
}

func open(t *testing.T, name string, parse func(io.Reader) ([]row, error)) ([]row, error) {
	f, err := os.Open("../../docs/spec/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return parse(f)
}
