//go:build linux

package proxies

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

var update = flag.Bool("update", false, "record again what the proxies send (certsource/testdata/recordings)")

const recordings = "../../../certsource/testdata/recordings"

// A recorder takes down the head of each request, byte for byte, and answers 200. The
// server of net/http would lose the order and the spelling of the fields.
type recorder struct {
	addr  string
	heads chan string
}

func startRecorder(t *testing.T) *recorder {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{proxyKeys().server.TLS()}, ClientAuth: tls.RequestClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &recorder{addr: l.Addr().String(), heads: make(chan string, 16)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *recorder) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return // a connection that was only opened
		}
		if line == "\r\n" {
			break
		}
		head.WriteString(strings.TrimSuffix(line, "\r\n") + "\n")
	}
	r.heads <- head.String()
	_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	_, _ = in.Discard(1) // wait for the proxy to close
}

// What each deployment really sends, byte for byte. The test writes it down with -update;
// otherwise it compares the fields of the certificate with what was written down, which
// certsource reads in every run.
func TestRecord(t *testing.T) {
	certs := fixture.Certs()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range deployments() {
		t.Run(d.name, func(t *testing.T) {
			rec := startRecorder(t)
			px := d.program.start(t, settings{origin: [3]string{rec.addr, rec.addr, rec.addr}})
			version := d.program.versionOf(t)
			for _, c := range []struct {
				name   string
				leaf   *pkitest.Leaf
				resume bool
				lines  []string
			}{
				{name: "certificate", leaf: certs.L1},
				{name: "resumed", leaf: certs.L1, resume: true},
				{name: "self-signed", leaf: certs.S1},
				{name: "no-certificate"},
				{name: "client-sends-its-own", leaf: certs.L2, lines: []string{d.field + ": " + d.write(certs.L1.Cert)}},
			} {
				t.Run(c.name, func(t *testing.T) {
					as := caller{leaf: c.leaf, sessions: new(oneSession)}
					send := func() string {
						x, err := raw(t, px.tls, "mtls.as.test", as)
						if err != nil {
							t.Fatal(err)
						}
						if status, _, err := x.send(tokenRequest("mtls.as.test", "c-dn", append(c.lines, "User-Agent: client/1.0")...)); err != nil || status != http.StatusOK {
							t.Fatalf("%d, %v", status, err)
						}
						x.conn.Close()
						return <-rec.heads
					}
					head := send()
					if c.resume {
						head = send()
					}
					head = strings.ReplaceAll(head, "X-Forwarded-Server: "+host+"\n", "X-Forwarded-Server: proxy.test\n")
					head = ownAddress.ReplaceAllString(head, "x-forwarded-for: 192.0.2.1")
					head = strings.ReplaceAll(head, ": "+portOf(px.tls)+"\n", ": 443\n")
					d.rfc9440(t, c.leaf, head)

					chain := 0
					if c.leaf == certs.L1 || c.leaf == certs.L2 {
						if d.chain == chainKept || d.chain == chainOnce && !c.resume {
							chain = 1
						}
					}
					want := "none"
					if c.leaf != nil {
						want = fmt.Sprintf("x5t#S256=%s, chain=%d", certbound.Thumbprint(c.leaf.Cert), chain)
					}
					if got := d.read(t, head); got != want {
						t.Fatalf("the source reads %s, want %s, from\n%s", got, want, head)
					}
					name := filepath.Join(recordings, d.preset, d.name+"-"+c.name+".http")
					if *update {
						notes := ""
						if d.hops > 0 {
							notes = fmt.Sprintf("# trusted_hops: %d\n", d.hops)
						}
						text := fmt.Sprintf("# preset: %s\n# origin: recorded\n# version: %s %s\n# config: docs/proxies/%s\n%s# expect: %s\n%s\n",
							d.preset, d.program.name, version, d.program.files[0], notes, want, head)
						if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
							t.Fatal(err)
						}
						if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
							t.Fatal(err)
						}
						return
					}
					recorded, err := os.ReadFile(name)
					if err != nil {
						t.Fatalf("%v; record it: go test ./test/proxies -run TestRecord -update", err)
					}
					if got, was := d.fieldsIn(t, head), d.fieldsIn(t, string(recorded)); !slices.Equal(got, was) {
						t.Errorf("%s %s sends the fields %q; recorded were %q. Read the difference and record again with -update",
							d.program.name, version, got, was)
					}
				})
			}
		})
	}
}

// Envoy puts an address of this machine in place of 127.0.0.1.
var ownAddress = regexp.MustCompile(`x-forwarded-for: [0-9.]+`)

// read says what the source makes of a head.
func (d *deployment) read(t *testing.T, head string) string {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\n")))
	if err != nil {
		t.Fatal(err)
	}
	source, err := certsource.NewPreset(d.preset, certsource.PresetConfig{Hop: hop(), TrustedHops: d.hops})
	if err != nil {
		t.Fatal(err)
	}
	req = req.WithContext(certsource.ConnContext(t.Context(), loopback{}))
	req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{proxyKeys().hop.Cert}}
	p, err := source.Certificate(req)
	switch {
	case err == certsource.ErrNoCertificate:
		return "none"
	case err != nil:
		return err.Error()
	}
	return fmt.Sprintf("x5t#S256=%s, chain=%d", p.Thumbprint(), len(p.Chain()))
}

// fieldsIn returns the names that the source reads, as they are spelled in a head.
func (d *deployment) fieldsIn(t *testing.T, head string) []string {
	t.Helper()
	source, err := certsource.NewPreset(d.preset, certsource.PresetConfig{Hop: hop(), TrustedHops: d.hops})
	if err != nil {
		t.Fatal(err)
	}
	known := certsource.Describe(source).Fields
	var names []string
	for line := range strings.Lines(head) {
		name, _, _ := strings.Cut(line, ":")
		if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// loopback is a connection of which only the peer matters.
type loopback struct{ net.Conn }

func (loopback) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// rfc9440 checks a head against the letter of RFC 9440, where that is what the proxy sends.
func (d *deployment) rfc9440(t *testing.T, leaf *pkitest.Leaf, head string) {
	t.Helper()
	if d.preset != "rfc9440" {
		return
	}
	t.Attr("requirement", "H-2.1-1 H-2.1-2 H-2.1-3 H-2.2-1 H-2.2-2 H-2.2-5 H-2.3-4 H-2.3-6")
	values := map[string][]string{}
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		values[strings.ToLower(name)] = append(values[strings.ToLower(name)], value)
	}
	if leaf == nil {
		if len(values["client-cert"])+len(values["client-cert-chain"]) > 0 {
			t.Errorf("fields without a certificate: %q", values)
		}
		return
	}
	if got := values["client-cert"]; len(got) != 1 || got[0] != byteSequence(leaf.Cert) {
		t.Errorf("Client-Cert: %q, want once %s", got, byteSequence(leaf.Cert))
	}
	var rest []string
	for _, c := range leaf.Chain()[1:] {
		rest = append(rest, byteSequence(c))
	}
	if got := values["client-cert-chain"]; len(got) > 0 {
		if all := strings.Join(got, ", "); all != strings.Join(rest, ", ") {
			t.Errorf("Client-Cert-Chain: %s, want %s", all, strings.Join(rest, ", "))
		}
	}
}
