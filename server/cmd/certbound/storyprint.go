package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// A storyPrinter shows a story as it happens, or at its end as JSON.
type storyPrinter struct {
	a    *app
	p    painter
	json bool
	n    int
}

func newStoryPrinter(a *app, asJSON bool) *storyPrinter {
	return &storyPrinter{a: a, p: newPainter(a.stdout), json: asJSON}
}

func (o *storyPrinter) line(format string, args ...any) {
	fmt.Fprintf(o.a.stdout, format+"\n", args...)
}

func (o *storyPrinter) begin(s *story) {
	if o.json {
		return
	}
	state := "as it was"
	if s.folder.made {
		state = "new"
	}
	o.line("%s", o.p.paint(bold, "Running"))
	sh := &sheet{}
	width := max(len(s.issuer), len(s.mtls), len(s.api)) // ports have four or five digits
	sh.add("authorization server", pad(s.issuer, width)+"  asks nobody for a certificate")
	sh.add("mutual TLS", pad(s.mtls, width)+"  asks, and judges each request")
	sh.add("demo API", pad(s.api, width)+"  takes only tokens of the caller's certificate")
	sh.add("person", "ann, who logs in with the password "+s.folder.password)
	sh.add("folder", s.folder.dir+"  "+state)
	sh.print(o.a.stdout, o.p, "  ")
	o.line("")
	o.line("%s", o.p.paint(bold, "The story"))
}

const storyWidth = 49 // of the longest sentence
const requestWidth = 14

func (o *storyPrinter) step(st *step) {
	if o.json {
		return
	}
	o.n++
	status, color := fmt.Sprint(st.Status), green
	if st.Status == 0 {
		status = "---"
	}
	if st.Error != "" || st.Status == 0 {
		color = yellow
	}
	result := st.Error
	switch {
	case st.Bound != "":
		result = "token bound to " + st.Bound[:8] + "…"
	case st.Error == "":
		result = printable(st.Body)
	}
	if st.Decision != nil && st.Error != "" {
		if c, ok := st.Decision.Failure(); ok {
			result += o.p.paint(dim, "  ("+string(c.Reason)+")")
		}
	}
	o.line(" %2d  %s  %s  %s  %s", o.n, pad(st.Text, storyWidth), pad(st.Request, requestWidth), o.p.paint(color, status), result)
	if !st.OK {
		o.line("     %s", o.p.paint(red, "unexpected: "+printable(st.Fault)))
	}
}

func (o *storyPrinter) end(s *story, once bool) {
	if o.json {
		_ = o.a.printJSON(s)
		return
	}
	if last := s.closeUp; last != nil && last.Decision != nil {
		o.line("")
		o.line("%s", o.p.paint(bold, fmt.Sprintf("Two sides of refusal %d", slices.Index(s.Steps, last)+1)))
		sh := &sheet{}
		sh.add("on the wire", last.Body)
		if c, ok := last.Decision.Failure(); ok {
			sh.add("the operator", c.Reason.Summary())
			sh.add("rule", c.Rule)
			sh.add("expected", c.Expected)
			sh.add("found", c.Found)
			sh.addList("fix", wrapText(c.HowToFix(), 78))
		}
		sh.print(o.a.stdout, o.p, "  ")
	}
	if !s.Passed {
		o.line("")
		o.a.report(fmt.Errorf("the story did not go as it should"))
	}
	if once {
		return
	}
	o.line("")
	o.line("%s", o.p.paint(bold, "Try it")+" (paste into another terminal)")
	for _, r := range s.Curl {
		o.line("")
		o.line("%s", o.p.paint(dim, "# "+r.Text))
		o.line("%s", r.Command)
	}
	o.line("")
	o.line("%s", o.p.paint(dim, "# register, list and change clients while the server runs"))
	o.line("%s client list --config %s", programName(), shellQuote(s.folder.path("certbound.yaml")))
	o.line("")
	o.line("%s", o.p.paint(dim, "# log in as ann, with your browser, and see her token"))
	o.line("%s token --browser --public --issuer %s --ca %s \\\n  --client-id wallet --scope 'openid read' | %[1]s inspect -", programName(), s.issuer, shellQuote(s.folder.path("server-ca.pem")))
	o.line("")
	o.line("%s", o.p.paint(dim, "# for FAPI test tools: two clients, and an API at "+s.api+accountsPath+" (docs/fapi-tools.md)"))
	o.line("cat %s", shellQuote(s.folder.path(devSuite)))
	o.line("")
	o.line("Serving. Refusals are logged below. Stop with ^C.")
}

// programName is what a reader can type: under 'go run' there is no certbound.
func programName() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		return "go run ./server/cmd/certbound"
	}
	return "certbound"
}

func wrapText(text string, width int) []string {
	var lines []string
	var line string
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
