//go:build linux

package proxies

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// standard are the requirements about the fields of RFC 9440 themselves, by test.
var standard = map[string]string{
	"both methods": "H-2.2-1 H-5.1-1",
	"bound token":  "H-2.2-3 H-2.3-8 H-2.4-12",
	"chain":        "H-2.3-1 H-2.4-4",
}

// Every deployment has to pass the same tests.
func TestProxies(t *testing.T) {
	for _, d := range deployments() {
		t.Run(d.name, func(t *testing.T) {
			source, err := certsource.NewPreset(d.preset, certsource.PresetConfig{Hop: hop(), TrustedHops: d.hops})
			if err != nil {
				t.Fatal(err)
			}
			o := startOrigin(t, source)
			b := &bench{d: d, o: o, px: d.program.start(t, settings{origin: o.addresses})}
			for _, part := range []struct {
				name, requirements, attacks string
				test                        func(*testing.T)
			}{
				{"both methods", "H-1.2-4 H-2.4-8 H-B3-1", "18", b.methods},
				{"bound token", "H-2.4-8", "", b.boundToken},
				{"every request", "H-1.2-2 H-2.4-3", "", b.everyRequest},
				{"resumed session", "H-3.3-1", "", b.resumed},
				{"chain", "", "", b.chain},
				{"large certificates", "H-3.2-2", "", b.large},
				{"no certificate", "H-2.4-8", "", b.noCertificate},
				{"untrusted certificate", "", "", b.untrusted},
				{"key of another", "H-1.2-1", "", b.wrongKey},
				{"field sent by the client", "H-2.4-5 H-2.4-7 H-4-4 H-O-5 S-9110-2 S-9110-3 G-4.13-1 G-2.6-2 OA-7", "2 19", b.injected},
				{"fields of other proxies", "", "26", b.foreign},
				{"broken field values", "S-9110-1", "", b.brokenBytes},
				{"field past the proxy", "H-4-3 H-4-7 H-O-1 G-4.13-2", "2 18", b.direct},
				{"server name is not the host", "T-9325-4", "9", b.misdirected},
				{"session of another host", "", "7", b.otherHost},
				{"early data", "T-8446-8", "", b.earlyData},
				{"TLS", "T-9325-1 T-9325-2 M-7.3-2", "", b.versionsAndSuites},
				{"plain HTTP", "H-2.4-7", "", b.plain},
			} {
				t.Run(part.name, func(t *testing.T) {
					if ids := standard[part.name]; ids != "" && d.preset == "rfc9440" {
						part.requirements = strings.TrimSpace(part.requirements + " " + ids)
					}
					if part.requirements != "" {
						t.Attr("requirement", part.requirements)
					}
					if part.attacks != "" {
						t.Attr("attack", part.attacks)
					}
					b.o.requests()
					part.test(t)
				})
			}
		})
	}
}

// The proxy can verify, too, by its own CAs. A stranger's certificate then ends at the
// proxy, in the handshake or with its own 400, and the origin may be told to rely on it.
func TestProxyThatVerifies(t *testing.T) {
	certs := fixture.Certs()
	for _, d := range deployments() {
		t.Run(d.name, func(t *testing.T) {
			t.Attr("requirement", "H-2.4-2")
			source, err := certsource.NewPreset(d.preset, certsource.PresetConfig{Hop: hop(), Verified: "CA1", TrustedHops: d.hops})
			if err != nil {
				t.Fatal(err)
			}
			o := startOrigin(t, source)
			b := &bench{d: d, o: o, px: d.program.start(t, settings{origin: o.addresses, edits: d.verify})}
			// This anchor set would not do: where the proxy says that it has verified,
			// no path is looked for here.
			b.granted(t, caller{leaf: certs.L1}, "c-bare")
			b.refused(t, b.token(t, caller{leaf: certs.L2}, "c-bare"), decision.SubjectMismatch)
			b.refused(t, b.token(t, caller{}, "c-bare"), decision.NoCertificate)
			o.requests()
			for name, leaf := range map[string]*pkitest.Leaf{"a stranger's CA": certs.L1CAX, "another client's CA": certs.L1CA2, "self-signed": certs.S1} {
				t.Run(name, func(t *testing.T) {
					x, err := raw(t, b.px.tls, "mtls.as.test", caller{leaf: leaf})
					if err == nil {
						var status int
						status, _, err = x.send(tokenRequest("mtls.as.test", "c-bare"))
						if err == nil && (d.program.name != "nginx" || status != http.StatusBadRequest) {
							t.Errorf("answered %d, want an alert", status)
						}
					}
					if seen := o.requests(); len(seen) > 0 {
						t.Errorf("%d requests arrived at the origin", len(seen))
					}
				})
			}
		})
	}
}

// A bench is a deployment that runs.
type bench struct {
	d  deployment
	o  *origin
	px *proxy
}

// token asks for a token through the proxy.
func (b *bench) token(t *testing.T, c caller, client string) *fixture.Answer {
	t.Helper()
	return fixture.Token(t, b.px.client(t, c), client)
}

// granted asks for a token that must be bound to the caller's certificate.
func (b *bench) granted(t *testing.T, c caller, client string) *fixture.Answer {
	t.Helper()
	got := b.token(t, c, client)
	if got.Status != http.StatusOK {
		t.Fatalf("%s: %d %s\n%s", client, got.Status, got.Text, b.o.LastDecision())
	}
	if want := certbound.Thumbprint(c.leaf.Cert); got.Cnf() != want {
		t.Fatalf("%s: bound to %s, want %s", client, got.Cnf(), want)
	}
	return got
}

// refused checks that the authorization server has refused, and why.
func (b *bench) refused(t *testing.T, got *fixture.Answer, reason decision.Reason) {
	t.Helper()
	if got.Error() != "invalid_client" {
		t.Fatalf("%d %s, want invalid_client", got.Status, got.Text)
	}
	if d := b.o.LastDecision(); d.Reason() != reason {
		t.Errorf("refused for %s, want %s\n%s", d.Reason(), reason, d)
	}
}

// A client of each method gets a token that is bound to its own certificate and not to
// that with which the proxy connects (attack 18: a gateway's certificate passed for that
// of its callers).
func (b *bench) methods(t *testing.T) {
	certs := fixture.Certs()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, alpn := range []string{"http/1.1", "h2"} {
			c := caller{version: version, alpn: alpn}
			t.Run("PKI "+tls.VersionName(version)+" "+alpn, func(t *testing.T) {
				c.leaf = certs.L1
				b.granted(t, c, "c-dn")
			})
			t.Run("self-signed "+tls.VersionName(version)+" "+alpn, func(t *testing.T) {
				c.leaf = certs.S1
				b.granted(t, c, "c-self")
			})
		}
	}
}

// get asks the API with a token.
func (b *bench) get(t *testing.T, c caller, token string) *fixture.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fixture.Resource+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return fixture.Do(t, b.px.client(t, c), req)
}

func (b *bench) boundToken(t *testing.T) {
	certs := fixture.Certs()
	token := b.granted(t, caller{leaf: certs.L1}, "c-dn").AccessToken()
	for _, c := range []struct {
		name string
		leaf *pkitest.Leaf
		want int
	}{
		{"its certificate", certs.L1, http.StatusOK},
		{"another certificate", certs.L2, http.StatusUnauthorized},
		{"the names and the issuer of its certificate", certs.L1r, http.StatusUnauthorized},
		{"no certificate", nil, http.StatusUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := b.get(t, caller{leaf: c.leaf}, token)
			if got.Status != c.want {
				t.Errorf("%d %s, want %d", got.Status, got.Header.Get("WWW-Authenticate"), c.want)
			}
			if c.want != http.StatusOK && !strings.Contains(got.Header.Get("WWW-Authenticate"), "invalid_token") {
				t.Errorf("challenge %q, want invalid_token", got.Header.Get("WWW-Authenticate"))
			}
			if cc := got.Header.Get("Cache-Control"); cc != "no-store" {
				t.Errorf("Cache-Control %q, want no-store", cc)
			}
			if vary := got.Header.Values("Vary"); c.want == http.StatusOK && b.d.preset == "rfc9440" && !slices.Equal(vary, []string{"*"}) {
				t.Errorf("Vary %q, want *: the field is none that the user agent has sent", vary)
			}
			// The API sends the fields of the proxy in its answer, which it must not.
			for _, field := range []string{b.d.field, "Client-Cert-Chain"} {
				if b.d.field != "Client-Cert" && field == "Client-Cert-Chain" {
					continue
				}
				if v := got.Header.Values(field); len(v) > 0 {
					t.Errorf("the answer has %s: %q", field, v)
				}
			}
		})
	}
}

// Three requests of one connection, and three streams of another: the certificate is asked
// for in the handshake and comes with each.
func (b *bench) everyRequest(t *testing.T) {
	certs := fixture.Certs()
	for _, alpn := range []string{"http/1.1", "h2"} {
		t.Run(alpn, func(t *testing.T) {
			asked := 0
			client := b.px.client(t, caller{leaf: certs.L1, alpn: alpn, asked: &asked})
			for range 3 {
				if got := fixture.Token(t, client, "c-dn"); got.Status != http.StatusOK {
					t.Fatalf("%d %s", got.Status, got.Text)
				}
			}
			if alpn == "h2" { // and at one time
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if got := fixture.Token(t, client, "c-dn"); got.Status != http.StatusOK {
							t.Errorf("%d %s", got.Status, got.Text)
						}
					})
				}
				wg.Wait()
			}
			if asked != 1 {
				t.Errorf("the certificate was asked for %d times, want once, in the handshake", asked)
			}
			for i, r := range b.o.requests() {
				if r.thumbprint != certbound.Thumbprint(certs.L1.Cert) {
					t.Errorf("request %d came with %q: %v", i, r.thumbprint, r.err)
				}
			}
		})
	}
}

// A resumed session speaks for the same certificate, and another client's never does.
func (b *bench) resumed(t *testing.T) {
	certs := fixture.Certs()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			id   string
			leaf *pkitest.Leaf
		}{{"c-dn", certs.L1}, {"c-self", certs.S1}} {
			t.Run(tls.VersionName(version)+" "+c.id, func(t *testing.T) {
				asked := 0
				client := b.px.client(t, caller{
					leaf: c.leaf, version: version, single: true, asked: &asked,
					sessions: tls.NewLRUClientSessionCache(4), alpn: "http/1.1",
				})
				resumed := 0
				for range 3 {
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, fixture.MTLSBase+"/token",
						strings.NewReader("grant_type=client_credentials&client_id="+c.id))
					req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					resp, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Fatalf("after %d resumptions: %d %s\n%s", resumed, resp.StatusCode, body, b.o.LastDecision())
					}
					if resp.TLS.DidResume {
						resumed++
					}
				}
				want := 2
				if b.d.fullHandshakes {
					want = 0
				}
				if resumed != want {
					t.Errorf("%d of the connections resumed a session, want %d", resumed, want)
				}
				if asked != 3-want {
					t.Errorf("the certificate was asked for %d times, want %d", asked, 3-want)
				}
				for i, r := range b.o.requests() {
					if r.thumbprint != certbound.Thumbprint(c.leaf.Cert) {
						t.Errorf("request %d came with %q: %v", i, r.thumbprint, r.err)
					}
				}
			})
		}
	}
}

// An anchor set without helpers: where the proxy forwards the leaf alone, the path ends
// before the anchor, and the reason names what is missing.
func (b *bench) chain(t *testing.T) {
	certs := fixture.Certs()
	client := b.px.client(t, caller{leaf: certs.L1, single: true, sessions: tls.NewLRUClientSessionCache(4), alpn: "http/1.1"})
	incomplete := func(t *testing.T) {
		t.Helper()
		b.refused(t, fixture.Token(t, client, "c-bare"), decision.ChainIncomplete)
		if d := b.o.LastDecision().String(); !strings.Contains(d, "CA1i") {
			t.Errorf("the missing issuer is not named:\n%s", d)
		}
	}
	complete := func(t *testing.T) {
		t.Helper()
		if got := fixture.Token(t, client, "c-bare"); got.Status != http.StatusOK {
			t.Errorf("%d %s\n%s", got.Status, got.Text, b.o.LastDecision())
		}
	}
	t.Run("full handshake", func(t *testing.T) {
		if b.d.chain == leafOnly {
			incomplete(t)
		} else {
			complete(t)
		}
	})
	t.Run("resumed", func(t *testing.T) {
		if b.d.chain == chainKept {
			complete(t)
		} else {
			incomplete(t)
		}
	})
	b.o.requests()
	t.Run("what arrived", func(t *testing.T) {
		b.granted(t, caller{leaf: certs.L1}, "c-dn")
		got, want := b.o.one(t), 0
		if b.d.chain != leafOnly {
			want = 1
		}
		if got.chain != want {
			t.Errorf("%d certificates beside the leaf, want %d", got.chain, want)
		}
	})
}

// RSA-4096 all the way, and three intermediates: every proxy has a limit for headers, and
// the documented configurations do not meet it.
func (b *bench) large(t *testing.T) {
	leaf := largeChain().leaf
	b.granted(t, caller{leaf: leaf}, "c-large")
	got, want := b.o.one(t), 0
	if b.d.chain != leafOnly {
		want = 3
	}
	if got.chain != want {
		t.Errorf("%d certificates beside the leaf, want %d", got.chain, want)
	}
}

func (b *bench) noCertificate(t *testing.T) {
	b.refused(t, b.token(t, caller{}, "c-dn"), decision.NoCertificate)
	if got := b.o.one(t); got.err == nil || len(got.alike(b.d.field)) > 1 {
		t.Errorf("the origin saw %q, %v", got.alike(b.d.field), got.err)
	}
	b.refused(t, b.token(t, caller{}, "c-self"), decision.NoCertificate)
}

// The proxies ask for a certificate and judge none; the origin does.
func (b *bench) untrusted(t *testing.T) {
	certs := fixture.Certs()
	for _, c := range []struct {
		name, client string
		leaf         *pkitest.Leaf
		want         decision.Reason
	}{
		{"the names of L1 from a stranger's CA", "c-dn", certs.L1CAX, decision.ChainIncomplete},
		{"the names of L1 from the CA of another client", "c-dn", certs.L1CA2, decision.ChainIncomplete},
		{"another subject", "c-dn", certs.L2, decision.SubjectMismatch},
		{"self-signed, but not this one", "c-self", certs.S2, decision.NotRegistered},
		{"self-signed at a PKI client", "c-dn", certs.S1, decision.UnknownAuthority},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.refused(t, b.token(t, caller{leaf: c.leaf}, c.client), c.want)
		})
	}
	// Most clients send nothing if none of the CAs that the proxy names is theirs.
	t.Run("no CA is named", func(t *testing.T) {
		named := 0
		b.granted(t, caller{leaf: certs.S1, named: &named}, "c-self")
		if named > 0 {
			t.Errorf("the proxy names %d CAs, want none: self-signed clients get through", named)
		}
	})
}

// The certificate of L1 is public; whoever sends it without its key must not get through
// the handshake.
func (b *bench) wrongKey(t *testing.T) {
	certs := fixture.Certs()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			stolen := *certs.L1
			stolen.Key = certs.L2.Key
			x, err := raw(t, b.px.tls, "mtls.as.test", caller{leaf: &stolen, version: version})
			if err == nil { // with TLS 1.3 the client learns of it when it reads
				var status int
				status, _, err = x.send(tokenRequest("mtls.as.test", "c-dn"))
				if err == nil {
					t.Fatalf("answered %d, want an alert", status)
				}
			}
			if seen := b.o.requests(); len(seen) > 0 {
				t.Errorf("%d requests arrived at the origin", len(seen))
			}
		})
	}
}

// A client that knows the proxy sends its field itself, with the certificate of another
// client and in every way that could survive. The attack works if the origin takes it for
// that client, and half works if the field arrives.
func (b *bench) injected(t *testing.T) {
	certs := fixture.Certs()
	field, victim := b.d.field, b.d.write(certs.L1.Cert)
	twin := strings.ReplaceAll(field, "-", "_")
	mixed := strings.Replace(field, "-", "_", 1)
	line := func(name string) string { return name + ": " + victim }
	var all []string
	for _, name := range certsource.Describe(b.o.source).Fields {
		all = append(all, line(name))
	}
	for _, form := range []struct {
		name     string
		lines    []string
		trailers []string
	}{
		{"as it is", []string{line(field)}, nil},
		{"lower case", []string{line(strings.ToLower(field))}, nil},
		{"upper case", []string{line(strings.ToUpper(field))}, nil},
		{"twice", []string{line(field), line(field)}, nil},
		{"twice in two cases", []string{line(strings.ToLower(field)), line(strings.ToUpper(field))}, nil},
		{"underscores", []string{line(twin)}, nil},
		{"underscores, upper case", []string{line(strings.ToUpper(twin))}, nil},
		{"one underscore", []string{line(mixed)}, nil},
		{"underscores beside it", []string{line(twin), line(field)}, nil},
		{"listed in Connection", []string{"Connection: keep-alive, " + field}, nil},
		{"listed in Connection, and sent", []string{"Connection: keep-alive, " + field, line(field)}, nil},
		{"listed in Connection, lower case", []string{"Connection: " + strings.ToLower(field), line(field)}, nil},
		{"trailer", nil, []string{line(field)}},
		{"trailer that is announced", []string{"Trailer: " + field}, []string{line(field)}},
		{"white space before the colon", []string{field + " : " + victim}, nil},
		{"folded", []string{field + ":\r\n " + victim}, nil},
		{"behind a tab", []string{"X-Padding: a\r\n\t" + line(field)}, nil},
		{"all fields that are read", all, nil},
	} {
		t.Run(form.name, func(t *testing.T) {
			for _, as := range []struct {
				name, host, client string
				leaf               *pkitest.Leaf
			}{
				{"without certificate", "mtls.as.test", "c-dn", nil},
				{"with its own", "mtls.as.test", "c-dn", certs.L2},
				{"self-signed", "mtls.as.test", "c-dn", certs.S1},
				{"where none is asked for", "as.test", "c-dn", nil},
			} {
				t.Run(as.name, func(t *testing.T) {
					b.o.requests()
					x, err := raw(t, b.px.tls, as.host, caller{leaf: as.leaf})
					if err != nil {
						t.Fatal(err)
					}
					request := tokenRequest(as.host, as.client, form.lines...)
					if form.trailers != nil {
						request = chunked(as.host, as.client, form.lines, form.trailers)
					}
					status, body, err := x.send(request)
					if err == nil && (status < 400 || strings.Contains(body, "access_token")) {
						t.Fatalf("%d %s", status, body)
					}
					b.unharmed(t, as.leaf)
				})
			}
			t.Run("with the very certificate", func(t *testing.T) {
				// What the proxy adds must not be lost either.
				x, err := raw(t, b.px.tls, "mtls.as.test", caller{leaf: certs.L1})
				if err != nil {
					t.Fatal(err)
				}
				request := tokenRequest("mtls.as.test", "c-dn", form.lines...)
				if form.trailers != nil {
					request = chunked("mtls.as.test", "c-dn", form.lines, form.trailers)
				}
				status, body, err := x.send(request)
				seen := b.o.requests()
				if err != nil || status != http.StatusOK {
					if len(seen) > 0 {
						t.Errorf("%d %s: what the proxy adds did not arrive\n%s", status, body, b.o.LastDecision())
					}
					return // refused by the proxy, which is allowed (RFC 9440, Section 2.4)
				}
				if got := seen[0].alike(b.d.field); len(got) != 1 {
					t.Errorf("%d fields arrived: %q", len(got), got)
				}
			})
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		for _, leaf := range []*pkitest.Leaf{nil, certs.L2} {
			for _, name := range []string{field, twin, mixed} {
				b.o.requests()
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, fixture.MTLSBase+"/token",
					strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				req.Header[name] = []string{victim, victim}
				resp, err := b.px.client(t, caller{leaf: leaf, alpn: "h2"}).Do(req)
				if err == nil { // Envoy ends the stream
					resp.Body.Close()
					if resp.StatusCode < 400 {
						t.Errorf("%s: %d", name, resp.StatusCode)
					}
				}
				b.unharmed(t, leaf)
			}
		}
	})
}

// unharmed checks that what has arrived, if anything, speaks of the certificate of the
// connection (nil: none) and of nothing else.
func (b *bench) unharmed(t *testing.T, leaf *pkitest.Leaf) {
	t.Helper()
	want, chain := "", 0
	if leaf != nil {
		want = certbound.Thumbprint(leaf.Cert)
		if b.d.chain != leafOnly {
			chain = len(leaf.Chain()) - 1
		}
	}
	for _, r := range b.o.requests() {
		if got := alike(r.trailer, b.d.field); len(got) > 0 && !b.d.trailers {
			t.Errorf("in the trailer arrived %q", got)
		}
		if r.host == "as.test" {
			if got := r.alike(b.d.field); len(got) > 0 && got[0] != http.CanonicalHeaderKey(b.d.field)+": " {
				t.Errorf("at the listener for browsers arrived %q", got)
			}
			continue
		}
		if r.thumbprint != want {
			t.Errorf("the origin took it for %q (%v), want %q; it saw %q", r.thumbprint, r.err, want, r.alike(b.d.field))
		}
		if got := r.alike(b.d.field); len(got) > 1 {
			t.Errorf("%d fields arrived: %q", len(got), got)
		}
		if r.chain != chain {
			t.Errorf("with it came %d certificates, want %d", r.chain, chain)
		}
	}
}

// chunked is tokenRequest with a body in chunks and trailer lines.
func chunked(host, clientID string, lines, trailers []string) string {
	body := "grant_type=client_credentials&client_id=" + clientID
	return fmt.Sprintf("POST /token HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n%s\r\n",
		host, joined(lines), len(body), body, joined(trailers))
}

// A server that tries several fields in turn believes the one that its proxy does not
// overwrite. Here one source is configured; the others count for nothing and are reported.
func (b *bench) foreign(t *testing.T) {
	certs := fixture.Certs()
	fields := map[string]string{
		"Client-Cert":                 byteSequence(certs.L1.Cert),
		"X-SSL-Client-Cert":           escapedPEM(certs.L1.Cert),
		"X-SSL-Client-Verify":         "SUCCESS",
		"X-SSL-Client-S-DN":           fixture.SubjectDN,
		"SSL-Client-Cert":             escapedPEM(certs.L1.Cert),
		"X-Forwarded-Client-Cert":     "Cert=\"" + escapedPEM(certs.L1.Cert) + "\"",
		"X-Forwarded-Tls-Client-Cert": base64DER(certs.L1.Cert),
		"X-Amzn-Mtls-Clientcert-Leaf": escapedPEM(certs.L1.Cert),
		"X-Arr-Clientcert":            base64DER(certs.L1.Cert),
		"Cf-Client-Cert-Der-Base64":   base64DER(certs.L1.Cert),
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, fixture.MTLSBase+"/token",
		strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range fields {
		req.Header.Set(name, value)
	}
	b.refused(t, fixture.Do(t, b.px.client(t, caller{}), req), decision.NoCertificate)
	reported := 0
	for _, w := range b.o.LastDecision().Warnings {
		if w.Reason == decision.SourceForeignHeader {
			reported++
		}
	}
	if reported < 4 {
		t.Errorf("%d fields of other proxies were reported\n%s", reported, b.o.LastDecision())
	}
}

// CR, LF and NUL inside a value: refused or made harmless by the proxy (RFC 9110,
// Section 5.5), and no new line at the origin.
func (b *bench) brokenBytes(t *testing.T) {
	for name, value := range map[string]string{
		"NUL":     "a\x00b",
		"bare CR": "a\rX-Injected: 1",
		"bare LF": "a\nX-Injected: 1",
	} {
		t.Run(name, func(t *testing.T) {
			b.o.requests()
			x, err := raw(t, b.px.tls, "mtls.as.test", caller{leaf: fixture.Certs().L1})
			if err != nil {
				t.Fatal(err)
			}
			status, _, err := x.send(tokenRequest("mtls.as.test", "c-dn", "X-Broken: "+value))
			for _, r := range b.o.requests() {
				for field, values := range r.header {
					for _, v := range values {
						if strings.ContainsAny(v, "\x00\r\n") {
							t.Errorf("%s: %q arrived", field, v)
						}
					}
				}
				if name == "bare CR" && r.header.Get("X-Injected") != "" {
					t.Errorf("a bare CR became a line end")
				}
			}
			if name == "NUL" && err == nil && status < 400 {
				t.Errorf("answered %d, want a refusal", status)
			}
		})
	}
}

// Who connects to the origin past the proxy is nobody, whatever it sends: without a
// certificate, with one that the proxy's CA has issued to somebody else, or with its own.
// The proxy itself, without the field, is no client.
func (b *bench) direct(t *testing.T) {
	certs, k := fixture.Certs(), proxyKeys()
	for _, c := range []struct {
		name   string
		leaf   *pkitest.Leaf
		status int
		reason decision.Reason
		field  bool
	}{
		{"no certificate", nil, http.StatusBadRequest, decision.SourceUntrusted, true},
		{"another holder of a certificate of the proxy's CA", k.other, http.StatusBadRequest, decision.SourceUntrusted, true},
		{"a client with its own certificate", certs.L2, http.StatusBadRequest, decision.SourceUntrusted, true},
		{"the client itself", certs.L1, http.StatusUnauthorized, decision.NoCertificate, false},
		{"the proxy, for nobody", k.hop, http.StatusUnauthorized, decision.NoCertificate, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, err := raw(t, b.o.addresses[1], "mtls.as.test", caller{leaf: c.leaf})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			if c.field {
				lines = append(lines, b.d.field+": "+b.d.write(certs.L1.Cert))
			}
			status, body, err := x.send(tokenRequest("mtls.as.test", "c-dn", lines...))
			if err != nil {
				t.Fatal(err)
			}
			if status != c.status || strings.Contains(body, "access_token") {
				t.Errorf("%d %s, want %d", status, body, c.status)
			}
			if d := b.o.LastDecision(); d.Reason() != c.reason {
				t.Errorf("refused for %s, want %s\n%s", d.Reason(), c.reason, d)
			}
		})
	}
}

// The connection was made for the host that asks for no certificate, the request is for
// the one that does, or the other way round.
func (b *bench) misdirected(t *testing.T) {
	certs := fixture.Certs()
	for _, c := range []struct {
		name, sni, host string
		leaf            *pkitest.Leaf
	}{
		{"exact", "as.test", "mtls.as.test", nil},
		{"upper case", "as.test", "MTLS.AS.TEST", nil},
		{"trailing dot", "as.test", "mtls.as.test.", nil},
		{"port", "as.test", "mtls.as.test:443", nil},
		{"below it", "as.test", "x.mtls.as.test", nil},
		{"with a certificate", "as.test", "mtls.as.test", certs.L1},
		{"API", "as.test", "rs.test", certs.L1},
		{"away from the host that asks", "mtls.as.test", "as.test", certs.L1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.o.requests()
			x, err := raw(t, b.px.tls, c.sni, caller{leaf: c.leaf})
			if err != nil {
				t.Fatal(err)
			}
			status, body, err := x.send(tokenRequest(c.host, "c-dn"))
			if err == nil && (status < 400 || status >= 500) {
				t.Errorf("%d %s, want a refusal", status, body)
			}
			for _, r := range b.o.requests() {
				if r.thumbprint != "" || !strings.EqualFold(r.host, "as.test") {
					t.Errorf("a request for %q arrived, with certificate %q", r.host, r.thumbprint)
				}
			}
		})
	}
	for _, sni := range []string{"unknown.test", ""} {
		t.Run("server name "+fmt.Sprintf("%q", sni), func(t *testing.T) {
			b.o.requests()
			x, err := raw(t, b.px.tls, sni, caller{leaf: certs.L1, config: func(cfg *tls.Config) { cfg.InsecureSkipVerify = true }})
			if err == nil {
				status, _, err := x.send(tokenRequest("mtls.as.test", "c-dn"))
				// httpd answers 403 to a client that asks for no name.
				if err == nil && status != http.StatusMisdirectedRequest && (sni != "" || status != http.StatusForbidden) {
					t.Errorf("answered %d, want a failed handshake or 421", status)
				}
			}
			if seen := b.o.requests(); len(seen) > 0 {
				t.Errorf("%d requests arrived at the origin", len(seen))
			}
		})
	}
	t.Run("the host in other words", func(t *testing.T) {
		x, err := raw(t, b.px.tls, "mtls.as.test", caller{leaf: certs.L1})
		if err != nil {
			t.Fatal(err)
		}
		if status, body, err := x.send(tokenRequest("MTLS.AS.TEST:443", "c-dn")); err != nil || status != http.StatusOK {
			t.Errorf("%d %s %v, want a token: case and port do not make another host", status, body, err)
		}
	})
	t.Run("ALPN", func(t *testing.T) {
		for _, alpn := range []string{"http/1.1", "h2"} {
			conn, err := tls.Dial("tcp", b.px.tls, &tls.Config{ServerName: "mtls.as.test", RootCAs: certs.ServerCA.Pool(), NextProtos: []string{alpn}})
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.ConnectionState().NegotiatedProtocol; got != alpn {
				t.Errorf("negotiated %q, want %q", got, alpn)
			}
			conn.Close()
		}
	})
}

// oneSession offers the same session to every host.
type oneSession struct{ s *tls.ClientSessionState }

func (c *oneSession) Get(string) (*tls.ClientSessionState, bool) { return c.s, c.s != nil }
func (c *oneSession) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.s = s
	}
}

// A session that one host has made is offered to another one, which has other rules for
// certificates. It may be refused or resumed; the request counts as one with the
// certificate that its connection proves, or with none.
func (b *bench) otherHost(t *testing.T) {
	certs := fixture.Certs()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			from, to      string
			first, second *pkitest.Leaf
			may           []string // what the origin may see in the end
		}{
			// It was made without a certificate, and must not become one with it.
			{"as.test", "mtls.as.test", nil, nil, []string{""}},
			{"as.test", "mtls.as.test", certs.L1, certs.L1, []string{"", certbound.Thumbprint(certs.L1.Cert)}},
			// It was made with a certificate, which does not reach the host without.
			{"mtls.as.test", "as.test", certs.L1, nil, []string{""}},
			// The same client, by the session or by a new handshake.
			{"mtls.as.test", "rs.test", certs.L1, certs.L2, []string{certbound.Thumbprint(certs.L1.Cert), certbound.Thumbprint(certs.L2.Cert)}},
		} {
			t.Run(tls.VersionName(version)+" "+c.from+" to "+c.to, func(t *testing.T) {
				cache := new(oneSession)
				x, err := raw(t, b.px.tls, c.from, caller{leaf: c.first, version: version, sessions: cache})
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := x.send(tokenRequest(c.from, "c-dn")); err != nil {
					t.Fatal(err)
				}
				if none := b.d.fullHandshakes && c.from != "as.test"; (cache.s == nil) != none {
					t.Fatalf("a session was made: %v, want %v", cache.s != nil, !none)
				}
				x.conn.Close()
				b.o.requests()
				x, err = raw(t, b.px.tls, c.to, caller{leaf: c.second, version: version, sessions: cache})
				if err != nil {
					return // refused in the handshake
				}
				if _, _, err := x.send(tokenRequest(c.to, "c-dn")); err != nil {
					return
				}
				for _, r := range b.o.requests() {
					got := r.thumbprint
					if r.host == "as.test" && len(r.alike(b.d.field)) > 0 && r.alike(b.d.field)[0] != http.CanonicalHeaderKey(b.d.field)+": " {
						got = "a field at as.test"
					}
					if !slices.Contains(c.may, got) {
						t.Errorf("%s saw %q, want one of %q (resumed: %v)", r.host, got, c.may, x.conn.ConnectionState().DidResume)
					}
				}
			})
		}
	}
}

// A token request in 0-RTT data could be replayed. openssl sends one; Go cannot.
func (b *bench) earlyData(t *testing.T) {
	dir := t.TempDir()
	k := fixture.Certs().L1
	write(t, filepath.Join(dir, "client.pem"), string(k.ChainPEM())+string(k.KeyPEM()))
	write(t, filepath.Join(dir, "early"), tokenRequest("mtls.as.test", "c-dn"))
	sClient := func(input string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", b.px.tls, "-servername", "mtls.as.test",
			"-tls1_3", "-cert", "client.pem", "-key", "client.pem", "-ign_eof"}, args...)...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	// The server closes after the answer, so that openssl ends.
	first := sClient(tokenRequest("mtls.as.test", "c-dn", "Connection: close"), "-sess_out", "session")
	if !strings.Contains(first, "access_token") {
		t.Fatalf("no token over a new session\n%s", first)
	}
	if _, err := os.Stat(filepath.Join(dir, "session")); err != nil && b.d.fullHandshakes {
		return // no ticket, no early data
	}
	b.o.requests()
	second := sClient(tokenRequest("mtls.as.test", "c-dn", "Connection: close"), "-sess_in", "session", "-early_data", "early")
	if !strings.Contains(second, "Early data was not sent") && !strings.Contains(second, "Early data was rejected") {
		t.Errorf("openssl does not say that its early data was refused\n%s", second)
	}
	if seen := b.o.requests(); len(seen) > 1 {
		t.Errorf("%d requests arrived, want at most the one after the handshake", len(seen))
	}
}

func (b *bench) versionsAndSuites(t *testing.T) {
	certs := fixture.Certs()
	for _, c := range []struct {
		name  string
		min   uint16
		max   uint16
		suite []uint16
		ok    bool
	}{
		{"TLS 1.0", tls.VersionTLS10, tls.VersionTLS10, nil, false},
		{"TLS 1.1", tls.VersionTLS11, tls.VersionTLS11, nil, false},
		{"TLS 1.2", tls.VersionTLS12, tls.VersionTLS12, nil, true},
		{"TLS 1.3", tls.VersionTLS13, tls.VersionTLS13, nil, true},
		{"without forward secrecy", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}, false},
		{"without authenticated encryption", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}, false},
	} {
		for _, host := range []string{"as.test", "mtls.as.test", "rs.test"} {
			t.Run(c.name+" "+host, func(t *testing.T) {
				conn, err := tls.Dial("tcp", b.px.tls, &tls.Config{
					ServerName: host, RootCAs: certs.ServerCA.Pool(), MinVersion: c.min, MaxVersion: c.max, CipherSuites: c.suite,
				})
				if err == nil {
					conn.Close()
				}
				if (err == nil) != c.ok {
					t.Errorf("handshake: %v, want success %v", err, c.ok)
				}
			})
		}
	}
	t.Run("preferred", func(t *testing.T) {
		conn, err := tls.Dial("tcp", b.px.tls, &tls.Config{ServerName: "mtls.as.test", RootCAs: certs.ServerCA.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if v := conn.ConnectionState().Version; v != tls.VersionTLS13 {
			t.Errorf("%s, want TLS 1.3", tls.VersionName(v))
		}
	})
}

// Port 80 leads to port 443 and forwards nothing, fields of the client's least of all.
func (b *bench) plain(t *testing.T) {
	client := b.px.client(t, caller{})
	for _, host := range []string{"as.test", "mtls.as.test", "rs.test"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/token", nil)
		req.Header.Set(b.d.field, b.d.write(fixture.Certs().L1.Cert))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if to := resp.Header.Get("Location"); resp.StatusCode/100 != 3 || !strings.HasPrefix(to, "https://"+host) {
			t.Errorf("%s: %d to %q, want a redirect to https", host, resp.StatusCode, to)
		}
	}
	if seen := b.o.requests(); len(seen) > 0 {
		t.Errorf("%d requests arrived at the origin", len(seen))
	}
}
