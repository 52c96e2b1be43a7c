package revocation_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"github.com/certbound/certbound/pki/revocation"
	"github.com/certbound/certbound/pkitest"
)

var (
	ca  = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA,O=Example"})
	now = time.Now()
)

func read(t testing.TB, der []byte) *revocation.List {
	t.Helper()
	l, err := revocation.ReadList(bytes.NewReader(der), 0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Lists of every length and order of serial numbers are found again, and nothing else.
func TestLookup(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	number := func(octets int) *big.Int {
		b := make([]byte, octets)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		b[0] |= 1
		return new(big.Int).SetBytes(b)
	}
	for _, tt := range []struct {
		name   string
		serial func(i int) *big.Int
	}{
		{"consecutive", func(i int) *big.Int { return big.NewInt(int64(i)) }},
		{"consecutive with a prefix", func(i int) *big.Int {
			return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(0x5a5a), 120), big.NewInt(int64(i*2)))
		}},
		{"random of 20 octets", func(int) *big.Int { return number(19) }},
		{"random of any length", func(i int) *big.Int { return number(1 + i%21) }},
		{"clusters", func(i int) *big.Int {
			return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(int64(1+i%3)), 100), big.NewInt(int64(i)))
		}},
		{"one", func(int) *big.Int { return big.NewInt(128) }},
	} {
		for _, count := range []int{0, 1, 2, 23, 30, 3000} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, count), func(t *testing.T) {
				in := make(map[string]*big.Int)
				var serials []*big.Int
				for i := range count {
					n := tt.serial(i)
					if in[n.String()] == nil {
						in[n.String()] = n
						serials = append(serials, n)
					}
				}
				random.Shuffle(len(serials), func(i, j int) { serials[i], serials[j] = serials[j], serials[i] })
				l := read(t, ca.MustCRLWith(pkitest.CRLOptions{Serials: serials, ReasonCode: 4}))
				if l.Len() != len(serials) {
					t.Fatalf("%d entries, want %d", l.Len(), len(serials))
				}
				check := func(n *big.Int) {
					e, ok := l.Lookup(n)
					if ok != (in[n.String()] != nil) {
						t.Fatalf("serial number %x: found is %v", n, ok)
					}
					if ok && (e.Reason != 4 || time.Since(e.At) < 30*time.Minute || time.Since(e.At) > 2*time.Hour) {
						t.Fatalf("serial number %x: %+v", n, e)
					}
				}
				for _, n := range serials {
					check(n)
					check(new(big.Int).Add(n, big.NewInt(1)))
					check(new(big.Int).Sub(n, big.NewInt(1)))
					check(new(big.Int).Lsh(n, 8))
				}
				for range 100 {
					check(number(1 + random.IntN(24)))
				}
				check(new(big.Int))
				check(new(big.Int).Lsh(big.NewInt(1), 5000))
			})
		}
	}
}

func TestReadList(t *testing.T) {
	good := ca.MustCRL(big.NewInt(5), big.NewInt(1000))
	extension := func(id asn1.ObjectIdentifier, critical bool) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: []byte{5, 0}})
		}
	}
	entryExtension := func(id asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: now,
				ExtraExtensions: []pkix.Extension{{Id: id, Critical: critical, Value: value}}}}
		}
	}
	with := func(change func(*x509.RevocationList)) []byte {
		return ca.MustCRLWith(pkitest.CRLOptions{Template: change})
	}
	private := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	old := pkitest.MustCA(pkitest.CAOptions{KeyType: pkitest.P224})
	for _, tt := range []struct {
		name string
		in   []byte
		ok   bool
	}{
		{"DER", good, true},
		{"PEM", pkitest.CRLPEM(good), true},
		{"empty list", ca.MustCRL(), true},
		{"delta", ca.MustCRLWith(pkitest.CRLOptions{Base: big.NewInt(1)}), true},
		{"partitioned", ca.MustCRLWith(pkitest.CRLOptions{DistributionPoints: []string{"http://crl.example/1"}, UserOnly: true}), true},
		{"a key of P-224", old.MustCRL(), true}, // pki.Policy judges keys
		{"unknown extension", with(extension(private, false)), true},
		{"invalidity date of an entry", with(entryExtension(asn1.ObjectIdentifier{2, 5, 29, 24}, false, []byte("\x18\x0f20260101000000Z"))), true},

		{"nothing", nil, false},
		{"HTML", []byte("<html>"), false},
		{"truncated", good[:len(good)-1], false},
		{"half", good[:len(good)/2], false},
		{"something behind it", append(bytes.Clone(good), 0), false},
		{"PEM, truncated", pkitest.CRLPEM(good)[:200], false},
		{"PEM, twice", append(pkitest.CRLPEM(good), pkitest.CRLPEM(good)...), false},
		{"PEM without its end", bytes.TrimSuffix(pkitest.CRLPEM(good), []byte("-----END X509 CRL-----\n")), false},
		{"a certificate", ca.Cert.Raw, false},
		{"tag", changed(0, 0x31), false},
		{"indefinite length", changed(1, 0x80), false},
		{"unknown critical extension", with(extension(private, true)), false},
		{"unknown critical extension of an entry", with(entryExtension(private, true, []byte{5, 0})), false},
		{"indirect", ca.MustCRLWith(pkitest.CRLOptions{Indirect: true}), false},
		{"entry of another CA", with(entryExtension(asn1.ObjectIdentifier{2, 5, 29, 29}, true, []byte{0x30, 0})), false},
		{"for some reasons only", with(func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 4, 0x83, 2, 1, 0x40}}}
		}), false},
		{"user and CA certificates only", ca.MustCRLWith(pkitest.CRLOptions{UserOnly: true, CAOnly: true}), false},
		{"serial number too long", ca.MustCRL(new(big.Int).Lsh(big.NewInt(1), 8*64)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"at once": bytes.NewReader(tt.in), "octet by octet": iotest.OneByteReader(bytes.NewReader(tt.in)),
			} {
				l, err := revocation.ReadList(r, 0)
				if tt.ok {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					} else if err := l.Verify(ca.Cert); err != nil && !bytes.Equal(l.Issuer(), old.Cert.RawSubject) {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				if _, declared := errors.AsType[*revocation.ListError](err); !declared || l != nil {
					t.Errorf("%s: got %v, %v", name, l, err)
				}
			}
		})
	}
	t.Run("larger than allowed", func(t *testing.T) {
		if _, err := revocation.ReadList(bytes.NewReader(good), int64(len(good))); err != nil {
			t.Error(err)
		}
		if _, err := revocation.ReadList(bytes.NewReader(good), int64(len(good))-1); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("an error of the reader", func(t *testing.T) {
		_, err := revocation.ReadList(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(good))), 0)
		if !errors.Is(err, iotest.ErrTimeout) {
			t.Error(err)
		}
	})
}

// A list is believed only if the key of the issuer has signed it.
func TestVerifyList(t *testing.T) {
	t.Attr("requirement", "C-6.3-1")
	for _, kind := range []pkitest.KeyType{pkitest.P256, pkitest.P384, pkitest.P521, pkitest.Ed25519, pkitest.RSA2048} {
		t.Run(kind.String(), func(t *testing.T) {
			ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA,O=Example", KeyType: kind})
			der := ca.MustCRL(big.NewInt(5))
			if err := read(t, der).Verify(ca.Cert); err != nil {
				t.Error(err)
			}
			other := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA,O=Example", KeyType: kind, Key: pkitest.MustKey(kind)})
			if err := read(t, der).Verify(other.Cert); err == nil {
				t.Error("the key of another CA with the same name verifies it")
			}
			// Every octet of what is signed counts; slow keys look at a few.
			step := 1
			if kind == pkitest.P384 || kind == pkitest.P521 {
				step = 29
			}
			for i := 0; i < len(der); i += step {
				forged := bytes.Clone(der)
				forged[i] ^= 1
				if l, err := revocation.ReadList(bytes.NewReader(forged), 0); err == nil && l.Verify(ca.Cert) == nil {
					t.Fatalf("octet %d may be changed", i)
				}
			}
		})
	}
	t.Run("RSA-PSS", func(t *testing.T) {
		ca := pkitest.MustCA(pkitest.CAOptions{KeyType: pkitest.RSA2048})
		for _, a := range []x509.SignatureAlgorithm{x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS, x509.SHA384WithRSA, x509.SHA512WithRSA} {
			der := ca.MustCRLWith(pkitest.CRLOptions{Template: func(l *x509.RevocationList) { l.SignatureAlgorithm = a }})
			if err := read(t, der).Verify(ca.Cert); err != nil {
				t.Errorf("%v: %v", a, err)
			}
		}
	})
	t.Run("another name", func(t *testing.T) {
		other := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Other", Key: ca.Key})
		if read(t, ca.MustCRL()).Verify(other.Cert) == nil {
			t.Error("verified")
		}
	})
	t.Run("key usage without cRLSign", func(t *testing.T) {
		other := pkitest.MustCA(pkitest.CAOptions{RawSubject: ca.Cert.RawSubject, Key: ca.Key,
			Template: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }})
		if read(t, ca.MustCRL()).Verify(other.Cert) == nil {
			t.Error("verified")
		}
	})
}

// FuzzReadList compares with crypto/x509: what both accept they read alike.
func FuzzReadList(f *testing.F) {
	for _, der := range [][]byte{
		ca.MustCRL(), ca.MustCRL(big.NewInt(5), big.NewInt(1<<40)),
		ca.MustCRLWith(pkitest.CRLOptions{Base: big.NewInt(1), Serials: []*big.Int{big.NewInt(7)}, ReasonCode: 8}),
		ca.MustCRLWith(pkitest.CRLOptions{DistributionPoints: []string{"http://crl.example/1", "ldap://x"}, CAOnly: true}),
		ca.MustCRLWith(pkitest.CRLOptions{Indirect: true}),
		pkitest.CRLPEM(ca.MustCRL(big.NewInt(5))),
	} {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := revocation.ReadList(bytes.NewReader(in), 1<<20)
		if err != nil {
			if _, ok := errors.AsType[*revocation.ListError](err); !ok || l != nil {
				t.Fatalf("%v beside the error %T: %v", l, err, err)
			}
			return
		}
		want, err := x509.ParseRevocationList(in)
		if err != nil {
			return // PEM, or a name that crypto/x509 does not like; the name is only compared
		}
		if !l.ThisUpdate().Equal(want.ThisUpdate) || !l.NextUpdate().Equal(want.NextUpdate) || !bytes.Equal(l.Issuer(), want.RawIssuer) {
			t.Errorf("dates or issuer differ")
		}
		if (l.Number() == nil) != (want.Number == nil) || l.Number() != nil && l.Number().Cmp(want.Number) != 0 {
			t.Errorf("number %v, want %v", l.Number(), want.Number)
		}
		if l.Len() != len(want.RevokedCertificateEntries) {
			t.Errorf("%d entries, want %d", l.Len(), len(want.RevokedCertificateEntries))
		}
		for _, e := range want.RevokedCertificateEntries {
			if e.SerialNumber.Sign() < 0 {
				continue // no certificate has it
			}
			if _, ok := l.Lookup(e.SerialNumber); !ok {
				t.Errorf("serial number %x is missing", e.SerialNumber)
			}
		}
		if err := l.Verify(ca.Cert); (err == nil) != (want.CheckSignatureFrom(ca.Cert) == nil && bytes.Equal(want.RawIssuer, ca.Cert.RawSubject)) {
			t.Errorf("Verify: %v", err)
		}
	})
}

// big list: count serial numbers of 16 octets, spread evenly, in no order.
func bigList(tb testing.TB, count int) []byte {
	var out bytes.Buffer
	if err := ca.WriteCRL(&out, count, serialOf); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func serialOf(i int) (s [16]byte) {
	mix := func(x uint64) uint64 { // SplitMix64: spreads any numbers evenly
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
	binary.BigEndian.PutUint64(s[:], mix(uint64(2*i+1)*0x9e3779b97f4a7c15))
	binary.BigEndian.PutUint64(s[8:], mix(uint64(2*i+2)*0x9e3779b97f4a7c15))
	s[0] = s[0]&0x7f | 1
	return s
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A list of a million entries takes under 32 MB, and what it says is right.
func TestAMillionEntries(t *testing.T) {
	const count = 1_000_000
	der := bigList(t, count)
	before := heap()
	l := read(t, der)
	size := int64(heap()) - int64(before)
	if err := l.Verify(ca.Cert); err != nil {
		t.Fatal(err)
	}
	if l.Len() != count {
		t.Fatalf("%d entries", l.Len())
	}
	if size > 32<<20 {
		t.Errorf("%d octets of heap", size)
	}
	t.Logf("%d octets of DER, %d octets of heap", len(der), size)
	for i := 0; i < count; i += 997 {
		s, strange := serialOf(i), serialOf(count+i)
		if _, ok := l.Lookup(new(big.Int).SetBytes(s[:])); !ok {
			t.Fatalf("entry %d is missing", i)
		}
		if _, ok := l.Lookup(new(big.Int).SetBytes(strange[:])); ok {
			t.Fatalf("serial number %x is found", strange)
		}
	}
	runtime.KeepAlive(der)
}

func BenchmarkLookup(b *testing.B) {
	for _, count := range []int{1_000, 10_000, 100_000, 1_000_000} {
		l := read(b, bigList(b, count))
		var in, out [4096]*big.Int
		for i := range in {
			s, strange := serialOf(i*7919%count), serialOf(count+i)
			in[i], out[i] = new(big.Int).SetBytes(s[:]), new(big.Int).SetBytes(strange[:])
		}
		for name, serials := range map[string]*[4096]*big.Int{"listed": &in, "not listed": &out} {
			b.Run(fmt.Sprintf("%s/%d", name, count), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if _, ok := l.Lookup(serials[i%4096]); ok != (name == "listed") {
						b.Fatal(i)
					}
					i++
				}
			})
		}
	}
}

// The straightforward way beside ours: crypto/x509 and a map.
func BenchmarkLoad(b *testing.B) {
	const count = 1_000_000
	der := bigList(b, count)
	var kept any // what is measured stays until it was
	measure := func(name string, load func() any) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				kept = load()
			}
			b.StopTimer()
			with := heap()
			runtime.KeepAlive(kept)
			kept = nil
			b.ReportMetric(float64(int64(with)-int64(heap()))/(1<<20), "MB-kept")
		})
	}
	measure("stream", func() any {
		l := read(b, der)
		if err := l.Verify(ca.Cert); err != nil {
			b.Fatal(err)
		}
		return l
	})
	measure("crypto-x509 and map", func() any {
		l, err := x509.ParseRevocationList(der)
		if err == nil {
			err = l.CheckSignatureFrom(ca.Cert)
		}
		if err != nil {
			b.Fatal(err)
		}
		m := make(map[string]int, count)
		for _, e := range l.RevokedCertificateEntries {
			m[string(e.SerialNumber.Bytes())] = e.ReasonCode
		}
		return m
	})
	runtime.KeepAlive(der)
}
