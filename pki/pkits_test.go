package pki_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/revocation"
)

// A pkitsCase is one case of the Public Key Interoperability Test Suite of NIST.
type pkitsCase struct {
	ID, Name   string
	Certs      []string // from the anchor to the end entity
	CRLs       []string
	Valid      bool
	Policies   []string // initial set of policies; none: any
	Explicit   bool     // initial-explicit-policy
	InhibitMap bool     `json:"inhibitMapping"` // initial-policy-mapping-inhibit
	InhibitAny bool     `json:"inhibitAny"`     // initial-any-policy-inhibit
}

// pkitsFiles returns the files of the suite by name.
func pkitsFiles(t *testing.T) map[string][]byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("testdata", "pkits", "pkits.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(h.Name, ".")
		if files[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// Why valid paths are refused here.
const (
	pkitsDSA       = "crypto/x509 verifies no DSA"
	pkitsNames     = "crypto/x509 chains names that are the same octets"
	pkitsSelf      = "crypto/x509 counts self-issued certificates against the path length, too"
	pkitsDirectory = "crypto/x509 has no constraints on directory names; a CA that has them is refused"
	pkitsExcluded  = "crypto/x509 takes an excluded host for the hosts below it, too"
	pkitsOtherKey  = "a list is believed only under the key that has signed the certificate"
	pkitsPoint     = "lists are partitioned by URIs; a partition with another name is not used"
	pkitsRelative  = "crypto/x509 does not parse distribution points without a full name"
	pkitsReasons   = "a list for some reasons of revocation says nothing about the others"
	pkitsIndirect  = "indirect lists are not used"
)

// pkitsStricter are valid paths that are refused here without revocation as well.
var pkitsStricter = map[string]string{
	"4.1.4": pkitsDSA, "4.1.5": pkitsDSA,
	"4.3.3": pkitsNames, "4.3.4": pkitsNames, "4.3.5": pkitsNames, "4.3.10": pkitsNames, "4.3.11": pkitsNames,
	"4.6.15": pkitsSelf, "4.6.17": pkitsSelf,
	"4.13.1": pkitsDirectory, "4.13.4": pkitsDirectory, "4.13.5": pkitsDirectory, "4.13.6": pkitsDirectory, "4.13.11": pkitsDirectory,
	"4.13.14": pkitsDirectory, "4.13.18": pkitsDirectory, "4.13.19": pkitsDirectory, "4.13.27": pkitsDirectory,
	"4.13.25": pkitsExcluded, "4.13.36": pkitsExcluded,
	"4.14.4": pkitsRelative, "4.14.5": pkitsRelative, "4.14.29": pkitsRelative,
}

// pkitsStricterLists are valid paths that are refused here since no list speaks for them.
var pkitsStricterLists = map[string]string{
	"4.4.19": pkitsOtherKey, "4.5.1": pkitsOtherKey, "4.5.3": pkitsOtherKey, "4.5.4": pkitsOtherKey, "4.5.6": pkitsOtherKey,
	"4.9.6": pkitsOtherKey, "4.11.7": pkitsOtherKey, "4.12.7": pkitsOtherKey, "4.12.9": pkitsOtherKey,
	"4.14.1": pkitsPoint, "4.14.7": pkitsPoint,
	"4.14.18": pkitsReasons, "4.14.19": pkitsReasons,
	"4.14.22": pkitsIndirect, "4.14.24": pkitsIndirect, "4.14.25": pkitsIndirect, "4.14.28": pkitsIndirect, "4.14.30": pkitsIndirect, "4.14.33": pkitsIndirect,
}

// pkitsSettings are invalid paths that are accepted here, since what makes them invalid is
// an initial setting that no policy has (initial-policy-mapping-inhibit and
// initial-any-policy-inhibit).
var pkitsSettings = map[string]bool{"4.10.1.3 (Subpart 3)": true, "4.12.3 (Subpart 2)": true}

// pkitsByList are the invalid paths outside Sections 4.4, 4.14 and 4.15 that the lists make
// invalid.
var pkitsByList = map[string]bool{"4.5.2": true, "4.5.5": true, "4.5.7": true, "4.7.4": true, "4.7.5": true}

// pkitsUnparsed are invalid paths with a certificate that crypto/x509 does not parse; the
// lists would have refused them.
var pkitsUnparsed = map[string]bool{"4.4.15": true, "4.14.6": true}

// Each path of NIST PKITS, with its CRLs, is judged as the suite says. None that the suite
// calls invalid is accepted, but for two that are invalid by a setting that there is not
// here; valid ones that are refused have a reason in the tables. The path is judged without
// the lists, too, so that it is known which of the two has refused.
func TestPKITS(t *testing.T) {
	files := pkitsFiles(t)
	text, err := os.ReadFile(filepath.Join("testdata", "pkits", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []pkitsCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != 249 {
		t.Fatalf("%d cases, want 249", len(cases))
	}
	now := func() time.Time { return time.Date(2020, 6, 1, 12, 0, 0, 0, time.UTC) }
	seen := map[string]bool{}
	for _, c := range cases {
		key := c.ID
		if i := strings.Index(c.Name, "(Subpart"); i >= 0 {
			key += " " + c.Name[i:]
		}
		seen[key] = true
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			t.Attr("requirement", "M-7.5-1 M-7.5-2 C-6.1-1"+pkitsRows[section(c.ID)])
			byList := !c.Valid && (strings.Contains(" 4 14 15 ", " "+section(c.ID)+" ") || pkitsByList[key])
			whole := pkitsJudge(t, c, files, now, true)
			path := pkitsJudge(t, c, files, now, false)

			// By the path alone, whose faults are found before any list is asked.
			switch {
			case pkitsStricter[key] != "" || pkitsUnparsed[key]:
				if path == "" {
					t.Error("accepted without revocation; the exclusion is not needed")
				}
			case path != "" && (c.Valid || byList):
				t.Errorf("refused without revocation: %q", path)
			case path == "" && !c.Valid && !byList && !pkitsSettings[key]:
				t.Error("accepted without revocation")
			}
			// With the lists.
			fromList := whole == decision.Revoked || whole == decision.RevocationUnknown
			switch {
			case pkitsSettings[key]:
				if c.Valid || whole != "" {
					t.Error("refused; the exclusion is not needed")
				}
			case c.Valid && pkitsStricter[key] == "" && pkitsStricterLists[key] == "":
				if whole != "" {
					t.Errorf("refused with %q, but is valid", whole)
				}
			case whole == "":
				t.Error("accepted")
			case path != "" && whole != path:
				t.Errorf("refused with %q, without revocation with %q", whole, path)
			case path == "" && !fromList:
				t.Errorf("refused with %q, want a reason of revocation", whole)
			}
		})
	}
	for _, key := range slices.Concat(slices.Collect(maps.Keys(pkitsStricter)), slices.Collect(maps.Keys(pkitsStricterLists)),
		slices.Collect(maps.Keys(pkitsSettings)), slices.Collect(maps.Keys(pkitsByList)), slices.Collect(maps.Keys(pkitsUnparsed))) {
		if !seen[key] {
			t.Errorf("%s: an exclusion without a case", key)
		}
	}
}

// section returns "4" of "4.4.12".
func section(id string) string { return strings.Split(id, ".")[1] }

// pkitsRows are further rows of the requirements, by section of the suite.
var pkitsRows = map[string]string{
	"2": " M-7.5-5", "3": " C-7.1-9", "4": " C-6.3-1", "6": " M-7.5-3 C-4.2.1.9-1", "7": " C-4.2.1.9-1", "13": " C-4.2.1.10-1", "16": " M-7.5-6 C-4.2-1",
}

// pkitsJudge returns the reason of the refusal, or "".
func pkitsJudge(t *testing.T, c pkitsCase, files map[string][]byte, now func() time.Time, lists bool) decision.Reason {
	t.Helper()
	certs := make([]*x509.Certificate, len(c.Certs))
	for i, name := range c.Certs {
		cert, err := x509.ParseCertificate(files["certs/"+name])
		if err != nil {
			return decision.CertificateUnparsed // it never leaves the handshake
		}
		certs[len(certs)-1-i] = cert
	}
	// Some of the end entities are CAs, which is not what these cases are about.
	set := pki.Set{Name: "pkits", Anchors: certs[len(certs)-1:], Policy: pki.Policy{AllowCALeaf: true}}
	if lists {
		dir := t.TempDir()
		var names []string
		for _, name := range c.CRLs {
			names = append(names, filepath.Join(dir, name+".crl"))
			if err := os.WriteFile(names[len(names)-1], files["crls/"+name], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		checker, err := revocation.New(revocation.Config{Set: "pkits", Mode: revocation.CRL, Lists: names, Now: now, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		set.Revocation = checker
	}
	for _, p := range c.Policies {
		set.Policy.CertificatePolicies = append(set.Policy.CertificatePolicies, oid(t, p))
	}
	if c.Explicit && c.Policies == nil {
		set.Policy.CertificatePolicies = []x509.OID{oid(t, "2.5.29.32.0")} // any
	}
	v := validator(t, pki.Config{Sets: []pki.Set{set}, Now: now})
	verdict, err := v.Verify(t.Context(), "pkits", chain(certs[:len(certs)-1]...))
	if err != nil {
		t.Log(err)
	}
	return reasonOf(t, verdict, err)
}
