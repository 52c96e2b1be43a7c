package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/revocation"
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

// todaysPaths judges paths by the trust anchors of today, and by the lists that are there.
type todaysPaths struct {
	*pki.Validator
	revocation decision.Check // without a name: it was not asked for
}

// loadSets reads the trust anchors of today. Nobody is asked over the network: what
// responders said then is not kept, and what they say now is for the server to ask.
func (a *app) loadSets(file interface {
	FileSets() []pki.FileSet
	ListsAtHand(*slog.Logger) (map[string]*revocation.Checker, error)
}) (*todaysPaths, error) {
	lists, err := file.ListsAtHand(a.quietLogger())
	if err != nil {
		return nil, err
	}
	t := &todaysPaths{}
	var sets []pki.Set
	for _, fs := range file.FileSets() {
		if list, on := lists[fs.Name]; on {
			fs.Revocation = &atHand{list, &t.revocation}
		}
		set, err := fs.Load(a.now())
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	t.Validator, err = pki.NewValidator(pki.Config{Sets: sets, Now: a.now, Logger: a.quietLogger()})
	return t, err
}

// atHand refuses what a list revokes. What no list says anything of passes, and is named.
type atHand struct {
	list  *revocation.Checker // nil: there is none
	check *decision.Check
}

func (h *atHand) CheckRevocation(ctx context.Context, path []*x509.Certificate) (until time.Time, err error) {
	*h.check = decision.Check{Name: decision.CheckRevocation, Outcome: decision.Skipped, Found: "the configuration has responders and no lists, and nobody is asked over the network here"}
	if h.list == nil {
		return time.Time{}, nil
	}
	until, err = h.list.CheckRevocation(ctx, path)
	e, _ := errors.AsType[*pki.Error](err)
	switch {
	case err == nil:
		*h.check = decision.Check{Name: decision.CheckRevocation, Outcome: decision.Passed}
	case e != nil && e.Reason == decision.Revoked:
		*h.check = decision.Check{Name: decision.CheckRevocation, Outcome: decision.Failed, Reason: e.Reason, Found: e.Found}
		return until, err
	default:
		h.check.Found = "no list that is there says anything of it, and nobody is asked over the network here"
	}
	return time.Time{}, nil
}

func (h *atHand) Generation() uint64 { return 0 }

func (a *app) replayGateway(cmd *cobra.Command, f *explainFlags, l *explain.LogLine) (today []decision.Check, missing string, err error) {
	if f.config == "" {
		return nil, "", usagef(cmd, "--from-log: the line is one of a gateway; give --config with the gateway's file")
	}
	file, err := config.LoadGateway(f.config)
	if err != nil {
		return nil, "", otherKind(err, true)
	}
	paths, err := a.loadSets(file)
	if err != nil {
		return nil, "", err
	}
	built, err := file.Build(config.GatewayParts{Paths: paths.Validator, Logger: a.quietLogger()})
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
	today = append(today, a.certificateToday(cmd.Context(), v.Route, presented)...)
	return paths.withRevocation(today), "", nil
}

// withRevocation adds what came of revocation, if it was asked for.
func (t *todaysPaths) withRevocation(checks []decision.Check) []decision.Check {
	if t.revocation.Name == "" || slices.ContainsFunc(checks, func(c decision.Check) bool { return c.Name == decision.CheckRevocation }) {
		return checks
	}
	return append(checks, t.revocation)
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
	return append(out, c)
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
	paths, err := a.loadSets(file)
	if err != nil {
		return nil, "", err
	}
	in.Server.Paths = paths.Validator
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
	return paths.withRevocation(report.Decision.Checks), "", nil
}

func (a *app) printReplay(r *explain.Replay) {
	p := newPainter(a.stdout)
	fmt.Fprintln(a.stdout, p.paint(bold, "Replay")+"  "+printable(r.RequestID))
	s := &sheet{}
	if !r.Time.IsZero() {
		s.add("time", timeText(r.Time))
	}
	because := func(outcome string, reason decision.Reason) string {
		if reason == "" || outcome != "refused" {
			return outcome
		}
		return outcome + ": " + string(reason)
	}
	s.add("then", because(r.Then, r.ThenReason))
	s.add("now", map[string]string{"unknown": "cannot be said"}[r.Now]+strings.TrimPrefix(because(r.Now, r.NowReason), "unknown"))
	s.add("result", map[string]string{
		explain.ReplaySame: "the same outcome", explain.ReplayOtherReason: "the same outcome, for another reason",
		explain.ReplayDiffers: "another outcome", explain.ReplayCannot: "cannot be said",
	}[r.Result])
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
