package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/listen"
)

// certificates returns all certificates that tokens are bound to. It ends after an error.
func certificates(ctx context.Context, store authserver.Store) iter.Seq2[authserver.CertificateRecord, error] {
	return func(yield func(authserver.CertificateRecord, error) bool) {
		const limit = 1000
		for after := ""; ; {
			page, err := store.Certificates(ctx, after, limit)
			if err != nil {
				yield(authserver.CertificateRecord{}, err)
				return
			}
			for _, c := range page {
				if after = c.Thumbprint; !yield(c, nil) {
					return
				}
			}
			if len(page) < limit {
				return
			}
		}
	}
}

// newestCertificates returns the certificate that each client was seen with first last:
// the one that it has renewed to.
func newestCertificates(ctx context.Context, store authserver.Store) (map[string]authserver.CertificateRecord, error) {
	newest := map[string]authserver.CertificateRecord{}
	for c, err := range certificates(ctx, store) {
		if err != nil {
			return nil, err
		}
		if old, ok := newest[c.ClientID]; !ok || c.FirstSeen.After(old.FirstSeen) {
			newest[c.ClientID] = c
		}
	}
	return newest, nil
}

// endOf says when the certificate of a client ends: the one that it was seen with, or the
// last to end of those that are registered. It is zero if neither is known.
func endOf(c *authserver.Client, newest map[string]authserver.CertificateRecord) (notAfter time.Time, thumbprint string) {
	if seen, ok := newest[c.ID]; ok && !seen.NotAfter.IsZero() {
		return seen.NotAfter.UTC(), seen.Thumbprint
	}
	for _, doc := range [][]byte{c.JWKS, c.NextJWKS} {
		set, err := jwks.Parse(doc, jwks.Strict)
		if err != nil {
			continue
		}
		for _, der := range set.Certificates {
			if certs, err := parseDER(der); err == nil && certs[0].NotAfter.After(notAfter) {
				notAfter, thumbprint = certs[0].NotAfter, certbound.ThumbprintDER(der)
			}
		}
	}
	return notAfter, thumbprint
}

// An expiringRow is something that ends.
type expiringRow struct {
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Note     string    `json:"note,omitempty"`
	// Broken says that it cannot be used already.
	Broken bool `json:"broken,omitempty"`
}

func (a *app) trustExpiringCommand(flags *storeFlags) *cobra.Command {
	var within string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "expiring",
		Short: "Say what expires soon",
		Long: `Say what expires soon: trust anchors and intermediates, the server's certificates, the
certificates that clients were last seen with, and signing keys whose successor is
late. The exit code is 1 if there is anything, so that cron can tell. A client is seen
on its certificate when it gets a bound token; of a self-signed client the registered
certificate counts until then.`,
		Example: `  certbound trust expiring --within 30d
  certbound trust expiring --within 7d --json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := config.ParseDuration(within)
			if err != nil {
				return usagef(cmd, "--within: %q %v", within, err)
			}
			store, file, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			rows, err := a.expiring(cmd.Context(), store, file, a.now().Add(time.Duration(d)))
			if err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(rows)
			} else {
				a.printExpiring(rows, d, file)
			}
			if err == nil && len(rows) > 0 {
				err = errSilent
			}
			return err
		},
	}
	cmd.Flags().StringVar(&within, "within", "30d", "`TIME` from now, such as 12h or 30d")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printExpiring(rows []expiringRow, d config.Duration, file *config.File) {
	if file == nil {
		a.note("without --config the trust anchors and the server's certificates are not looked at")
	}
	if len(rows) == 0 {
		a.note("nothing expires within " + d.String())
		return
	}
	t := table{head: []string{"EXPIRES", "", "WHAT", "NAME", "NOTE"}}
	for _, r := range rows {
		at, span := timeText(r.NotAfter), spanText(a.now(), r.NotAfter)
		if r.Broken {
			at, span = "now", "broken"
		}
		t.rows = append(t.rows, []string{at, span, r.Kind, r.Name, r.Note})
	}
	t.print(a.stdout, newPainter(a.stdout))
}

// expiring returns what ends at or before a time, the first first.
func (a *app) expiring(ctx context.Context, store authserver.Store, file *config.File, before time.Time) ([]expiringRow, error) {
	rows := []expiringRow{}
	add := func(kind, name string, notAfter time.Time, note string) {
		if !notAfter.IsZero() && !notAfter.After(before) {
			rows = append(rows, expiringRow{Kind: kind, Name: name, NotAfter: notAfter.UTC(), Note: note})
		}
	}
	broken := func(kind, name string, err error) {
		rows = append(rows, expiringRow{Kind: kind, Name: name, Note: err.Error(), Broken: true})
	}
	clients, err := allClients(ctx, store, file)
	if err != nil {
		return nil, err
	}
	newest, err := newestCertificates(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		if c.Disabled {
			continue
		}
		notAfter, thumbprint := endOf(c, newest)
		add("client", c.ID, notAfter, thumbprint)
	}
	keys, err := store.SigningKeys(ctx)
	if err != nil {
		return nil, err
	}
	if n := len(keys); n > 0 && !keys[n-1].Retire.IsZero() && keys[n-1].Retire.Before(a.now()) {
		add("signing key", keys[n-1].KID, keys[n-1].Retire, "its successor is late: does the server run?")
	}
	if file != nil {
		for _, s := range file.FileSets() {
			set, err := s.Load(a.now())
			if err != nil {
				broken("anchor set", s.Name, err)
				continue
			}
			for _, c := range set.Anchors {
				add("anchor", subject.Of(c), c.NotAfter, "set "+s.Name)
			}
			for _, c := range set.Helpers {
				add("intermediate", subject.Of(c), c.NotAfter, "set "+s.Name)
			}
		}
		for _, l := range []struct {
			name      string
			cert, key config.Path
		}{{"listen.public", file.Listen.Public.Certificate, file.Listen.Public.Key}, {"listen.mtls", file.Listen.MTLS.Certificate, file.Listen.MTLS.Key}} {
			if l.cert == "" {
				continue
			}
			pair, err := listen.LoadPair(file.Path(l.cert), file.Path(l.key), a.quietLogger())
			if err != nil {
				broken("server certificate", l.name, err)
				continue
			}
			add("server certificate", l.name, pair.NotAfter(), file.Path(l.cert))
		}
	}
	slices.SortStableFunc(rows, func(x, y expiringRow) int { return cmp.Or(x.NotAfter.Compare(y.NotAfter), cmp.Compare(x.Name, y.Name)) })
	return rows, nil
}

// clientEnds returns when the certificates of the clients that are not disabled end.
func clientEnds(ctx context.Context, store authserver.Store, file *config.File) ([]time.Time, error) {
	clients, err := allClients(ctx, store, file)
	if err != nil {
		return nil, err
	}
	newest, err := newestCertificates(ctx, store)
	if err != nil {
		return nil, err
	}
	var ends []time.Time
	for _, c := range clients {
		if notAfter, _ := endOf(c, newest); !c.Disabled && !notAfter.IsZero() {
			ends = append(ends, notAfter)
		}
	}
	return ends, nil
}

// allClients returns the clients of the file and of the store.
func allClients(ctx context.Context, store authserver.Store, file *config.File) ([]*authserver.Client, error) {
	var out []*authserver.Client
	if file != nil {
		out = append(out, file.DeclaredClients()...)
	}
	const limit = 500
	for after := ""; ; {
		page, err := store.Clients(ctx, after, limit)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			if after = c.ID; declared(file, c.ID) == nil { // the declaration wins
				out = append(out, c)
			}
		}
		if len(page) < limit {
			return out, nil
		}
	}
}

// endText is the end of a certificate in a list.
func endText(now, notAfter time.Time) string {
	switch {
	case notAfter.IsZero():
		return "-"
	case notAfter.Before(now):
		return fmt.Sprintf("%s (expired)", notAfter.UTC().Format(time.DateOnly))
	case notAfter.Before(now.Add(nearExpiry)):
		return fmt.Sprintf("%s (%s)", notAfter.UTC().Format(time.DateOnly), spanText(now, notAfter))
	}
	return notAfter.UTC().Format(time.DateOnly)
}
