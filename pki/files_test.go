package pki_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

func write(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// faults lists what err says about files.
func faults(err error) []*pki.FileError {
	switch e := err.(type) {
	case *pki.FileError:
		return []*pki.FileError{e}
	case interface{ Unwrap() []error }:
		var all []*pki.FileError
		for _, err := range e.Unwrap() {
			all = append(all, faults(err)...)
		}
		return all
	}
	return nil
}

// Caddy started with no client authentication at all when the CA file was missing
// (CVE-2026-27586), granian, zentinel and centraldogma took the roots of the system or
// nobody's. Here each state of a file in which it does not say whom to trust is an
// error that names the file and says what to do, and no set comes into being.
func TestAttackCAFileMissingOrBroken(t *testing.T) {
	t.Attr("attack", "11")
	past := time.Now().Add(-time.Hour)
	expired := pkitest.MustCA(pkitest.CAOptions{NotBefore: past.Add(-time.Hour), NotAfter: past})
	small := pkitest.MustCA(pkitest.CAOptions{KeyType: pkitest.RSA1024})
	good := ca1.CertPEM()
	lines := bytes.Count(good, []byte("\n"))
	badDER := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x03, 0x02, 0x01, 0x05}})
	block := func(kind string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("x")})
	}
	for _, row := range []struct {
		name  string
		data  []byte
		want  decision.Reason
		lines []int // at which faults are reported
	}{
		{"empty", nil, decision.BadSetting, []int{0}},
		{"blank", []byte("\n \n"), decision.BadSetting, []int{0}},
		{"no PEM", []byte("hello\n"), decision.BadSetting, []int{0}},
		{"DER", ca1.Cert.Raw, decision.BadSetting, []int{0}},
		{"UTF-16", []byte("-\x00-\x00-\x00-\x00"), decision.BadSetting, []int{0}},
		{"cut short in the second block", slices.Concat(good, good[:len(good)-40]), decision.BadSetting, []int{lines + 1}},
		{"cut short, another block after it", slices.Concat(good[:40], []byte("\n"), good), decision.BadSetting, []int{1}},
		{"END only", []byte("abc\n-----END CERTIFICATE-----\n"), decision.BadSetting, []int{2}},
		{"ends as something else", bytes.Replace(good, []byte("END CERTIFICATE"), []byte("END X509 CRL"), 1), decision.BadSetting, []int{1}},
		{"not base64", slices.Concat(good, bytes.Replace(good, []byte("M"), []byte("!"), 1)), decision.BadSetting, []int{lines + 1}},
		{"indented", slices.Concat(good, []byte("  "), bytes.ReplaceAll(good, []byte("\n"), []byte("\n  "))), decision.BadSetting, []int{lines + 1}},
		{"not a certificate", slices.Concat(good, badDER), decision.CertificateUnparsed, []int{lines + 1}},
		{"private key", slices.Concat(good, ca1.KeyPEM()), decision.BadSetting, []int{lines + 1}},
		{"old private key", slices.Concat([]byte("# comment\n"), block("EC PRIVATE KEY")), decision.BadSetting, []int{2}},
		{"request", block("CERTIFICATE REQUEST"), decision.BadSetting, []int{1}},
		{"OpenSSL's trusted form", block("TRUSTED CERTIFICATE"), decision.BadSetting, []int{1}},
		{"PKCS #7", block("PKCS7"), decision.BadSetting, []int{1}},
		{"CRL", pkitest.CRLPEM(ca1.MustCRL()), decision.BadSetting, []int{1}},
		{"another block", block("DH PARAMETERS"), decision.BadSetting, []int{1}},
		{"a leaf", slices.Concat(good, l1.CertPEM()), decision.NotCA, []int{lines + 1}},
		{"a small key", small.CertPEM(), decision.WeakKey, []int{1}},
		{"two faults", slices.Concat(l1.CertPEM(), badDER), decision.CertificateUnparsed, nil},
		{"expired only", expired.CertPEM(), decision.Expired, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "ca.pem"), row.data)
			files := pki.FileSet{Name: "main", AnchorFiles: []string{path}}
			s, err := files.Load(time.Now())
			if err == nil || len(s.Anchors) > 0 {
				t.Fatalf("loaded %d anchors, error %v", len(s.Anchors), err)
			}
			if got := reasons(err); !slices.Contains(got, row.want) {
				t.Errorf("reasons %q, want %q", got, row.want)
			}
			if row.lines != nil {
				var at []int
				for _, f := range faults(err) {
					at = append(at, f.Line)
					if f.Path != path || f.Fault == "" || f.Fix == "" {
						t.Errorf("does not say where, what and what to do: %+v", f)
					}
				}
				if !slices.Equal(at, row.lines) {
					t.Errorf("faults at lines %v, want %v: %v", at, row.lines, err)
				}
			}
			if strings.Contains(err.Error(), "\n\n") {
				t.Errorf("error text: %q", err)
			}

			// The watcher, which is what a process starts with, refuses as well.
			v := validator(t, pki.Config{})
			if w, err := pki.NewFileWatcher(v, pki.WatchConfig{Sets: []pki.FileSet{files}, Logger: quiet}); err == nil || w != nil {
				t.Errorf("watcher started, error %v", err)
			}
			if names := v.SetNames(); len(names) > 0 {
				t.Errorf("sets %q came into being", names)
			}
		})
	}

	dir := t.TempDir()
	for name, row := range map[string]struct {
		files pki.FileSet
		want  error
	}{
		"missing":         {pki.FileSet{Name: "main", AnchorFiles: []string{filepath.Join(dir, "none.pem")}}, fs.ErrNotExist},
		"empty directory": {pki.FileSet{Name: "main", AnchorFiles: []string{t.TempDir()}}, nil},
		"no file named":   {pki.FileSet{Name: "main"}, nil},
		"helper missing": {pki.FileSet{Name: "main", AnchorFiles: []string{write(t, filepath.Join(dir, "good.pem"), good)},
			HelperFiles: []string{filepath.Join(dir, "none.pem")}}, fs.ErrNotExist},
		"broken link": {pki.FileSet{Name: "main", AnchorFiles: []string{link(t, "nowhere", filepath.Join(dir, "link"))}}, fs.ErrNotExist},
		"a device":    {pki.FileSet{Name: "main", AnchorFiles: []string{os.DevNull}}, nil},
		"too large":   {pki.FileSet{Name: "main", AnchorFiles: []string{write(t, filepath.Join(dir, "large"), make([]byte, 5<<20))}}, nil},
		"policy":      {pki.FileSet{Name: "main", AnchorFiles: []string{filepath.Join(dir, "good.pem")}, Policy: pki.Policy{MaxChain: -1}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := row.files.Load(time.Now())
			if err == nil || len(s.Anchors) > 0 || len(reasons(err)) == 0 {
				t.Fatalf("loaded %d anchors, error %v", len(s.Anchors), err)
			}
			if row.want != nil && !errors.Is(err, row.want) {
				t.Errorf("error %v, want %v", err, row.want)
			}
		})
	}

	t.Run("unreadable", func(t *testing.T) {
		// Root may read anything, so a path through a file stands for it.
		path := filepath.Join(dir, "good.pem", "ca.pem")
		_, err := pki.FileSet{Name: "main", AnchorFiles: []string{path}}.Load(time.Now())
		if got := faults(err); len(got) != 1 || got[0].Path != path {
			t.Errorf("error %v", err)
		}
	})
}

func link(t testing.TB, to, path string) string {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadFiles(t *testing.T) {
	dir := t.TempDir()
	crlf := bytes.ReplaceAll(ca2.CertPEM(), []byte("\n"), []byte("\r\n"))
	write(t, filepath.Join(dir, "a.pem"), slices.Concat([]byte("\xef\xbb\xbf# our CA\nSubject: CN=CA1\n"), ca1.CertPEM()))
	write(t, filepath.Join(dir, "b.crt"), slices.Concat(crlf, ca1.CertPEM()))
	write(t, filepath.Join(dir, ".swp"), []byte("editor"))
	link(t, "a.pem", filepath.Join(dir, "0a1b2c3d.0"))
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	helpers := write(t, filepath.Join(t.TempDir(), "helpers.pem"), bytes.TrimSpace(ca1i.CertPEM()))
	s, err := pki.FileSet{Name: "main", AnchorFiles: []string{dir}, HelperFiles: []string{helpers}}.Load(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	same := func(got, want []*x509.Certificate) bool {
		return slices.EqualFunc(got, want, (*x509.Certificate).Equal)
	}
	if !same(s.Anchors, anchors(ca1, ca2)) || !same(s.Helpers, anchors(ca1i)) {
		t.Errorf("loaded %d anchors and %d helpers", len(s.Anchors), len(s.Helpers))
	}
	if got := verify(t, validator(t, pki.Config{Sets: []pki.Set{s}}), "main", chain(l1.Cert)); got != "" {
		t.Errorf("reason %q", got)
	}

	pinned := write(t, filepath.Join(t.TempDir(), "leaf.pem"), l1.CertPEM())
	s, err = pki.FileSet{Name: "main", AnchorFiles: []string{pinned}, Policy: pki.Policy{AllowPinnedLeaf: true}}.Load(time.Now())
	if err != nil || len(s.Anchors) != 1 {
		t.Errorf("pinned leaf: %v", err)
	}
}

// watching starts a watcher over one set in a bubble, where seconds pass at once.
type watching struct {
	*testing.T
	v    *pki.Validator
	w    *pki.FileWatcher
	path string
	log  *records
}

// records collects log records by level.
type records struct {
	mu    sync.Mutex
	level []slog.Level
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }
func (r *records) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.level = append(r.level, rec.Level)
	return nil
}

func (r *records) errors() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, l := range r.level {
		if l == slog.LevelError {
			n++
		}
	}
	return n
}

func watch(t *testing.T, path string) *watching {
	t.Helper()
	x := &watching{T: t, v: validator(t, pki.Config{}), path: path, log: new(records)}
	var err error
	x.w, err = pki.NewFileWatcher(x.v, pki.WatchConfig{
		Sets: []pki.FileSet{{Name: "main", AnchorFiles: []string{path}}}, Logger: slog.New(x.log),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- x.w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return x
}

// The clock of a bubble begins in 2000, so these CAs are valid for long.
var (
	longCA1 = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA1", NotBefore: time.Unix(0, 0)})
	longCA2 = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA2", NotBefore: time.Unix(0, 0)})
)

// expect says who is trusted: the client of longCA1 or that of longCA2.
func (x *watching) expect(what string, ca *pkitest.CA) {
	x.Helper()
	for _, c := range []*pkitest.CA{longCA1, longCA2} {
		got := verify(x.T, x.v, "main", present(c.MustLeaf(l1Options)))
		if (got == "") != (c == ca) {
			x.Errorf("%s: leaf of %v: reason %q", what, c.Cert.Subject, got)
		}
	}
}

func (x *watching) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestFilesAreFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	synctest.Test(t, func(t *testing.T) {
		write(t, path, longCA1.CertPEM())
		x := watch(t, path)
		x.expect("at start", longCA1)
		write(t, path, longCA2.CertPEM())
		x.pass(2500 * time.Millisecond)
		x.expect("after two looks", longCA2)

		// Being written: nothing happens until it has come to rest.
		whole := longCA1.CertPEM()
		for i := range 5 {
			write(t, path, whole[:len(whole)*i/5])
			x.pass(time.Second)
		}
		if n := x.log.errors(); n != 0 {
			t.Errorf("%d errors logged for a file that is being written", n)
		}
		x.expect("while it is written", longCA2)
		write(t, path, whole)
		x.pass(2500 * time.Millisecond)
		x.expect("when it is written", longCA1)

		// Broken for good: the old set stays, loudly, once.
		write(t, path, []byte("nonsense"))
		x.pass(10 * time.Second)
		x.expect("broken", longCA1)
		if n := x.log.errors(); n != 1 || x.w.Err() == nil {
			t.Errorf("%d errors logged, Err() = %v", n, x.w.Err())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		x.pass(10 * time.Second)
		x.expect("gone", longCA1)
		if n := x.log.errors(); n != 2 || !errors.Is(x.w.Err(), fs.ErrNotExist) {
			t.Errorf("%d errors logged, Err() = %v", n, x.w.Err())
		}
		write(t, path, whole)
		x.pass(2500 * time.Millisecond)
		if err := x.w.Err(); err != nil {
			t.Errorf("back as it was: Err() = %v", err)
		}

		// A signal does not wait.
		write(t, path, longCA2.CertPEM())
		if err := x.w.Reload(); err != nil {
			t.Error(err)
		}
		x.expect("reloaded", longCA2)
		write(t, path, nil)
		if err := x.w.Reload(); err == nil {
			t.Error("an empty file reloaded")
		}
		x.expect("reloaded from an empty file", longCA2)
	})
}

// Kubernetes exchanges a whole directory by turning one symbolic link; neither the
// path nor the date of the file needs to change.
func TestLinksAreFollowed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for name, ca := range map[string]*pkitest.CA{"..v1": longCA1, "..v2": longCA2} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name, "ca.crt"), ca.CertPEM())
		}
		link(t, "..v1", filepath.Join(dir, "..data"))
		link(t, filepath.Join("..data", "ca.crt"), filepath.Join(dir, "ca.crt"))
		x := watch(t, dir)
		x.expect("at start", longCA1)
		link(t, "..v2", filepath.Join(dir, "..new"))
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		x.pass(2500 * time.Millisecond)
		x.expect("turned", longCA2)
	})
}

func TestWatcherSettings(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "ca.pem"), ca1.CertPEM())
	set := pki.FileSet{Name: "main", AnchorFiles: []string{path}}
	for name, cfg := range map[string]pki.WatchConfig{
		"no sets":              {},
		"interval":             {Sets: []pki.FileSet{set}, Interval: -1},
		"twice":                {Sets: []pki.FileSet{set, set}},
		"one of two is broken": {Sets: []pki.FileSet{set, {Name: "other", AnchorFiles: []string{path + "x"}}}},
	} {
		v := validator(t, pki.Config{})
		if w, err := pki.NewFileWatcher(v, cfg); err == nil || w != nil || len(reasons(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if len(v.SetNames()) > 0 {
			t.Errorf("%s: some sets were loaded", name)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	f.Add(slices.Concat([]byte("# text\n"), ca1.CertPEM(), ca2.CertPEM()))
	f.Add(slices.Concat(ca1.CertPEM(), ca1.KeyPEM()))
	f.Add(bytes.ReplaceAll(ca1.CertPEM(), []byte("\n"), []byte("\r\n")))
	f.Add(ca1.CertPEM()[:100])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----END X-----"))
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := pki.ParsePEM("file", data)
		if err != nil {
			if certs != nil {
				t.Errorf("certificates beside the error %v", err)
			}
			if len(faults(err)) == 0 || len(faults(err)) != len(reasons(err)) {
				t.Errorf("undeclared error type %T: %v", err, err)
			}
			return
		}
		if len(certs) == 0 {
			t.Error("nothing, and no error")
		}
		again, err := pki.ParsePEM("file", pkitest.PEM(certs...))
		if err != nil || !slices.EqualFunc(certs, again, (*x509.Certificate).Equal) {
			t.Errorf("encoded again: %v", err)
		}
		// What pem.Decode finds and this parser does not would be lost silently.
		n := 0
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			n++
		}
		if n > len(certs) {
			t.Errorf("%d certificates of %d blocks", len(certs), n)
		}
	})
}
