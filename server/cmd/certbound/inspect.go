package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki/subject"
)

// An inspection is the answer of the command as JSON.
type inspection struct {
	Form         string       `json:"form"`
	Certificates []certReport `json:"certificates,omitempty"`
	Token        *tokenReport `json:"token,omitempty"`
	Keys         []keyReport  `json:"keys,omitempty"`
	Notes        []string     `json:"notes,omitempty"`
}

// A certReport is what RFC 8705 looks at in a certificate.
type certReport struct {
	Subject    string    `json:"subject"`
	Issuer     string    `json:"issuer"`
	SAN        sanReport `json:"san,omitzero"`
	Thumbprint string    `json:"x5t#S256"`
	Serial     string    `json:"serial"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	Key        string    `json:"key"`
	Signature  string    `json:"signature"`
	// ExtKeyUsage is absent if the certificate does not have the extension.
	ExtKeyUsage []string               `json:"ext_key_usage,omitempty"`
	KeyUsage    []string               `json:"key_usage,omitempty"`
	CA          bool                   `json:"ca"`
	SelfSigned  bool                   `json:"self_signed"`
	CNF         certbound.Confirmation `json:"cnf"`
}

type sanReport struct {
	DNS   []string `json:"dns,omitempty"`
	URI   []string `json:"uri,omitempty"`
	IP    []string `json:"ip,omitempty"`
	Email []string `json:"email,omitempty"`
}

// A tokenReport is what a token says. Nothing in it was verified.
type tokenReport struct {
	Header     map[string]any          `json:"header,omitempty"`
	Claims     map[string]any          `json:"claims"`
	CNF        *certbound.Confirmation `json:"cnf,omitempty"`
	CNFFault   string                  `json:"cnf_fault,omitempty"`
	Bound      bool                    `json:"bound"`
	Unverified bool                    `json:"signature_not_checked"`
}

type keyReport struct {
	KeyID        string       `json:"kid,omitempty"`
	Key          string       `json:"key"`
	Use          string       `json:"use,omitempty"`
	Alg          string       `json:"alg,omitempty"`
	Thumbprint   string       `json:"jwk_thumbprint"`
	Certificates []certReport `json:"x5c,omitempty"`
}

func (a *app) inspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE|-",
		Short: "Show what RFC 8705 looks at in a certificate, a token or a key set",
		Long: `Show what RFC 8705 looks at.

FILE is a certificate, a token or a key set; '-' reads it from stdin. The form is
found out: PEM or DER, one certificate or a chain; PEM as proxies put it into a
header (percent-encoded, on one line); a Client-Cert value between colons; bare
base64; a JWT; a JWK set or a single key; the answer of a token or introspection
endpoint.

Nothing is sent anywhere, and no signature is checked.`,
		Example: `  certbound inspect client.pem
  openssl s_client -connect as.example:8444 </dev/null | certbound inspect -
  certbound inspect --json token.jwt`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.readInput(args[0])
			if err != nil {
				return err
			}
			found, err := recognise(data)
			if err != nil {
				e, _ := errors.AsType[*artifactError](err)
				return hinted(fmt.Errorf("%s: %w", inputName(args[0]), err), "%s", e.Hint)
			}
			report, err := inspectArtifact(found)
			if err != nil {
				return fmt.Errorf("%s: %w", inputName(args[0]), err)
			}
			if asJSON {
				return a.printJSON(report)
			}
			a.printInspection(report)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func inputName(arg string) string {
	if arg == "-" {
		return "stdin"
	}
	return arg
}

func inspectArtifact(found *artifact) (*inspection, error) {
	out := &inspection{Form: found.form, Notes: found.notes}
	for _, c := range found.certs {
		out.Certificates = append(out.Certificates, reportCert(c))
	}
	switch {
	case found.token != "":
		t, err := reportToken(found.token)
		if err != nil {
			return nil, err
		}
		out.Token = t
	case found.claims != nil:
		t, err := reportClaims(found.claims)
		if err != nil {
			return nil, err
		}
		out.Token = t
	case found.set != nil:
		set, err := jwks.Parse(found.set, jwks.Lenient)
		if err != nil {
			return nil, err
		}
		out.Notes = append(out.Notes, set.Ignored...)
		for _, k := range set.Keys {
			r, err := reportKey(k)
			if err != nil {
				return nil, err
			}
			out.Keys = append(out.Keys, r)
		}
		if len(out.Keys) == 0 {
			out.Notes = append(out.Notes, "the set has no usable key")
		}
	}
	return out, nil
}

func reportCert(c *x509.Certificate) certReport {
	r := certReport{
		Subject:    nameText(c.RawSubject),
		Issuer:     nameText(c.RawIssuer),
		Thumbprint: certbound.Thumbprint(c),
		Serial:     colonHex(c.SerialNumber.Bytes()),
		NotBefore:  c.NotBefore.UTC(),
		NotAfter:   c.NotAfter.UTC(),
		Key:        keyText(c.PublicKey),
		Signature:  c.SignatureAlgorithm.String(),
		CA:         c.BasicConstraintsValid && c.IsCA,
		SelfSigned: isSelfSigned(c),
		CNF:        certbound.Confirm(c),
	}
	if sans, err := subject.SANsOf(c); err == nil {
		r.SAN = sanReport{DNS: sans.DNS, URI: sans.URI, Email: sans.Email}
		for _, ip := range sans.IP {
			r.SAN.IP = append(r.SAN.IP, net.IP(ip).String())
		}
	}
	r.ExtKeyUsage = extKeyUsageText(c)
	r.KeyUsage = keyUsageText(c.KeyUsage)
	return r
}

// isSelfSigned reports whether c was signed with its own key.
func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func nameText(der []byte) string {
	n, err := subject.ParseDER(der)
	if err != nil {
		return "#" + hex.EncodeToString(der)
	}
	return n.String()
}

func colonHex(b []byte) string {
	if len(b) == 0 {
		return "00"
	}
	var s strings.Builder
	for i, x := range b {
		if i > 0 {
			s.WriteByte(':')
		}
		fmt.Fprintf(&s, "%02x", x)
	}
	return s.String()
}

func keyText(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	case nil:
		return "unknown"
	}
	return fmt.Sprintf("%T", key)
}

var extKeyUsages = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny:             "anyExtendedKeyUsage",
	x509.ExtKeyUsageServerAuth:      "serverAuth",
	x509.ExtKeyUsageClientAuth:      "clientAuth",
	x509.ExtKeyUsageCodeSigning:     "codeSigning",
	x509.ExtKeyUsageEmailProtection: "emailProtection",
	x509.ExtKeyUsageTimeStamping:    "timeStamping",
	x509.ExtKeyUsageOCSPSigning:     "OCSPSigning",
}

func extKeyUsageText(c *x509.Certificate) []string {
	var out []string
	for _, u := range c.ExtKeyUsage {
		if name, ok := extKeyUsages[u]; ok {
			out = append(out, name)
		} else {
			out = append(out, fmt.Sprintf("usage %d", u))
		}
	}
	for _, oid := range c.UnknownExtKeyUsage {
		out = append(out, oid.String())
	}
	return out
}

func keyUsageText(u x509.KeyUsage) []string {
	names := []string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment",
		"keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}
	var out []string
	for i, name := range names {
		if u&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

func reportToken(compact string) (*tokenReport, error) {
	parts := strings.Split(compact, ".")
	header, err := jsonPart(parts[0])
	if err != nil {
		return nil, fmt.Errorf("header of the token: %w", err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("payload of the token: not base64url")
	}
	t, err := reportClaims(payload)
	if err != nil {
		return nil, fmt.Errorf("payload of the token: %w", err)
	}
	t.Header, t.Unverified = header, true
	return t, nil
}

func jsonPart(part string) (map[string]any, error) {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return jsonObject(data)
}

func jsonObject(data []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil || m == nil || dec.More() {
		return nil, errors.New("not a JSON object")
	}
	return m, nil
}

func reportClaims(payload []byte) (*tokenReport, error) {
	claims, err := jsonObject(payload)
	if err != nil {
		return nil, err
	}
	t := &tokenReport{Claims: claims}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if raw, ok := members["cnf"]; ok {
		c, err := certbound.ParseConfirmation(raw)
		if err != nil {
			t.CNFFault = err.Error()
			return t, nil
		}
		t.Bound = c.X5TS256 != ""
		if len(c.Other) == 0 { // others cannot be written back; they stand in the claims
			t.CNF = &c
		}
	}
	return t, nil
}

func reportKey(k jose.JSONWebKey) (keyReport, error) {
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return keyReport{}, err
	}
	r := keyReport{
		KeyID: k.KeyID, Key: keyText(k.Key), Use: k.Use, Alg: k.Algorithm,
		Thumbprint: base64.RawURLEncoding.EncodeToString(sum),
	}
	for _, c := range k.Certificates {
		r.Certificates = append(r.Certificates, reportCert(c))
	}
	return r, nil
}

func (a *app) printInspection(r *inspection) {
	p := newPainter(a.stdout)
	now := a.now()
	title := func(text string) { fmt.Fprintln(a.stdout, p.paint(bold, text)) }
	for i, c := range r.Certificates {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if len(r.Certificates) == 1 {
			title("Certificate  " + r.Form)
		} else {
			title(fmt.Sprintf("Certificate %d of %d  %s", i+1, len(r.Certificates), r.Form))
		}
		c.sheet(now).print(a.stdout, p, "  ")
	}
	if r.Token != nil {
		kind := "Token"
		if typ, _ := r.Token.Header["typ"].(string); typ != "" {
			kind = "JWT of type " + typ
		} else if r.Token.Header != nil {
			kind = "JWT"
		}
		title(printable(kind) + "  " + r.Form)
		r.Token.sheet(now).print(a.stdout, p, "  ")
	}
	for i, k := range r.Keys {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		title(fmt.Sprintf("Key %d of %d  %s", i+1, len(r.Keys), r.Form))
		s := &sheet{}
		s.add("kid", k.KeyID)
		s.add("key", k.Key)
		s.add("use", k.Use)
		s.add("alg", k.Alg)
		s.add("thumbprint (RFC 7638)", k.Thumbprint)
		s.print(a.stdout, p, "  ")
		for j, c := range k.Certificates {
			title(fmt.Sprintf("  x5c[%d]", j))
			c.sheet(now).print(a.stdout, p, "    ")
		}
	}
	for _, n := range r.Notes {
		a.note(printable(n))
	}
}

func (c *certReport) sheet(now time.Time) *sheet {
	s := &sheet{}
	s.add("subject", orWord(c.Subject, "(empty)"))
	s.addList("SAN dns", c.SAN.DNS)
	s.addList("SAN uri", c.SAN.URI)
	s.addList("SAN ip", c.SAN.IP)
	s.addList("SAN email", c.SAN.Email)
	if c.SelfSigned {
		s.add("issuer", "itself (self-signed)")
	} else {
		s.add("issuer", orWord(c.Issuer, "(empty)"))
	}
	s.add("x5t#S256", c.Thumbprint)
	s.add("serial", c.Serial)
	switch {
	case now.Before(c.NotBefore):
		s.addNote("valid from", timeText(c.NotBefore), "not yet valid", red)
	default:
		s.add("valid from", timeText(c.NotBefore))
	}
	switch left := c.NotAfter.Sub(now); {
	case left < 0:
		s.addNote("valid until", timeText(c.NotAfter), "expired "+spanText(now, c.NotAfter), red)
	case left < nearExpiry:
		s.addNote("valid until", timeText(c.NotAfter), spanText(now, c.NotAfter), yellow)
	default:
		s.addNote("valid until", timeText(c.NotAfter), spanText(now, c.NotAfter), dim)
	}
	s.add("key", c.Key)
	s.add("signature", c.Signature)
	s.add("key usage", orWord(strings.Join(c.KeyUsage, ", "), "(no extension)"))
	switch {
	case len(c.ExtKeyUsage) == 0:
		s.add("EKU", "(no extension)")
	case !slices.Contains(c.ExtKeyUsage, "clientAuth") && !c.CA:
		s.addNote("EKU", strings.Join(c.ExtKeyUsage, ", "), "clientAuth is missing", yellow)
	default:
		s.add("EKU", strings.Join(c.ExtKeyUsage, ", "))
	}
	if c.CA {
		s.add("CA", "yes")
	}
	s.add("cnf", `{"x5t#S256":"`+c.Thumbprint+`"}`)
	return s
}

// nearExpiry is when a certificate's end is worth a warning.
const nearExpiry = 14 * 24 * time.Hour

func (t *tokenReport) sheet(now time.Time) *sheet {
	s := &sheet{}
	if t.Header != nil {
		s.add("alg", claimText(t.Header["alg"]))
		s.add("kid", claimText(t.Header["kid"]))
	}
	shown := map[string]bool{"cnf": true}
	claim := func(names ...string) {
		for _, name := range names {
			shown[name] = true
			v, ok := t.Claims[name]
			if !ok {
				continue
			}
			at, isTime := claimTime(v)
			switch {
			case !slices.Contains([]string{"iat", "nbf", "exp", "auth_time"}, name) || !isTime:
				s.add(name, claimText(v))
			case name == "exp" && at.Before(now):
				s.addNote(name, timeText(at), "expired "+spanText(now, at), red)
			case name == "nbf" && at.After(now):
				s.addNote(name, timeText(at), "not yet valid", red)
			default:
				s.addNote(name, timeText(at), spanText(now, at), dim)
			}
		}
	}
	claim("active", "iss", "sub", "client_id", "aud", "scope", "token_type", "iat", "nbf", "exp", "jti")
	var rest []string
	for name := range t.Claims {
		if !shown[name] {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	claim(rest...)
	switch {
	case t.CNFFault != "":
		s.addNote("cnf", claimText(t.Claims["cnf"]), t.CNFFault, red)
	case t.Claims["cnf"] == nil:
		s.addNote("cnf", "none", "not bound: whoever holds this token can use it", yellow)
	case !t.Bound:
		s.addNote("cnf", claimText(t.Claims["cnf"]), "not bound to a certificate", yellow)
	default:
		s.addNote("cnf", claimText(t.Claims["cnf"]), "bound to this certificate only", green)
	}
	if t.Unverified {
		s.add("signature", "not checked")
	}
	return s
}

func claimTime(v any) (time.Time, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0).UTC(), true
}

func claimText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}
