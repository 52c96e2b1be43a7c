package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/pki/revocation"
	"github.com/certbound/certbound/server/config"
)

// A sourceRow is one source of revocations, as /revocation of the admin listener and
// trust status --json have it.
type sourceRow struct {
	Set             string    `json:"set"`
	Kind            string    `json:"kind"`
	Source          string    `json:"source"`
	FromCertificate bool      `json:"from_certificate,omitzero"`
	State           string    `json:"state"`
	Issuer          string    `json:"issuer,omitzero"`
	Number          string    `json:"number,omitzero"`
	Delta           bool      `json:"delta,omitzero"`
	ThisUpdate      time.Time `json:"this_update,omitzero"`
	NextUpdate      time.Time `json:"next_update,omitzero"`
	Entries         int       `json:"entries"`
	Fetched         time.Time `json:"fetched,omitzero"`
	NextFetch       time.Time `json:"next_fetch,omitzero"`
	Successes       uint64    `json:"successes"`
	Failures        uint64    `json:"failures"`
	Error           string    `json:"error,omitzero"`
	StoreError      string    `json:"store_error,omitzero"`
}

func sourceRows(set string, status []revocation.SourceStatus) []sourceRow {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	rows := make([]sourceRow, len(status))
	for i, s := range status {
		rows[i] = sourceRow{
			Set: set, Kind: s.Kind, Source: s.Name, FromCertificate: s.FromCertificate, State: s.State, Issuer: s.Issuer,
			Number: s.Number, Delta: s.Delta, ThisUpdate: utc(s.ThisUpdate), NextUpdate: utc(s.NextUpdate), Entries: s.Entries,
			Fetched: utc(s.Fetched), NextFetch: utc(s.NextFetch), Successes: s.Successes, Failures: s.Failures,
			Error: text(s.Err), StoreError: text(s.StoreErr),
		}
	}
	return rows
}

// bad reports whether an operator should look at the source.
func (r *sourceRow) bad() bool { return r.State != "good" && r.State != "unused" || r.Error != "" }

func (a *app) trustStatusCommand(flags *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the CRLs and OCSP responders of a running server",
		Long: `Show the CRLs and OCSP responders of a running server: which are in use, until when
they are valid, and why one cannot be read. It asks the admin listener
(listen.admin.address).

The exit code is 0 if all is well, 1 if a source is stale, missing or failing.`,
		Example: `  certbound trust status --config certbound.yaml
  certbound trust status --json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := config.Load(cmp.Or(flags.config, defaultConfig))
			if err != nil {
				return err
			}
			rows, err := a.askStatus(cmd, file.Listen.Admin.Address)
			if err != nil {
				return err
			}
			if asJSON {
				if err := a.printJSON(rows); err != nil {
					return err
				}
			} else {
				a.printStatus(rows)
			}
			broken := 0
			for i := range rows {
				if rows[i].bad() {
					broken++
				}
			}
			if broken > 0 {
				return fmt.Errorf("%d of %d revocation sources cannot be relied on", broken, len(rows))
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) askStatus(cmd *cobra.Command, address string) ([]sourceRow, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, hinted(errors.New("the server has no admin listener"), "set listen.admin.address")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	target := "http://" + net.JoinHostPort(host, port) + "/revocation"
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}} // no proxy: it is this host
	resp, err := client.Do(req)
	if err != nil {
		return nil, hinted(err, "is the server running, and is listen.admin.address that of this configuration?")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d where 200 was expected", target, resp.StatusCode)
	}
	var rows []sourceRow
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&rows); err != nil {
		return nil, fmt.Errorf("%s: not the answer of a certbound server: %w", target, err)
	}
	return rows, nil
}

func (a *app) printStatus(rows []sourceRow) {
	if len(rows) == 0 {
		a.note("no anchor set checks revocation; see trust.sets[].revocation")
		return
	}
	t := table{head: []string{"SET", "KIND", "STATE", "ENTRIES", "ENDS", "SOURCE"}}
	for _, r := range rows {
		entries, ends := "-", "-"
		if !r.NextUpdate.IsZero() {
			entries, ends = strconv.Itoa(r.Entries), timeText(r.NextUpdate)
		}
		t.rows = append(t.rows, []string{r.Set, r.Kind, r.State, entries, ends, printable(r.Source)})
	}
	t.print(a.stdout, newPainter(a.stdout))
	for _, r := range slices.DeleteFunc(slices.Clone(rows), func(r sourceRow) bool { return r.Error == "" && r.StoreError == "" }) {
		a.warn(r.Source + ": " + cmp.Or(r.Error, r.StoreError))
	}
}
