package main

import (
	"fmt"

	"github.com/certbound/certbound/server/config"
)

// A gradeReport is a configuration beside the rules of a profile, as --json prints it.
type gradeReport struct {
	File    string        `json:"file"`
	Profile string        `json:"profile"`
	Set     bool          `json:"set"` // the file names the profile
	Failed  int           `json:"failed"`
	Rules   []gradedEntry `json:"rules"`
}

type gradedEntry struct {
	Rule    string        `json:"rule"`
	Level   string        `json:"level"`
	Demand  string        `json:"demand"`
	Result  config.Result `json:"result"`
	Reason  string        `json:"reason"`
	Changes []gradeChange `json:"changes,omitempty"`
}

type gradeChange struct {
	Key    string `json:"key"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
}

// gradeConfig judges a configuration by the rules of a profile.
func (a *app) gradeConfig(name, profile string, asJSON, quiet bool) error {
	file, err := config.LoadGraded(name)
	if err != nil {
		return otherKind(err, false)
	}
	warnings, err := file.Check(a.now())
	for _, w := range warnings {
		a.warn(w.Error())
	}
	if err != nil {
		return err
	}
	report := gradeReport{File: name, Profile: profile, Set: file.Profile == profile}
	for _, g := range file.Grade() {
		entry := gradedEntry{Rule: g.Rule, Level: g.Level, Demand: g.Demand, Result: g.Result, Reason: g.Reason}
		if g.Result == config.Failed {
			report.Failed++
		}
		for _, c := range g.Changes {
			text := c.Text
			if c.Fix != "" {
				text += "; " + c.Fix
			}
			entry.Changes = append(entry.Changes, gradeChange{c.Path, c.Line, c.Column, text})
		}
		report.Rules = append(report.Rules, entry)
	}
	if asJSON {
		err = a.printJSON(report)
	} else {
		a.printGrades(report, quiet)
	}
	if err == nil && report.Failed > 0 {
		err = errSilent
	}
	return err
}

// printGrades prints the rules; with quiet those that fail.
func (a *app) printGrades(r gradeReport, quiet bool) {
	p := newPainter(a.stdout)
	styles := map[config.Result]style{config.Always: green, config.Passed: green, config.Failed: red, config.Yours: cyan, config.NotApplicable: dim}
	counts := map[config.Result]int{}
	width := 0
	for _, e := range r.Rules {
		counts[e.Result]++
		width = max(width, len(e.Rule))
	}
	for _, e := range r.Rules {
		if quiet && e.Result != config.Failed {
			continue
		}
		word := string(e.Result)
		if e.Result == config.Failed {
			word = "FAIL"
		}
		indent := pad("", width+10)
		fmt.Fprintln(a.stdout, pad(e.Rule, width)+"  "+p.paint(styles[e.Result], pad(word, 6))+"  "+printable(e.Demand)+" ("+e.Level+")")
		fmt.Fprintln(a.stdout, indent+p.paint(dim, printable(e.Reason)))
		for _, c := range e.Changes {
			at := c.Key
			if c.Line > 0 {
				at = fmt.Sprintf("%s:%d:%d: %s", r.File, c.Line, c.Column, c.Key)
			}
			fmt.Fprintln(a.stdout, indent+"- "+printable(at+": "+c.Text))
		}
	}
	if quiet {
		return
	}
	st := green
	if r.Failed > 0 {
		st = red
	}
	fmt.Fprintln(a.stdout)
	fmt.Fprintln(a.stdout, p.paint(st, fmt.Sprintf("%s: %s, %d pass, %d always, %d yours, %d n/a", r.Profile, countWord(r.Failed), counts[config.Passed],
		counts[config.Always], counts[config.Yours], counts[config.NotApplicable])))
}

func countWord(failed int) string {
	if failed == 1 {
		return "1 rule fails"
	}
	return fmt.Sprintf("%d rules fail", failed)
}
