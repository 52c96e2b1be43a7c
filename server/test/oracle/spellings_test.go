package oracle

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/explain"
)

// Names are printed as the OpenSSL of this machine prints them. Versions before 2024 do
// not escape slash and plus in the one-line form.
func TestSpellingsOfOpenSSL(t *testing.T) {
	data, err := os.ReadFile("../../explain/testdata/spellings.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Names []struct{ Name, DER string }
	}
	if err := json.Unmarshal(data, &file); err != nil || len(file.Names) < 20 {
		t.Fatal(err, len(file.Names))
	}
	old := strings.NewReplacer(`\/`, "/", `\+`, "+")
	pem := filepath.Join(t.TempDir(), "cert.pem")
	for _, n := range file.Names {
		der, err := hex.DecodeString(n.DER)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pem, pkitest.MustSelfSigned(pkitest.LeafOptions{RawSubject: der}).CertPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := explain.Spellings(der)
		if err != nil {
			t.Fatal(err)
		}
		for i, form := range []string{"RFC2253", "oneline", "compat"} {
			out, err := exec.Command("openssl", "x509", "-in", pem, "-noout", "-subject", "-nameopt", form).Output()
			if err != nil {
				t.Fatal(err)
			}
			want := strings.TrimSuffix(strings.TrimPrefix(string(out), "subject="), "\n")
			text := got[1+i].Text
			if form == "compat" {
				text, want = old.Replace(text), old.Replace(want)
			}
			if form == "oneline" { // since 3.2 without the spaces
				text, want = strings.ReplaceAll(text, " = ", "="), strings.ReplaceAll(want, " = ", "=")
			}
			if text != want {
				t.Errorf("%s, %s: %s, OpenSSL prints %s", n.Name, form, text, want)
			}
		}
	}
}
