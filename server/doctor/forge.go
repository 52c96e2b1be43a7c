package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/server/probe"
)

// A spelling is a way to write the name of a field so that a filter may miss it and a
// server may not.
type spelling struct {
	name  string
	apply func(header) header
}

func renamed(f func(string) string) func(header) header {
	return func(h header) header {
		out := make(header, len(h))
		for i, field := range h {
			out[i] = [2]string{f(field[0]), field[1]}
		}
		return out
	}
}

// spellings are the ways, the usual one first.
var spellings = []spelling{
	{"", func(h header) header { return h }},
	{"lower case", renamed(strings.ToLower)},
	{"capitals", renamed(strings.ToUpper)},
	{"underscores", renamed(func(s string) string { return strings.ReplaceAll(s, "-", "_") })},
	{"one underscore", renamed(func(s string) string {
		i := strings.LastIndexByte(s, '-')
		if i < 0 {
			return s
		}
		return s[:i] + "_" + s[i+1:]
	})},
	{"twice", func(h header) header { return slices.Concat(h, h) }},
	{"named in Connection", func(h header) header {
		names := []string{"keep-alive"}
		for _, f := range h {
			names = append(names, f[0])
		}
		return append(header{{"Connection", strings.Join(names, ", ")}}, h...)
	}},
}

// A forgery is the header that a hop would send for the certificate of somebody else.
type forgery struct {
	preset string
	fields header
	all    bool // in every spelling
}

// forgeries returns the header of every preset, and of the one that the server reads,
// with the names that it reads them under.
func (d *doctor) forgeries(reads *probe.Answer) []forgery {
	var out []forgery
	seen := map[string]bool{}
	leaf := d.b.cert.Leaf
	for _, p := range certsource.Presets() {
		fields := sorted(p.Forward(leaf), p)
		main := strings.ToLower(fields[0][0])
		out = append(out, forgery{p.Name, fields, !seen[main]})
		seen[main] = true
	}
	if len(reads.Fields) == 0 {
		return out
	}
	for _, p := range certsource.Presets() {
		if p.Name != reads.Source && reads.Source != "header" && reads.Source != "attributes" {
			continue
		}
		fields := sorted(p.Forward(leaf), p)
		fields[0][0] = reads.Fields[0]
		// What the hop says beside it has another name too, perhaps: under each one.
		for _, name := range reads.Fields[1:] {
			if strings.Contains(strings.ToLower(name), "chain") || slices.ContainsFunc(fields, func(f [2]string) bool { return strings.EqualFold(f[0], name) }) {
				continue
			}
			word := "SUCCESS"
			if len(fields) > 1 {
				word = fields[len(fields)-1][1]
			}
			fields = append(fields, [2]string{name, word})
		}
		if !slices.ContainsFunc(out, func(f forgery) bool { return sameFields(f.fields, fields) && f.all }) {
			out = append(out, forgery{p.Name + " as configured", fields, true})
		}
	}
	return out
}

// sameFields compares without regard to the case of names.
func sameFields(a, b header) bool {
	return slices.EqualFunc(a, b, func(x, y [2]string) bool { return strings.EqualFold(x[0], y[0]) && x[1] == y[1] })
}

// sorted returns the fields of a preset, the one with the certificate first.
func sorted(h http.Header, p certsource.Preset) header {
	var out header
	for _, name := range slices.Sorted(mapsKeys(h)) {
		for _, v := range h[name] {
			out = append(out, [2]string{name, v})
		}
	}
	first := http.CanonicalHeaderKey(cmp.Or(p.Field, "X-Client-Cert"))
	slices.SortStableFunc(out, func(a, b [2]string) int {
		return order2(a[0] == first, b[0] == first)
	})
	if p.Field != "" {
		out[0][0] = p.Field
	}
	return out
}

func order2(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

const maxDetails = 12

// forge sends every forgery to a host, without a certificate and beside one of our own,
// over HTTP/1.1 in every spelling and over HTTP/2 in the one that it has.
func (d *doctor) forge(ctx context.Context, t *target) {
	f := forging{d: d, t: t}
	first, err := d.connect(ctx, t, hello{})
	if err != nil {
		d.skip(CheckForged, t.address, bounded(cause(err)))
		return
	}
	reads, _, err := first.believed("", nil)
	first.Close()
	if err != nil || reads == nil {
		d.skip(CheckForged, t.address, "the server does not answer the probe any more")
		return
	}
	f.header = len(reads.Fields) > 0
	for _, who := range []*identity{nil, d.a} {
		f.who, f.base = who, reads
		if who != nil { // behind a proxy its header arrives with every request
			l, err := d.connect(ctx, t, hello{who: who})
			if err != nil {
				continue
			}
			f.base, _, err = l.believed("", nil)
			l.Close()
			if err != nil || f.base == nil {
				continue
			}
		}
		f.overHTTP1(ctx, d.forgeries(reads))
		f.overHTTP2(ctx, d.forgeries(reads))
		if ctx.Err() != nil {
			return
		}
	}
	f.report()
}

type forging struct {
	d      *doctor
	t      *target
	who    *identity
	base   *probe.Answer // without a forgery
	header bool          // the server reads a header here
	line   *line

	sent, lost       int
	believed, seen   []string
	arrived, refused int
}

func (f *forging) label(g forgery, how string) string {
	s := g.fields[0][0] + " (" + g.preset + ")"
	if how != "" {
		s += ", " + how
	}
	if f.who != nil {
		s += ", beside a certificate of the sender"
	}
	return s
}

func (f *forging) overHTTP1(ctx context.Context, all []forgery) {
	defer f.hangUp()
	for _, g := range all {
		for i, s := range spellings {
			if i > 0 && !g.all {
				break
			}
			fields := s.apply(slices.Clone(g.fields))
			for attempt := range 2 {
				if f.line == nil {
					l, err := f.d.connect(ctx, f.t, hello{who: f.who})
					if err != nil {
						f.lost++
						break
					}
					f.line = l
				}
				a, res, err := f.line.believed("", fields)
				if err != nil || res.header.Get("Connection") == "close" {
					f.hangUp()
				}
				if err != nil && attempt == 0 {
					continue // the server may have ended a connection that was too old
				}
				f.judge(a, err, f.label(g, s.name))
				break
			}
		}
	}
}

func (f *forging) hangUp() {
	if f.line != nil {
		f.line.Close()
		f.line = nil
	}
}

// overHTTP2 sends the fields as HTTP/2 has them: in lower case.
func (f *forging) overHTTP2(ctx context.Context, all []forgery) {
	if !f.t.h2 {
		return
	}
	tr := &http.Transport{ForceAttemptHTTP2: true, DialContext: f.d.cfg.Dial, TLSHandshakeTimeout: f.d.cfg.Timeout, TLSClientConfig: f.d.verifyingConfig(f.t, f.who)}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: f.d.cfg.Timeout}
	for _, g := range all {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "https", Host: f.t.authority(), Path: probe.Path}).String(), nil)
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+f.d.cfg.Credential)
		for _, field := range g.fields {
			req.Header[field[0]] = append(req.Header[field[0]], field[1])
		}
		res, err := client.Do(req)
		if err != nil {
			f.judge(nil, err, f.label(g, "HTTP/2"))
			continue
		}
		body := make([]byte, 0, 4096)
		body, err = readAll(res.Body, body)
		res.Body.Close()
		if err != nil {
			f.judge(nil, err, f.label(g, "HTTP/2"))
			continue
		}
		a, err := parseAnswer(&reply{res.StatusCode, res.Header, body})
		f.judge(a, err, f.label(g, "HTTP/2"))
	}
}

// judge notes what came of one forgery.
func (f *forging) judge(a *probe.Answer, err error, what string) {
	f.sent++
	switch {
	case err != nil:
		f.lost++
		return
	case a == nil: // turned away before the server, or by it
		f.refused++
		return
	}
	added := func(name string) bool { return !slices.Contains(f.base.Arrived, name) }
	if slices.ContainsFunc(a.Arrived, added) || a.Reason != f.base.Reason {
		f.arrived++
		if f.header && len(f.seen) < maxDetails {
			outcome := "ignored"
			if a.Reason != "" {
				outcome = "refused as " + bounded(string(a.Reason))
			}
			f.seen = append(f.seen, what+": "+outcome)
		}
	}
	forged := a.Thumbprint == f.d.b.thumbprint ||
		a.Thumbprint != "" && a.Thumbprint != f.base.Thumbprint ||
		a.Kind == "attributes" && a.Subject != f.base.Subject
	if forged {
		f.believed = append(f.believed, what)
	}
}

func (f *forging) report() {
	d, t := f.d, f.t
	if f.sent-f.lost == 0 {
		d.skip(CheckForged, t.address, "no forged request got an answer")
		return
	}
	if len(f.believed) > 0 {
		d.problem(Finding{Check: CheckForged, Where: t.address, Found: fmt.Sprintf("a forged certificate is believed: %d of %d forged requests", len(f.believed), f.sent),
			Details: more(f.believed), Expected: "no header of a stranger ever counts", Rule: "RFC 9440, Section 4",
			Fix: "take this host off the net until it is fixed; let the proxy remove these fields from what clients send, under every spelling, before it sets its own (docs/proxies)"})
	} else {
		d.ok(CheckForged, t.address, fmt.Sprintf("%d forged requests, none believed", f.sent))
	}
	switch {
	case !f.header:
		// Nobody reads a header there: what arrives does no harm.
	case f.arrived > 0:
		// What is believed is a finding already; what is ignored or refused does no harm.
		d.note(Finding{Check: CheckStripped, Where: t.address, Found: fmt.Sprintf("%d of %d forged requests arrive at the server with the forged fields in them", f.arrived, f.sent),
			Details: more(f.seen), Expected: "the proxy removes certificate fields of clients", Rule: "RFC 9440, Section 4",
			Fix: "remove them at the proxy under every spelling (docs/proxies): the next thing in the chain may be less careful"})
	default:
		d.ok(CheckStripped, t.address, "no forged field gets past the proxy")
	}
}

func more(list []string) []string {
	if len(list) <= maxDetails {
		return list
	}
	return append(slices.Clone(list[:maxDetails]), fmt.Sprintf("and %d more", len(list)-maxDetails))
}
