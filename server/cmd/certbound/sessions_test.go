package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/telemetry"
)

// A deployment is a server behind a proxy that ends TLS, as the pages about explain and
// doctor show it: all on this machine, in a folder of its own, which is the current one.
type deployment struct {
	t      *testing.T
	in     *instance
	issuer string
	mtls   string // of the proxy
	origin string // behind it
	log    *syncBuffer

	careless atomic.Bool // the proxy removes nothing that clients send
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func nginxFields(leaf *pkitest.Leaf) http.Header {
	all := certsource.Presets()
	return all[slices.IndexFunc(all, func(p certsource.Preset) bool { return p.Name == "nginx" })].Forward(leaf.Cert)
}

// deploy makes the folder and starts everything. tune changes the server before it runs.
func deploy(t *testing.T, careless bool, tune func(*instance)) *deployment {
	t.Helper()
	d := &deployment{t: t, log: &syncBuffer{}}
	d.careless.Store(careless)
	t.Chdir(t.TempDir())
	write := func(name string, data []byte) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serverCA := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Server CA"})
	server := serverCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=localhost", DNS: []string{"localhost"}, Server: true})
	root := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Agora Root,O=Agora"})
	issuing := root.MustIntermediate(pkitest.CAOptions{Subject: "CN=Agora Issuing,O=Agora"})
	billing := issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing,OU=Payments,O=Agora,C=GB", DNS: []string{"billing.agora.example"}})
	mallory := root.MustLeaf(pkitest.LeafOptions{Subject: "CN=mallory,O=Agora,C=GB"})
	write("server.pem", server.ChainPEM())
	write("server-key.pem", server.KeyPEM())
	write("server-ca.pem", serverCA.CertPEM())
	write("root.pem", root.CertPEM())
	write("billing.pem", billing.ChainPEM())
	write("mallory.pem", mallory.ChainPEM())
	var captured bytes.Buffer
	captured.WriteString("POST /token HTTP/1.1\r\nHost: mtls.as.example\r\n")
	for _, name := range []string{"X-SSL-Client-Cert", "X-SSL-Client-Verify"} {
		fmt.Fprintf(&captured, "%s: %s\r\n", name, nginxFields(billing).Get(name))
	}
	captured.WriteString("Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=client_credentials&client_id=billing")
	write("captured.http", captured.Bytes())
	if err := os.Mkdir("elsewhere", 0o700); err != nil {
		t.Fatal(err)
	}
	write("elsewhere/captured.http", captured.Bytes())

	var listeners []net.Listener
	for range 3 { // public, origin, proxy
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	port := func(i int) int { return listeners[i].Addr().(*net.TCPAddr).Port }
	d.issuer, d.origin, d.mtls = fmt.Sprintf("https://localhost:%d", port(0)), fmt.Sprintf("http://localhost:%d", port(1)), fmt.Sprintf("https://localhost:%d", port(2))
	write("certbound.yaml", fmt.Appendf(nil, `issuer: %s
listen:
  public: {address: "127.0.0.1:%d", certificate: server.pem, key: server-key.pem}
  mtls:
    address: 127.0.0.1:%d
    url: %s
    insecure_plain_http: true
    source: nginx
    proxy: {prefixes: [127.0.0.0/8]}
  admin: {address: ""}
trust:
  sets:
    - name: clients
      anchors: [root.pem]
tokens: {resources: ["https://api.example"], scopes: [read]}
self_probe: {every: 1h, root_cas: [server-ca.pem]}
clients:
  - client_id: billing
    token_endpoint_auth_method: tls_client_auth
    tls_client_auth_subject_dn: CN=billing,OU=Payments,O=Agora,C=GB
`, d.issuer, port(0), port(1), d.mtls))
	file, err := config.Load("certbound.yaml")
	if err != nil {
		t.Fatal(err)
	}
	logger, err := telemetry.NewLogger(d.log, telemetry.FormatJSON, "info")
	if err != nil {
		t.Fatal(err)
	}
	if d.in, err = newInstance(t.Context(), file, "serve", logger, nil); err != nil {
		t.Fatal(err)
	}
	d.in.probe.after = time.Hour // for a test to run by itself
	if tune != nil {
		tune(d.in)
	}
	if err := d.in.serveAll(listeners[0], listeners[1], nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.in.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	d.proxy(listeners[2], server)
	for range 200 { // the server makes its first key
		if d.in.hasKey(t.Context()) == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.refused(mallory)
	return d
}

// proxy ends TLS as nginx would.
func (d *deployment) proxy(l net.Listener, server *pkitest.Leaf) {
	origin, err := url.Parse(d.origin)
	if err != nil {
		d.t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(origin)
			r.Out.Host = r.In.Host
			if !d.careless.Load() {
				for name := range r.Out.Header {
					if lower := strings.ToLower(name); strings.Contains(lower, "cert") || strings.Contains(lower, "ssl") || strings.Contains(lower, "tls") {
						delete(r.Out.Header, name)
					}
				}
			}
			if certs := r.In.TLS.PeerCertificates; len(certs) > 0 {
				for name, values := range nginxFields(&pkitest.Leaf{Cert: certs[0]}) {
					r.Out.Header[name] = values
				}
			}
		},
	}
	cert := server.TLS()
	srv := httptest.NewUnstartedServer(certsource.RequireAuthority(forward))
	srv.Listener.Close()
	srv.Listener = l
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
	srv.StartTLS()
	d.t.Cleanup(srv.Close)
}

// refused has the server refuse a request, and writes its log to a file.
func (d *deployment) refused(who *pkitest.Leaf) {
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.origin+"/token", strings.NewReader("grant_type=client_credentials&client_id=billing"))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header = nginxFields(who)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	id := res.Header.Get(authserver.RequestIDHeader)
	if id == "" || !strings.Contains(string(body), "invalid_client") {
		d.t.Fatalf("status %d, id %q, %s", res.StatusCode, id, body)
	}
	d.t.Setenv("ID", id)
	if err := os.WriteFile("certbound.log", []byte(d.log.String()), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// session runs the commands of a block, each after "$ ", and returns it with what they
// print now, both streams together.
func (d *deployment) session(block string) string {
	var out strings.Builder
	for line := range strings.Lines(block) {
		text, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		out.WriteString(line)
		text = strings.NewReplacer("$ID", os.Getenv("ID"), "https://as.example", d.issuer).Replace(strings.TrimSpace(text))
		text, file, redirected := strings.Cut(text, " > ")
		args := strings.Fields(text)
		if args[0] == "cd" {
			here, err := os.Getwd()
			if err != nil {
				d.t.Fatal(err)
			}
			d.t.Chdir(args[1])
			defer d.t.Chdir(here)
			continue
		}
		var stdout, both bytes.Buffer
		w := io.Writer(&both)
		if redirected {
			w = &stdout
		}
		if code := run(d.t.Context(), args[1:], nil, w, &both); code != exitDone && code != exitRefused {
			d.t.Errorf("%s: exit code %d", text, code)
		}
		if redirected {
			if err := os.WriteFile(file, stdout.Bytes(), 0o600); err != nil {
				d.t.Fatal(err)
			}
		}
		out.WriteString(strings.ReplaceAll(both.String(), os.Getenv("ID"), "$ID"))
	}
	text := out.String()
	for _, host := range []struct{ real, shown string }{{d.issuer, "https://as.example"}, {d.mtls, "https://mtls.as.example"}} {
		text = strings.ReplaceAll(text, host.real, host.shown)
		text = strings.ReplaceAll(text, strings.TrimPrefix(host.real, "https://"), strings.TrimPrefix(host.shown, "https://")+":443")
	}
	return strings.ReplaceAll(text, "valid for localhost", "valid for as.example")
}

// What differs from run to run.
var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	// It may begin or end with a hyphen, which is no part of a word.
	{regexp.MustCompile(`(^|[^\w-])[\w-]{43}($|[^\w-])`), "${1}THUMBPRINT${2}"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?( UTC|Z)?`), "TIME"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "PEER"},
	{regexp.MustCompile(`\d+ bytes`), "N bytes"},
	{regexp.MustCompile(` {2,}`), "  "},
}

func settled(text string) string {
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return text
}

// The sessions on the pages about explain and doctor are what the commands print. With
// -update the pages are written again where that is not so.
func TestDocumentedSessions(t *testing.T) {
	for _, page := range []string{"docs/explain.md", "docs/doctor.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			name, err := filepath.Abs(filepath.Join(repository, page))
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			page := string(data)
			places := regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatchIndex(page, -1)
			if len(places) < 2 {
				t.Fatalf("%d sessions", len(places))
			}
			d := deploy(t, true, nil)
			var text strings.Builder
			end := 0
			for _, at := range places {
				block := page[at[2]:at[3]]
				// After the words "a careful proxy:" the proxy is one.
				d.careless.Store(!strings.Contains(page[:at[2]], "a careful proxy:"))
				got := d.session(block)
				text.WriteString(page[end:at[2]])
				end = at[3]
				if settled(got) == settled(block) {
					text.WriteString(block)
					continue
				}
				text.WriteString(got)
				if !*update {
					t.Errorf("the page shows\n%s\nthe commands print\n%s", settled(block), settled(got))
				}
			}
			text.WriteString(page[end:])
			if *update && text.String() != page {
				if err := os.WriteFile(name, []byte(text.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// The server looks at its own public address: behind a careless proxy it raises an alarm
// in the log and in the metrics, and goes on serving; behind a careful one it is content.
func TestSelfProbe(t *testing.T) {
	for _, tt := range []struct {
		name     string
		careless bool
		message  string
		metrics  []string
	}{
		{"careless", true, `"level":"ERROR","msg":"self probe: ALARM: a forged certificate header is believed"`,
			[]string{`certbound_self_probe_runs_total{result="believed"} 1`, "certbound_self_probe_forged_believed 1"}},
		{"careful", false, `"level":"INFO","msg":"self probe: no forged certificate header gets through"`,
			[]string{`certbound_self_probe_runs_total{result="clean"} 1`, "certbound_self_probe_forged_believed 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ran := make(chan struct{}, 1)
			d := deploy(t, tt.careless, func(in *instance) {
				in.probe.after = 10 * time.Millisecond
				in.probe.closed = func() { ran <- struct{}{} }
			})
			<-ran
			log := d.log.String()
			if !strings.Contains(log, tt.message) {
				t.Errorf("the log has no %s:\n%s", tt.message, log)
			}
			if strings.Contains(log, "cbp_") {
				t.Error("the credential is in the log")
			}
			rec := httptest.NewRecorder()
			d.in.metrics.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			for _, m := range tt.metrics {
				if !strings.Contains(rec.Body.String(), m+"\n") {
					t.Errorf("the metrics have no %s", m)
				}
			}
			// Alarm or not, it serves.
			if res, err := http.Get(d.origin + "/.well-known/oauth-authorization-server"); err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%v %v", res, err)
			} else {
				res.Body.Close()
			}
		})
	}
}

// A public address that nobody can reach is a word in the log and no alarm.
func TestSelfProbeUnanswered(t *testing.T) {
	var log bytes.Buffer
	var results []string
	in := deploy(t, false, nil).in
	s := *in.probe
	s.cfg.Issuer, s.bases = "https://localhost:1", nil
	s.log = slog.New(slog.NewJSONHandler(&log, nil))
	s.done = func(result string, _ time.Time) { results = append(results, result) }
	s.once(t.Context())
	if len(results) != 1 || results[0] != telemetry.ProbeUnanswered || strings.Contains(log.String(), "ALARM") || !strings.Contains(log.String(), "nobody listens") {
		t.Errorf("%v %s", results, log.String())
	}
}
