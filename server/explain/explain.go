// Package explain says why a request was, or would be, refused: which preset's format it
// has, what was decoded, the path that was built, the subject as others print it, the
// check that failed, and the setting to change. It makes no check of its own; it asks the
// parts that the server asks, and has no effect on them.
package explain

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
)

// An Input is what is known. At least one of Capture, Presented and Record is needed;
// everything else makes the answer more exact.
type Input struct {
	// Capture is a request as it arrived.
	Capture *Capture
	// Presented is a certificate that was given by itself.
	Presented *certsource.Presented
	// Record is a refusal from the log.
	Record *Record

	// Preset is the format that the operator has named. If empty, the source of the
	// server, and without that every one is tried.
	Preset      string
	TrustedHops int
	Server      *Server

	// ClientID names the client, Client is its registration, if there is one, and
	// ClientPlace says where it stands.
	ClientID    string
	Client      *authserver.Client
	ClientPlace Place
}

// A Server is what is known of the server that refused.
type Server struct {
	// Source is what the mutual-TLS listener reads, with the capture's peer as its
	// proxy. SourceName is its name in the configuration.
	Source     certsource.Source
	SourceName string
	// Paths and Sets hold the trust anchors. DefaultSet is for clients that name none.
	Paths            *pki.Validator
	Sets             []pki.Set
	DefaultSet       string
	InsecureMatchKey bool
	// Place says where a key of the configuration stands: "certbound.yaml:14".
	Place func(key string) string
	Now   func() time.Time
}

// A Place says where something is configured: in the file, or in the store.
type Place struct {
	// Key is the key of the declaration: "clients[2]". Empty: registered by command.
	Key string `json:"key,omitempty"`
	// File is where it stands: "certbound.yaml:41".
	File string `json:"file,omitempty"`
}

// A Report is the answer.
type Report struct {
	// RequestID, Time, Endpoint, Status and Error are those of a log record.
	RequestID string    `json:"request_id,omitempty"`
	Time      time.Time `json:"time,omitzero"`
	Endpoint  string    `json:"endpoint,omitempty"`
	Status    int       `json:"status,omitempty"`
	Error     string    `json:"error,omitempty"`

	// Source is the name of what was read, Candidates are the presets of which this may
	// be the format.
	Source     string      `json:"source,omitempty"`
	Candidates []Candidate `json:"candidates,omitempty"`
	// Fields are the certificate fields of the request, without their values.
	Fields []FieldSeen `json:"fields,omitempty"`

	Certificate *x509.Certificate `json:"-"`
	Thumbprint  string            `json:"x5t#S256,omitempty"`
	NotBefore   time.Time         `json:"not_before,omitzero"`
	NotAfter    time.Time         `json:"not_after,omitzero"`
	SAN         []string          `json:"san,omitempty"`
	Kind        string            `json:"kind,omitempty"` // as certsource.Kind
	// Intermediates counts what came beside the certificate.
	Intermediates int `json:"intermediates"`
	// Names are the spellings of the subject, where that is what has to be compared or
	// registered.
	Names []Spelling `json:"names,omitempty"`
	// Path leads from the certificate towards an anchor. AnchorSet is the set.
	AnchorSet string `json:"anchor_set,omitempty"`
	Path      []Step `json:"path,omitempty"`

	Decision *decision.Decision `json:"decision"`
	Changes  []Change           `json:"changes,omitempty"`
	Notes    []string           `json:"notes,omitempty"`
}

// A FieldSeen is a certificate field of the request.
type FieldSeen struct {
	Name  string `json:"name"` // as it was spelled
	Bytes int    `json:"bytes"`
	Count int    `json:"count"`
	// Value is what the hop says of the certificate, if that is what the field is for.
	Value string `json:"value,omitempty"`
}

// A Step is one certificate of a path.
type Step struct {
	Name string `json:"name"`
	// Role is "leaf", "presented", "helper", "anchor" or "missing".
	Role string `json:"role"`
}

// Refused reports whether a check failed.
func (r *Report) Refused() bool {
	_, failed := r.Decision.Failure()
	return failed
}

// Explain explains. The error is that of a preset that does not exist or lacks a setting.
func Explain(ctx context.Context, in Input) (*Report, error) {
	x := &explainer{in: in, r: &Report{Decision: decision.New()}, ctx: ctx}
	if in.Server == nil {
		x.in.Server = &Server{}
	}
	if x.in.Server.Now == nil {
		x.in.Server.Now = time.Now
	}
	if in.Record != nil {
		x.record()
	} else {
		if err := x.arrive(); err != nil {
			return nil, err
		}
		x.judge()
	}
	x.changes()
	if !x.subjectAsked() {
		x.r.Names = nil
	}
	return x.r, nil
}

// subjectAsked reports whether the name of the certificate is what has to be compared or
// registered. Elsewhere seven spellings of it would hide the answer.
func (x *explainer) subjectAsked() bool {
	c, failed := x.r.Decision.Failure()
	if !failed {
		return x.in.ClientID == "" && x.in.Client == nil
	}
	return x.subjectToo || slices.Contains([]decision.Reason{decision.SubjectMismatch, decision.SubjectAbsent, decision.UnknownClient}, c.Reason)
}

type explainer struct {
	in  Input
	ctx context.Context
	r   *Report

	presented *certsource.Presented
	preset    string // whose proxy sent it, as far as is known
	issuerDER []byte // of the certificate that ends an incomplete path
	// subjectToo says that the subject would be refused, after another check has failed.
	subjectToo bool
}

// record shows a refusal that was logged.
func (x *explainer) record() {
	rec := x.in.Record
	x.r.RequestID, x.r.Time, x.r.Endpoint, x.r.Status, x.r.Error = rec.ID, rec.Time, rec.Endpoint, rec.Status, rec.Error
	x.r.Decision = rec.Decision
	x.r.Source, x.preset = rec.Decision.Via, rec.Decision.Via
	x.r.Thumbprint = rec.Decision.Thumbprint
	if x.in.ClientID == "" {
		x.in.ClientID = rec.Decision.ClientID
	}
	if name, err := subject.ParseName(rec.Decision.Subject); err == nil && !name.IsEmpty() {
		x.r.Names, _ = Spellings(name.DER())
	}
	x.r.Notes = append(x.r.Notes, rec.Notes...)
	if x.in.Presented == nil {
		return
	}
	if t := x.in.Presented.Thumbprint(); t != rec.Decision.Thumbprint {
		x.r.Notes = append(x.r.Notes, "the certificate that was given is not the one of the request: its x5t#S256 is "+t)
		return
	}
	x.certificate(x.in.Presented)
	x.path(x.set())
}

// arrive finds the certificate.
func (x *explainer) arrive() error {
	d := x.r.Decision
	if x.in.Capture == nil {
		x.certificate(x.in.Presented)
		return nil
	}
	c := x.in.Capture
	d.Peer = c.Peer
	x.fields()
	if x.in.ClientID == "" {
		x.in.ClientID = c.ClientID
	}
	if f := c.folded(); f != nil {
		d.Fail(decision.Check{
			Name: decision.CheckSource, Rule: "RFC 9112, Section 5.2", Reason: decision.SourceMalformed,
			Expected: "a header field in one line", Found: fmt.Sprintf("%s over %d lines", f.Name, f.Lines),
			Fix: "let the proxy encode the certificate: nginx with $ssl_client_escaped_cert in place of $ssl_client_cert or $ssl_client_raw_cert, Caddy with certificate_der_base64 in place of certificate_pem",
		})
		return nil
	}
	x.r.Candidates = Detect(x.ctx, c)
	switch {
	case x.in.Preset != "":
		return x.byName()
	case x.in.Server.Source != nil:
		x.bySource(x.in.Server.Source, x.in.Server.SourceName)
	default:
		x.byGuess()
	}
	return nil
}

// byName reads the request as the operator says.
func (x *explainer) byName() error {
	cfg := certsource.PresetConfig{Hop: trusted, TrustedHops: x.in.TrustedHops}
	if i := slices.IndexFunc(x.r.Candidates, func(c Candidate) bool { return c.Preset == x.in.Preset }); i >= 0 && strings.HasPrefix(x.in.Preset, "header-") {
		cfg.Field = x.r.Candidates[i].Field
	}
	src, err := certsource.NewPreset(x.in.Preset, cfg)
	if err != nil {
		return err
	}
	x.bySource(src, x.in.Preset)
	return nil
}

func (x *explainer) bySource(src certsource.Source, name string) {
	d := x.r.Decision
	x.r.Source, x.preset = name, name
	r := x.in.Capture.request(x.ctx)
	for _, field := range certsource.Foreign(r, certsource.Describe(src).Fields...) {
		d.Warnings = append(d.Warnings, decision.Check{Name: decision.CheckSource, Rule: "RFC 9440, Section 4", Reason: decision.SourceForeignHeader, Found: field})
	}
	p, err := src.Certificate(r)
	if err == nil {
		d.Pass(decision.CheckSource, "RFC 9440, Section 4", name)
		x.certificate(p)
		return
	}
	c := certsource.Check(err)
	if errors.Is(err, certsource.ErrNoCertificate) && len(x.r.Candidates) > 0 && x.r.Candidates[0].Preset != name && x.r.Candidates[0].Fit != None {
		best := x.r.Candidates[0]
		c.Expected = "a certificate as the source " + name + " reads it"
		c.Found = best.Field + ", in the form of " + best.Preset
	}
	d.Fail(c)
}

// byGuess takes the best candidate.
func (x *explainer) byGuess() {
	d := x.r.Decision
	if len(x.r.Candidates) == 0 {
		d.Fail(decision.Check{
			Name: decision.CheckCertificate, Rule: "RFC 8705, Section 2", Reason: decision.NoCertificate,
			Expected: "a header field with a certificate", Found: "none that any preset reads",
			Fix: "let the proxy forward the certificate, as its file in docs/proxies shows; or the request went to an endpoint that asks for none",
		})
		return
	}
	best := x.r.Candidates[0]
	if n := len(x.r.Candidates); best.Fit != Fails || n == 1 || x.r.Candidates[1].Fit != Fails {
		x.r.Source, x.preset = best.Preset, best.Preset
	}
	if best.presented != nil && best.Fit == Fits {
		d.Pass(decision.CheckSource, "RFC 9440, Section 4", best.Preset+": "+best.Field)
		x.certificate(best.presented)
		return
	}
	c := decision.Check{Name: decision.CheckSource, Rule: "RFC 9440, Section 4", Reason: best.Reason, Found: best.Fault}
	switch best.Fit {
	case Lacks:
		c.Expected, c.Found = best.Missing+" beside "+best.Field, "none"
	case None:
		c.Name, c.Rule, c.Reason = decision.CheckCertificate, "RFC 8705, Section 2", decision.NoCertificate
		c.Expected, c.Found = "a certificate in "+best.Field, "none"
	}
	d.Fail(c)
	if best.presented != nil {
		x.certificate(best.presented)
	}
}

// fields lists the certificate fields as they were spelled.
func (x *explainer) fields() {
	r := x.in.Capture.request(x.ctx)
	var known []string
	if x.in.Server.Source != nil {
		known = certsource.Describe(x.in.Server.Source).Fields
	}
	foreign := certsource.Foreign(r)
	for _, f := range x.in.Capture.Fields {
		is := func(n string) bool { return strings.EqualFold(n, f.Name) }
		if !slices.ContainsFunc(foreign, is) && !slices.ContainsFunc(known, is) && !looksLikeCertificate(f.Name, f.Value) {
			continue
		}
		if i := slices.IndexFunc(x.r.Fields, func(s FieldSeen) bool { return s.Name == f.Name }); i >= 0 {
			x.r.Fields[i].Count++
			x.r.Fields[i].Bytes += len(f.Value)
			continue
		}
		seen := FieldSeen{Name: f.Name, Bytes: len(f.Value), Count: 1}
		if isVerdict(f.Name) {
			seen.Value = clip(f.Value, 80)
		}
		x.r.Fields = append(x.r.Fields, seen)
	}
}

// isVerdict reports whether some hop says in a field of this name what it thinks of the
// certificate.
func isVerdict(name string) bool {
	return slices.ContainsFunc(certsource.Presets(), func(p certsource.Preset) bool {
		return slices.ContainsFunc(slices.Concat([]string{p.VerifyField}, p.Flags), func(f string) bool { return f != "" && strings.EqualFold(f, name) })
	})
}

// certificate notes what was presented.
func (x *explainer) certificate(p *certsource.Presented) {
	if p == nil {
		return
	}
	x.presented = p
	d := x.r.Decision
	d.Via = p.Via
	d.Thumbprint = p.Thumbprint()
	x.r.Thumbprint, x.r.Kind = p.Thumbprint(), p.Kind().String()
	if a := p.Attributes(); a != nil {
		d.Subject = strings.Join(a.SubjectDN, " and ")
	}
	leaf := p.Leaf()
	if leaf == nil {
		return
	}
	x.r.Certificate, x.r.Intermediates = leaf, len(p.Chain())
	x.r.NotBefore, x.r.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	d.Subject = subject.Of(leaf)
	x.r.Names, _ = Spellings(leaf.RawSubject)
	if names, err := subject.Describe(leaf); err == nil {
		for _, n := range names {
			if n.Kind != subject.DN {
				x.r.SAN = append(x.r.SAN, strings.TrimPrefix(string(n.Kind), "tls_client_auth_san_")+" "+n.Value)
			}
		}
	}
}

// set is the anchor set of the client.
func (x *explainer) set() string {
	if x.in.Client != nil && x.in.Client.AnchorSet != "" {
		return x.in.Client.AnchorSet
	}
	return x.in.Server.DefaultSet
}

// judge makes the checks of the client.
func (x *explainer) judge() {
	d := x.r.Decision
	if x.presented == nil || x.r.Refused() {
		return
	}
	if x.in.ClientID == "" && x.in.Client == nil {
		x.anySet()
		d.Allow()
		return
	}
	c := x.in.Client
	d.ClientID = cmp.Or(x.in.ClientID, idOf(c))
	switch {
	case c == nil:
		d.Fail(decision.Check{Name: decision.CheckClient, Rule: "RFC 6749, Section 3.2.1", Reason: decision.UnknownClient, Found: d.ClientID})
		return
	case c.Disabled:
		d.Fail(decision.Check{Name: decision.CheckClient, Rule: "RFC 6749, Section 3.2.1", Reason: decision.ClientDisabled, Found: c.ID})
		return
	}
	d.Pass(decision.CheckClient, "RFC 6749, Section 3.2.1", c.ID)
	d.Method = c.Method()
	now := x.in.Server.Now
	cfg := clientauth.Config{Now: now}
	if x.in.Server.Paths != nil {
		cfg.Paths = x.in.Server.Paths
	}
	switch auth := clientauth.New(cfg); c.Method() {
	case clientauth.TLSClientAuth:
		x.judgePKI(auth, c)
	case clientauth.SelfSignedTLSClientAuth:
		x.judgeSelfSigned(auth, c)
	default:
		d.Skip(decision.CheckMethod, "RFC 8705, Section 3", c.Method()+": the certificate does not authenticate this client; its tokens can still be bound to it")
	}
	d.Allow()
}

func idOf(c *authserver.Client) string {
	if c == nil {
		return ""
	}
	return c.ID
}

func (x *explainer) judgePKI(auth *clientauth.Authenticator, c *authserver.Client) {
	d := x.r.Decision
	kind, value := c.Subject()
	expected, err := subject.New(kind, value)
	if err != nil {
		d.Fail(decision.Check{Name: decision.CheckClient, Rule: "RFC 8705, Section 2.1.2", Reason: decision.ClientMisconfig,
			Expected: "exactly one subject value", Found: err.Error()})
		return
	}
	x.path(x.set())
	if x.in.Server.Paths == nil {
		// Without the anchors only the subject can be judged.
		d.Skip(decision.CheckChain, "RFC 8705, Section 2.1", "the server's trust anchors are not known here; give --config")
		x.subject(expected, c)
		return
	}
	err = auth.AuthenticatePKI(x.ctx, d, x.presented, clientauth.PKI{Expected: expected, AnchorSet: x.set(), SoleEntry: c.SoleEntry})
	var pe *pki.Error
	if errors.As(err, &pe) {
		if pe.Cert != nil {
			x.issuerDER = pe.Cert.RawIssuer
		}
		// What comes after does not have to be found out by the next attempt.
		if leaf := x.presented.Leaf(); leaf != nil {
			if mismatch := match(expected, c, leaf); mismatch != nil {
				x.subjectToo = true
				x.r.Notes = append(x.r.Notes, "the subject would be refused as well: "+strings.TrimPrefix(mismatch.Error(), "subject: "))
			} else {
				x.r.Notes = append(x.r.Notes, "the subject would match")
			}
		}
	}
}

func match(expected subject.Expected, c *authserver.Client, leaf *x509.Certificate) error {
	if c.SoleEntry {
		return expected.MatchSole(leaf)
	}
	return expected.Match(leaf)
}

// subject judges the registered value alone.
func (x *explainer) subject(expected subject.Expected, c *authserver.Client) {
	leaf := x.presented.Leaf()
	if leaf == nil {
		x.r.Decision.Fail(decision.Check{Name: decision.CheckCertificate, Rule: "RFC 8705, Section 2", Reason: decision.NotEnough,
			Expected: "the certificate", Found: x.presented.Kind().String()})
		return
	}
	const rule = "RFC 8705, Section 2.1.2"
	err := match(expected, c, leaf)
	if err == nil {
		x.r.Decision.Pass(decision.CheckSubject, rule, expected.Value())
		return
	}
	check := decision.Check{Name: decision.CheckSubject, Rule: rule, Reason: decision.SubjectMismatch, Expected: strconv.Quote(expected.Value()), Found: err.Error()}
	if e, ok := errors.AsType[*subject.MismatchError](err); ok {
		check.Reason, check.Expected, check.Found = e.Reason, strconv.Quote(e.Expected), e.Found
		if e.Hint != "" {
			check.Found += " (" + e.Hint + ")"
		}
	}
	x.r.Decision.Fail(check)
}

func (x *explainer) judgeSelfSigned(auth *clientauth.Authenticator, c *authserver.Client) {
	d := x.r.Decision
	if c.JWKSURI != "" {
		d.Skip(decision.CheckRegistered, "RFC 8705, Section 2.2.2", "the registered certificates are behind "+c.JWKSURI+", which is not fetched here")
		return
	}
	set, err := jwks.Parse(c.JWKS, jwks.Strict)
	if err != nil {
		d.Fail(decision.Check{Name: decision.CheckRegistered, Rule: "RFC 8705, Section 2.2.2", Reason: decision.KeySetUnavailable, Found: err.Error()})
		return
	}
	_ = auth.AuthenticateSelfSigned(x.ctx, d, x.presented, clientauth.SelfSigned{
		Certificates: set.Certificates, InsecureMatchKey: x.in.Server.InsecureMatchKey,
	})
	if leaf := x.presented.Leaf(); leaf != nil && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && x.r.Refused() {
		x.r.Notes = append(x.r.Notes, "the certificate was issued by a CA, but the client is registered for self_signed_tls_client_auth; for a certificate of a CA the method is tls_client_auth")
	}
}

// anySet says which sets accept the certificate, where no client is named.
func (x *explainer) anySet() {
	d := x.r.Decision
	leaf := x.presented.Leaf()
	if leaf == nil {
		return
	}
	if x.in.Server.Paths == nil || len(x.in.Server.Sets) == 0 {
		const rule = "RFC 5280, Section 4.1.2.5"
		switch now := x.in.Server.Now(); {
		case now.After(leaf.NotAfter):
			d.Fail(decision.Check{Name: decision.CheckValidity, Rule: rule, Reason: decision.Expired,
				Expected: "a time up to " + leaf.NotAfter.UTC().Format(time.RFC3339), Found: now.UTC().Format(time.RFC3339)})
		case now.Before(leaf.NotBefore):
			d.Fail(decision.Check{Name: decision.CheckValidity, Rule: rule, Reason: decision.NotYetValid,
				Expected: "a time from " + leaf.NotBefore.UTC().Format(time.RFC3339) + " on", Found: now.UTC().Format(time.RFC3339)})
		default:
			d.Pass(decision.CheckValidity, rule, "")
			d.Skip(decision.CheckChain, "RFC 8705, Section 2.1", "the server's trust anchors are not known here; give --config")
		}
		return
	}
	var accepted []string
	var first error
	for _, s := range x.in.Server.Sets {
		_, err := x.in.Server.Paths.Verify(x.ctx, s.Name, pki.Chain{Leaf: leaf, Rest: x.presented.Chain()})
		if err == nil {
			accepted = append(accepted, s.Name)
		} else if first == nil || s.Name == x.in.Server.DefaultSet {
			first = err
		}
	}
	if len(accepted) > 0 {
		d.Pass(decision.CheckChain, "RFC 8705, Section 2.1", "valid for anchor set "+strings.Join(accepted, ", "))
		x.path(accepted[0])
		return
	}
	if leaf.CheckSignatureFrom(leaf) == nil || bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		d.Skip(decision.CheckChain, "RFC 8705, Section 2.2", "self-signed: needs no path for a client of self_signed_tls_client_auth")
		return
	}
	if e, ok := errors.AsType[*pki.Error](first); ok {
		if e.Cert != nil {
			x.issuerDER = e.Cert.RawIssuer
		}
		d.Fail(decision.Check{Name: decision.CheckChain, Rule: "RFC 8705, Section 2.1", Reason: e.Reason, Expected: e.Expected, Found: e.Found})
		x.path(e.Set)
	}
}

// path shows the certificates from the leaf towards an anchor of the set.
func (x *explainer) path(name string) {
	leaf := x.presented.Leaf()
	i := slices.IndexFunc(x.in.Server.Sets, func(s pki.Set) bool { return s.Name == name })
	if leaf == nil || i < 0 {
		return
	}
	set := x.in.Server.Sets[i]
	x.r.AnchorSet = name
	x.r.Path = []Step{{subject.Of(leaf), "leaf"}}
	if v, ok := x.validFor(name); ok {
		for _, cert := range v.Path[1:] {
			x.r.Path = append(x.r.Path, Step{subject.Of(cert), role(cert, set)})
		}
		return
	}
	const longest = 20
	for cert := leaf; len(x.r.Path) < longest; {
		issuer := issuerOf(cert, slices.Concat(set.Anchors, set.Helpers, x.presented.Chain()))
		if issuer == nil {
			if !bytes.Equal(cert.RawIssuer, cert.RawSubject) {
				x.r.Path = append(x.r.Path, Step{nameText(cert.RawIssuer), "missing"})
			}
			return
		}
		what := role(issuer, set)
		x.r.Path = append(x.r.Path, Step{subject.Of(issuer), what})
		if what == "anchor" || issuer.Equal(cert) || bytes.Equal(issuer.RawIssuer, issuer.RawSubject) {
			return
		}
		cert = issuer
	}
}

func role(cert *x509.Certificate, set pki.Set) string {
	switch {
	case slices.ContainsFunc(set.Anchors, cert.Equal):
		return "anchor"
	case slices.ContainsFunc(set.Helpers, cert.Equal):
		return "helper"
	}
	return "presented"
}

// issuerOf returns the certificate whose key has signed cert, if it is there.
func issuerOf(cert *x509.Certificate, among []*x509.Certificate) *x509.Certificate {
	for _, c := range among {
		if bytes.Equal(cert.RawIssuer, c.RawSubject) && !c.Equal(cert) && cert.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

func nameText(der []byte) string {
	name, err := subject.ParseDER(der)
	if err != nil {
		return "<a name that does not parse>"
	}
	return name.String()
}

// validFor reports whether the certificate has a path in a set.
func (x *explainer) validFor(set string) (*pki.Verdict, bool) {
	if x.in.Server.Paths == nil {
		return nil, false
	}
	v, err := x.in.Server.Paths.Verify(x.ctx, set, pki.Chain{Leaf: x.presented.Leaf(), Rest: x.presented.Chain()})
	return v, err == nil
}
