package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/server/config"
)

func (a *app) clientRotateCommand(flags *storeFlags) *cobra.Command {
	m := metadataFlags{}
	var from, closeOld string
	var cancel, asJSON, dryRun bool
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Register a next certificate or subject beside the current one",
		Long: `Register a next certificate, subject value or anchor set beside the current one, with
dates, so that a client can change over without an outage. Both are accepted from
--from (now, if left out) until --close-old (if left out, until somebody closes the
rotation with '--close-old now'). With both dates the same there is no overlap.

A certificate of a CA with the registered subject needs no registration: it is accepted
already. 'client list' and the log ("client now uses new certificate") tell when the
client has changed over.`,
		Example: `  certbound client rotate billing --cert renewed.pem --close-old 7d
  certbound client rotate billing --dn 'CN=billing2,O=Agora' --from 2027-01-01 --close-old 2027-01-08
  certbound client rotate billing --anchor-set new-ca
  certbound client rotate billing --close-old now
  certbound client rotate billing --cancel`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			given := m.subjects()
			next := m.cert != "" || len(given) > 0 || m.anchorSet != ""
			switch {
			case len(given) > 1:
				return usagef(cmd, "a client has exactly one subject value (RFC 8705, Section 2.1.2), found %s and %s; keep one", given[0].flag(), given[1].flag())
			case cancel && (next || from != "" || closeOld != ""):
				return usagef(cmd, "--cancel goes with nothing else")
			case !cancel && !next && closeOld == "" && from == "":
				return usagef(cmd, "what is next? Give --cert FILE, a subject such as --dn, or --anchor-set; or close what is under way with --close-old or --cancel")
			}
			store, file, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			c, err := store.Client(cmd.Context(), args[0])
			if err != nil {
				return notFound(cmd.Context(), err, store, file, args[0])
			}
			got := &findings{}
			// A rotation whose end has come is over, although nobody has closed it.
			now := a.now()
			if rotating(c) && !c.Rotation(now).Current {
				c.Promote()
				got.note("the last rotation is over; what was next is the current one")
			}
			switch {
			case cancel && !rotating(c), !next && !rotating(c):
				return fmt.Errorf("no rotation of %s is under way", c.ID)
			case cancel:
				c.CancelRotation()
			case next && rotating(c):
				return hinted(fmt.Errorf("a rotation of %s is under way", c.ID), "close it with '--close-old now', or forget it with '--cancel'")
			case next:
				done, err := a.proposeNext(&m, c, given, got)
				if err != nil {
					return err
				}
				if done {
					a.printFindings(got)
					return nil
				}
			}
			if from != "" {
				if c.NextNotBefore, err = a.parseDate(from); err != nil {
					return usagef(cmd, "--from: %v", err)
				}
			}
			if closeOld != "" {
				if c.CurrentNotAfter, err = a.parseDate(closeOld); err != nil {
					return usagef(cmd, "--close-old: %v", err)
				}
				if !c.CurrentNotAfter.After(now) && !c.CurrentNotAfter.Before(c.NextNotBefore) {
					c.Promote() // exactly one again
				}
			}
			a.printFindings(got)
			if err := validateClient(c, file); err != nil {
				return err
			}
			c.Updated = now.UTC().Truncate(time.Second)
			word := "Would rotate"
			if !dryRun {
				word = "Rotated"
				if rotating(c) {
					word = "Rotating"
				}
				if err := store.UpdateClient(cmd.Context(), c); err != nil {
					if errors.Is(err, authserver.ErrConflict) {
						return hinted(fmt.Errorf("%s was changed by somebody else at the same time", c.ID), "try again")
					}
					return notFound(cmd.Context(), err, store, file, args[0])
				}
			}
			return a.printOutcome(word, c, got, file, asJSON)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&m.cert, "cert", "", "next certificate `FILE` ('-' for stdin)")
	f.StringVar(&m.dn, "dn", "", "next subject as RFC 4514 `TEXT`")
	f.StringVar(&m.sanDNS, "san-dns", "", "next dNSName (`HOST`)")
	f.StringVar(&m.sanURI, "san-uri", "", "next `URI`")
	f.StringVar(&m.sanIP, "san-ip", "", "next iPAddress (`IP`)")
	f.StringVar(&m.sanEmail, "san-email", "", "next rfc822Name (`MAILBOX`)")
	f.StringVar(&m.anchorSet, "anchor-set", "", "`NAME` of the next CAs")
	f.StringVar(&from, "from", "", "`WHEN` the next begins to be accepted: a date, a time (RFC 3339), or how long from now, such as 7d")
	f.StringVar(&closeOld, "close-old", "", "`WHEN` the current one ends to be accepted: now, or as --from")
	f.BoolVar(&cancel, "cancel", false, "forget what is next")
	f.BoolVar(&dryRun, "dry-run", false, "show what would be registered, and change nothing")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c candidate) flag() string { return subjectFlags[c.Member] }

// rotating reports whether a next identity is registered.
func rotating(c *authserver.Client) bool {
	return c.NextSubject != "" || c.NextAnchorSet != "" || len(c.NextJWKS) > 0
}

// proposeNext sets what is next by the flags. done says that nothing needs to be.
func (a *app) proposeNext(m *metadataFlags, c *authserver.Client, given []candidate, f *findings) (done bool, err error) {
	method := c.Method()
	if method != clientauth.TLSClientAuth && method != clientauth.SelfSignedTLSClientAuth {
		return false, hinted(fmt.Errorf("%s authenticates with %s, which has no certificate to rotate", c.ID, method), "'certbound client update' changes a registration")
	}
	c.NextAnchorSet = m.anchorSet
	if len(given) == 1 {
		probe := authserver.Client{}
		if err := setSubject(&probe, given[0], f); err != nil {
			return false, err
		}
		kind, value := probe.Subject()
		c.NextSubjectKind, c.NextSubject = string(kind), value
	}
	if m.cert == "" {
		return false, nil
	}
	certs, err := a.readCertificate(m.cert)
	if err != nil {
		return false, err
	}
	leaf := certs[0]
	if now := a.now(); now.After(leaf.NotAfter) {
		f.warn("the certificate expired on %s", timeText(leaf.NotAfter))
	} else if now.Before(leaf.NotBefore) {
		f.warn("the certificate is not valid before %s", timeText(leaf.NotBefore))
	}
	if method == clientauth.SelfSignedTLSClientAuth {
		if c.JWKSURI != "" {
			return false, hinted(fmt.Errorf("%s publishes its certificates at %s", c.ID, c.JWKSURI), "publish the next one there; the server fetches it when the client comes with it")
		}
		probe := authserver.Client{}
		if err := registerCertificate(&probe, leaf); err != nil {
			return false, err
		}
		c.NextJWKS = probe.JWKS
		return false, nil
	}
	if len(given) == 1 {
		expected, err := subject.New(subject.Kind(c.NextSubjectKind), c.NextSubject)
		if err == nil && expected.Match(leaf) != nil {
			f.warn("this certificate does not have the value that is to be next")
		}
		return false, nil
	}
	kind, value := c.Subject()
	if expected, err := subject.New(kind, value); err == nil && expected.Match(leaf) == nil {
		if c.NextAnchorSet != "" {
			return false, nil
		}
		f.note("the certificate has the registered %s: it is accepted already, and nothing was changed", kind)
		return true, nil
	}
	// A value of the same kind, if there is one, and only one.
	described, err := subject.Describe(leaf)
	if err != nil {
		return false, err
	}
	var values []string
	for _, d := range described {
		if d.Kind == kind && d.Value != "" {
			values = append(values, d.Value)
		}
	}
	if len(values) != 1 {
		return false, hinted(fmt.Errorf("the certificate has %d names of the kind that is registered, %s", len(values), kind),
			"say which name is next, such as with %s; 'certbound inspect' shows all", subjectFlags[kind])
	}
	c.NextSubjectKind, c.NextSubject = string(kind), values[0]
	return false, nil
}

// rotationRows adds what is next to a sheet.
func rotationRows(s *sheet, c *authserver.Client) {
	if !rotating(c) {
		return
	}
	if c.NextSubject != "" {
		s.add("next "+c.NextSubjectKind, c.NextSubject)
	}
	s.add("next anchor set", c.NextAnchorSet)
	s.addList("next jwks: x5t#S256", thumbprints(c.NextJWKS))
	if !c.NextNotBefore.IsZero() {
		s.add("next accepted from", timeText(c.NextNotBefore))
	}
	if c.CurrentNotAfter.IsZero() {
		s.addNote("current accepted", "until it is closed", "certbound client rotate "+shellQuote(c.ID)+" --close-old now", dim)
	} else {
		s.add("current accepted until", timeText(c.CurrentNotAfter))
	}
}

// parseDate reads a point in time as people write it.
func (a *app) parseDate(text string) (time.Time, error) {
	now := a.now().UTC().Truncate(time.Second)
	if text == "now" {
		return now, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	d, err := config.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither now, nor a date such as %s, nor a time from now such as 7d", text, now.Add(7*24*time.Hour).Format(time.DateOnly))
	}
	return now.Add(time.Duration(d)), nil
}
