package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/pki/revocation"
	"github.com/certbound/certbound/pkitest"
)

func TestRevocationSettings(t *testing.T) {
	with := func(section string) string {
		return strings.Replace(base, "anchors: [client-ca.pem]", "anchors: [client-ca.pem], revocation: {"+section+"}", 1)
	}
	for _, test := range []struct {
		name, in string
		paths    []string
	}{
		{"off", with("mode: off"), nil},
		{"crl", with("mode: crl, crl: [ca.crl, 'http://crl.example/ca.crl'], on_stale: accept, max_stale: 2h"), nil},
		{"ocsp", with("mode: ocsp, ocsp: ['http://ocsp.example'], ocsp_nonce: require"), nil},
		{"both, from certificates", with("mode: ocsp_then_crl, crl_from_certificates: true, ocsp_from_certificates: true"), nil},
		{"no list", with("mode: crl"), []string{"trust.sets[0].revocation.crl"}},
		{"no responder", with("mode: ocsp"), []string{"trust.sets[0].revocation.ocsp"}},
		{"neither", with("mode: ocsp_then_crl"), []string{"trust.sets[0].revocation.crl"}}, // one fault a place,
		{"off, with a list", with("crl: [ca.crl]"), []string{"trust.sets[0].revocation.crl"}},
		{"not a URL of a list", with("mode: crl, crl: ['ldap://ca/crl']"), []string{"trust.sets[0].revocation.crl"}},
		{"unknown mode", with("mode: maybe"), []string{"trust.sets[0].revocation.mode"}},
		{"unknown outcome", with("mode: crl, crl: [a], on_stale: perhaps"), []string{"trust.sets[0].revocation.on_stale"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("certbound.yaml", []byte(test.in), noEnv)
			var got []string
			if err != nil {
				e, ok := err.(*Error)
				if !ok {
					t.Fatalf("undeclared error %T: %v", err, err)
				}
				for _, f := range e.Faults {
					got = append(got, f.Path)
				}
			}
			if strings.Join(got, " ") != strings.Join(test.paths, " ") {
				t.Errorf("faults at %v, want %v: %v", got, test.paths, err)
			}
		})
	}
}

// Paths count from the folder of the file, defaults are the documented ones, and the
// folder of kept lists is made only where lists are fetched.
func TestCheckers(t *testing.T) {
	dir := t.TempDir()
	ca := pkitest.MustCA(pkitest.CAOptions{})
	for name, data := range map[string][]byte{"client-ca.pem": ca.CertPEM(), "ca.crl": ca.MustCRL()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(section string) *File {
		f, err := Parse(filepath.Join(dir, "certbound.yaml"), []byte(strings.Replace(base, "anchors: [client-ca.pem]",
			"anchors: [client-ca.pem], revocation: {"+section+"}", 1)), noEnv)
		if err != nil {
			t.Fatal(err)
		}
		f.Dir = dir
		return f
	}
	quiet := slog.New(slog.DiscardHandler)
	f := load("mode: crl, crl: [ca.crl]")
	checkers, err := f.Checkers(quiet, nil)
	if err != nil || len(checkers) != 1 {
		t.Fatal(checkers, err)
	}
	if st := checkers["clients"].Status(); len(st) != 1 || st[0].State != "good" || st[0].Name != filepath.Join(dir, "ca.crl") {
		t.Errorf("status %+v", st)
	}
	kept := filepath.Join(dir, "revocation")
	if _, err := os.Stat(kept); err == nil {
		t.Error("the folder was made though nothing is fetched")
	}
	if _, err := load("mode: crl, crl: ['http://crl.example/a']").Checkers(quiet, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if checkers, err := load("mode: off").Checkers(quiet, nil); err != nil || len(checkers) != 0 {
		t.Error(checkers, err)
	}
	// A program that forgets to put the checker in refuses.
	if c := f.FileSets()[0].Revocation; c == nil {
		t.Error("a set with revocation is not checked")
	} else if _, err := c.CheckRevocation(t.Context(), nil); err == nil {
		t.Error("accepted without a checker")
	}
	if c := load("mode: off").FileSets()[0].Revocation; c != nil {
		t.Errorf("a set without revocation has %v", c)
	}
	cfg := f.revocation(f.Trust.Sets[0])
	if cfg.OnUnknown != revocation.FailClosed || cfg.OnStale != revocation.FailClosed || cfg.OnUnreachable != revocation.FailClosed || cfg.Wait != 5*time.Second {
		t.Errorf("defaults %+v", cfg)
	}
	cfg = load("mode: crl, crl: [ca.crl], on_unknown: accept, on_stale: accept, on_unreachable: accept").revocation(AnchorSet{Revocation: Revocation{OnUnknown: "accept"}})
	if cfg.OnUnknown != revocation.FailOpen || cfg.OnStale != revocation.FailClosed {
		t.Errorf("switches %+v", cfg)
	}
}
