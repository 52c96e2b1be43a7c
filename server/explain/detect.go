package explain

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// A Fit says how well a request fits a preset.
type Fit string

// The fits, best first.
const (
	Fits    Fit = "fits"    // it decodes
	Refuses Fit = "refuses" // it decodes, and the hop itself says that it does not count
	Lacks   Fit = "lacks"   // it would decode, if a field were there that the preset demands
	None    Fit = "none"    // what the hop sends when there is no certificate
	Fails   Fit = "fails"   // its field is there and does not decode
)

// A Candidate is a preset that a request may have come through.
type Candidate struct {
	Preset string `json:"preset"`
	Title  string `json:"title"`
	Fit    Fit    `json:"fit"`
	// Field holds the certificate; Form says how it is written there.
	Field string `json:"field"`
	Form  string `json:"form"`
	// Missing is the field that a preset demands, if the fit is Lacks.
	Missing string `json:"missing,omitempty"`
	// Reason and Fault are those of the source, if the fit is Fails.
	Reason decision.Reason `json:"reason,omitempty"`
	Fault  string          `json:"fault,omitempty"`
	// Hops is the number of elements of X-Forwarded-Client-Cert.
	Hops int `json:"elements,omitempty"`
	// Note says what else can look like this.
	Note string `json:"note,omitempty"`
	// Config is the file in docs/proxies.
	Config string `json:"config,omitempty"`

	score     int
	presented *certsource.Presented
}

// Detect returns the presets that a request may have come through, the likeliest first.
// It is for people: a server never guesses.
func Detect(ctx context.Context, c *Capture) []Candidate {
	r := c.request(ctx)
	asks := newAsker(r, certsource.Presets())
	claimed := map[string]bool{} // fields that a preset has by its own name
	var out []Candidate
	for _, p := range asks.presets {
		if p.Field == "" {
			continue
		}
		field := http.CanonicalHeaderKey(p.Field)
		if _, ok := r.Header[field]; !ok && !asks.resembles(field) && !asks.says(p) {
			continue
		}
		claimed[field] = true
		if cand, ok := asks.ask(p, certsource.PresetConfig{}); ok {
			out = append(out, cand)
		}
	}
	for name, values := range r.Header {
		if claimed[name] || len(values) == 0 || !looksLikeCertificate(name, values[0]) {
			continue
		}
		for _, p := range asks.presets {
			if p.Field != "" || p.Name == "attributes" {
				continue
			}
			if cand, ok := asks.ask(p, certsource.PresetConfig{Field: name}); ok {
				out = append(out, cand)
			}
		}
	}
	order := map[Fit]int{Fits: 0, Refuses: 0, Lacks: 1, None: 2, Fails: 3}
	rank := func(c Candidate) int {
		if asks.resembles(c.Field) {
			return order[c.Fit]
		}
		return order[c.Fit] + len(order) // only something beside it is there
	}
	slices.SortStableFunc(out, func(a, b Candidate) int { return cmp.Or(rank(a)-rank(b), b.score-a.score) })
	// What does not decode says something only where nothing else does.
	if len(out) > 0 && out[0].Fit != Fails {
		out = slices.DeleteFunc(out, func(c Candidate) bool { return c.Fit == Fails || out[0].Fit != None && c.Fit == None })
	}
	return out
}

// An asker asks presets about one request.
type asker struct {
	r       *http.Request
	presets []certsource.Preset
}

func newAsker(r *http.Request, presets []certsource.Preset) *asker { return &asker{r, presets} }

// resembles reports whether a field has the name in another spelling.
func (a *asker) resembles(field string) bool {
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
	for name := range a.r.Header {
		if fold(name) == fold(field) {
			return true
		}
	}
	return false
}

// says reports whether a field is there in which the hop speaks of the certificate.
func (a *asker) says(p certsource.Preset) bool {
	for _, name := range slices.Concat([]string{p.VerifyField}, p.Flags) {
		if _, ok := a.r.Header[http.CanonicalHeaderKey(name)]; ok && name != "" {
			return true
		}
	}
	return false
}

// trusted is a hop that the request of a capture comes from.
var trusted = certsource.Hop{UnixSocket: true}

// ask lets one preset read the request.
func (a *asker) ask(p certsource.Preset, cfg certsource.PresetConfig) (Candidate, bool) {
	cand := Candidate{Preset: p.Name, Title: p.Title, Field: cmp.Or(cfg.Field, p.Field), Form: p.Form, Config: p.Config}
	cfg.Hop = trusted
	if p.Name == "xfcc" {
		return a.askHops(p, cfg, cand)
	}
	return a.read(p, cfg, cand, a.r)
}

func (a *asker) read(p certsource.Preset, cfg certsource.PresetConfig, cand Candidate, r *http.Request) (Candidate, bool) {
	src, err := certsource.NewPreset(p.Name, cfg)
	if err != nil {
		return cand, false
	}
	got, err := src.Certificate(r)
	cand.score = a.score(src, p)
	switch e, isParse := errors.AsType[*certsource.ParseError](err); {
	case err == nil:
		cand.Fit, cand.presented = Fits, got
		if value := r.Header.Get(cand.Field); p.Name == "apache" && strings.Contains(value, "\t") {
			cand.Note = "tabs between the lines are what is left of nginx's $ssl_client_cert after a server has joined them: there, use $ssl_client_escaped_cert and the preset nginx"
		}
	case errors.Is(err, certsource.ErrNoCertificate):
		cand.Fit = None
	case isParse && e.Reason == decision.SourceUnverified:
		cand.Fit, cand.Missing, cand.Reason = Lacks, e.Field, e.Reason
		// Would it decode? Each word that a hop has for "verified" is tried.
		for _, word := range []string{"SUCCESS", "0", "true", "1"} {
			with := r.Clone(r.Context())
			for _, name := range slices.Concat([]string{p.VerifyField}, p.Flags) {
				if key := http.CanonicalHeaderKey(name); name != "" && len(with.Header[key]) == 0 {
					with.Header[key] = []string{word}
				}
			}
			if strings.Contains(strings.ToLower(e.Field), "revoked") && word == "true" {
				continue
			}
			if got, err := src.Certificate(with); err == nil {
				cand.presented = got
				return cand, true
			}
		}
		cand.Fit, cand.Fault = Fails, e.Fault
	case isParse && e.Reason == decision.Revoked:
		cand.Fit, cand.Reason, cand.Fault = Refuses, e.Reason, e.Field+": "+e.Fault
	case isParse:
		cand.Fit, cand.Reason, cand.Fault = Fails, cmp.Or(e.Reason, decision.SourceMalformed), e.Field+": "+e.Fault
	default:
		return cand, false
	}
	return cand, true
}

// askHops finds out how many elements there are; which of them is the client's is for
// the operator to say, and the last is shown.
func (a *asker) askHops(p certsource.Preset, cfg certsource.PresetConfig, cand Candidate) (Candidate, bool) {
	cfg.TrustedHops = 1
	first, ok := a.read(p, cfg, cand, a.r)
	if !ok {
		return first, ok
	}
	for n := 1; n <= 16; n++ {
		cfg.TrustedHops = n
		next, ok := a.read(p, cfg, cand, a.r)
		if !ok || next.Fit == None || next.Reason == decision.SourceTooFewHops {
			break
		}
		first.Hops = n
	}
	return first, true
}

// score counts the fields of the request that the preset accounts for, and against it
// the certificate fields that it does not.
func (a *asker) score(src certsource.Source, p certsource.Preset) int {
	fields := certsource.Describe(src).Fields
	score := 0
	for _, f := range fields {
		if _, ok := a.r.Header[f]; ok {
			score += 2
		}
	}
	score -= len(certsource.Foreign(a.r, fields...))
	if p.Run {
		score++ // of two that fit alike, the one that more people have
	}
	if p.Name == "traefik-2.8" || p.Name == "rfc9440-draft" {
		score--
	}
	return score
}

// looksLikeCertificate says whether a value may hold a certificate or its fingerprint.
func looksLikeCertificate(name, value string) bool {
	v := strings.TrimLeft(value, `":`)
	switch {
	case strings.Contains(v, "BEGIN") && strings.Contains(v, "CERTIFICATE"):
		return true
	case strings.HasPrefix(v, "MII") && len(v) > 200:
		return true
	case strings.HasPrefix(v, "LS0tLS1CRUdJTi"): // base64 of PEM
		return true
	}
	hex := strings.ReplaceAll(v, ":", "")
	lower := strings.ToLower(name)
	return len(hex) == 64 && strings.Trim(strings.ToLower(hex), "0123456789abcdef") == "" &&
		(strings.Contains(lower, "cert") || strings.Contains(lower, "fingerprint") || strings.Contains(lower, "ssl") || strings.Contains(lower, "tls"))
}
