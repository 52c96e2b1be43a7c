package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/explain"
)

type explainFlags struct {
	storeFlags
	headers              []string
	cert, client, preset string
	peer, id, log        string
	fromLog              string
	hops                 int
	json                 bool
}

func (a *app) explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain [FILE|-]",
		Short: "Say why a request was refused, and which setting to change",
		Long: `Say why a request was, or would be, refused: which proxy's format it has, what was
decoded, the path to a trust anchor, the subject as OpenSSL, Go and Java print it, the
check that failed, what was expected and found, and the setting to change.

Give one of three things:
- a captured request: FILE, '-' for stdin, or --header for each line. It may be the head
  as it went over the wire, the output of curl -v, or JSON; Certbound's proxies are told
  apart by what they send. Only the fields that carry certificates are shown.
- a certificate: --cert, with the intermediates that the client sends.
- the id of a refused request: --id with --log. The id is in the answer's header field
  Certbound-Request-Id and in the log.

Or give --from-log a line of the JSON log of the server or the gateway, or '-' for stdin:
the decision is made again with the configuration of today, as far as the evidence folder
has the certificates and no token is needed, and both stand side by side. The exit code is
then 0 if the outcome is the same, perhaps for another reason, 1 if it is another, and 2
if it cannot be said. Revocation lists count that are there already.

With --config the source, the trust anchors and the registrations are those of the
server; --client names the registration. Nothing is sent anywhere.

Otherwise the exit code is 1 if a check fails.`,
		Example: `  certbound explain captured.http --config certbound.yaml --client billing
  certbound explain --header "$(cat header.txt)"
  certbound explain --cert billing.pem --client billing --config certbound.yaml
  certbound explain --id 5d0c1fa2b3e4d5c6 --log certbound.log --config certbound.yaml
  tail -1 gateway.log | certbound explain --from-log - --config gateway.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.explain(cmd, &f, args) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringArrayVar(&f.headers, "header", nil, "header `LINE` of the request, \"Name: value\" (repeatable)")
	fs.StringVar(&f.cert, "cert", "", "certificate `FILE`, with its intermediates")
	fs.StringVar(&f.client, "client", "", "`ID` of the client")
	fs.StringVar(&f.id, "id", "", "`ID` of a refused request")
	fs.StringVar(&f.log, "log", "", "log `FILE` with it, '-' for stdin")
	fs.StringVar(&f.fromLog, "from-log", "", "`LINE` of the JSON log to decide again, '-' for stdin")
	fs.StringVar(&f.preset, "preset", "", "read the request as this `PRESET` does, and not as the server is set up")
	fs.IntVar(&f.hops, "trusted-hops", 0, "with the preset xfcc: how many proxies of yours append an element")
	fs.StringVar(&f.peer, "peer", "", "`ADDRESS` that the request came from; if left out, it is taken for the trusted proxy")
	f.storeFlags.register(cmd)
	jsonFlag(cmd, &f.json)
	_ = cmd.MarkFlagFilename("cert", "pem", "crt", "der")
	_ = cmd.RegisterFlagCompletionFunc("preset", cobra.FixedCompletions(presetNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func presetNames() []string {
	var out []string
	for _, p := range certsource.Presets() {
		out = append(out, p.Name)
	}
	return out
}

func (a *app) explain(cmd *cobra.Command, f *explainFlags, args []string) error {
	if f.fromLog != "" {
		if len(args)+len(f.headers) > 0 || f.cert != "" || f.id != "" || f.log != "" || f.client != "" || f.preset != "" {
			return usagef(cmd, "--from-log goes with --config and --json only")
		}
		return a.replay(cmd, f)
	}
	request := len(args) > 0 || len(f.headers) > 0
	switch n := countTrue(request, f.cert != "", f.id != ""); {
	case n == 0:
		return usagef(cmd, "what is to be explained? Give FILE or --header, --cert, or --id with --log")
	case len(args) > 0 && len(f.headers) > 0:
		return usagef(cmd, "FILE and --header exclude each other; keep one")
	case n > 1 && !(f.cert != "" && f.id != "" && !request):
		return usagef(cmd, "a request, --cert and --id exclude each other; keep one")
	case (f.id == "") != (f.log == ""):
		return usagef(cmd, "--id and --log belong together: the log holds what was decided")
	case f.preset != "" && !slices.Contains(presetNames(), f.preset):
		return usagef(cmd, "--preset: there is no preset %q; the presets are %s", f.preset, strings.Join(presetNames(), ", "))
	case f.hops != 0 && f.preset != "xfcc":
		return usagef(cmd, "--trusted-hops belongs to --preset xfcc")
	}
	in := explain.Input{Preset: f.preset, TrustedHops: f.hops, ClientID: f.client}
	if err := a.explainInput(cmd, f, args, &in); err != nil {
		return err
	}
	store, file, err := a.explainServer(cmd, f, &in)
	if err != nil {
		return err
	}
	if store != nil {
		defer store.Close()
	}
	if in.ClientID == "" && in.Capture != nil {
		in.ClientID = in.Capture.ClientID
	}
	if in.ClientID == "" && in.Record != nil {
		in.ClientID = in.Record.Decision.ClientID
	}
	if err := findClient(cmd.Context(), store, file, &in); err != nil {
		return err
	}
	report, err := explain.Explain(cmd.Context(), in)
	if err != nil {
		return err
	}
	if f.json {
		err = a.printJSON(report)
	} else {
		a.printExplanation(report, &in)
	}
	if err == nil && report.Refused() {
		err = errSilent
	}
	return err
}

// explainInput reads what is to be explained.
func (a *app) explainInput(cmd *cobra.Command, f *explainFlags, args []string, in *explain.Input) error {
	if f.id != "" {
		var err error
		r := a.stdin
		if f.log != "-" {
			file, err := os.Open(f.log)
			if err != nil {
				return fileError(err)
			}
			defer file.Close()
			r = file
		}
		if in.Record, err = explain.FindRecord(r, f.id); errors.Is(err, explain.ErrNoRecord) {
			return hinted(fmt.Errorf("%s: there is no refused request %s in it", inputName(f.log), printable(f.id)),
				"the id is the value of Certbound-Request-Id in the answer; requests that are answered as asked are not logged")
		} else if err != nil {
			return err
		}
	}
	if f.cert != "" {
		certs, err := a.readCertificates(f.cert)
		if err != nil {
			return err
		}
		in.Presented = certsource.NewPresented("file", certs[0], certs[1:])
	}
	var data []byte
	name := "--header"
	switch {
	case len(f.headers) > 0:
		data = []byte(strings.Join(f.headers, "\n"))
	case len(args) > 0:
		var err error
		name = inputName(args[0])
		if data, err = a.readInput(args[0]); err != nil {
			return err
		}
	default:
		return nil
	}
	var err error
	if in.Capture, err = explain.ParseCapture(data); err != nil {
		// A certificate in place of a request says the same.
		if found, ferr := recognise(data); ferr == nil && len(found.certs) > 0 {
			in.Capture, in.Presented = nil, certsource.NewPresented("file", found.certs[0], found.certs[1:])
			return nil
		}
		e, _ := errors.AsType[*explain.CaptureError](err)
		place := name
		if e.Line > 0 {
			place += ":" + strconv.Itoa(e.Line)
		}
		return hinted(fmt.Errorf("%s: %s", place, e.Fault), "give the header lines as the server received them, such as 'Client-Cert: :MII…:'")
	}
	in.Capture.Peer = f.peer
	return nil
}

func (a *app) readCertificates(name string) ([]*x509.Certificate, error) {
	data, err := a.readInput(name)
	if err != nil {
		return nil, err
	}
	found, err := recognise(data)
	if err != nil {
		e, _ := errors.AsType[*artifactError](err)
		return nil, hinted(fmt.Errorf("%s: %w", inputName(name), err), "%s", e.Hint)
	}
	if len(found.certs) == 0 {
		return nil, fmt.Errorf("%s: expected a certificate, found %s", inputName(name), found.form)
	}
	return found.certs, nil
}

// explainServer reads the configuration, if there is one.
func (a *app) explainServer(cmd *cobra.Command, f *explainFlags, in *explain.Input) (authserver.Store, *config.File, error) {
	if f.config == "" && f.store == "" {
		if _, err := os.Stat(defaultConfig); err != nil {
			if f.client != "" {
				return nil, nil, usagef(cmd, "--client: whose? Give --config FILE or --store FILE")
			}
			return nil, nil, nil
		}
	}
	store, file, err := a.openStore(cmd, &f.storeFlags, false)
	if err != nil || file == nil {
		return store, nil, err
	}
	s := &explain.Server{SourceName: file.Listen.MTLS.Source, DefaultSet: file.Trust.Default,
		InsecureMatchKey: file.Authentication.InsecureMatchKey, Place: file.Where, Now: a.now}
	for _, fs := range file.FileSets() {
		set, err := fs.Load(a.now())
		if err != nil {
			return nil, nil, errors.Join(err, store.Close())
		}
		s.Sets = append(s.Sets, set)
	}
	if s.Paths, err = pki.NewValidator(pki.Config{Sets: s.Sets, Now: a.now, Logger: a.quietLogger()}); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	s.Source = file.CaptureSource(s.Paths)
	in.Server = s
	return store, file, nil
}

// findClient looks the registration up. One that does not exist is a finding, no error.
func findClient(ctx context.Context, store authserver.Store, file *config.File, in *explain.Input) error {
	if in.ClientID == "" || store == nil {
		return nil
	}
	if file != nil {
		for i := range file.Clients {
			if file.Clients[i].ID == in.ClientID {
				key := fmt.Sprintf("clients[%d]", i)
				in.Client, in.ClientPlace = declared(file, in.ClientID), explain.Place{Key: key, File: file.Where(key)}
				return nil
			}
		}
	}
	c, err := store.Client(ctx, in.ClientID)
	if errors.Is(err, authserver.ErrNotFound) {
		return nil
	}
	in.Client = c
	return err
}

func (a *app) printExplanation(r *explain.Report, in *explain.Input) {
	p := newPainter(a.stdout)
	section := func(title, note string) {
		line := p.paint(bold, title)
		if note != "" {
			line += "  " + printable(note)
		}
		fmt.Fprintln(a.stdout, line)
	}
	if r.RequestID != "" {
		section("Request", r.RequestID)
		s := &sheet{}
		if !r.Time.IsZero() {
			s.add("time", timeText(r.Time))
		}
		s.add("endpoint", r.Endpoint)
		s.add("answer", strings.TrimSpace(strings.TrimPrefix(strconv.Itoa(r.Status), "0")+" "+r.Error))
		s.add("certificate from", r.Source)
		s.add("peer", r.Decision.Peer)
		s.print(a.stdout, p, "  ")
	}
	if in.Capture != nil {
		section("Request", r.Source)
		s := &sheet{}
		for _, f := range r.Fields {
			note := ""
			if f.Count > 1 {
				note = fmt.Sprintf("%d times", f.Count)
			}
			text := f.Name + "  " + strconv.Itoa(f.Bytes) + " bytes"
			if f.Value != "" {
				text = f.Name + "  " + f.Value
			}
			s.addNote("field", text, note, yellow)
		}
		for i, c := range r.Candidates {
			label := ""
			if i == 0 {
				label = "format of"
			}
			text, note, st := c.Preset, c.Form, dim
			switch c.Fit {
			case explain.Lacks:
				note, st = "if "+c.Missing+" were there", yellow
			case explain.None:
				note = "without a certificate"
			case explain.Fails, explain.Refuses:
				note, st = c.Fault, red
			}
			if c.Hops > 1 {
				note += fmt.Sprintf("; %d elements, of which --trusted-hops says the one that counts", c.Hops)
			}
			s.addNote(label, text, note, st)
			if c.Note != "" {
				s.add("", c.Note)
			}
		}
		s.print(a.stdout, p, "  ")
	}
	if r.Thumbprint != "" || r.Decision.Subject != "" {
		section("Certificate", "")
		s := &sheet{}
		if r.Certificate == nil || len(r.Names) == 0 {
			s.add("subject", r.Decision.Subject)
		}
		if r.Kind != "" && r.Certificate == nil {
			s.add("forwarded", "only "+r.Kind)
		}
		s.add("x5t#S256", r.Thumbprint)
		if r.Certificate != nil {
			s.add("issuer", nameText(r.Certificate.RawIssuer))
			s.add("with it", map[bool]string{true: "no other certificate", false: strconv.Itoa(r.Intermediates) + " more"}[r.Intermediates == 0])
			note, st := "", plain
			switch now := a.now(); {
			case now.After(r.NotAfter):
				note, st = "expired "+spanText(now, r.NotAfter), red
			case now.Before(r.NotBefore):
				note, st = "from "+timeText(r.NotBefore)+" on", red
			}
			s.addNote("valid until", timeText(r.NotAfter), note, st)
		}
		s.addList("SAN", r.SAN)
		s.print(a.stdout, p, "  ")
	}
	if len(r.Names) > 0 {
		section("Subject", "as others print it")
		s := &sheet{}
		for _, n := range r.Names {
			s.addNote(n.Tool, orWord(n.Text, "(empty)"), n.How, dim)
		}
		s.print(a.stdout, p, "  ")
	}
	if len(r.Path) > 0 {
		section("Path", "towards anchor set "+r.AnchorSet)
		t := &sheet{}
		for _, step := range r.Path {
			note, st := "", plain
			if step.Role == "missing" {
				note, st = "neither an anchor, nor a helper, nor sent by the client", red
			}
			t.addNote(step.Role, step.Name, note, st)
		}
		t.print(a.stdout, p, "  ")
	}
	a.printChecks(p, r)
	for _, n := range r.Notes {
		fmt.Fprintln(a.stdout, p.paint(dim, "note")+"  "+printable(n))
	}
	if len(r.Changes) > 0 {
		section("Change", map[bool]string{true: "one of these"}[len(r.Changes) > 1])
		for _, c := range r.Changes {
			if c.Where != "" {
				fmt.Fprintln(a.stdout, "  "+p.paint(cyan, printable(c.Where)))
			}
			fmt.Fprintln(a.stdout, "    "+printable(c.What))
			if c.Line != "" {
				fmt.Fprintln(a.stdout, "    "+p.paint(bold, printable(c.Line)))
			}
		}
	}
}

// printChecks prints the checks in their order.
func (a *app) printChecks(p painter, r *explain.Report) {
	who := ""
	if r.Decision.ClientID != "" {
		who = "client " + r.Decision.ClientID
	}
	fmt.Fprintln(a.stdout, strings.TrimRight(p.paint(bold, "Checks")+"  "+printable(who), " "))
	width := 0
	for _, c := range r.Decision.Checks {
		width = max(width, len(printable(c.Name)))
	}
	for _, c := range r.Decision.Checks {
		word, st := "ok     ", green
		switch c.Outcome {
		case decision.Failed:
			word, st = "REFUSED", red
		case decision.Skipped:
			word, st = "skipped", dim
		}
		line := "  " + p.paint(st, word) + "  " + pad(printable(c.Name), width)
		if c.Outcome != decision.Failed {
			fmt.Fprintln(a.stdout, strings.TrimRight(line+"  "+printable(c.Found), " "))
			continue
		}
		fmt.Fprintln(a.stdout, strings.TrimRight(line+"  "+printable(string(c.Reason)), " "))
		s := &sheet{}
		s.add("meaning", c.Reason.Summary())
		s.add("rule", c.Rule)
		s.add("expected", c.Expected)
		s.add("found", c.Found)
		s.print(a.stdout, p, "    ")
	}
	if len(r.Decision.Checks) == 0 {
		fmt.Fprintln(a.stdout, "  none")
	}
}
