package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/certbound/certbound/server/probe"
)

// howToProbe is said wherever a credential is missing.
const howToProbe = "make a probe credential where the server's store is: certbound probe create"

// probes looks at everything that needs to know what the server believed.
func (d *doctor) probes(ctx context.Context) {
	if d.cfg.Credential == "" {
		for _, check := range []string{CheckArrives, CheckResumption, CheckIdentities, CheckForged} {
			d.skip(check, d.cfg.Issuer, "the server tells only a probe what it believed; "+howToProbe)
		}
		return
	}
	for _, t := range d.targets() {
		d.greet(ctx, t)
	}
	for _, t := range d.mtls {
		if t.probes {
			if d.arrives(ctx, t) {
				d.resumption(ctx, t)
				d.identities(ctx, t)
				continue
			}
			d.skip(CheckResumption, t.address, "the certificate does not arrive in the first place")
			d.skip(CheckIdentities, t.address, "the certificate does not arrive in the first place")
		}
	}
	for _, t := range d.targets() {
		if t.probes {
			d.forge(ctx, t)
		}
	}
}

// greet looks whether the credential counts.
func (d *doctor) greet(ctx context.Context, t *target) {
	if !t.answers {
		d.skip(CheckProbe, t.address, "it does not speak TLS")
		return
	}
	l, err := d.connect(ctx, t, hello{})
	if err == nil {
		defer l.Close()
		var a *probe.Answer
		var res *reply
		a, res, err = l.believed("", nil)
		if err == nil && a != nil {
			t.probes = true
			found := "listener " + bounded(a.Listener) + ", certificate source " + bounded(a.Source)
			if len(a.Fields) > 0 {
				found += " (" + bounded(strings.Join(a.Fields, ", ")) + ")"
			}
			d.ok(CheckProbe, t.address, found)
			return
		}
		if err == nil {
			err = fmt.Errorf("status %d", res.status)
		}
	}
	if err == errUnknownServer {
		d.skip(CheckProbe, t.address, errUnknownServer.Error())
		return
	}
	d.problem(Finding{Check: CheckProbe, Where: t.address, Found: "no answer to a probe: " + bounded(cause(err)), Expected: "what the server believes, at " + probe.Path,
		Fix: "route " + probe.Path + " to the server and leave the Authorization field in; if the credential has ended or is of another store, " + howToProbe})
}

// arrives looks whether the server learns of the certificate that a client shows.
func (d *doctor) arrives(ctx context.Context, t *target) bool {
	var faults []string
	var source string
	for _, v := range t.versions {
		if v < tls.VersionTLS12 {
			continue
		}
		l, err := d.connect(ctx, t, hello{min: v, max: v, who: d.a})
		if err != nil {
			continue // a finding of its own
		}
		a, res, err := l.believed("", nil)
		l.Close()
		if fault := disbelief(a, res, err, d.a); fault != "" {
			faults = append(faults, tls.VersionName(v)+": "+fault)
		} else {
			source = a.Source
		}
	}
	if len(faults) > 0 {
		d.problem(Finding{Check: CheckArrives, Where: t.address, Found: "the certificate of a client does not reach the server", Details: faults, Rule: "RFC 8705, Section 6.5",
			Expected: "the certificate that the client has shown", Fix: "compare the proxy with its file in docs/proxies, and listen.mtls.source with the proxy; certbound explain reads what it sends"})
		return false
	}
	d.ok(CheckArrives, t.address, "the server sees the certificate of the client, by "+bounded(source))
	return true
}

// disbelief says why an answer is not that somebody was believed to be who.
func disbelief(a *probe.Answer, res *reply, err error, who *identity) string {
	switch {
	case err != nil:
		return bounded(cause(err))
	case a == nil:
		return fmt.Sprintf("status %d", res.status)
	case a.Reason != "":
		return "refused: " + bounded(string(a.Reason)+": "+a.Found)
	case a.Thumbprint == who.thumbprint:
		return ""
	case a.Thumbprint == "" && a.Kind == "none":
		return "no certificate"
	case a.Thumbprint == "":
		return "only " + bounded(a.Kind)
	}
	return "another certificate: " + bounded(a.Thumbprint) + " " + bounded(a.Subject)
}

// resumption makes a session with a certificate and goes on with it on a new connection.
func (d *doctor) resumption(ctx context.Context, t *target) {
	var faults, how []string
	for _, v := range t.versions {
		if v < tls.VersionTLS12 {
			continue
		}
		h := hello{min: v, max: v, who: d.a, cache: tls.NewLRUClientSessionCache(4)}
		if !d.visit(ctx, t, h) {
			continue
		}
		l, err := d.connect(ctx, t, h)
		if err != nil {
			faults = append(faults, tls.VersionName(v)+": a second connection with the session fails: "+bounded(cause(err)))
			continue
		}
		resumed := l.ConnectionState().DidResume
		a, res, err := l.believed("", nil)
		l.Close()
		if !resumed {
			how = append(how, tls.VersionName(v)+" does not resume")
			continue
		}
		how = append(how, tls.VersionName(v)+" resumes")
		if fault := disbelief(a, res, err, d.a); fault != "" {
			faults = append(faults, tls.VersionName(v)+", resumed: "+fault)
		}
	}
	if len(faults) > 0 {
		d.problem(Finding{Check: CheckResumption, Where: t.address, Found: "a resumed session has lost the identity", Details: faults, Rule: "RFC 8446, Section 2.2",
			Expected: "the certificate of the session, at each resumption", Fix: "let the proxy send the certificate on resumed sessions too, or switch resumption off at this host"})
		return
	}
	d.ok(CheckResumption, t.address, strings.Join(how, ", ")+"; the identity stays")
}

// identities has two clients take turns, on connections that stay open and on new ones.
func (d *doctor) identities(ctx context.Context, t *target) {
	var faults []string
	type party struct {
		who  *identity
		line *line
	}
	var parties []party
	for _, who := range []*identity{d.a, d.b} {
		l, err := d.connect(ctx, t, hello{who: who})
		if err != nil {
			return // a finding of its own
		}
		defer l.Close()
		parties = append(parties, party{who, l})
	}
	names := map[string]string{d.a.thumbprint: "the first", d.b.thumbprint: "the second"}
	for round := range 3 {
		for i, p := range parties {
			a, res, err := p.line.believed("", nil)
			fault := disbelief(a, res, err, p.who)
			if a != nil && a.Thumbprint != p.who.thumbprint && names[a.Thumbprint] != "" {
				fault = "taken for " + names[a.Thumbprint] + " client"
			}
			if fault != "" {
				faults = append(faults, fmt.Sprintf("round %d, client %d: %s", round+1, i+1, fault))
			}
			if res != nil && (err != nil || res.header.Get("Connection") == "close") {
				if again, err := d.connect(ctx, t, hello{who: p.who}); err == nil {
					defer again.Close()
					parties[i].line = again
				}
			}
		}
	}
	// And without a certificate after all that.
	if l, err := d.connect(ctx, t, hello{}); err == nil {
		a, _, err := l.believed("", nil)
		l.Close()
		if err == nil && a != nil && a.Thumbprint != "" {
			faults = append(faults, "a client without certificate: taken for one with "+bounded(a.Thumbprint))
		}
	}
	if len(faults) > 0 {
		d.problem(Finding{Check: CheckIdentities, Where: t.address, Found: "clients are taken for each other", Details: faults,
			Expected: "each connection has its own identity", Rule: "RFC 8705, Section 2",
			Fix: "look for something that remembers certificates by address, by TLS session id or by a connection that is shared, such as an iRule with a session table; set the header from the connection of this request"})
		return
	}
	d.ok(CheckIdentities, t.address, "two clients that take turns stay two, and none stays none")
}
