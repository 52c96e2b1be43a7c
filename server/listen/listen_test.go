package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

func TestOpenFaults(t *testing.T) {
	taken, err := Open("127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name, address string
		want          error
	}{
		{"a port in use", taken.Addr().String(), ErrInUse},
		{"an address of another machine", "192.0.2.1:0", ErrNoAddress},
		{"no port", "127.0.0.1", ErrAddress},
		{"a port that does not exist", "127.0.0.1:99999", ErrAddress},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := Open(test.address, "listen.mtls.address")
			if l != nil {
				l.Close()
				t.Error("a listener was returned beside the error")
			}
			e, ok := errors.AsType[*AddressError](err)
			if !ok || !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if e.Setting != "listen.mtls.address" || !strings.Contains(e.Error(), e.Setting) {
				t.Errorf("the error does not name the setting: %v", err)
			}
		})
	}
}

func TestNewFaults(t *testing.T) {
	ok := Config{Name: "x", Handler: tellConnection, Pair: pairFor(t, pkitest.P256)}
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"nothing", func(c *Config) { *c = Config{} }, []string{"Handler"}},
		{"certificates over plain HTTP", func(c *Config) { c.Pair, c.AskForCertificate = nil, true }, []string{"AskForCertificate"}},
		{"tickets that live too long", func(c *Config) { c.TicketRotation = maxRotation + 1 }, []string{"TicketRotation"}},
		{"everything at once", func(c *Config) {
			*c = Config{TicketRotation: -1, MaxConnections: -1, MaxHeaderBytes: -1, ReadTimeout: -1, IdleTimeout: -1, AskForCertificate: true}
		}, []string{"Handler", "TicketRotation", "MaxConnections", "MaxHeaderBytes", "ReadTimeout", "IdleTimeout", "AskForCertificate"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := ok
			test.change(&cfg)
			s, err := New(cfg)
			if s != nil || err == nil {
				t.Fatalf("server %v, error %v, want an error alone", s, err)
			}
			faults := err.(interface{ Unwrap() []error }).Unwrap()
			if len(faults) != len(test.want) {
				t.Errorf("%d faults, want %v: %v", len(faults), test.want, err)
			}
		})
	}
}

// The server's certificate is replaced on disk, first by a broken pair. The old one
// stays until the new one is good; a connection that is there is not touched.
func TestPairFollowsFiles(t *testing.T) {
	dir := t.TempDir()
	ca := fixture.Certs().ServerCA
	options := pkitest.LeafOptions{Subject: "CN=one", DNS: []string{publicName}, Server: true}
	one := ca.MustLeaf(options)
	two := ca.MustLeaf(options)
	certFile, keyFile := writePair(t, dir, one)
	var logged bytes.Buffer
	pair, err := LoadPair(certFile, keyFile, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, address := serve(t, Config{Name: "x", Handler: tellConnection, Pair: pair})

	kept, err := tls.Dial("tcp", address, client(nil, publicName))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	answers := bufio.NewReader(kept)
	ask := func(when string) {
		t.Helper()
		fmt.Fprintf(kept, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", publicName)
		resp, err := http.ReadResponse(answers, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: the connection that was there: %v", when, err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	serves := func(when string, want *pkitest.Leaf) {
		t.Helper()
		ask(when)
		state, err := handshake(address, client(nil, publicName))
		if err != nil || !state.PeerCertificates[0].Equal(want.Cert) {
			t.Errorf("%s: another certificate is served (error %v)", when, err)
		}
		if !pair.NotAfter().Equal(want.Cert.NotAfter) {
			t.Errorf("%s: NotAfter is %v", when, pair.NotAfter())
		}
	}
	serves("at the start", one)

	writeFile(t, certFile, two.ChainPEM()) // the key follows in a moment
	if pair.look(false); pair.Err() != nil || logged.Len() > 0 {
		t.Errorf("half a pair is reported at the first look: %v, %s", pair.Err(), logged.String())
	}
	serves("with half a new pair", one)
	for range 3 {
		pair.look(false)
	}
	if _, ok := errors.AsType[*PairError](pair.Err()); !ok || strings.Count(logged.String(), "level=ERROR") != 1 {
		t.Errorf("a pair that stays broken is reported once: %v, %s", pair.Err(), logged.String())
	}
	serves("with a key that does not fit", one)

	for name, content := range map[string][]byte{"empty": nil, "not PEM": []byte("x"), "too large": bytes.Repeat([]byte("x"), maxPairFile+1)} {
		writeFile(t, keyFile, content)
		if err := pair.Reload(); err == nil {
			t.Errorf("a key file that is %s is no error", name)
		}
		serves("with a key file that is "+name, one)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if err := pair.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a key file: error %v", err)
	}
	serves("without a key file", one)

	writeFile(t, keyFile, two.KeyPEM())
	pair.look(false)
	if pair.Err() != nil {
		t.Errorf("a good pair: %v", pair.Err())
	}
	serves("with the new pair", two)
	if err := pair.Reload(); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	if strings.Contains(logged.String(), "PRIVATE") {
		t.Error("a key is in the log")
	}
}

func TestPairRuns(t *testing.T) {
	dir := t.TempDir()
	ca := fixture.Certs().ServerCA
	options := pkitest.LeafOptions{Subject: "CN=one", DNS: []string{publicName}, Server: true}
	certFile, keyFile := writePair(t, dir, ca.MustLeaf(options))
	pair, err := LoadPair(certFile, keyFile, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { pair.Run(ctx); close(done) }()
	two := ca.MustLeaf(options)
	writePair(t, dir, two)
	for end := time.Now().Add(30 * time.Second); !pair.Certificate().Leaf.Equal(two.Cert); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new certificate was not picked up")
		}
	}
	cancel()
	<-done
}

func TestLoadPairFaults(t *testing.T) {
	dir := t.TempDir()
	ca := fixture.Certs().ServerCA
	options := pkitest.LeafOptions{Subject: "CN=one", DNS: []string{publicName}, Server: true}
	one, two := ca.MustLeaf(options), ca.MustLeaf(options)
	for _, test := range []struct {
		name      string
		cert, key []byte
	}{
		{"no certificate", nil, one.KeyPEM()},
		{"no key", one.ChainPEM(), nil},
		{"the key of another", one.ChainPEM(), two.KeyPEM()},
		{"swapped", one.KeyPEM(), one.ChainPEM()},
	} {
		t.Run(test.name, func(t *testing.T) {
			certFile, keyFile := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
			writeFile(t, certFile, test.cert)
			writeFile(t, keyFile, test.key)
			pair, err := LoadPair(certFile, keyFile, quiet)
			if _, ok := errors.AsType[*PairError](err); !ok || pair != nil {
				t.Errorf("pair %v, error %v, want a *PairError alone", pair, err)
			}
		})
	}
}

// An expired certificate is served, since refusing everybody helps nobody, but loudly.
func TestExpiredServerCertificate(t *testing.T) {
	leaf := fixture.Certs().ServerCA.MustLeaf(pkitest.LeafOptions{
		Subject: "CN=old", DNS: []string{publicName}, Server: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
	})
	certFile, keyFile := writePair(t, t.TempDir(), leaf)
	var logged bytes.Buffer
	if _, err := LoadPair(certFile, keyFile, slog.New(slog.NewTextHandler(&logged, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logged.String(), "level=ERROR") {
		t.Errorf("not loud: %s", logged.String())
	}
}

// A stranger opens more connections than there may be. Those above are closed; when one
// of the others ends, there is room again.
func TestTooManyConnections(t *testing.T) {
	var logged syncBuffer
	s, address := serve(t, Config{
		Name: "x", Handler: tellConnection, MaxConnections: 2, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	open := func() (net.Conn, bool) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		return c, err == nil
	}
	first, ok1 := open()
	second, ok2 := open()
	defer second.Close()
	third, ok3 := open()
	third.Close()
	if !ok1 || !ok2 || ok3 {
		t.Errorf("answered: %t, %t, %t, want true, true, false", ok1, ok2, ok3)
	}
	if open, refused := s.Stats(); open != 2 || refused != 1 {
		t.Errorf("open %d, refused %d, want 2, 1", open, refused)
	}
	if !strings.Contains(logged.String(), "level=WARN") {
		t.Error("nothing is logged")
	}
	first.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, ok := open()
		c.Close()
		if ok {
			break
		}
		if time.Now().After(end) {
			t.Fatal("there is no room again")
		}
	}
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

// A stranger sends a request slowly, not at all, or one that is too large.
func TestSlowAndLargeRequests(t *testing.T) {
	pair := pairFor(t, pkitest.P256)
	short := 100 * time.Millisecond
	t.Run("no handshake", func(t *testing.T) {
		_, address := serve(t, Config{Name: "x", Handler: tellConnection, Pair: pair, ReadHeaderTimeout: short})
		w := tap(t, address)
		if _, err := io.ReadAll(w); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
	})
	t.Run("half a header", func(t *testing.T) {
		_, address := serve(t, Config{Name: "x", Handler: tellConnection, Pair: pair, ReadHeaderTimeout: short})
		c := tls.Client(tap(t, address), client(nil, publicName))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: ")
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
	})
	t.Run("half a body", func(t *testing.T) {
		readAll := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("the body was read whole")
			}
		})
		_, address := serve(t, Config{Name: "x", Handler: readAll, Pair: pair, ReadTimeout: short})
		c := tls.Client(tap(t, address), client(nil, publicName))
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nhalf", publicName)
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
	})
	t.Run("silence between two requests", func(t *testing.T) {
		_, address := serve(t, Config{Name: "x", Handler: tellConnection, Pair: pair, IdleTimeout: short})
		c := tls.Client(tap(t, address), client(nil, publicName))
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", publicName)
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
	})
	t.Run("a large header", func(t *testing.T) {
		_, address := serve(t, Config{Name: "x", Handler: tellConnection, Pair: pair, MaxHeaderBytes: 4096})
		c := tls.Client(tap(t, address), client(nil, publicName))
		go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nX: %s\r\n\r\n", publicName, strings.Repeat("x", 100_000))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("answer %v, error %v, want 431", resp, err)
		}
	})
}

// The server is told to stop while it serves a request: the request ends well, and no
// new connection is taken. The grace is over before another request is done: it is cut
// off, and the error says so.
func TestGroup(t *testing.T) {
	for _, test := range []struct {
		name    string
		grace   time.Duration
		finish  bool
		wantErr bool
	}{
		{"the request finishes", 30 * time.Second, true, false},
		{"the request is cut off", 50 * time.Millisecond, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(arrived)
				<-release
				io.WriteString(w, "done")
			})
			s, err := New(Config{Name: "slow", Handler: slow, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			l, err := Open("127.0.0.1:0", "--listen")
			if err != nil {
				t.Fatal(err)
			}
			draining := make(chan struct{})
			g := &Group{Grace: test.grace, Logger: quiet, Draining: func() { close(draining) }}
			g.Add(s, l)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- g.Run(ctx) }()

			answer := make(chan string, 1)
			go func() {
				resp, err := http.Get("http://" + l.Addr().String())
				if err != nil {
					answer <- "cut off"
					return
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				answer <- string(b)
			}()
			<-arrived
			cancel()
			<-draining
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					break
				}
				c.Close()
				if time.Now().After(end) {
					t.Fatal("connections are still taken")
				}
			}
			if test.finish {
				close(release)
			}
			want := map[bool]string{true: "done", false: "cut off"}[test.finish]
			if got := <-answer; got != want {
				t.Errorf("the answer is %q, want %q", got, want)
			}
			if !test.finish {
				close(release)
			}
			if err := <-ended; (err != nil) != test.wantErr {
				t.Errorf("Run: %v, want an error: %t", err, test.wantErr)
			}
		})
	}
}

// One listener fails: the others stop, too, and the error names it.
func TestGroupFails(t *testing.T) {
	g := &Group{Logger: quiet, Grace: time.Second}
	var listeners []net.Listener
	for _, name := range []string{"one", "two"} {
		s, err := New(Config{Name: name, Handler: tellConnection, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open("127.0.0.1:0", "--listen")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		g.Add(s, l)
	}
	listeners[1].Close()
	if err := g.Run(t.Context()); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "two") {
		t.Errorf("error %v, want that of the second listener", err)
	}
	if c, err := net.Dial("tcp", listeners[0].Addr().String()); err == nil {
		c.Close()
		t.Error("the first listener is still there")
	}
}
