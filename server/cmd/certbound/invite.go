package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/server/config"
)

// An inviteRow is what is shown of an initial access token.
type inviteRow struct {
	Name string `json:"name"`
	// Token is shown once, when it is made.
	Token     string    `json:"initial_access_token,omitempty"`
	AnchorSet string    `json:"anchor_set,omitempty"`
	Profile   string    `json:"profile,omitempty"`
	Methods   []string  `json:"methods,omitempty"`
	Scopes    []string  `json:"scopes,omitempty"`
	Resources []string  `json:"resources,omitempty"`
	Uses      int       `json:"uses_left"` // -1: any number
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
}

func inviteRowOf(t *authserver.InitialToken) inviteRow {
	return inviteRow{Name: t.Name, AnchorSet: t.AnchorSet, Profile: t.Profile, Methods: t.Methods, Scopes: t.Scopes,
		Resources: t.Resources, Uses: t.Uses, Created: t.Created, Expires: t.Expires}
}

func (r *inviteRow) usesText() string {
	if r.Uses < 0 {
		return "any number"
	}
	return fmt.Sprint(r.Uses)
}

// openGrants opens a store that keeps initial access tokens.
func (a *app) openGrants(cmd *cobra.Command, flags *storeFlags, create bool) (authserver.GrantStore, *config.File, error) {
	store, file, err := a.openStore(cmd, flags, create)
	if err != nil {
		return nil, nil, err
	}
	grants, ok := store.(authserver.GrantStore)
	if !ok {
		return nil, nil, errors.Join(errors.New("this store keeps no initial access tokens"), store.Close())
	}
	return grants, file, nil
}

func (a *app) clientInviteCommand(flags *storeFlags) *cobra.Command {
	var t authserver.InitialToken
	var expires string
	var list, remove, asJSON bool
	cmd := &cobra.Command{
		Use:   "invite [NAME]",
		Short: "Let clients register themselves",
		Long: `Make an initial access token (RFC 7591), with which clients register themselves at the
registration endpoint. It is shown once; the database has only its hash. What the clients
may have, and which CAs stand for them, is decided here and never by their own request.
What no flag names is as in the section 'registration' of the configuration.

With --list the tokens are listed, and with --remove NAME one is taken back. Clients that
have registered with it stay; 'certbound client list' and 'client remove' are for them.`,
		Example: `  certbound client invite partner-7 --anchor-set partners --scope read --uses 1
  certbound client invite banks --profile fapi2 --method tls_client_auth --expires 30d
  certbound client invite --list
  certbound client invite partner-7 --remove`,
		Args: func(cmd *cobra.Command, args []string) error {
			if list {
				return exactArgs()(cmd, args)
			}
			return exactArgs("NAME")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case list && remove:
				return usagef(cmd, "--list and --remove exclude each other; keep one")
			case list:
				return a.listInvites(cmd, flags, asJSON)
			case remove:
				return a.removeInvite(cmd, flags, args[0])
			}
			return a.invite(cmd, flags, args[0], t, expires, asJSON)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&t.AnchorSet, "anchor-set", "", "`NAME` of the CAs for the clients")
	f.StringVar(&t.Profile, "profile", "", "`PROFILE` of the clients: fapi2")
	f.StringArrayVar(&t.Methods, "method", nil, "authentication `METHOD` that they may use (repeatable)")
	f.StringArrayVar(&t.Scopes, "scope", nil, "`SCOPE` that they may have (repeatable)")
	f.StringArrayVar(&t.Resources, "resource", nil, "`URI` that they may ask tokens for (repeatable)")
	f.IntVar(&t.Uses, "uses", 1, "how `OFTEN` it can be used; 0: any number of times")
	f.StringVar(&expires, "expires", "7d", "`TIME` until it ends")
	f.BoolVar(&list, "list", false, "list the tokens that there are")
	f.BoolVar(&remove, "remove", false, "take the token back")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) invite(cmd *cobra.Command, flags *storeFlags, name string, t authserver.InitialToken, expires string, asJSON bool) error {
	life, err := config.ParseDuration(expires)
	if err != nil || life <= 0 {
		return usagef(cmd, "--expires: expected a time such as 7d, found %q", expires)
	}
	if t.Uses < 0 {
		return usagef(cmd, "--uses: expected 0 or more, found %d", t.Uses)
	}
	if t.Uses == 0 {
		t.Uses = -1
	}
	if name == "" || len(name) > 256 || strings.ContainsFunc(name, func(r rune) bool { return r < 0x21 || r == 0x7f }) {
		return usagef(cmd, "the name needs 1 to 256 characters, without spaces")
	}
	for _, list := range []*[]string{&t.Methods, &t.Scopes, &t.Resources} {
		var words []string
		for _, v := range *list { // --scope 'read write' is two
			words = append(words, strings.Fields(v)...)
		}
		*list = words
	}
	store, file, err := a.openGrants(cmd, flags, true)
	if err != nil {
		return err
	}
	defer store.Close()
	if file != nil {
		if err := checkInvite(&t, file); err != nil {
			return err
		}
		if !file.Registration.Enabled {
			a.warn("registration.enabled is false in " + file.Name + ": nobody can use the token")
		}
	}
	t.Name, t.Created = name, a.now().UTC().Truncate(time.Second)
	t.Expires = t.Created.Add(time.Duration(life))
	var value string
	value, t.Hash = authserver.NewInitialToken()
	if err := store.SaveInitialToken(cmd.Context(), &t); err != nil {
		if errors.Is(err, authserver.ErrExists) {
			return hinted(fmt.Errorf("there is a token %s already", name), "choose another name, or take that one back with 'certbound client invite %s --remove'", name)
		}
		return err
	}
	row := inviteRowOf(&t)
	row.Token = value
	if asJSON {
		return a.printJSON(row)
	}
	p := newPainter(a.stdout)
	fmt.Fprintln(a.stdout, p.paint(bold, "Invited "+printable(name)))
	s := &sheet{}
	s.addNote("token", value, "shown this once", yellow)
	s.add("uses", row.usesText())
	s.add("expires", timeText(t.Expires))
	s.add("anchor set", t.AnchorSet)
	s.add("profile", t.Profile)
	s.addList("method", t.Methods)
	s.addList("scope", t.Scopes)
	s.addList("resource", t.Resources)
	if file != nil {
		s.add("endpoint", strings.TrimSuffix(file.Issuer, "/")+"/register")
	}
	s.print(a.stdout, p, "  ")
	return nil
}

// checkInvite compares a token with the server that it is for.
func checkInvite(t *authserver.InitialToken, file *config.File) error {
	rules := file.Rules()
	var errs []error
	if t.AnchorSet != "" && !file.HasAnchorSet(t.AnchorSet) {
		errs = append(errs, fmt.Errorf("--anchor-set: there is no set %q in %s", t.AnchorSet, file.Name))
	}
	if t.Profile != "" && t.Profile != authserver.ProfileFAPI2 {
		errs = append(errs, fmt.Errorf("--profile: expected %s, found %q", authserver.ProfileFAPI2, t.Profile))
	}
	for _, list := range []struct {
		flag       string
		values, of []string
	}{{"--method", t.Methods, rules.Methods}, {"--scope", t.Scopes, rules.Scopes}, {"--resource", t.Resources, rules.Resources}} {
		for _, v := range list.values {
			if !slices.Contains(list.of, v) {
				errs = append(errs, fmt.Errorf("%s: the server has no %q", list.flag, v))
			}
		}
	}
	return errors.Join(errs...)
}

func invites(cmd *cobra.Command, store authserver.GrantStore) ([]*authserver.InitialToken, error) {
	var all []*authserver.InitialToken
	for after := ""; ; {
		page, err := store.InitialTokens(cmd.Context(), after, 1000)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < 1000 {
			return all, nil
		}
		after = page[len(page)-1].Name
	}
}

func (a *app) listInvites(cmd *cobra.Command, flags *storeFlags, asJSON bool) error {
	store, _, err := a.openGrants(cmd, flags, false)
	if err != nil {
		return err
	}
	defer store.Close()
	all, err := invites(cmd, store)
	if err != nil {
		return err
	}
	rows := []inviteRow{}
	for _, t := range all {
		rows = append(rows, inviteRowOf(t))
	}
	if asJSON {
		return a.printJSON(rows)
	}
	if len(rows) == 0 {
		a.note("there is no initial access token")
		return nil
	}
	t := table{head: []string{"NAME", "USES LEFT", "EXPIRES", "ANCHOR SET", "PROFILE", "SCOPES"}}
	for _, r := range rows {
		end := r.Expires.UTC().Format(time.DateOnly)
		if !a.now().Before(r.Expires) {
			end += " (expired)"
		}
		t.rows = append(t.rows, []string{r.Name, r.usesText(), end, r.AnchorSet, r.Profile, strings.Join(r.Scopes, " ")})
	}
	t.print(a.stdout, newPainter(a.stdout))
	return nil
}

func (a *app) removeInvite(cmd *cobra.Command, flags *storeFlags, name string) error {
	store, _, err := a.openGrants(cmd, flags, false)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.DeleteInitialToken(cmd.Context(), name); err != nil {
		if errors.Is(err, authserver.ErrNotFound) {
			return hinted(fmt.Errorf("there is no token %q", name), "'certbound client invite --list' shows all")
		}
		return err
	}
	fmt.Fprintln(a.stdout, "Removed", printable(name))
	return nil
}
