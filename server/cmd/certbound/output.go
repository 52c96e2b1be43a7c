package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func jsonFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "json", false, "print JSON")
}

// printJSON writes v to stdout as one indented document.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// A style is a colour that carries no meaning of its own: what it says is in the
// words too.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
)

// A painter colours text where that helps: on a terminal, unless NO_COLOR is set.
type painter struct{ on bool }

func newPainter(w io.Writer) painter {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return painter{}
	}
	info, err := f.Stat()
	return painter{err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p painter) paint(s style, text string) string {
	if !p.on || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// A sheet is a list of labelled values, printed with the values in one column.
type sheet struct {
	rows []sheetRow
}

type sheetRow struct {
	label, value, note string
	style              style // of the note
}

// add appends a row, unless the value is empty.
func (s *sheet) add(label, value string) { s.addNote(label, value, "", plain) }

func (s *sheet) addNote(label, value, note string, st style) {
	if value != "" {
		s.rows = append(s.rows, sheetRow{label, value, note, st})
	}
}

// addList appends a row for each value; the label stands at the first.
func (s *sheet) addList(label string, values []string) {
	for i, v := range values {
		if i > 0 {
			label = ""
		}
		s.rows = append(s.rows, sheetRow{label: label, value: v})
	}
}

func (s *sheet) print(w io.Writer, p painter, indent string) {
	width := 0
	for _, r := range s.rows {
		width = max(width, utf8.RuneCountInString(r.label))
	}
	for _, r := range s.rows {
		line := indent + p.paint(dim, pad(r.label, width)) + "  " + printable(r.value)
		if r.note != "" {
			line += "  " + p.paint(r.style, "("+r.note+")")
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// A table has a head and columns as wide as they need.
type table struct {
	head []string
	rows [][]string
}

func (t *table) print(w io.Writer, p painter) {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(printable(cell)))
		}
	}
	line := func(row []string, st style) {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(pad(printable(cell), widths[i]) + "  ")
		}
		fmt.Fprintln(w, p.paint(st, strings.TrimRight(b.String(), " ")))
	}
	line(t.head, dim)
	for _, row := range t.rows {
		line(row, plain)
	}
}

// pad fills text with spaces on the right.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// printable keeps text of others from writing control characters to a terminal,
// bidirectional overrides included.
func printable(s string) string {
	clean := func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsPrint(r) && r != ' '
	}
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case clean(r) && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case clean(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// quietLogger is for commands: what matters they say themselves.
func (a *app) quietLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// spanText says how far t is from now, in the largest unit that is not silly.
func spanText(now, t time.Time) string {
	d := t.Sub(now).Abs()
	var text string
	switch {
	case d >= 48*time.Hour:
		text = fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		text = fmt.Sprintf("%.0f hours", d.Hours())
	case d >= 2*time.Minute:
		text = fmt.Sprintf("%.0f minutes", d.Minutes())
	default:
		text = count(int(math.Round(d.Seconds())), "second")
	}
	if t.Before(now) {
		return text + " ago"
	}
	return "in " + text
}
