package evidence_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/evidence"
)

// run keeps what f hands over, as a process that then ends.
func run(t *testing.T, cfg evidence.Config, f func(*evidence.Keeper)) {
	t.Helper()
	k, err := evidence.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f(k)
	ended, end := context.WithCancel(t.Context())
	end()
	k.Run(ended)
	if n := k.Dropped(); n != 0 {
		t.Errorf("%d dropped", n)
	}
}

func sizes(t *testing.T, folder string) (files int, bytes int64) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if want := fs.FileMode(0o600); !e.IsDir() && info.Mode().Perm() != want || e.IsDir() && path != folder && info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if !e.IsDir() {
			files++
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, bytes
}

// Each certificate is kept once, with what came with it, and is found by its digest; what
// is no digest, or was changed on the disk, is not there.
func TestKeepAndRead(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "evidence")
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"})
	issuing := ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=Issuing"})
	a, b := issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=a"}), issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=b"})
	run(t, evidence.Config{Folder: folder}, func(k *evidence.Keeper) {
		k.Keep(a.Cert, a.Chain()[1:], true)
		k.Keep(a.Cert, a.Chain()[1:], true)
		k.Keep(b.Cert, b.Chain()[1:], true)
		k.Keep(nil, nil, true)
	})
	if n, _ := sizes(t, folder); n != 5 { // two leaves, one intermediate, two lists
		t.Errorf("%d files", n)
	}
	name := certbound.Thumbprint(a.Cert)
	got, err := evidence.Read(folder, name, nil, time.Now())
	if err != nil || !got.Leaf.Equal(a.Cert) || len(got.Chain) != 1 || !got.Chain[0].Equal(issuing.Cert) || got.Uncertain {
		t.Fatalf("%+v %v", got, err)
	}
	for _, wrong := range []string{"", "../allowed/" + name, strings.Repeat("A", 43), name + "A"} {
		if _, err := evidence.Read(folder, wrong, nil, time.Now()); !errors.Is(err, evidence.ErrNone) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "allowed", name+".der"), b.Cert.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Read(folder, name, nil, time.Now()); !errors.Is(err, evidence.ErrNone) {
		t.Errorf("another certificate is taken for it: %v", err)
	}
}

// A stranger invents certificates without end. The folder stays within its bound, and what
// came with requests that were allowed stays in it; what is too old goes.
func TestBounds(t *testing.T) {
	folder := t.TempDir()
	now := time.Date(2027, 1, 10, 12, 0, 0, 0, time.UTC)
	cfg := evidence.Config{Folder: folder, MaxBytes: 1 << 20, MaxAge: 24 * time.Hour, Now: func() time.Time { return now }}
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"})
	good := ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=good"})
	var strange []*x509.Certificate
	for i := range 200 {
		strange = append(strange, ca.MustLeaf(pkitest.LeafOptions{Subject: fmt.Sprintf("CN=stranger %d", i)}).Cert)
	}
	run(t, cfg, func(k *evidence.Keeper) {
		k.Keep(good.Cert, nil, true)
		for _, c := range strange {
			k.Keep(c, nil, false)
		}
	})
	// They are small, and it is blocks of the disk that they take.
	if files, n := sizes(t, folder); n > cfg.MaxBytes || n < 10<<10 || int64(files)*4096 > cfg.MaxBytes/2+2*4096 {
		t.Errorf("%d files with %d bytes, at most %d", files, n, cfg.MaxBytes)
	}
	if _, err := evidence.Read(folder, certbound.Thumbprint(good.Cert), nil, now); err != nil {
		t.Errorf("a stranger has pushed it out: %v", err)
	}
	now = now.Add(25 * time.Hour)
	run(t, cfg, func(*evidence.Keeper) {})
	if n, _ := sizes(t, folder); n != 0 {
		t.Errorf("%d files are left after their time", n)
	}
}
