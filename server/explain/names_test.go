package explain

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/pkitest"
)

// A name is printed as the tools print it, for recordings of what they really print; the
// first text is the one to register, and reads back as the name.
func TestSpellings(t *testing.T) {
	data, err := os.ReadFile("testdata/spellings.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Names []struct {
			Name     string `json:"name"`
			DER      string `json:"der"`
			RFC2253  string `json:"openssl_rfc2253"`
			Oneline  string `json:"openssl_oneline"`
			Slash    string `json:"openssl_slash"`
			Java     string `json:"java_rfc2253"`
			JavaText string `json:"java_text"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil || len(file.Names) < 20 {
		t.Fatal(err, len(file.Names))
	}
	for _, n := range file.Names {
		t.Run(n.Name, func(t *testing.T) {
			der, err := hex.DecodeString(n.DER)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Spellings(der)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{1: n.RFC2253, 2: n.Oneline, 3: n.Slash, 5: n.Java, 6: n.JavaText} {
				if i > 0 && i != 4 && got[i].Text != want {
					t.Errorf("%s %s: %s, want %s", got[i].Tool, got[i].How, got[i].Text, want)
				}
			}
			back, err := subject.ParseName(got[0].Text)
			name, derr := subject.ParseDER(der)
			if err != nil || derr != nil || !strings.Contains(n.DER, "00") && !back.Equal(name) {
				t.Errorf("%s does not read back: %v %v", got[0].Text, err, derr)
			}
		})
	}
}

// What Go prints is what crypto/x509 prints of the certificate.
func TestSpellingOfGo(t *testing.T) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: `CN=a\,b+UID=c,O=Agora,1.2.3=#0c0161`})
	got, err := Spellings(leaf.Cert.RawSubject)
	if err != nil || got[4].Text != leaf.Cert.Subject.String() {
		t.Errorf("%v %v", got, err)
	}
	if _, err := Spellings([]byte("no name")); err == nil {
		t.Error("no error for what is no name")
	}
}

func FuzzSpellings(f *testing.F) {
	data, err := os.ReadFile("testdata/spellings.json")
	if err != nil {
		f.Fatal(err)
	}
	var file struct {
		Names []struct{ DER string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		f.Fatal(err)
	}
	for _, n := range file.Names {
		der, _ := hex.DecodeString(n.DER)
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := Spellings(der)
		if (err == nil) != (len(got) == 7) {
			t.Errorf("%d spellings beside %v", len(got), err)
		}
	})
}
