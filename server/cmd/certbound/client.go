package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/server/config"
)

func (a *app) clientCommand() *cobra.Command {
	flags := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Manage registrations",
		Long: `Manage registrations. They are written to the database of the server, which sees a
change within one second. Clients that are declared in the configuration file are
listed, but changed there.`,
		Example: `  certbound client add billing --cert billing.pem --scope 'read write'
  certbound client list
  certbound client show billing --json`,
	}
	asGroup(cmd)
	flags.register(cmd)
	cmd.AddCommand(a.clientAddCommand(flags), a.clientListCommand(flags), a.clientInviteCommand(flags))
	for _, known := range []*cobra.Command{a.clientShowCommand(flags), a.clientUpdateCommand(flags), a.clientRotateCommand(flags), a.clientRemoveCommand(flags)} {
		known.ValidArgsFunction = a.completeClient(flags)
		cmd.AddCommand(known)
	}
	return cmd
}

func (a *app) clientAddCommand(flags *storeFlags) *cobra.Command {
	var m metadataFlags
	var asJSON, dryRun bool
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Register a client",
		Long: `Register a client. With --cert the certificate is read and the right metadata are
proposed and taken: the one subject value for a certificate of a CA
(tls_client_auth), the JWK with x5c for a self-signed certificate
(self_signed_tls_client_auth). What is given by a flag wins.`,
		Example: `  certbound client add billing --cert billing.pem --scope read
  certbound client add billing --dn 'CN=billing,O=Agora'
  certbound client add billing --san-uri spiffe://agora.example/billing --anchor-set spire
  certbound client add batch --method client_secret_basic
  certbound client add billing --cert billing.pem --dry-run`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, file, err := a.openStore(cmd, flags, true)
			if err != nil {
				return err
			}
			defer store.Close()
			c := &authserver.Client{ID: args[0], BoundTokens: true, Created: a.now().UTC().Truncate(time.Second)}
			got, err := a.applyMetadata(cmd, &m, c, file)
			if err != nil {
				return err
			}
			a.printFindings(got)
			if err := validateClient(c, file); err != nil {
				return err
			}
			if declared(file, c.ID) != nil {
				return hinted(fmt.Errorf("%s is declared in %s", c.ID, file.Name), "change it there, or choose another id")
			}
			if !dryRun {
				err = store.CreateClient(cmd.Context(), c)
				if errors.Is(err, authserver.ErrExists) {
					return hinted(fmt.Errorf("%s is registered already", c.ID), "change it with 'certbound client update %s'", c.ID)
				}
				if err != nil {
					return err
				}
			}
			word := "Registered"
			if dryRun {
				word = "Would register"
			}
			return a.printOutcome(word, c, got, file, asJSON)
		},
	}
	m.register(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be registered, and change nothing")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) clientUpdateCommand(flags *storeFlags) *cobra.Command {
	var m metadataFlags
	var asJSON, enable bool
	cmd := &cobra.Command{
		Use:   "update ID",
		Short: "Change a registration",
		Long: `Change a registration. What no flag names stays as it is. With --cert the metadata
are proposed anew, as for 'client add'.`,
		Example: `  certbound client update billing --scope 'read write'
  certbound client update billing --cert renewed.pem
  certbound client update billing --disabled
  certbound client update batch --new-secret`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, file, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			c, err := store.Client(cmd.Context(), args[0])
			if err != nil {
				return notFound(cmd.Context(), err, store, file, args[0])
			}
			if enable {
				c.Disabled = false
			}
			got, err := a.applyMetadata(cmd, &m, c, file)
			if err != nil {
				return err
			}
			a.printFindings(got)
			if err := validateClient(c, file); err != nil {
				return err
			}
			c.Updated = a.now().UTC().Truncate(time.Second)
			if err := store.UpdateClient(cmd.Context(), c); err != nil {
				if errors.Is(err, authserver.ErrConflict) {
					return hinted(fmt.Errorf("%s was changed by somebody else at the same time", c.ID), "try again")
				}
				return notFound(cmd.Context(), err, store, file, args[0])
			}
			return a.printOutcome("Updated", c, got, file, asJSON)
		},
	}
	m.register(cmd)
	cmd.Flags().BoolVar(&enable, "enable", false, "accept the client again")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// A clientRow is one line of the list.
type clientRow struct {
	ID       string    `json:"client_id"`
	Name     string    `json:"client_name,omitempty"`
	Method   string    `json:"token_endpoint_auth_method"`
	Identity string    `json:"identity,omitempty"`
	Bound    bool      `json:"bound_tokens"`
	Source   string    `json:"source"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	// The certificate that it was seen with, or that is registered.
	Thumbprint string    `json:"certificate_x5t#S256,omitempty"`
	NotAfter   time.Time `json:"certificate_not_after,omitzero"`
	// Rotating says that two identities are registered.
	Rotating bool `json:"rotating,omitempty"`
}

func (a *app) clientListCommand(flags *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List registrations",
		Long: `List registrations. EXPIRES is the end of the certificate that a client was first seen
with last, when it got a bound token, or else of the one that is registered.`,
		Example: `  certbound client list
  certbound client list --json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, file, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			clients, err := allClients(cmd.Context(), store, file)
			if err != nil {
				return err
			}
			newest, err := newestCertificates(cmd.Context(), store)
			if err != nil {
				return err
			}
			rows := []clientRow{}
			for _, c := range clients {
				source := "store"
				if declared(file, c.ID) == c {
					source = "config"
				}
				shown := *c
				if !c.Rotation(a.now()).Current {
					shown.Promote() // what is in force, although nobody has closed the rotation
				}
				row := rowOf(&shown, source)
				row.NotAfter, row.Thumbprint = endOf(&shown, newest)
				rows = append(rows, row)
			}
			slices.SortFunc(rows, func(x, y clientRow) int { return strings.Compare(x.ID, y.ID) })
			if asJSON {
				return a.printJSON(rows)
			}
			if len(rows) == 0 {
				a.note("no client is registered")
				return nil
			}
			t := table{head: []string{"CLIENT", "METHOD", "IDENTITY", "BOUND", "FROM", "EXPIRES"}}
			for _, r := range rows {
				id := r.ID
				if r.Disabled {
					id += " (disabled)"
				}
				if r.Rotating {
					id += " (rotating)"
				}
				t.rows = append(t.rows, []string{id, r.Method, r.Identity, yesNo(r.Bound), r.Source, endText(a.now(), r.NotAfter)})
			}
			t.print(a.stdout, newPainter(a.stdout))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func rowOf(c *authserver.Client, source string) clientRow {
	return clientRow{
		ID: c.ID, Name: c.Name, Method: c.Method(), Identity: identityOf(c), Bound: c.BoundTokens,
		Source: source, Disabled: c.Disabled, Created: c.Created, Rotating: rotating(c),
	}
}

// identityOf says in one line how the client is known.
func identityOf(c *authserver.Client) string {
	if _, value := c.Subject(); value != "" {
		return value
	}
	if c.JWKSURI != "" {
		return c.JWKSURI
	}
	return strings.Join(thumbprints(c.JWKS), " ")
}

func (a *app) clientShowCommand(flags *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a registration",
		Example: "  certbound client show billing --json",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, file, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			c := declared(file, args[0])
			if c == nil {
				if c, err = store.Client(cmd.Context(), args[0]); err != nil {
					return notFound(cmd.Context(), err, store, file, args[0])
				}
			}
			if asJSON {
				return a.printJSON(withoutSecret(c))
			}
			p := newPainter(a.stdout)
			fmt.Fprintln(a.stdout, p.paint(bold, "Client "+printable(c.ID)))
			clientSheet(c, file).print(a.stdout, p, "  ")
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) clientRemoveCommand(flags *storeFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "remove ID",
		Aliases: []string{"rm"},
		Short:   "Remove a registration",
		Long: `Remove a registration. The client gets no more tokens, and introspection calls its
tokens inactive. JWTs that it holds stay valid until they expire; to refuse a client
for a while, use 'client update ID --disabled'.`,
		Example: "  certbound client remove billing",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, file, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			if err := store.DeleteClient(cmd.Context(), args[0]); err != nil {
				return notFound(cmd.Context(), err, store, file, args[0])
			}
			fmt.Fprintln(a.stdout, "Removed", printable(args[0]))
			return nil
		},
	}
}

// declared returns the client of that id in the configuration file, or nil.
func declared(file *config.File, id string) *authserver.Client {
	if file == nil {
		return nil
	}
	for _, c := range file.DeclaredClients() {
		if c.ID == id {
			return c
		}
	}
	return nil
}

func notFound(ctx context.Context, err error, store authserver.Store, file *config.File, id string) error {
	if !errors.Is(err, authserver.ErrNotFound) {
		return err
	}
	err = fmt.Errorf("no client %q is registered", id)
	if declared(file, id) != nil {
		return hinted(fmt.Errorf("%s is declared in %s", id, file.Name), "change it there")
	}
	if near := nearClient(ctx, store, id); near != "" {
		return hinted(err, "did you mean %s?", near)
	}
	return hinted(err, "'certbound client list' shows all")
}

// validateClient applies the rules of the server, or, without its configuration, those
// that hold for every server.
func validateClient(c *authserver.Client, file *config.File) error {
	var rules authserver.Rules
	if file != nil {
		rules = file.Rules()
	} else {
		rules = looseRules(c)
	}
	err := authserver.ValidateClient(c, rules)
	me, ok := errors.AsType[*authserver.MetadataError](err)
	if !ok {
		return err
	}
	var errs []error
	for _, f := range me.Faults {
		fault := fmt.Errorf("%s: %s", f.Member, f.Fault)
		if m := c.Method(); f.Member == "token_endpoint_auth_method" && file != nil && !slices.Contains(rules.Methods, m) {
			fault = hinted(fault, "add %s to authentication.methods in %s and restart the server, or choose another --method", m, file.Name)
		}
		errs = append(errs, fault)
	}
	return errors.Join(errs...)
}

func looseRules(c *authserver.Client) authserver.Rules {
	return authserver.Rules{
		Methods: []string{clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth,
			authserver.ClientSecretBasic, authserver.PrivateKeyJWT, authserver.None},
		Switches: authserver.MTLSFeature{Enabled: true, TLSClientAuth: true,
			SelfSignedTLSClientAuth: true, CertificateBoundAccessTokens: true},
		BoundTokens:      true,
		DefaultAnchorSet: "(default)",
		JWKSURI:          true,
		Scopes:           strings.Fields(c.Scope),
		Resources:        slices.Concat(c.Resources, c.Introspects),
		AssertionAlgs:    []string{"ES256", "PS256", "EdDSA", "RS256"},
		MaxTokenLifetime: 366 * 24 * time.Hour,
		Authorization:    true,
	}
}

func withoutSecret(c *authserver.Client) *authserver.Client {
	shown := *c
	shown.SecretHash, shown.RegistrationTokenHash = "", ""
	return &shown
}

func clientSheet(c *authserver.Client, file *config.File) *sheet {
	s := &sheet{}
	s.add("name", c.Name)
	s.add("method", c.Method())
	if kind, value := c.Subject(); value != "" {
		s.add(string(kind), value)
		if c.SoleEntry {
			s.add("", "must be the only entry of its kind")
		}
		switch {
		case c.AnchorSet != "":
			s.add("anchor set", c.AnchorSet)
		case file != nil && file.Trust.Default != "":
			s.addNote("anchor set", file.Trust.Default, "default", dim)
		default:
			s.add("anchor set", "the server's default")
		}
	}
	s.add("jwks_uri", c.JWKSURI)
	s.addList("jwks: x5t#S256", thumbprints(c.JWKS))
	rotationRows(s, c)
	if len(c.JWKS) > 0 && len(thumbprints(c.JWKS)) == 0 {
		s.add("jwks", "keys without certificates")
	}
	if c.SecretHash != "" {
		s.add("secret", "set, not shown")
	}
	s.add("bound tokens", yesNo(c.BoundTokens))
	s.add("grant types", orWord(strings.Join(c.Grants(), " "), "(none)"))
	s.addList("redirect URI", c.RedirectURIs)
	s.addList("logout URI", c.PostLogoutRedirectURIs)
	s.add("profile", c.Profile)
	if c.RequirePAR {
		s.add("requests", "have to be pushed")
	}
	if c.RequireSignedRequests {
		s.add("requests", "have to be signed")
	}
	s.add("request alg", c.RequestObjectAlg)
	s.add("assertion alg", c.SigningAlg)
	s.add("ID token alg", c.IDTokenAlg)
	if c.DefaultMaxAge > 0 {
		s.add("log in again", config.Duration(time.Duration(c.DefaultMaxAge)*time.Second).String())
	}
	if c.SkipConsent {
		s.addNote("consent", "skipped", "people are not asked", yellow)
	}
	s.add("client_uri", c.URI)
	s.add("logo_uri", c.LogoURI)
	s.add("policy_uri", c.PolicyURI)
	s.add("tos_uri", c.TermsURI)
	s.addList("contact", c.Contacts)
	s.add("software", strings.TrimSpace(c.SoftwareID+" "+c.SoftwareVersion))
	s.add("registered by", c.RegisteredBy)
	s.add("scope", orWord(c.Scope, "(none)"))
	s.addList("resource", c.Resources)
	s.add("token format", c.TokenFormat)
	if c.TokenLifetime > 0 {
		s.add("token lifetime", config.Duration(time.Duration(c.TokenLifetime)*time.Second).String())
	}
	if c.MayIntrospect {
		s.add("introspection", "allowed")
		s.addList("introspects", c.Introspects)
	}
	if c.Disabled {
		s.addNote("disabled", "yes", "every request is refused", yellow)
	}
	if !c.Created.IsZero() {
		s.add("registered", timeText(c.Created))
	}
	if !c.Updated.IsZero() {
		s.add("changed", timeText(c.Updated))
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// A clientOutcome is the answer of add and update as JSON.
type clientOutcome struct {
	Client     *authserver.Client `json:"client"`
	Secret     string             `json:"client_secret,omitempty"`
	Candidates []candidate        `json:"candidates,omitempty"`
	Warnings   []string           `json:"warnings,omitempty"`
	Notes      []string           `json:"notes,omitempty"`
}

func (a *app) printFindings(f *findings) {
	for _, w := range f.warnings {
		a.warn(printable(w))
	}
	for _, n := range f.notes {
		a.note(printable(n))
	}
}

func (a *app) printOutcome(word string, c *authserver.Client, f *findings, file *config.File, asJSON bool) error {
	if asJSON {
		return a.printJSON(clientOutcome{withoutSecret(c), f.secret, f.candidates, f.warnings, f.notes})
	}
	p := newPainter(a.stdout)
	fmt.Fprintln(a.stdout, p.paint(bold, word+" "+printable(c.ID)))
	s := clientSheet(c, file)
	if f.secret != "" {
		s.addNote("client_secret", f.secret, "shown this once", yellow)
	}
	s.print(a.stdout, p, "  ")
	return nil
}

// thumbprints returns the x5t#S256 of the certificates in a key set.
func thumbprints(keySet json.RawMessage) []string {
	var set struct {
		Keys []struct {
			X5C []string `json:"x5c"`
		} `json:"keys"`
	}
	if json.Unmarshal(keySet, &set) != nil {
		return nil
	}
	var out []string
	for _, k := range set.Keys {
		if len(k.X5C) > 0 {
			if t := thumbprintOfX5C(k.X5C[0]); t != "" {
				out = append(out, t)
			}
		}
	}
	return out
}
