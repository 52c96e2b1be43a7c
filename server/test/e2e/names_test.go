package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
)

// A nameVector is a registered value and the names of a certificate (see package
// pki/subject, whose vectors these are).
type nameVector struct {
	IDs        string        `json:"ids"`
	Kind       string        `json:"kind"`
	Registered string        `json:"registered"`
	Normalize  bool          `json:"normalize"`
	Subject    [][][3]string `json:"subject"`
	SAN        [][2]string   `json:"san"`
	Want       string        `json:"want"`
	GoRefuses  bool          `json:"goRefuses"`
	client     string        // its registration
	refusal    *result       // what the command said, if there is none
}

var nameFlags = map[string]string{
	"tls_client_auth_subject_dn": "--dn", "tls_client_auth_san_dns": "--san-dns", "tls_client_auth_san_uri": "--san-uri",
	"tls_client_auth_san_ip": "--san-ip", "tls_client_auth_san_email": "--san-email",
}

// TestNames takes every vector of names through the whole program: 'client add' with
// the registered value, and a handshake with a certificate that has the names.
func TestNames(t *testing.T) {
	text, err := os.ReadFile("../../../pki/subject/testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []*nameVector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	dir := folder(t, settings{level: "info"})
	type value struct{ kind, text string }
	known := map[value]*nameVector{}
	for i, v := range vectors {
		if v.Normalize || strings.HasPrefix(v.Registered, "/") && v.Kind == "tls_client_auth_subject_dn" ||
			strings.ContainsRune(v.Registered, 0) {
			continue // an option of the library; what the command converts; what is no argument
		}
		if same := known[value{v.Kind, v.Registered}]; same != nil {
			v.client, v.refusal = same.client, same.refusal
			continue
		}
		known[value{v.Kind, v.Registered}] = v
		v.client = "vector-" + strconv.Itoa(i)
		r := command(t, dir, "client", "add", v.client, "--config", "certbound.yaml", nameFlags[v.Kind]+"="+v.Registered)
		if r.code != 0 {
			v.refusal = &r
		}
	}
	w := newWorld(serve(t, dir))
	key := fixture.Certs().L1.Key
	for i, v := range vectors {
		if v.client == "" {
			continue
		}
		name, _, _ := strings.Cut(v.IDs, " ")
		t.Run(strconv.Itoa(i)+"/"+name, func(t *testing.T) {
			if !v.GoRefuses || v.Want == "forbidden" {
				t.Attr("requirement", v.IDs)
			}
			if v.Want == "refused" {
				if v.refusal == nil {
					t.Fatalf("%q was registered", v.Registered)
				}
				if v.refusal.stdout != "" || !strings.HasPrefix(v.refusal.stderr, "certbound: error: ") {
					t.Errorf("the command says\n%s%s", v.refusal.stdout, v.refusal.stderr)
				}
				return
			}
			if v.refusal != nil {
				t.Fatalf("%q was not registered: %s", v.Registered, v.refusal.stderr)
			}
			o := &x509.Certificate{
				SerialNumber: big.NewInt(int64(i) + 1), RawSubject: v.subject(t), ExtraExtensions: v.san(t),
				NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}
			der, err := x509.CreateCertificate(nil, o, w.CA1.Cert, key.Public(), w.CA1.Key)
			if err != nil {
				t.Fatal(err)
			}
			cfg := w.clientTLS(nil)
			cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
			c := w.http(t, cfg)
			if v.GoRefuses { // in the handshake, whatever the vector says (see docs/divergences.md)
				fails(t, c, fixture.MTLSBase+"/token")
				return
			}
			a := w.token(t, c, v.client)
			if v.Want != "match" {
				refused(t, a, "invalid_client")
			} else if a.Status != http.StatusOK || a.AccessToken() == "" {
				t.Errorf("got %d %s, want a token", a.Status, a.Text)
			}
		})
	}
}

// Several subject values, by flags and by the file: exactly one is registered.
func TestTwoSubjectValues(t *testing.T) {
	dir := folder(t, settings{})
	flags := []string{"--dn=CN=a", "--san-dns=a.example", "--san-uri=https://a.example/", "--san-ip=192.0.2.1", "--san-email=a@a.example"}
	members := []string{"tls_client_auth_subject_dn: CN=a", "tls_client_auth_san_dns: a.example", "tls_client_auth_san_uri: https://a.example/",
		"tls_client_auth_san_ip: 192.0.2.1", "tls_client_auth_san_email: a@a.example"}
	for i := range flags {
		for j := range i {
			t.Run(fmt.Sprintf("%s and %s", flags[i], flags[j]), func(t *testing.T) {
				t.Attr("requirement", "M-2.1.2-2")
				r := command(t, dir, "client", "add", "two", "--config", "certbound.yaml", flags[i], flags[j])
				if r.code == 0 || !strings.Contains(r.stderr, "exactly one subject value") {
					t.Errorf("exit code %d\n%s", r.code, r.stderr)
				}
				write(t, dir, "two.yaml", []byte(`issuer: https://as.test
listen: {public: {address: "127.0.0.1:0", certificate: server.pem, key: server.key}, mtls: {address: "127.0.0.1:0"}, admin: {address: ""}}
trust: {sets: [{name: ca1, anchors: [ca1.pem]}]}
tokens: {resources: ["https://rs.test"]}
clients:
  - client_id: two
    token_endpoint_auth_method: tls_client_auth
    `+members[i]+`
    `+members[j]+"\n"))
				for _, args := range [][]string{{"config", "check", "two.yaml"}, {"serve", "--config", "two.yaml"}} {
					if r := command(t, dir, args...); r.code != 1 || !strings.Contains(r.stderr, "two.yaml:7:") ||
						!strings.Contains(r.stderr, "xactly one") {
						t.Errorf("%v: exit code %d\n%s", args, r.code, r.stderr)
					}
				}
			})
		}
	}
	if list := must(t, dir, "client", "list", "--json", "--config", "certbound.yaml"); strings.TrimSpace(list) != "[]" {
		t.Errorf("registered: %s", list)
	}
}

var attributeTypes = map[string]asn1.ObjectIdentifier{
	"C": {2, 5, 4, 6}, "CN": {2, 5, 4, 3}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11},
	"DC": {0, 9, 2342, 19200300, 100, 1, 25}, "UID": {0, 9, 2342, 19200300, 100, 1, 1}, "emailAddress": {1, 2, 840, 113549, 1, 9, 1},
}

var stringTags = map[string]int{"utf8": 12, "printable": 19, "teletex": 20, "ia5": 22, "universal": 28, "bmp": 30, "octets": 4}

var nameTags = map[string]int{"other": 0, "email": 1, "dns": 2, "uri": 6, "ip": 7}

// octets returns a value of a vector, which may be in hex.
func octets(t *testing.T, s string) []byte {
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

// subject encodes the RDNs as they stand.
func (v *nameVector) subject(t *testing.T) []byte {
	t.Helper()
	var seq []byte
	for _, rdn := range v.Subject {
		var set []byte
		for _, a := range rdn {
			oid, ok := attributeTypes[a[0]]
			if !ok {
				for arc := range strings.SplitSeq(a[0], ".") {
					n, err := strconv.Atoi(arc)
					if err != nil {
						t.Fatal(err)
					}
					oid = append(oid, n)
				}
			}
			pair := append(encode(t, oid), encode(t, asn1.RawValue{Tag: stringTags[a[1]], Bytes: octets(t, a[2])})...)
			set = append(set, encode(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: pair})...)
		}
		seq = append(seq, encode(t, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: set})...)
	}
	return encode(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: seq})
}

func (v *nameVector) san(t *testing.T) []pkix.Extension {
	t.Helper()
	if len(v.SAN) == 0 {
		return nil
	}
	var seq []byte
	for _, n := range v.SAN {
		seq = append(seq, encode(t, asn1.RawValue{
			Class: asn1.ClassContextSpecific, Tag: nameTags[n[0]], IsCompound: n[0] == "other", Bytes: octets(t, n[1]),
		})...)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: encode(t, asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: seq})}}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
