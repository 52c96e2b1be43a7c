package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/server/people/accounts"
)

func (a *app) userCommand() *cobra.Command {
	flags := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Manage the built-in accounts of people",
		Long: `Manage the built-in accounts of people, for servers with login: accounts. They are
kept in the database of the server, passwords as Argon2id hashes. A running server
sees a change at the next request.`,
		Example: `  certbound user add ann --full-name 'Ann Example' --email ann@example.org
  certbound user list
  certbound user passwd ann
  certbound user disable ann`,
	}
	asGroup(cmd)
	flags.register(cmd)
	cmd.AddCommand(a.userAddCommand(flags), a.userListCommand(flags), a.userPasswdCommand(flags),
		a.userStateCommand(flags, "disable"), a.userStateCommand(flags, "enable"), a.userStateCommand(flags, "remove"))
	return cmd
}

// openAccounts opens the accounts of a server.
func (a *app) openAccounts(cmd *cobra.Command, flags *storeFlags, create bool) (*accounts.Directory, func() error, error) {
	store, _, err := a.openStore(cmd, flags, create)
	if err != nil {
		return nil, nil, err
	}
	users, ok := store.(accounts.Store)
	grants, ok2 := store.(authserver.GrantStore)
	if !ok || !ok2 { // the empty store in place of a database that is not there yet
		store.Close()
		return nil, nil, hinted(errors.New("there is no account yet"), "make one with 'certbound user add NAME'")
	}
	return &accounts.Directory{Store: users, Grants: grants, Now: a.now}, store.Close, nil
}

// A userRow is what is shown of an account.
type userRow struct {
	Name        string                     `json:"name"`
	Subject     string                     `json:"sub"`
	State       string                     `json:"state"` // active, closed, disabled
	ClosedUntil time.Time                  `json:"closed_until,omitzero"`
	Failures    int                        `json:"wrong_passwords,omitempty"`
	Claims      map[string]json.RawMessage `json:"claims,omitempty"`
	Created     time.Time                  `json:"created"`
}

func newUserRow(u *accounts.User, now time.Time) userRow {
	row := userRow{Name: u.Name, Subject: u.Subject, State: "active", Failures: u.Failures, Claims: u.Claims, Created: u.Created.UTC()}
	switch {
	case u.Disabled:
		row.State = "disabled"
	case now.Before(u.LockedUntil):
		row.State, row.ClosedUntil = "closed", u.LockedUntil.UTC()
	}
	return row
}

// passwordFlags say where a password comes from.
type passwordFlags struct{ stdin, generate bool }

func (f *passwordFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input, up to the end of the line")
	cmd.Flags().BoolVar(&f.generate, "generate", false, "make a password and print it once")
	cmd.MarkFlagsMutuallyExclusive("password-stdin", "generate")
}

// password gets a new password; generated says that nobody has seen it yet.
func (a *app) password(cmd *cobra.Command, f passwordFlags) (password string, generated bool, err error) {
	if f.generate {
		var random [15]byte
		rand.Read(random[:])
		return base64.RawURLEncoding.EncodeToString(random[:]), true, nil
	}
	if f.stdin {
		line, err := bufio.NewReader(io.LimitReader(a.stdin, accounts.MaxPassword+2)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", false, err
		}
		return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), false, nil
	}
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", false, usagef(cmd, "there is no terminal to ask for the password; give --password-stdin or --generate")
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(a.stderr, what)
		typed, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(a.stderr)
		return string(typed), err
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", false, err
	}
	if err := accounts.CheckPassword(first); err != nil {
		return "", false, err
	}
	second, err := ask("Once more: ")
	if err != nil {
		return "", false, err
	}
	if first != second {
		return "", false, errors.New("the two passwords differ; nothing was changed")
	}
	return first, false, nil
}

func (a *app) userAddCommand(flags *storeFlags) *cobra.Command {
	var p passwordFlags
	var full, email string
	var claims []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add an account",
		Long: `Add an account. The password is asked for, read from standard input, or made. What
clients may see of the person are claims: name and email by flags of their own,
others as --claim NAME=VALUE, where VALUE is JSON or else a string.`,
		Example: `  certbound user add ann --full-name 'Ann Example' --email ann@example.org
  certbound user add ann --generate
  certbound user add ann --password-stdin --claim phone_number=+49301234 < password.txt`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			values := map[string]json.RawMessage{}
			for _, c := range claims {
				name, value, ok := strings.Cut(c, "=")
				if !ok || name == "" {
					return usagef(cmd, "--claim: expected NAME=VALUE, found %q", c)
				}
				if name == "sub" {
					return usagef(cmd, "--claim: sub is chosen by the server and never changes")
				}
				values[name] = claimValue(value)
			}
			for name, value := range map[string]string{"name": full, "email": email} {
				if value != "" {
					values[name], _ = json.Marshal(value) // strings always encode
				}
			}
			dir, done, err := a.openAccounts(cmd, flags, true)
			if err != nil {
				return err
			}
			defer done()
			password, generated, err := a.password(cmd, p)
			if err != nil {
				return err
			}
			u, err := dir.Add(cmd.Context(), args[0], password, values)
			if errors.Is(err, authserver.ErrExists) {
				return hinted(fmt.Errorf("%s is there already", args[0]), "change the password with 'certbound user passwd %s'", args[0])
			}
			if err != nil {
				return err
			}
			row := newUserRow(u, a.now())
			if asJSON {
				type added struct {
					userRow
					Password string `json:"password,omitempty"`
				}
				out := added{userRow: row}
				if generated {
					out.Password = password
				}
				return a.printJSON(out)
			}
			fmt.Fprintf(a.stdout, "Added %s\n", printable(u.Name))
			s := &sheet{}
			s.add("sub", u.Subject)
			if generated {
				s.addNote("password", password, "shown only now", yellow)
			}
			s.print(a.stdout, newPainter(a.stdout), "  ")
			return nil
		},
	}
	p.register(cmd)
	cmd.Flags().StringVar(&full, "full-name", "", "the claim `NAME`")
	cmd.Flags().StringVar(&email, "email", "", "the claim email, an `ADDRESS`")
	cmd.Flags().StringArrayVar(&claims, "claim", nil, "another claim, `NAME=VALUE`; may repeat")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// claimValue takes JSON as it is, and anything else as a string. A number that begins
// with a plus sign is none in JSON.
func claimValue(s string) json.RawMessage {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	quoted, _ := json.Marshal(s)
	return quoted
}

func (a *app) userListCommand(flags *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the accounts",
		Example: "  certbound user list --json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, done, err := a.openAccounts(cmd, flags, false)
			if err != nil {
				return err
			}
			defer done()
			rows := []userRow{}
			for after := ""; ; {
				page, err := dir.Store.Users(cmd.Context(), after, 1000)
				if err != nil {
					return err
				}
				for _, u := range page {
					rows = append(rows, newUserRow(u, a.now()))
					after = u.Name
				}
				if len(page) < 1000 {
					break
				}
			}
			if asJSON {
				return a.printJSON(rows)
			}
			if len(rows) == 0 {
				a.note("there is no account yet; make one with 'certbound user add NAME'")
				return nil
			}
			t := table{head: []string{"NAME", "STATE", "SUB", "CREATED"}}
			for _, r := range rows {
				state := r.State
				if !r.ClosedUntil.IsZero() {
					state += " until " + timeText(r.ClosedUntil)
				}
				t.rows = append(t.rows, []string{r.Name, state, r.Subject, timeText(r.Created)})
			}
			t.print(a.stdout, newPainter(a.stdout))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) userPasswdCommand(flags *storeFlags) *cobra.Command {
	var p passwordFlags
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Change the password of an account",
		Long: `Change the password of an account. Its sessions end, and an account that was closed
after wrong passwords is open again. What the person has allowed stays.`,
		Example:           "  certbound user passwd ann",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeUser(flags),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, done, err := a.openAccounts(cmd, flags, false)
			if err != nil {
				return err
			}
			defer done()
			if _, err := a.user(cmd.Context(), dir, args[0]); err != nil { // before anybody types a password
				return err
			}
			password, generated, err := a.password(cmd, p)
			if err != nil {
				return err
			}
			if err := dir.SetPassword(cmd.Context(), args[0], password); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "Changed the password of %s\n", printable(args[0]))
			if generated {
				s := &sheet{}
				s.addNote("password", password, "shown only now", yellow)
				s.print(a.stdout, newPainter(a.stdout), "  ")
			}
			return nil
		},
	}
	p.register(cmd)
	return cmd
}

// userStateCommand makes disable, enable and remove.
func (a *app) userStateCommand(flags *storeFlags, verb string) *cobra.Command {
	texts := map[string]struct{ short, long string }{
		"disable": {"Close an account, and end all that its person has allowed", `Close an account. Its sessions end, and so do all grants of the person: refresh tokens
at once, access tokens as soon as resource servers hear of it (introspection at once,
the revocation feed within its interval).`},
		"enable": {"Open an account again", "Open an account again, also one that was closed after wrong passwords. What had ended stays so."},
		"remove": {"Delete an account, after all that 'disable' does", `Delete an account, after all that 'disable' does. Its subject is never given to another
account, also not to one with the same name.`},
	}
	done := map[string]string{"disable": "Disabled", "enable": "Enabled", "remove": "Removed"}
	return &cobra.Command{
		Use:               verb + " NAME",
		Short:             texts[verb].short,
		Long:              texts[verb].long,
		Example:           "  certbound user " + verb + " ann",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeUser(flags),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, closeStore, err := a.openAccounts(cmd, flags, false)
			if err != nil {
				return err
			}
			defer closeStore()
			u, err := a.user(cmd.Context(), dir, args[0])
			if err != nil {
				return err
			}
			ended := 0
			switch verb {
			case "disable":
				ended, err = dir.Disable(cmd.Context(), u.Name)
			case "enable":
				err = dir.Enable(cmd.Context(), u.Name)
			case "remove":
				ended, err = dir.Remove(cmd.Context(), u.Name)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s %s", done[verb], printable(u.Name))
			switch {
			case ended == 1:
				fmt.Fprint(a.stdout, "; one grant has ended")
			case ended > 1:
				fmt.Fprintf(a.stdout, "; %d grants have ended", ended)
			}
			fmt.Fprintln(a.stdout)
			return nil
		},
	}
}

// user returns an account, or an error that says what there is.
func (a *app) user(ctx context.Context, dir *accounts.Directory, name string) (*accounts.User, error) {
	folded, err := accounts.Fold(name)
	if err != nil {
		return nil, err
	}
	u, err := dir.Store.User(ctx, folded)
	if errors.Is(err, authserver.ErrNotFound) {
		return nil, hinted(fmt.Errorf("there is no account %q", name), "see 'certbound user list'")
	}
	return u, err
}

// completeUser completes the name of an account in the shell.
func (a *app) completeUser(flags *storeFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		dir, done, err := a.openAccounts(cmd, flags, false)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer done()
		users, err := dir.Store.Users(cmd.Context(), "", 1000)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var out []string
		for _, u := range users {
			if strings.HasPrefix(u.Name, prefix) {
				out = append(out, u.Name)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
