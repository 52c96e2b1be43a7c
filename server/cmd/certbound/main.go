// Certbound is an OAuth 2.0 authorization server for certificate-bound access tokens
// (RFC 8705), with the tools around it: one binary, one command for each job.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitDone    = 0
	exitRefused = 1 // the thing asked for was not done, or something is not as it should be
	exitUsage   = 2 // the command line cannot be understood
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: tests call it too.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newApp(stdin, stdout, stderr).run(ctx, args)
}

// An app is one run of the program. Data goes to stdout, messages to stderr.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	tamper         func(*story) // for the test that a story can fail
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now}
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	a.report(err)
	if usage, ok := errors.AsType[*usageError](err); ok {
		if usage.command != "" {
			a.hint("see '" + usage.command + " --help'")
		}
		return exitUsage
	}
	if errors.Is(err, errCannot) {
		return exitUsage
	}
	return exitRefused
}

// report prints err on stderr, one line for each fault, then the hints.
func (a *app) report(err error) {
	if errors.Is(err, errSilent) || errors.Is(err, errCannot) {
		return
	}
	var hints []string
	for _, e := range flatten(err) {
		text := strings.TrimPrefix(e.Error(), "certbound: ")
		lines := strings.Split(text, "\n")
		for i := range lines { // a server's certificate may speak here, and a file's keys
			lines[i] = printable(lines[i])
		}
		fmt.Fprintln(a.stderr, "certbound: error: "+strings.Join(lines, "\n  "))
		if h, ok := errors.AsType[*hintError](e); ok {
			hints = append(hints, h.hint)
		} else if f, ok := errors.AsType[fixer](e); ok && !strings.Contains(text, f.Fix()) {
			hints = append(hints, f.Fix())
		}
	}
	for _, h := range hints {
		a.hint(h)
	}
}

func (a *app) warn(text string) { fmt.Fprintln(a.stderr, "certbound: warning: "+printable(text)) }
func (a *app) note(text string) { fmt.Fprintln(a.stderr, "certbound: note: "+printable(text)) }
func (a *app) hint(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintln(a.stderr, "certbound: hint: "+printable(strings.TrimSuffix(line, "\n")))
	}
}

// A fixer is an error that knows what to change.
type fixer interface {
	error
	Fix() string
}

// flatten splits what errors.Join has put together. An error that says more than the
// errors below it, such as which file they are about, stays whole.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	parts := joined.Unwrap()
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = part.Error()
	}
	if err.Error() != strings.Join(texts, "\n") {
		return []error{err}
	}
	var out []error
	for _, part := range parts {
		out = append(out, flatten(part)...)
	}
	return out
}

// errSilent ends a command with exit code 1 after it has said everything itself.
var errSilent = errors.New("refused")

// A hintError is an error together with what the user can do about it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// hinted returns an error with a hint.
func hinted(err error, hint string, args ...any) error {
	return &hintError{err, fmt.Sprintf(hint, args...)}
}

// A usageError is a command line that cannot be understood.
type usageError struct {
	err     error
	command string // the path of the command whose help explains it
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	name := strings.TrimPrefix(cmd.CommandPath(), "certbound ")
	return &usageError{fmt.Errorf(name+": "+format, args...), cmd.CommandPath()}
}
