// Command conformance reads the output of go test -json, prints it as go test would,
// and with -out writes docs/conformance.md: which requirement is proven by which test.
//
//	go test -json work | go run ./internal/conformance -out docs/conformance.md
//
// It exits with 1 if a test failed or named a row that does not exist, and with -ci
// also if a test was skipped.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("out", "", "write the table to this `file`")
	check := flag.String("check", "", "fail if this `file` differs from the table of this run")
	docs := flag.String("spec", "docs/spec", "`folder` with requirements.md and attacks.md")
	ci := flag.Bool("ci", false, "a skipped test is a failure")
	flag.Parse()
	if err := report(os.Stdin, os.Stdout, *docs, *out, *check, *ci); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func report(r io.Reader, w io.Writer, docs, out, check string, ci bool) error {
	res, err := readRun(r, w)
	if err != nil {
		return err
	}
	requirements, err := readRows(filepath.Join(docs, "requirements.md"), requirementRows)
	if err != nil {
		return err
	}
	attacks, err := readRows(filepath.Join(docs, "attacks.md"), attackRows)
	if err != nil {
		return err
	}
	var table bytes.Buffer
	tableErr := res.write(&table, requirements, attacks)
	if out != "" {
		if err := os.WriteFile(out, table.Bytes(), 0o644); err != nil {
			return err
		}
	}
	for _, name := range res.skippedTests {
		fmt.Fprintln(w, "skipped:", name)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", res.passed, res.failed, len(res.skippedTests))
	switch {
	case len(res.failedPackages) > 0:
		return fmt.Errorf("failed: %v", res.failedPackages)
	case res.passed == 0:
		return fmt.Errorf("no test ran")
	case ci && len(res.skippedTests) > 0:
		return fmt.Errorf("%d tests were skipped", len(res.skippedTests))
	case tableErr != nil:
		return tableErr
	}
	if check != "" {
		have, err := os.ReadFile(check)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, table.Bytes()) {
			return fmt.Errorf("%s is not what this test run shows; run make conformance and commit it", check)
		}
	}
	return nil
}

func readRows(name string, parse func(io.Reader) ([]row, error)) ([]row, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := parse(f)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s: no rows", name)
	}
	return list, err
}
