package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
)

func (a *app) trustCommand() *cobra.Command {
	flags := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Revoke certificates, and see what expires",
		Example: `  certbound trust revoke --cert stolen.pem --note 'laptop lost, ticket 4711'
  certbound trust revoked list
  certbound trust expiring --within 30d
  certbound trust status`,
	}
	asGroup(cmd)
	flags.register(cmd)
	revoked := &cobra.Command{
		Use:     "revoked",
		Short:   "Revoked certificates",
		Example: "  certbound trust revoked list --json",
	}
	asGroup(revoked)
	revoked.AddCommand(a.trustRevokedListCommand(flags))
	cmd.AddCommand(a.trustRevokeCommand(flags), revoked, a.trustExpiringCommand(flags), a.trustStatusCommand(flags))
	return cmd
}

// certificateFlags name certificates.
type certificateFlags struct{ thumbprint, cert, issuer, serial string }

func (a *app) trustRevokeCommand(flags *storeFlags) *cobra.Command {
	var of certificateFlags
	var note string
	var undo, asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke a certificate, and the tokens that are bound to it",
		Long: `Revoke a certificate, for emergencies: introspection calls every token that is bound
to it inactive at once, the token endpoint refuses it within half a second, and
resource servers that read the revocation feed refuse the tokens within 30 seconds.

A certificate is named by its thumbprint, in the form of x5t#S256 or of 'openssl x509
-fingerprint -sha256', by a file, or by issuer and serial number. It need not be known
to the server. It stays revoked until --undo with the same name.`,
		Example: `  certbound trust revoke --cert stolen.pem
  certbound trust revoke --thumbprint bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2
  certbound trust revoke --issuer ca.pem --serial 0A:1B:2C --note 'ticket 4711'
  certbound trust revoke --cert found-again.pem --undo`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := a.namesOf(cmd, of)
			if err != nil {
				return err
			}
			if note == "" && !undo {
				note = "certbound trust revoke"
				if u, err := user.Current(); err == nil && u.Username != "" {
					note += " by " + u.Username
				}
			}
			if len(note) > 1024 {
				return usagef(cmd, "--note is longer than 1024 bytes")
			}
			store, _, err := a.openStore(cmd, flags, !undo)
			if err != nil {
				return err
			}
			defer store.Close()
			ctx := cmd.Context()
			restored := 0
			for i := range names {
				names[i].Note, names[i].At = note, a.now().UTC()
				if !undo {
					if err := store.RevokeCertificate(ctx, names[i]); err != nil {
						return err
					}
					continue
				}
				switch err := store.RestoreCertificate(ctx, names[i]); {
				case err == nil:
					restored++
				case !errors.Is(err, authserver.ErrNotFound):
					return err
				}
			}
			if undo && restored == 0 {
				err := fmt.Errorf("%s is not revoked", certificateName(names[0]))
				if by, lookErr := store.CertificateRevoked(ctx, names[0].Thumbprint, "", ""); lookErr == nil && by.Derived {
					return hinted(fmt.Errorf("%s is revoked by its issuer and serial number", names[0].Thumbprint),
						"undo that: certbound trust revoke --issuer %s --serial %s --undo", by.IssuerKeyID, by.Serial)
				}
				return hinted(err, "'certbound trust revoked list' shows all, with the names that they were revoked by")
			}
			known, err := a.reached(cmd, store, names)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(struct {
					Revoked      bool                            `json:"revoked"`
					Names        []authserver.RevokedCertificate `json:"names"`
					Certificates []knownRow                      `json:"certificates"`
				}{!undo, names, known})
			}
			word := "Revoked"
			if undo {
				word = "Restored"
			}
			p := newPainter(a.stdout)
			fmt.Fprintln(a.stdout, p.paint(bold, word+" "+certificateName(names[0])))
			if len(known) == 0 {
				a.note("no token is bound to it now, as far as this database knows; it is refused from now on all the same")
				if undo {
					return nil
				}
			}
			for _, k := range known {
				s := &sheet{}
				s.add("x5t#S256", k.Thumbprint)
				s.add("subject", k.Subject)
				s.add("client", k.ClientID)
				s.add("tokens", "until "+timeText(k.TokensUntil)+" at the latest")
				s.print(a.stdout, p, "  ")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&of.thumbprint, "thumbprint", "", "`HASH`: x5t#S256, or SHA-256 in hex")
	f.StringVar(&of.cert, "cert", "", "certificate `FILE` ('-' for stdin)")
	f.StringVar(&of.issuer, "issuer", "", "certificate `FILE` of the CA that issued it, or its key id in hex")
	f.StringVar(&of.serial, "serial", "", "serial `NUMBER` in hex, as 'openssl x509 -serial' prints it")
	f.StringVar(&note, "note", "", "`TEXT` for whoever asks why")
	f.BoolVar(&undo, "undo", false, "accept the certificate again")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// A knownRow is a certificate that tokens are bound to.
type knownRow struct {
	Thumbprint  string    `json:"x5t#S256"`
	Subject     string    `json:"subject"`
	ClientID    string    `json:"client_id"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	TokensUntil time.Time `json:"tokens_until"`
}

// reached returns the certificates that tokens are bound to and that names mean.
func (a *app) reached(cmd *cobra.Command, store authserver.Store, names []authserver.RevokedCertificate) ([]knownRow, error) {
	out := []knownRow{}
	add := func(c authserver.CertificateRecord) {
		out = append(out, knownRow{c.Thumbprint, c.Subject, c.ClientID, utc(c.NotAfter), c.TokensUntil.UTC()})
	}
	if len(names) == 1 && names[0].Thumbprint != "" {
		c, err := store.Certificate(cmd.Context(), names[0].Thumbprint)
		if err == nil {
			add(*c)
		} else if !errors.Is(err, authserver.ErrNotFound) {
			return nil, err
		}
		return out, nil
	}
	for c, err := range certificates(cmd.Context(), store) {
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if c.IssuerKeyID == n.IssuerKeyID && c.Serial == n.Serial {
				add(c)
			}
		}
	}
	return out, nil
}

// namesOf returns the names of a certificate. With the file of a CA there are several,
// since a certificate names its issuer in one way or another.
func (a *app) namesOf(cmd *cobra.Command, f certificateFlags) ([]authserver.RevokedCertificate, error) {
	switch {
	case f.serial != "" != (f.issuer != ""):
		return nil, usagef(cmd, "--issuer and --serial belong together: a serial number means something with its CA only")
	case countTrue(f.thumbprint != "", f.cert != "", f.serial != "") != 1:
		return nil, usagef(cmd, "which certificate? Give --thumbprint, --cert, or --issuer and --serial")
	case f.thumbprint != "":
		sum, err := parseThumbprint(f.thumbprint)
		if err != nil {
			return nil, usagef(cmd, "--thumbprint: %v", err)
		}
		return []authserver.RevokedCertificate{{Thumbprint: certbound.EncodeThumbprint(sum)}}, nil
	case f.cert != "":
		certs, err := a.readCertificate(f.cert)
		if err != nil {
			return nil, err
		}
		return []authserver.RevokedCertificate{{Thumbprint: certbound.Thumbprint(certs[0])}}, nil
	}
	serial, ok := new(big.Int).SetString(plainHex(f.serial), 16)
	if !ok || len(f.serial) > 200 {
		return nil, usagef(cmd, "--serial: %q is not a number in hex", f.serial)
	}
	template := &x509.Certificate{SerialNumber: serial}
	id, err := hex.DecodeString(plainHex(f.issuer))
	if _, statErr := os.Stat(f.issuer); statErr == nil || err != nil || len(id) < 8 {
		if errors.Is(statErr, fs.ErrNotExist) && f.issuer != "-" {
			return nil, usagef(cmd, "--issuer: %q is neither a file nor a key id in hex", f.issuer)
		}
		certs, err := a.readCertificate(f.issuer)
		if err != nil {
			return nil, err
		}
		return issuedBy(certs[0], template), nil
	}
	template.AuthorityKeyId = id
	return []authserver.RevokedCertificate{recordName(template, nil)}, nil
}

// issuedBy returns how a certificate with this serial number may name its CA.
func issuedBy(ca, template *x509.Certificate) []authserver.RevokedCertificate {
	template.RawIssuer = ca.RawSubject
	var out []authserver.RevokedCertificate
	if len(ca.SubjectKeyId) > 0 {
		template.AuthorityKeyId = ca.SubjectKeyId
		out = append(out, recordName(template, nil))
		template.AuthorityKeyId = nil
	}
	return append(out, recordName(template, ca), recordName(template, nil))
}

func recordName(leaf, ca *x509.Certificate) authserver.RevokedCertificate {
	var chain []*x509.Certificate
	if ca != nil {
		chain = []*x509.Certificate{ca}
	}
	issuer, serial := authserver.RecordIDs(certsource.NewPresented("command", leaf, chain))
	return authserver.RevokedCertificate{IssuerKeyID: issuer, Serial: serial}
}

// readCertificate reads a file with a certificate in any form.
func (a *app) readCertificate(name string) ([]*x509.Certificate, error) {
	data, err := a.readInput(name)
	if err != nil {
		return nil, err
	}
	found, err := recognise(data)
	if err == nil && len(found.certs) == 0 {
		err = &artifactError{"this is no certificate (" + found.form + ")", "give the file with the certificate"}
	}
	if err != nil {
		e, _ := errors.AsType[*artifactError](err)
		return nil, hinted(fmt.Errorf("%s: %w", inputName(name), err), "%s", e.Hint)
	}
	return found.certs, nil
}

// parseThumbprint reads a SHA-256 as JOSE or as OpenSSL write it.
func parseThumbprint(text string) (sum [sha256.Size]byte, err error) {
	text = strings.TrimSpace(text)
	if i := strings.LastIndexByte(text, '='); i >= 0 && i < len(text)-1 { // sha256 Fingerprint=AB:CD…
		text = text[i+1:]
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != len(sum) {
		raw, err = hex.DecodeString(plainHex(text))
	}
	if err != nil || len(raw) != len(sum) {
		return sum, errors.New("expected 43 characters of base64url, or 64 hex digits: the SHA-256 of the certificate")
	}
	return [sha256.Size]byte(raw), nil
}

// plainHex removes what tools print into hex, and before it.
func plainHex(text string) string {
	text = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(text), "serial="), "0x")
	return strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(text))
}

// certificateName is the name of a certificate in a message.
func certificateName(c authserver.RevokedCertificate) string {
	if c.Thumbprint != "" {
		return c.Thumbprint
	}
	return "serial number " + c.Serial + " of issuer " + c.IssuerKeyID
}

func (a *app) trustRevokedListCommand(flags *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the revoked certificates",
		Example: "  certbound trust revoked list --json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, _, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			rows := []authserver.RevokedCertificate{}
			for since := int64(0); ; {
				page, err := store.Revocations(cmd.Context(), since, 1000)
				if err != nil {
					return err
				}
				for _, r := range page.Entries {
					if since = r.Number; r.JTI == "" && !r.Restored {
						rows = append(rows, r.Certificate)
					}
				}
				if len(page.Entries) < 1000 {
					break
				}
			}
			if asJSON {
				return a.printJSON(rows)
			}
			if len(rows) == 0 {
				a.note("no certificate is revoked here; what the CAs have revoked is in their lists")
				return nil
			}
			t := table{head: []string{"REVOKED", "CERTIFICATE", "NOTE"}}
			for _, r := range rows {
				name, note := certificateName(r), r.Note
				if r.Derived {
					note = "serial number " + r.Serial + " of issuer " + r.IssuerKeyID
				}
				t.rows = append(t.rows, []string{timeText(r.At), name, note})
			}
			t.print(a.stdout, newPainter(a.stdout))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
