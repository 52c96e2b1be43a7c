package subject

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
)

// A vector is a line of testdata/names.json: a registered value and a certificate.
type vector struct {
	IDs        string        `json:"ids"`
	Kind       Kind          `json:"kind"`
	Registered string        `json:"registered"`
	Normalize  bool          `json:"normalize"`
	Subject    [][][3]string `json:"subject"` // RDNs in DER order: type, string type, value
	SAN        [][2]string   `json:"san"`
	Want       string        `json:"want"` // match, mismatch, absent, forbidden, refused
	// GoRefuses is set if crypto/x509 does not parse such a certificate, so that its
	// handshake fails before anything is compared.
	GoRefuses bool   `json:"goRefuses"`
	Note      string `json:"note"`
}

var stringTags = map[string]byte{
	"utf8": tagUTF8, "printable": tagPrintable, "ia5": tagIA5, "teletex": tagTeletex, "bmp": tagBMP,
	"universal": tagUniversal, "numeric": tagNumeric, "octets": 0x04,
	"email": tagEmail, "dns": tagDNS, "uri": tagURI, "ip": tagIP, "other": 0xA0,
}

func octets(t testing.TB, s string) []byte {
	t.Helper()
	digits, ok := strings.CutPrefix(s, "hex:")
	if !ok {
		return []byte(s)
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// encodeName encodes RDNs as they stand, unsorted sets and repeated types included.
func encodeName(t testing.TB, rdns [][][3]string) []byte {
	t.Helper()
	var seq []byte
	for _, rdn := range rdns {
		var set []byte
		for _, a := range rdn {
			oid, fault := parseType(a[0])
			if fault != "" {
				t.Fatal(fault)
			}
			set = raw{oid, stringTags[a[1]], octets(t, a[2])}.append(set)
		}
		seq = appendTLV(seq, tagSet, set)
	}
	return appendTLV(nil, tagSequence, seq)
}

func encodeSAN(t testing.TB, names [][2]string) pkix.Extension {
	t.Helper()
	var seq []byte
	for _, n := range names {
		seq = appendTLV(seq, stringTags[n[0]], octets(t, n[1]))
	}
	return pkix.Extension{Id: oidSAN, Value: appendTLV(nil, tagSequence, seq)}
}

var leafKey = must(pkitest.NewKey(pkitest.P256))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// certificate makes a real certificate. If crypto/x509 refuses it, which the vector has
// to say, the parts that are compared stand alone.
func (v vector) certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	o := pkitest.LeafOptions{RawSubject: encodeName(t, v.Subject), Key: leafKey}
	if len(v.SAN) > 0 {
		o.Extra = []pkix.Extension{encodeSAN(t, v.SAN)}
	}
	leaf, err := pkitest.SelfSigned(o)
	if (err != nil) != v.GoRefuses {
		t.Fatalf("crypto/x509: %v, want refused = %v", err, v.GoRefuses)
	}
	if err != nil {
		return &x509.Certificate{RawSubject: o.RawSubject, Extensions: o.Extra}
	}
	return leaf.Cert
}

var reasons = map[string]decision.Reason{
	"mismatch": decision.SubjectMismatch, "absent": decision.SubjectAbsent, "forbidden": decision.CertificateForbidden,
}

func checkOutcome(t testing.TB, err error, want string) {
	t.Helper()
	if want == "match" {
		if err != nil {
			t.Errorf("got %v, want a match", err)
		}
		return
	}
	e, ok := errors.AsType[*MismatchError](err)
	if !ok || e.Reason != reasons[want] || reasons[want] == "" {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		name, _, _ := strings.Cut(v.IDs, " ")
		t.Run(strconv.Itoa(i)+"/"+name, func(t *testing.T) {
			ids := v.IDs
			if strings.HasPrefix(name, "TV-D") {
				ids += " M-2.1-5"
			}
			t.Attr("requirement", ids)
			e, err := New(v.Kind, v.Registered)
			if v.Normalize {
				e, err = NewNormalizedURI(v.Registered)
			}
			if v.Want == "refused" {
				if fault, ok := errors.AsType[*ValueError](err); !ok || fault.Fault == "" || fault.Kind != v.Kind {
					t.Errorf("New(%q): %v, want a refusal", v.Registered, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Value() != v.Registered || e.Kind() != v.Kind {
				t.Errorf("kept %q of kind %s", e.Value(), e.Kind())
			}
			cert := v.certificate(t)
			checkOutcome(t, e.Match(cert), v.Want)
			if v.Kind == DN {
				n, err := ParseDER(cert.RawSubject)
				if err != nil {
					t.Fatal(err)
				}
				checkOutcome(t, e.MatchName(n), v.Want)
				registered, err := ParseName(v.Registered)
				if err != nil {
					t.Fatal(err)
				}
				if got := n.Equal(registered); got != (v.Want == "match") || got != registered.Equal(n) {
					t.Errorf("Equal = %v, want %s both ways", got, v.Want)
				}
			}
		})
	}
}
