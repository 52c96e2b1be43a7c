//go:build linux

package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// Ten thousand connections of a client with its certificate have made a request, and wait.
// None is refused, memory is bounded, the one above the limit is closed at once and disturbs
// nobody, and the first, some between and the last are served as if alone.
func TestTenThousandIdleConnections(t *testing.T) {
	const connections = 10_000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < connections+500 {
		t.Fatalf("this process may open %d files (%v), and the test needs %d: raise ulimit -n", files.Cur, err, connections+500)
	}
	server := fixture.Certs().ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=as.test", DNS: []string{publicHost, mtlsHost, "localhost"}, Server: true})
	w := newWorld(serve(t, folder(t, settings{clients: `- {client_id: c-dn, token_endpoint_auth_method: tls_client_auth, tls_client_auth_subject_dn: "` + fixture.SubjectDN + `", scope: read write}
`, files: map[string][]byte{"server.pem": server.ChainPEM(), "server.key": server.KeyPEM()}})))
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, apiText) }))
	t.Cleanup(api.Close)
	g := startGateway(t, w, api.URL, func(g *gatewayProcess) {
		g.config = strings.Replace(g.config, "log: {format: json}", "log: {format: json, access: false}", 1) + "limits: {connections: " + strconv.Itoa(connections) + "}\n"
	})
	g.eventually(t, "the log says how many files may be open", func() bool { return strings.Contains(g.log.String(), `"open_files":`) })
	token := w.token(t, w.as(t, w.L1), "c-dn", "scope", "read").AccessToken()
	if token == "" {
		t.Fatal("no token")
	}
	cert := w.L1.TLS()
	// The first shows its certificate, and the others resume its session: this is about
	// connections that wait, and full handshakes would take minutes with the race detector.
	conf := &tls.Config{ServerName: rsHost, RootCAs: w.ServerCA.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1), CurvePreferences: []tls.CurveID{tls.X25519}, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }}
	dial := func() (*tls.Conn, error) {
		return tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", g.address, conf)
	}
	request := "GET / HTTP/1.1\r\nHost: " + rsHost + "\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	ask := func(c *tls.Conn) error {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != apiText {
			return fmt.Errorf("status %d, %q, %v", resp.StatusCode, body, err)
		}
		return nil
	}
	first, err := dial()
	if err == nil {
		err = ask(first)
	}
	if err != nil {
		t.Fatalf("the first: %v", err)
	}
	before := resident(t, g.cmd.Process.Pid)
	conns := make([]*tls.Conn, connections)
	conns[0] = first
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.NetConn().Close()
			}
		}
	})
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for range 8 {
		wg.Go(func() {
			// On a slow machine the first would have waited too long (2 min) before the
			// last is there: they ask again.
			type waiting struct {
				c  *tls.Conn
				at time.Time
			}
			var mine []waiting
			for failed.Load() == nil {
				if len(mine) > 0 && time.Since(mine[0].at) > 45*time.Second {
					if err := ask(mine[0].c); err != nil {
						failed.CompareAndSwap(nil, &err)
						return
					}
					mine = append(mine[1:], waiting{mine[0].c, time.Now()})
				}
				i := int(next.Add(1))
				if i >= connections {
					return
				}
				c, err := dial()
				if err == nil {
					conns[i] = c
					err = ask(c)
				}
				if err != nil {
					err = fmt.Errorf("connection %d: %w", i, err)
					failed.CompareAndSwap(nil, &err)
					return
				}
				mine = append(mine, waiting{c, time.Now()})
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatalf("%v\n%s", *err, tail(g.log.String()))
	}
	each := (resident(t, g.cmd.Process.Pid) - before) / connections
	t.Logf("%d connections in %v; %d bytes of memory each in the gateway (resident, what their handshakes left behind included)", connections, time.Since(began).Round(time.Millisecond), each)
	// An idle connection holds about a third of this; the rest is for the collector.
	if each > 128<<10 {
		t.Errorf("%d bytes for a connection, want 128 KiB at most", each)
	}

	// One more is closed at once, with nothing that a client could take for an answer.
	if c, err := dial(); err == nil {
		err = ask(c)
		c.Close()
		t.Errorf("above the limit: it was served (%v)", err)
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("above the limit: %v, want the connection closed", err)
	}
	for _, i := range []int{0, 1, connections / 3, connections / 2, connections - 2, connections - 1} {
		if err := ask(conns[i]); err != nil {
			t.Errorf("connection %d, after it was idle: %v", i, err)
		}
	}
	// And when one goes, there is room again.
	conns[1].Close()
	g.eventually(t, "a new connection", func() bool {
		c, err := dial()
		if err != nil {
			return false
		}
		conns[1] = c
		return ask(c) == nil
	})
}

// resident returns the memory that a process has in RAM, in bytes.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		t.Fatalf("statm: %q", text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
