package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/server/doctor"
	"github.com/certbound/certbound/server/probe"
)

// probeVariable holds a probe credential.
const probeVariable = "CERTBOUND_PROBE"

type doctorFlags struct {
	ca, credential string
	timeout        time.Duration
	json           bool
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor URL",
		Short: "Look at a running deployment from outside, and say what to change",
		Long: `Look at a running deployment from outside. URL is the issuer.

Looked at are the metadata and the aliases, the endpoints and the keys, certificates,
versions and suites of TLS, who is asked for a certificate and how, whether sessions
cross between the hosts, names in TLS against names in HTTP, and the clock. With a probe
credential also: whether the certificate of a client arrives, whether resumption and
other clients change who one is, and whether a forged certificate header gets through, in
the form of every known proxy and in every spelling.

Certificates and requests are the doctor's own; nothing is changed. The credential comes
from --credential-file or ` + probeVariable + `.

The exit code is 0 if nothing was found, 1 for findings. A note is none: the server does
not depend on what it says.`,
		Example: `  certbound doctor https://as.example
  certbound probe create --config certbound.yaml > probe.txt
  certbound doctor https://as.example --credential-file probe.txt
  certbound doctor https://localhost:8443 --ca certbound-dev/server-ca.pem --json`,
		Args: exactArgs("URL"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.doctor(cmd, &f, args[0]) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.ca, "ca", "", "PEM `FILE` with CAs of the servers (default the system's)")
	fs.StringVar(&f.credential, "credential-file", "", "`FILE` with a probe credential, '-' for stdin")
	fs.DurationVar(&f.timeout, "timeout", 10*time.Second, "for each connection and request")
	jsonFlag(cmd, &f.json)
	_ = cmd.MarkFlagFilename("ca", "pem", "crt")
	return cmd
}

func (a *app) doctor(cmd *cobra.Command, f *doctorFlags, issuer string) error {
	if f.timeout <= 0 {
		return usagef(cmd, "--timeout: expected more than 0s, found %s", f.timeout)
	}
	cfg := doctor.Config{Issuer: issuer, Timeout: f.timeout, Now: a.now, Credential: os.Getenv(probeVariable)}
	from := probeVariable
	if f.credential != "" {
		data, err := a.readInput(f.credential)
		if err != nil {
			return err
		}
		cfg.Credential, from = strings.TrimSpace(string(data)), inputName(f.credential)
	}
	if cfg.Credential != "" && !probe.WellFormed(cfg.Credential) {
		return hinted(fmt.Errorf("%s: this is not a probe credential", from), "'certbound probe create' prints one")
	}
	var err error
	if f.ca != "" {
		if cfg.RootCAs, err = readPool(f.ca); err != nil {
			return err
		}
	}
	report, err := doctor.Run(cmd.Context(), cfg)
	if errors.Is(err, doctor.ErrIssuer) {
		return usagef(cmd, "URL: %s", strings.TrimPrefix(err.Error(), "doctor: "))
	}
	if err != nil {
		return err
	}
	if f.json {
		err = a.printJSON(report)
	} else {
		a.printDoctor(report)
	}
	if err == nil && report.Problems > 0 {
		err = errSilent
	}
	return err
}

func (a *app) printDoctor(r *doctor.Report) {
	p := newPainter(a.stdout)
	fmt.Fprintln(a.stdout, p.paint(bold, "Doctor")+"  "+printable(r.Issuer)+"  "+timeText(r.Time))
	s := &sheet{}
	s.add("browsers", r.Public)
	s.addList("mutual TLS", r.MTLS)
	s.print(a.stdout, p, "  ")
	fmt.Fprintln(a.stdout)
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.Check))
	}
	said := ""
	for _, f := range r.Findings {
		// One reason for several checks is said once.
		if f.Outcome == doctor.Skipped {
			if f.Found == said {
				f.Found = "for the same reason"
			} else {
				said = f.Found
			}
		}
		printFinding(a.stdout, p, f, width)
	}
	fmt.Fprintln(a.stdout)
	ok := len(r.Findings) - r.Problems - r.Notes - r.Skipped
	summary := fmt.Sprintf("%s, %s, %d ok, %d skipped", count(r.Problems, "finding"), count(r.Notes, "note"), ok, r.Skipped)
	st := green
	if r.Problems > 0 {
		st = red
	}
	fmt.Fprintln(a.stdout, p.paint(st, summary))
}

func printFinding(w io.Writer, p painter, f doctor.Finding, width int) {
	word, st := "ok     ", green
	switch f.Outcome {
	case doctor.Problem:
		word, st = "FINDING", red
	case doctor.Note:
		word, st = "note   ", cyan
	case doctor.Skipped:
		word, st = "skipped", dim
	}
	line := p.paint(st, word) + "  " + pad(f.Check, width) + "  " + printable(f.Where)
	if f.Outcome == doctor.OK {
		fmt.Fprintln(w, line+"  "+p.paint(dim, printable(f.Found)))
		return
	}
	if f.Outcome == doctor.Skipped {
		fmt.Fprintln(w, line+"  "+printable(f.Found))
		return
	}
	fmt.Fprintln(w, line)
	s := &sheet{}
	s.add("found", f.Found)
	for _, d := range f.Details {
		s.add("", "- "+d)
	}
	s.add("expected", f.Expected)
	s.add("rule", f.Rule)
	s.add("fix", f.Fix)
	s.print(w, p, "         ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
