package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// soon is when the end of a certificate is worth a word.
const soon = 14 * 24 * time.Hour

// serverCertificate looks whether the certificate is valid for the name, as a client
// does.
func (d *doctor) serverCertificate(ctx context.Context, t *target) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	raw, err := d.cfg.Dial(ctx, "tcp", t.address)
	if err != nil {
		d.problem(Finding{Check: CheckServerCertificate, Where: t.address, Found: "nobody listens: " + bounded(cause(err)),
			Expected: "a TLS server", Fix: "start it, or open the port in the firewall"})
		return
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: t.name, RootCAs: d.cfg.RootCAs, NextProtos: []string{"h2", "http/1.1"}, Time: d.cfg.Now})
	err = conn.HandshakeContext(ctx)
	if err != nil {
		f := Finding{Check: CheckServerCertificate, Where: t.address, Found: bounded(cause(err)), Rule: "RFC 9325, Section 3.7"}
		var unknown x509.UnknownAuthorityError
		var host x509.HostnameError
		var invalid x509.CertificateInvalidError
		switch {
		case errors.As(err, &unknown):
			t.answers = true
			f.Expected = "a path to a CA that clients know"
			f.Fix = "let the server send its intermediates; for a private CA give its certificate with --ca"
		case errors.As(err, &host):
			t.answers = true
			f.Expected = "a certificate for " + t.name
			f.Fix = "issue it with the dNSName " + t.name
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			t.answers = true
			f.Expected, f.Fix = "a certificate that is valid now", "renew it"
		default:
			f.Expected, f.Fix, f.Rule = "a TLS handshake", "look into the log of the server; the port may speak something else", ""
			if _, err := d.connect(ctx, t, hello{}); err == nil {
				t.answers = true
			}
		}
		d.problem(f)
		return
	}
	state := conn.ConnectionState()
	leaf := state.PeerCertificates[0]
	t.leaf, t.answers, t.h2 = leaf, true, state.NegotiatedProtocol == "h2"
	if left := leaf.NotAfter.Sub(d.cfg.Now()); left < soon {
		d.problem(Finding{Check: CheckServerCertificate, Where: t.address, Found: fmt.Sprintf("it ends in %d days, at %s", int(left/(24*time.Hour)), stamp(leaf.NotAfter)),
			Expected: "more than 14 days", Fix: "renew it; Certbound takes changed files on without a restart"})
		return
	}
	d.ok(CheckServerCertificate, t.address, "valid for "+t.name+" until "+stamp(leaf.NotAfter))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// cause is the text of an error without the addresses in front.
func cause(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "tls: ")
}

// versions tries every version of TLS by itself.
func (d *doctor) versions(ctx context.Context, t *target) {
	if !t.answers {
		d.skip(CheckVersions, t.address, "it does not speak TLS")
		return
	}
	var names, old []string
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		h := hello{min: v, max: v}
		if v < tls.VersionTLS12 { // everything that they had
			for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
				h.suites = append(h.suites, s.ID)
			}
		}
		l, err := d.connect(ctx, t, h)
		if err != nil { // a server may demand a certificate, or refuse ours
			h.who = d.a
			if l, err = d.connect(ctx, t, h); err != nil {
				continue
			}
		}
		l.Close()
		t.versions = append(t.versions, v)
		names = append(names, tls.VersionName(v))
		if v < tls.VersionTLS12 {
			old = append(old, tls.VersionName(v))
		}
	}
	f := Finding{Check: CheckVersions, Where: t.address, Found: strings.Join(names, ", "), Rule: "RFC 9325, Section 3.1.1"}
	switch {
	case len(old) > 0:
		f.Expected = "TLS 1.2 and 1.3 only"
		f.Fix = "switch " + strings.Join(old, " and ") + " off where TLS ends: ssl_protocols TLSv1.2 TLSv1.3 (nginx), ssl-min-ver TLSv1.2 (HAProxy), SSLProtocol -all +TLSv1.2 +TLSv1.3 (Apache httpd)"
		d.problem(f)
	case !slices.Contains(t.versions, tls.VersionTLS13):
		f.Expected, f.Rule = "TLS 1.3 as well", "RFC 9325, Section 3.1.1"
		f.Fix = "switch TLS 1.3 on where TLS ends"
		d.problem(f)
	default:
		d.ok(f.Check, f.Where, f.Found)
	}
}

// suites offers under TLS 1.2 what has no forward secrecy or no authenticated encryption,
// and takes away what the server chooses until it refuses.
func (d *doctor) suites(ctx context.Context, t *target) {
	if !slices.Contains(t.versions, tls.VersionTLS12) {
		d.skip(CheckSuites, t.address, "it does not speak TLS 1.2; the suites of TLS 1.3 are all right")
		return
	}
	var offer []uint16
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) && !slices.Contains(s.SupportedVersions, tls.VersionTLS13) && !good(s.Name) {
			offer = append(offer, s.ID)
		}
	}
	var taken []string
	for len(offer) > 0 && len(taken) < 32 {
		h := hello{min: tls.VersionTLS12, max: tls.VersionTLS12, suites: offer}
		l, err := d.connect(ctx, t, h)
		if err != nil {
			h.who = d.a
			if l, err = d.connect(ctx, t, h); err != nil {
				break
			}
		}
		id := l.ConnectionState().CipherSuite
		l.Close()
		i := slices.Index(offer, id)
		if i < 0 {
			break
		}
		taken = append(taken, tls.CipherSuiteName(id))
		offer = slices.Delete(offer, i, i+1)
	}
	if len(taken) > 0 {
		d.problem(Finding{Check: CheckSuites, Where: t.address, Found: fmt.Sprintf("%d weak suites under TLS 1.2", len(taken)), Details: taken, Rule: "RFC 9325, Section 4.2",
			Expected: "only suites with ECDHE and authenticated encryption", Fix: "allow ECDHE+AESGCM:ECDHE+CHACHA20 and nothing else where TLS ends"})
		return
	}
	d.ok(CheckSuites, t.address, "under TLS 1.2 only ECDHE with authenticated encryption")
}

func good(name string) bool {
	return strings.HasPrefix(name, "TLS_ECDHE_") && (strings.Contains(name, "_GCM_") || strings.Contains(name, "CHACHA20"))
}

// asks looks who is asked for a certificate: clients at the mutual-TLS host, and no
// browser.
func (d *doctor) asks(ctx context.Context, t *target) {
	if len(t.versions) == 0 {
		d.skip(CheckAsks, t.address, "it does not speak TLS")
		return
	}
	var asked, silent []string
	var cas [][]byte
	for _, v := range t.versions {
		l, err := d.connect(ctx, t, hello{min: v, max: v})
		if err != nil {
			if l, err = d.connect(ctx, t, hello{min: v, max: v, who: d.a}); err != nil {
				continue
			}
		}
		l.Close()
		if l.asked {
			asked = append(asked, tls.VersionName(v))
			cas = l.cas
		} else {
			silent = append(silent, tls.VersionName(v))
		}
	}
	f := Finding{Check: CheckAsks, Where: t.address}
	switch {
	case !t.mtls && len(asked) > 0:
		f.Found = "it asks for a certificate under " + strings.Join(asked, ", ")
		f.Expected, f.Rule = "no certificate request at the host that browsers see", "RFC 8705, Section 5"
		f.Fix = "give the mutual-TLS endpoints a host or port of their own and announce it in mtls_endpoint_aliases (Certbound: listen.mtls.url)"
		d.problem(f)
	case t == d.public && t.mtls && len(asked) > 0:
		f.Found = "the aliases lead to the host of the issuer, which asks for a certificate: browsers see a dialogue"
		f.Expected, f.Rule = "a host or port of its own for mutual TLS", "RFC 8705, Section 5"
		f.Fix = "give the mutual-TLS endpoints a host or port of their own (Certbound: listen.mtls.url)"
		d.problem(f)
	case !t.mtls:
		d.ok(CheckAsks, t.address, "browsers are not asked for a certificate")
	case len(silent) > 0:
		f.Found = "it does not ask for a certificate under " + strings.Join(silent, ", ")
		f.Expected, f.Rule = "a certificate request in each handshake", "RFC 8705, Section 2"
		f.Fix = "let whatever ends TLS ask: ssl_verify_client optional_no_ca (nginx), ca-ignore-err all with verify optional (HAProxy), SSLVerifyClient optional_no_ca (Apache httpd); Certbound's own listener asks by itself"
		d.problem(f)
	case len(cas) > 0:
		f.Found = fmt.Sprintf("the certificate request lists %d CAs", len(cas))
		f.Details = caNames(cas)
		f.Expected, f.Rule = "an empty list: many clients send no certificate whose issuer is not in it, and self-signed ones never", "RFC 8705, Section 2.2"
		f.Fix = "let the proxy list none: ssl_trusted_certificate in place of ssl_client_certificate (nginx), ca-verify-file for what is not to be listed (HAProxy), SSLCADNRequestFile (Apache httpd)"
		d.problem(f)
	default:
		d.ok(CheckAsks, t.address, "it asks for a certificate, and names no CA")
	}
}

func caNames(cas [][]byte) []string {
	var out []string
	for _, der := range cas {
		if len(out) == 5 {
			return append(out, fmt.Sprintf("%d more", len(cas)-5))
		}
		var seq pkix.RDNSequence
		if _, err := asn1.Unmarshal(der, &seq); err != nil {
			out = append(out, "a name that does not parse")
			continue
		}
		out = append(out, bounded(seq.String()))
	}
	return out
}

// demands looks whether TLS refuses what the authorization server should judge: no
// certificate, and one that no CA has issued.
func (d *doctor) demands(ctx context.Context, t *target) {
	if len(t.versions) == 0 {
		return
	}
	var refused []string
	for _, c := range []struct {
		name string
		who  *identity
	}{{"no certificate", nil}, {"a self-signed certificate", d.a}} {
		for _, v := range t.versions {
			if v < tls.VersionTLS12 {
				continue
			}
			l, err := d.connect(ctx, t, hello{min: v, max: v, who: c.who})
			if err == nil {
				// Under TLS 1.3 the refusal comes after the handshake.
				_, err = l.exchange(get("/.well-known/oauth-authorization-server", t.authority(), nil))
				l.Close()
			}
			if isAlert(err) {
				refused = append(refused, c.name+" under "+tls.VersionName(v)+": "+bounded(cause(err)))
			}
		}
	}
	if len(refused) > 0 {
		d.problem(Finding{Check: CheckDemands, Where: t.address, Found: "TLS refuses clients before the server can say why", Details: refused, Rule: "RFC 8705, Section 2.2",
			Expected: "every certificate gets through, and none does; the refusal is an OAuth error",
			Fix:      "let the proxy ask and verify nothing: ssl_verify_client optional_no_ca (nginx), verify optional with ca-ignore-err all crt-ignore-err all (HAProxy), SSLVerifyClient optional_no_ca (Apache httpd)"})
		return
	}
	d.ok(CheckDemands, t.address, "no certificate and a self-signed one both get as far as the server")
}

// isAlert tells a refusal by TLS from an answer that is not to our liking.
func isAlert(err error) bool {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	op, ok := errors.AsType[*net.OpError](err)
	if ok && op.Op == "remote error" {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// tickets offers a session of one host to the other.
func (d *doctor) tickets(ctx context.Context) {
	for _, t := range d.mtls {
		if t == d.public || len(d.public.versions) == 0 || len(t.versions) == 0 {
			continue
		}
		var crossed []string
		for _, dir := range []struct{ from, to *target }{{d.public, t}, {t, d.public}} {
			for _, v := range dir.from.versions {
				if v < tls.VersionTLS12 || !slices.Contains(dir.to.versions, v) {
					continue
				}
				cache := &oneSession{}
				if !d.visit(ctx, dir.from, hello{min: v, max: v, who: d.a, cache: cache}) || cache.state == nil {
					continue
				}
				l, err := d.connect(ctx, dir.to, hello{min: v, max: v, who: d.a, cache: cache})
				if err != nil {
					continue
				}
				if l.ConnectionState().DidResume {
					crossed = append(crossed, "a session of "+dir.from.address+" goes on at "+dir.to.address+" under "+tls.VersionName(v))
				}
				l.Close()
			}
		}
		if len(crossed) > 0 {
			// No identity crosses with a session: what was asked for no certificate has none,
			// and the host that asks for none reads none. resumption and forged look at both.
			d.note(Finding{Check: CheckTickets, Where: t.address, Found: "both hosts take each other's sessions", Details: crossed, Rule: "RFC 8446, Section 4.6.1",
				Expected: "sessions that are worth nothing at the other host: one of them has a certificate request behind it and the other has not",
				Fix:      "give each host an address of its own with its own ticket keys and session cache; at one address nginx shares them whatever the server blocks say, so switch ssl_session_tickets and ssl_session_cache off there (nginx), or use tls-ticket-keys for each bind (HAProxy)"})
			continue
		}
		d.ok(CheckTickets, t.address, "sessions do not cross between the hosts")
	}
}

// oneSession is a cache that does not look at the name: the same session for everybody.
type oneSession struct{ state *tls.ClientSessionState }

func (c *oneSession) Get(string) (*tls.ClientSessionState, bool) { return c.state, c.state != nil }
func (c *oneSession) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.state = s
	}
}

// visit makes a connection with one request, after which TLS 1.3 has sent its tickets.
func (d *doctor) visit(ctx context.Context, t *target, h hello) bool {
	l, err := d.connect(ctx, t, h)
	if err != nil {
		return false
	}
	defer l.Close()
	_, err = l.exchange(get("/.well-known/oauth-authorization-server", t.authority(), nil))
	return err == nil
}

// authorities asks each host for the other one: a connection that was made for one must
// not carry requests for the other.
func (d *doctor) authorities(ctx context.Context) {
	const stranger = "certbound-doctor.invalid"
	for _, t := range d.targets() {
		if len(t.versions) == 0 {
			continue
		}
		others := map[string]string{stranger: "a name that it does not have"}
		for _, o := range d.targets() {
			if o.name != t.name {
				others[o.authority()] = "the other host"
				others[strings.ToUpper(o.name)] = "the other host in capitals"
				others[o.name+"."] = "the other host with a dot at the end"
				others[o.name+":8443"] = "the other host with a port"
				others["x."+o.name] = "a name below the other host"
			}
		}
		var served []string
		for _, host := range slices.Sorted(mapsKeys(others)) {
			l, err := d.connect(ctx, t, hello{who: d.a})
			if err != nil {
				continue
			}
			res, err := l.exchange(get(d.metadataPath(), host, nil))
			l.Close()
			if err == nil && res.status == http.StatusOK && strings.Contains(string(res.body), `"issuer"`) {
				served = append(served, "SNI "+t.name+", Host "+host+" ("+others[host]+")")
			}
		}
		if l, err := d.connect(ctx, t, hello{name: stranger, who: d.a}); err == nil {
			res, err := l.exchange(get(d.metadataPath(), t.authority(), nil))
			l.Close()
			if err == nil && res.status == http.StatusOK && strings.Contains(string(res.body), `"issuer"`) {
				served = append(served, "SNI "+stranger+" (a name that it does not have), Host "+t.authority())
			}
		}
		if len(served) > 0 {
			d.problem(Finding{Check: CheckAuthority, Where: t.address, Found: "it serves requests whose Host is not the name that TLS was made for", Details: served,
				Expected: "421 Misdirected Request, or no handshake", Rule: "RFC 9110, Section 15.5.20",
				Fix: "compare both where TLS ends: a server block that rejects unknown names (nginx: ssl_reject_handshake on), strict-sni and a comparison of ssl_fc_sni with the Host (HAProxy), SSLStrictSNIVHostCheck on (Apache httpd); Certbound's own listeners answer 421"})
			continue
		}
		d.ok(CheckAuthority, t.address, "requests for another name than that of TLS are turned away")
	}
}
