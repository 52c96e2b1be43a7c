package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// An event is a line of go test -json.
type event struct {
	Action, Package, Test, Output, Key, Value string
	Elapsed                                   float64
}

// A proof is a test that says it proves a row.
type proof struct {
	pkg, test string
	outcome   string
}

// A run is what a test run showed.
type run struct {
	proofs         map[string][]proof // by id
	passed, failed int
	failedPackages []string
	skippedTests   []string
}

const module = "github.com/certbound/certbound"

// readRun reads events from r and writes to w what go test would print without -v:
// a line for each package, and the output of what failed.
func readRun(r io.Reader, w io.Writer) (*run, error) {
	type test struct{ pkg, name string }
	var (
		ids     = map[test][]string{}
		output  = map[test]*strings.Builder{}
		result  = &run{proofs: map[string][]proof{}}
		scanner = bufio.NewScanner(r)
	)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var e event
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			fmt.Fprintln(w, scanner.Text()) // what the go command itself says
			continue
		}
		key := test{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			io.WriteString(w, e.Output)
		case "output":
			if e.Test == "" && strings.HasPrefix(e.Output, "ok  ") {
				io.WriteString(w, e.Output)
				continue
			}
			b := output[key]
			if b == nil {
				b = new(strings.Builder)
				output[key] = b
			}
			b.WriteString(e.Output)
		case "attr":
			prefix := ""
			switch e.Key {
			case "requirement":
			case "attack":
				prefix = "attack "
			default:
				continue
			}
			for id := range strings.FieldsSeq(e.Value) {
				ids[key] = append(ids[key], prefix+id)
			}
		case "pass", "fail", "skip":
			if e.Test == "" {
				if e.Action == "fail" {
					result.failedPackages = append(result.failedPackages, e.Package)
					if b := output[key]; b != nil {
						io.WriteString(w, b.String())
					}
				}
				continue
			}
			switch e.Action {
			case "pass":
				result.passed++
			case "skip":
				result.skippedTests = append(result.skippedTests, short(e.Package)+"."+e.Test)
			case "fail":
				result.failed++
				if b := output[key]; b != nil {
					io.WriteString(w, b.String())
				}
			}
			delete(output, key)
			for _, id := range ids[key] {
				result.proofs[id] = append(result.proofs[id], proof{short(e.Package), anyPort.ReplaceAllString(e.Test, "$1:PORT"), e.Action})
			}
		}
	}
	return result, scanner.Err()
}

// anyPort finds a port that the system has chosen: the table must not differ by it from
// run to run.
var anyPort = regexp.MustCompile(`(127\.0\.0\.1|localhost|\[::1\]):[0-9]+`)

func short(pkg string) string {
	return cmp.Or(strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/"), "certbound")
}

// A row is a requirement or an attack.
type row struct{ id, text string }

var (
	requirementRow = regexp.MustCompile(`^\| ([A-Z][A-Z0-9]*-[A-Za-z0-9.-]+) \| (.*)$`)
	attackRow      = regexp.MustCompile(`^\| ([0-9]+) \| (.*)$`)
)

// requirementRows reads the rows of docs/spec/requirements.md.
func requirementRows(r io.Reader) ([]row, error) {
	return rows(r, requirementRow, func(id string, cells []string) string {
		switch {
		case strings.HasPrefix(id, "TV-"):
			return strings.Join(cells[:min(3, len(cells))], " → ")
		case len(cells) > 1:
			return cells[1]
		}
		return cells[0]
	})
}

// attackRows reads the rows of docs/spec/attacks.md.
func attackRows(r io.Reader) ([]row, error) {
	list, err := rows(r, attackRow, func(_ string, cells []string) string {
		return cells[0] + ": " + cells[min(1, len(cells)-1)]
	})
	for i := range list {
		list[i].id = "attack " + list[i].id
	}
	return list, err
}

func rows(r io.Reader, pattern *regexp.Regexp, text func(id string, cells []string) string) ([]row, error) {
	var list []row
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		m := pattern.FindStringSubmatch(scanner.Text())
		if m == nil {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(m[2]), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		list = append(list, row{m[1], firstSentence(text(m[1], cells))})
	}
	return list, scanner.Err()
}

// firstSentence shortens a requirement for a table.
func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i > 0 && i > 20 {
		s = s[:i+1]
	}
	const most = 160
	if r := []rune(s); len(r) > most {
		s = strings.TrimSpace(string(r[:most])) + " …"
		if strings.Count(s, "`")%2 == 1 {
			s += "`"
		}
	}
	return s
}

// write writes docs/conformance.md.
func (res *run) write(w io.Writer, requirements, attacks []row) error {
	b := bufio.NewWriter(w)
	known := map[string]bool{}
	section := func(title string, list []row) {
		shown, proven := 0, 0
		for _, r := range list {
			known[r.id] = true
			shown++
			if p := res.proofs[r.id]; len(p) > 0 && !slices.ContainsFunc(p, func(p proof) bool { return p.outcome != "pass" }) {
				proven++
			}
		}
		fmt.Fprintf(b, "## %s\n\n%d of %d rows have a passing test.\n\n", title, proven, shown)
		fmt.Fprint(b, "| id | in short | test | outcome |\n| --- | --- | --- | --- |\n")
		for _, r := range list {
			tests, outcome := "", "no test"
			if list := slices.Clone(res.proofs[r.id]); len(list) > 0 {
				slices.SortFunc(list, func(a, b proof) int {
					return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.test, b.test))
				})
				outcome = "pass"
				for _, p := range list {
					if p.outcome != "pass" {
						outcome = p.outcome
					}
				}
				const most = 3
				var names []string
				for _, p := range list[:min(most, len(list))] {
					names = append(names, "`"+p.pkg+"` "+strings.ReplaceAll(p.test, "|", "\\|"))
				}
				if more := len(list) - most; more > 0 {
					names = append(names, fmt.Sprintf("and %d more", more))
				}
				tests = strings.Join(names, "<br>")
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", strings.TrimPrefix(r.id, "attack "), r.text, tests, outcome)
		}
		fmt.Fprintln(b)
	}
	fmt.Fprint(b, "# Conformance\n\nGenerated by `make conformance` from the test run. Each test names the rows that it proves;\n"+
		"the rows stand in full in [spec/requirements.md](spec/requirements.md) and [spec/attacks.md](spec/attacks.md).\n"+
		"A row without a test is shown as such.\n\n")
	section("Requirements", requirements)
	section("Attacks that worked on others", attacks)
	var unknown []string
	for id := range res.proofs {
		if !known[id] {
			unknown = append(unknown, id)
		}
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("tests name rows that do not exist: %s", strings.Join(unknown, ", "))
	}
	return nil
}
