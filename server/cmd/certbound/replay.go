package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/evidence"
	"github.com/certbound/certbound/server/explain"
	"github.com/certbound/certbound/server/gateway"
)

// errCannot ends a command with exit code 2 after it has said everything itself.
var errCannot = errors.New("cannot be decided")

// replay judges a decision of the log against the configuration of today.
func (a *app) replay(cmd *cobra.Command, f *explainFlags) error {
	line := []byte(f.fromLog)
	if f.fromLog == "-" {
		var err error
		if line, err = a.readInput("-"); err != nil {
			return err
		}
	}
	l, err := explain.ParseLogLine(line)
	if err != nil {
		e, _ := errors.AsType[*explain.LogLineError](err)
		return usagef(cmd, "--from-log: expected %s, found %s", e.Expected, e.Found)
	}
	var today []decision.Check
	var missing string
	if l.Endpoint != "" {
		today, missing, err = a.replayServer(cmd, f, l)
	} else {
		today, missing, err = a.replayGateway(cmd, f, l)
	}
	if err != nil {
		return err
	}
	r := explain.Compare(cmd.Context(), l, today, missing)
	if f.json {
		err = a.printJSON(r)
	} else {
		a.printReplay(r)
	}
	switch {
	case err != nil:
		return err
	case r.Result == explain.ReplayDiffers:
		return errSilent
	case r.Result == explain.ReplayCannot:
		return errCannot
	}
	return nil
}

// arrived returns what came with the request, or why that is not known.
func arrived(cfg evidence.Config, l *explain.LogLine) (*certsource.Presented, string) {
	switch {
	case l.Thumbprint == "":
		return nil, ""
	case cfg.Folder == "":
		return nil, "no evidence folder is configured (evidence.folder)"
	}
	found, err := evidence.Read(cfg.Folder, l.Thumbprint, l.Chain, l.Time)
	switch {
	case err != nil:
		return nil, "the evidence folder does not have the certificate, or not any more"
	case len(found.Missing) > 0:
		return nil, "certificates of its chain are not in the evidence folder any more"
	case found.Uncertain:
		return nil, "the certificate came with different chains, and which one it was is not known"
	}
	return certsource.NewPresented("log", found.Leaf, found.Chain), ""
}

// loadSets reads the trust anchors of today. Nobody is asked about revocation: what lists
// and responders said then is not kept.
func (a *app) loadSets(files []pki.FileSet) (*pki.Validator, error) {
	var sets []pki.Set
	for _, fs := range files {
		fs.Revocation = nil
		set, err := fs.Load(a.now())
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return pki.NewValidator(pki.Config{Sets: sets, Now: a.now, Logger: a.quietLogger()})
}

func (a *app) replayGateway(cmd *cobra.Command, f *explainFlags, l *explain.LogLine) (today []decision.Check, missing string, err error) {
	if f.config == "" {
		return nil, "", usagef(cmd, "--from-log: the line is one of a gateway; give --config with the gateway's file")
	}
	file, err := config.LoadGateway(f.config)
	if err != nil {
		return nil, "", otherKind(err, true)
	}
	paths, err := a.loadSets(file.FileSets())
	if err != nil {
		return nil, "", err
	}
	built, err := file.Build(config.GatewayParts{Paths: paths, Logger: a.quietLogger()})
	if err != nil {
		return nil, "", err
	}
	// Without a token this finds the route, and sends nothing anywhere.
	v := built.Proxy.Decider.Decide(cmd.Context(), gateway.Request{Method: l.Method, Host: l.Host, Path: l.Path})
	if v.Route == nil {
		c, _ := v.Decision.Failure()
		return []decision.Check{c}, "", nil
	}
	today = append(today, decision.Check{Name: decision.CheckRoute, Outcome: decision.Passed, Found: v.Route.Name})
	presented, missing := arrived(file.EvidenceConfig(), l)
	if presented == nil {
		return today, missing, nil
	}
	return append(today, a.certificateToday(cmd.Context(), v.Route, presented)...), "", nil
}

// certificateToday makes the checks of the gateway that need the certificate alone.
func (a *app) certificateToday(ctx context.Context, route *gateway.Route, p *certsource.Presented) []decision.Check {
	c := decision.Check{Name: decision.CheckValidity, Rule: "RFC 5280, Section 4.1.2.5", Outcome: decision.Passed}
	if leaf := p.Leaf(); !a.now().Before(leaf.NotAfter) {
		c.Outcome, c.Reason, c.Found = decision.Failed, decision.Expired, "it ended "+timeText(leaf.NotAfter)
	}
	out := []decision.Check{c}
	if route.CheckCertificate == nil {
		return out
	}
	c = decision.Check{Name: decision.CheckPolicy, Outcome: decision.Passed}
	if err := route.CheckCertificate(ctx, p); err != nil {
		c.Outcome, c.Reason, c.Found = decision.Failed, decision.HookRefused, err.Error()
		if e, ok := errors.AsType[*pki.Error](err); ok {
			c.Found = strings.TrimPrefix(e.Error(), "pki: ")
		}
	}
	return append(out, c, decision.Check{Name: decision.CheckRevocation, Outcome: decision.Skipped, Found: "nobody is asked about revocation here"})
}

func (a *app) replayServer(cmd *cobra.Command, f *explainFlags, l *explain.LogLine) (today []decision.Check, missing string, err error) {
	in := explain.Input{ClientID: l.ClientID}
	store, file, err := a.explainServer(cmd, f, &in)
	if err != nil {
		return nil, "", err
	}
	if store != nil {
		defer store.Close()
	}
	if file == nil {
		return nil, "", usagef(cmd, "--from-log: give --config with the server's file")
	}
	if in.Server.Paths, err = a.loadSets(file.FileSets()); err != nil {
		return nil, "", err
	}
	if err := findClient(cmd.Context(), store, file, &in); err != nil {
		return nil, "", err
	}
	in.Presented, missing = arrived(file.EvidenceConfig(), l)
	if in.Presented == nil {
		if in.ClientID != "" && in.Client == nil {
			today = append(today, decision.Check{Name: decision.CheckClient, Reason: decision.UnknownClient, Found: in.ClientID})
		}
		return today, missing, nil
	}
	report, err := explain.Explain(cmd.Context(), in)
	if err != nil {
		return nil, "", err
	}
	return report.Decision.Checks, "", nil
}

func (a *app) printReplay(r *explain.Replay) {
	p := newPainter(a.stdout)
	fmt.Fprintln(a.stdout, p.paint(bold, "Replay")+"  "+printable(r.RequestID))
	s := &sheet{}
	if !r.Time.IsZero() {
		s.add("time", timeText(r.Time))
	}
	s.add("then", r.Then)
	s.add("now", map[string]string{"unknown": "cannot be said"}[r.Now]+strings.TrimPrefix(r.Now, "unknown"))
	s.print(a.stdout, p, "  ")
	t := table{head: []string{"CHECK", "THEN", "NOW", ""}}
	for _, c := range r.Checks {
		t.rows = append(t.rows, []string{printable(c.Check), printable(orWord(c.Then, "–")), printable(orWord(c.Now, "–")), printable(c.Why)})
	}
	t.print(a.stdout, p)
	for _, n := range r.Notes {
		fmt.Fprintln(a.stdout, p.paint(dim, "note")+"  "+printable(n))
	}
}
