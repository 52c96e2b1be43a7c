package certsource

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/decision"
)

// A Preset describes how one kind of proxy forwards certificates. It is chosen by name
// and never guessed.
type Preset struct {
	// Name chooses it: "nginx".
	Name string
	// Title is the name of the product.
	Title string
	// Field is the header field with the certificate. If it is empty, the proxy has no
	// usual name for it, and the configuration has to give one.
	Field string
	// ChainField is the field with the other certificates, if they come in one of their
	// own. A name that ends in "-" or "_" is followed by a number from 0 on.
	ChainField string
	// VerifyField is the field in which the proxy says, for each request, whether it has
	// verified the certificate. It is demanded: a certificate without it is refused.
	VerifyField string
	// Flags are further fields that are demanded: whether there is a certificate,
	// whether it is revoked.
	Flags []string
	// Beside lists what the proxy sends beside these and that is not used.
	Beside []string
	// Form says how the certificate is written, in words.
	Form string
	// Values says what VerifyField and Flags hold, in words.
	Values string
	// Most is the most that arrives: the certificate, or less.
	Most Kind
	// Chain says whether the client's intermediates arrive: "no", "yes" or when. If not,
	// the anchor set needs them as helpers.
	Chain string
	// NeverVerifies says that the proxy validates no path, so that nobody may rely on it.
	NeverVerifies bool
	// Run says that the tests run the real program; otherwise the preset was made from
	// documentation.
	Run bool
	// Versions are those that the preset was made for.
	Versions string
	// Config is the file in docs/proxies with the configuration that makes it safe.
	Config string
	// Note says what to know, in one sentence.
	Note string
}

// A preset is a Preset with what reads it.
type preset struct {
	Preset
	form   form
	list   listForm // of ChainField
	lines  bool     // ChainField may stand in several lines
	verify func(string) outcome
	good   string // the best value of VerifyField
	flags  []flag
	// vacuous is that of VerifyField.
	vacuous bool
	// digest is a field with the SHA-256 of the certificate. If it is there, it has to
	// be right.
	digest string
	// none are values that stand for no certificate, beside the empty one.
	none []string
	// build, if set, makes the source in place of all this.
	build func(*preset, PresetConfig) (Source, error)
}

// presets lists the presets in the order of the documentation.
func presets() []*preset {
	return []*preset{
		&presetRFC9440, &presetRFC9440Draft,
		&presetNginx, &presetIngressNginx, &presetApache, &presetHAProxy, &presetXFCC,
		&presetTraefik, &presetTraefik28, &presetCaddy,
		&presetALB, &presetALBPassthrough, &presetCloudFront, &presetGoogleCloud,
		&presetAzureAppService, &presetAzureAppGateway,
		&presetCloudflare, &presetCloudflareForwarding,
		&presetF5, &presetOpenShift, &presetFastly, &presetKong,
		&presetHeaderDER, &presetHeaderPEM, &presetHeaderEscapedPEM, &presetHeaderSHA256, &presetAttributes,
	}
}

// Presets returns the description of every preset.
func Presets() []Preset {
	var out []Preset
	for _, p := range presets() {
		d := p.Preset
		d.Flags, d.Beside = slices.Clone(d.Flags), slices.Clone(d.Beside)
		out = append(out, d)
	}
	return out
}

// PresetConfig holds the settings of a preset. The zero value is refused.
type PresetConfig struct {
	// Hop is the proxy. Required.
	Hop Hop
	// Field, ChainField and VerifyField take the place of the preset's names, where the
	// proxy is set up with other ones. A preset without a field cannot be given one,
	// except those that begin with "header-", whose VerifyField may be set.
	Field, ChainField, VerifyField string
	// Verified says that the proxy validates paths in our place, and what it enforces:
	// the name of its CAs ("partners of 2026"). Where the preset has a VerifyField, only
	// what that field says was verified counts as that. If empty, we validate.
	Verified string
	// TrustedHops is required with the preset xfcc: how many trusted proxies have
	// appended an element. The element that counts is the n-th from the right.
	TrustedHops int
	// Attributes are the fields of the preset attributes.
	Attributes AttributeFieldsConfig
	// Others judges requests of peers that are not the hop (see [RFC9440Config]).
	Others Source
	// MaxCertificates bounds the chain with the client's own. If zero, 10.
	MaxCertificates int
	// MaxBytes bounds the fields together, as sent. If zero, 64 KiB.
	MaxBytes int
}

// NewPreset returns the source of the preset with a name. It reports every wrong setting
// at once.
func NewPreset(name string, cfg PresetConfig) (Source, error) {
	var names []string
	for _, p := range presets() {
		if p.Name != name {
			names = append(names, p.Name)
			continue
		}
		build := newPresetSource
		if p.build != nil {
			build = p.build
		}
		src, err := build(p, cfg)
		if err = errors.Join(err, p.misplaced(cfg)); err != nil {
			return nil, err
		}
		return src, nil
	}
	return nil, fmt.Errorf("certsource: there is no preset %q; the presets are %s", name, strings.Join(names, ", "))
}

// misplaced reports settings that the preset does not use: a setting without effect is a
// belief without ground.
func (p *preset) misplaced(cfg PresetConfig) error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("certsource: %s: "+format, append([]any{p.Name}, args...)...))
	}
	if cfg.Field == "" && p.generic() && p != &presetAttributes {
		fault("Field: name the header field with the certificate; there is no default")
	}
	if cfg.ChainField != "" && p.ChainField == "" {
		fault("ChainField %s: %s sends no chain in a field of its own", cfg.ChainField, p.Title)
	}
	if cfg.VerifyField != "" && p.VerifyField == "" && !p.generic() {
		fault("VerifyField %s: %s has no such field", cfg.VerifyField, p.Title)
	}
	if cfg.Verified != "" && p.NeverVerifies {
		fault("Verified: %s validates no path; leave it out, and the path is validated here", p.Title)
	}
	if cfg.TrustedHops != 0 && p != &presetXFCC {
		fault("TrustedHops belongs to xfcc")
	}
	a := cfg.Attributes
	if p != &presetAttributes && a.SubjectDN+a.SANDNS+a.SANURI+a.SANIP+a.SANEmail != "" {
		fault("Attributes belong to the preset attributes")
	}
	return errors.Join(errs...)
}

// fixed reports settings that would change names which cannot be changed.
func (p *preset) fixed(cfg PresetConfig) error {
	if cfg.Field != "" || cfg.ChainField != "" {
		return fmt.Errorf("certsource: %s: Field and ChainField: the names of the fields are fixed; leave them out", p.Name)
	}
	return nil
}

// generic reports whether the preset is a form and not a product.
func (p *preset) generic() bool { return p.Field == "" }

func (p *preset) verification(cfg PresetConfig) Verification {
	if cfg.Verified == "" {
		return Verification{}
	}
	return Verification{By: p.Name, Anchors: cfg.Verified}
}

// A presetSource reads the fields of a hop that has no specification of its own.
type presetSource struct {
	fields
	preset *preset
	chain  []string // the chain field, or the numbered ones
	flags  []flag
	digest string
	read   func(s *presetSource, field, value string, chain []string) (*Presented, error)
	hops   int // of XFCC
}

func newPresetSource(p *preset, cfg PresetConfig) (Source, error) {
	s := newFields(p, cfg)
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

func newFields(p *preset, cfg PresetConfig) *presetSource {
	s := &presetSource{preset: p, read: (*presetSource).certificates, fields: fields{
		source: p.Name, hop: cfg.Hop, verification: p.verification(cfg), others: cfg.Others,
		most: p.Most, maxCerts: cfg.MaxCertificates, maxBytes: cfg.MaxBytes, beside: canonical(p.Beside...),
	}}
	pick := func(set, usual string) string {
		if set != "" {
			usual = set
		}
		return http.CanonicalHeaderKey(usual)
	}
	s.names = []string{pick(cfg.Field, p.Field)}
	if p.ChainField != "" {
		chain := pick(cfg.ChainField, p.ChainField)
		if strings.HasSuffix(chain, "-") || strings.HasSuffix(chain, "_") {
			n := cfg.MaxCertificates
			if n <= 0 {
				n = defaultMaxCertificates
			}
			for i := range min(n, 100) + 1 { // one more than may be
				s.chain = append(s.chain, chain+strconv.Itoa(i))
			}
		} else {
			s.chain = []string{chain}
			if p.lines {
				s.lists = s.chain
			}
		}
		s.names = append(s.names, s.chain...)
	}
	if p.VerifyField != "" || cfg.VerifyField != "" {
		verify, vacuous := p.verify, p.vacuous
		if verify == nil { // a generic one, before which anything may stand
			verify, vacuous = judgeAny, true
		}
		s.flags = append(s.flags, flag{name: pick(cfg.VerifyField, p.VerifyField), judge: verify, vacuous: vacuous})
	}
	for _, f := range p.flags {
		f.name = http.CanonicalHeaderKey(f.name)
		s.flags = append(s.flags, f)
	}
	for _, f := range s.flags {
		s.names = append(s.names, f.name)
	}
	if p.digest != "" {
		s.digest = http.CanonicalHeaderKey(p.digest)
		s.names = append(s.names, s.digest)
	}
	return s
}

func canonical(names ...string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = http.CanonicalHeaderKey(n)
	}
	return out
}

// absent reports whether a value stands for none.
func (s *presetSource) absent(value string) bool {
	return value == "" || slices.Contains(s.preset.none, value)
}

// Certificate implements [Source].
func (s *presetSource) Certificate(r *http.Request) (*Presented, error) {
	if why := s.hop.refuse(r); why != "" {
		return s.stranger(r, why)
	}
	if err := s.clean(r); err != nil {
		return nil, err
	}
	field, value := s.names[0], ""
	if values := r.Header[field]; len(values) > 0 && !s.absent(values[0]) {
		value = values[0]
	}
	verified, err := s.weigh(r, value != "")
	if err != nil {
		return nil, err
	}
	chain, err := s.chainLines(r)
	if err != nil {
		return nil, err
	}
	if value == "" {
		if len(chain) > 0 {
			return nil, s.because(decision.SourceContradiction, s.chain[0], "without %s", field)
		}
		return nil, ErrNoCertificate
	}
	p, ok, err := s.recall(r, value, chain, verified)
	if !ok {
		if p, err = s.read(s, field, value, chain); err == nil {
			p, err = s.keep(r, value, chain, p, verified)
		}
	}
	if err != nil {
		return nil, err
	}
	if s.digest != "" {
		if err := s.compare(r, p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// chainLines returns the lines that hold the chain.
func (s *presetSource) chainLines(r *http.Request) ([]string, error) {
	switch len(s.chain) {
	case 0:
		return nil, nil
	case 1:
		lines := r.Header[s.chain[0]]
		if len(lines) == 1 && s.absent(lines[0]) {
			return nil, nil
		}
		return lines, nil
	}
	var lines []string
	for i, name := range s.chain {
		values := r.Header[name]
		if len(values) == 0 || s.absent(values[0]) {
			continue
		}
		if len(lines) < i {
			return nil, s.fault(name, "the one before it is missing")
		}
		lines = append(lines, values[0])
	}
	return lines, nil
}

func (s *presetSource) certificates(field, value string, chain []string) (*Presented, error) {
	chainField := ""
	if len(s.chain) > 0 {
		chainField = s.chain[0]
	}
	return s.decode(field, value, s.preset.form, chainField, chain, s.preset.list)
}

// compare checks the digest that the hop sends beside the certificate.
func (s *presetSource) compare(r *http.Request, p *Presented) error {
	values := r.Header[s.digest]
	if len(values) == 0 || s.absent(values[0]) {
		return nil
	}
	sum, err := s.sha256(s.digest, values[0])
	if err != nil {
		return err
	}
	if certbound.EncodeThumbprint(sum) != p.Thumbprint() {
		return s.because(decision.SourceContradiction, s.digest, "is not the SHA-256 of the certificate in %s", s.names[0])
	}
	return nil
}
