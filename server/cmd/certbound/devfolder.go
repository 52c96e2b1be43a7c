package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certbound/certbound/pkitest"
)

// A devFolder is the folder of dev: a throw-away PKI, configuration and database.
type devFolder struct {
	dir      string // as the user named it
	made     bool   // anew, not found
	serverCA *x509.CertPool
	// The parties of the story: three clients, and a thief who has a certificate of
	// the same CA as billing. wallet acts for people and has no credentials; its
	// certificate is its own. fapi1 and fapi2 are for FAPI test tools.
	billing, batch, wallet, mallory, fapi1, fapi2 devParty
	password                                      string // of ann
}

type devParty struct {
	name string
	Cert *x509.Certificate
	pair tls.Certificate
}

// devPassword is the file with the password of the one person, ann.
const devPassword = "ann-password.txt"

// devMark says that a folder is ours, so that no other one is written into.
const devMark = "# Written by 'certbound dev' at each start; changes are lost."

func (d *devFolder) path(name string) string { return filepath.Join(d.dir, name) }

// openDevFolder makes the folder, or goes on with one that was made before. The PKI is
// made anew if a part is missing, broken or about to expire.
func openDevFolder(dir string, now time.Time) (*devFolder, error) {
	d := &devFolder{dir: dir}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, hinted(fileError(err), "choose another folder with --dir")
	case len(entries) > 0:
		text, err := os.ReadFile(d.path("certbound.yaml"))
		if err != nil || !strings.HasPrefix(string(text), devMark) {
			return nil, hinted(fmt.Errorf("%s: the folder is not empty, and not one of 'certbound dev'", dir), "choose another one with --dir")
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fileError(err)
	}
	if d.load(now) == nil {
		return d, nil
	}
	if err := d.make(); err != nil {
		return nil, err
	}
	d.made = true
	return d, d.load(now)
}

func (d *devFolder) load(now time.Time) error {
	text, err := os.ReadFile(d.path("server-ca.pem"))
	if err != nil {
		return err
	}
	d.serverCA = x509.NewCertPool()
	if !d.serverCA.AppendCertsFromPEM(text) {
		return errors.New("server-ca.pem holds no certificate")
	}
	server := devParty{name: "server"}
	d.billing.name, d.batch.name, d.wallet.name, d.mallory.name = "billing", "batch", "wallet", "mallory"
	d.fapi1.name, d.fapi2.name = "fapi-1", "fapi-2"
	for _, p := range []*devParty{&server, &d.billing, &d.batch, &d.wallet, &d.mallory, &d.fapi1, &d.fapi2} {
		p.pair, err = tls.LoadX509KeyPair(d.path(p.name+".pem"), d.path(p.name+"-key.pem"))
		if err != nil {
			return err
		}
		p.Cert = p.pair.Leaf
		if now.Add(48 * time.Hour).After(p.Cert.NotAfter) {
			return fmt.Errorf("%s.pem is about to expire", p.name)
		}
	}
	if _, err := server.Cert.Verify(x509.VerifyOptions{Roots: d.serverCA, DNSName: "localhost", CurrentTime: now}); err != nil {
		return err
	}
	if text, err = os.ReadFile(d.path(devPassword)); err != nil {
		return err
	}
	if d.password = strings.TrimSpace(string(text)); d.password == "" {
		return fmt.Errorf("%s is empty", devPassword)
	}
	text, err = os.ReadFile(d.path("client-ca.pem"))
	if err != nil {
		return err
	}
	clientCA := x509.NewCertPool()
	clientCA.AppendCertsFromPEM(text)
	_, err = d.billing.Cert.Verify(x509.VerifyOptions{Roots: clientCA, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// make writes the PKI. Two CAs: who may vouch for a server may not vouch for a client.
func (d *devFolder) make() error {
	serverCA, err := pkitest.NewCA(pkitest.CAOptions{Subject: "CN=Certbound dev server CA"})
	if err != nil {
		return err
	}
	clientCA, err := pkitest.NewCA(pkitest.CAOptions{Subject: "CN=Certbound dev client CA"})
	if err != nil {
		return err
	}
	server, err := serverCA.Leaf(pkitest.LeafOptions{Subject: "CN=localhost", DNS: []string{"localhost"}, IP: loopback(), Server: true})
	if err != nil {
		return err
	}
	billing, err := clientCA.Leaf(pkitest.LeafOptions{Subject: "CN=billing,O=Agora"})
	if err != nil {
		return err
	}
	mallory, err := clientCA.Leaf(pkitest.LeafOptions{Subject: "CN=mallory,O=Agora"})
	if err != nil {
		return err
	}
	batch, err := pkitest.SelfSigned(pkitest.LeafOptions{Subject: "CN=batch"})
	if err != nil {
		return err
	}
	wallet, err := pkitest.SelfSigned(pkitest.LeafOptions{Subject: "CN=wallet"})
	if err != nil {
		return err
	}
	fapi1, err := clientCA.Leaf(pkitest.LeafOptions{Subject: "CN=fapi-1,O=Agora"})
	if err != nil {
		return err
	}
	fapi2, err := clientCA.Leaf(pkitest.LeafOptions{Subject: "CN=fapi-2,O=Agora"})
	if err != nil {
		return err
	}
	// Registrations fit certificates: without these, those of last time go.
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"certbound.yaml", []byte(devMark + "\n")}, // first: the folder is ours from here on
		{"server-ca.pem", serverCA.CertPEM()},
		{"client-ca.pem", clientCA.CertPEM()},
		{"client-ca-key.pem", clientCA.KeyPEM()},
		{"server.pem", server.ChainPEM()}, {"server-key.pem", server.KeyPEM()},
		{"billing.pem", billing.ChainPEM()}, {"billing-key.pem", billing.KeyPEM()},
		{"mallory.pem", mallory.ChainPEM()}, {"mallory-key.pem", mallory.KeyPEM()},
		{"batch.pem", batch.ChainPEM()}, {"batch-key.pem", batch.KeyPEM()},
		{"wallet.pem", wallet.ChainPEM()}, {"wallet-key.pem", wallet.KeyPEM()},
		{"fapi-1.pem", fapi1.ChainPEM()}, {"fapi-1-key.pem", fapi1.KeyPEM()},
		{"fapi-2.pem", fapi2.ChainPEM()}, {"fapi-2-key.pem", fapi2.KeyPEM()},
		{devPassword, []byte(rand.Text()[:16] + "\n")},
	} {
		if err := writePrivate(d.path(f.name), f.data); err != nil {
			return err
		}
	}
	return nil
}

// writePrivate replaces a file at once, readable for its owner only.
func writePrivate(name string, data []byte) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fileError(err)
	}
	if err := os.Chmod(tmp, 0o600); err != nil {
		return fileError(err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("%s: %w", name, errors.Unwrap(err))
	}
	return nil
}

func (d *devFolder) writeConfig(port, mtlsPort, apiPort int) error {
	return writePrivate(d.path("certbound.yaml"), fmt.Appendf(nil, `%s
# 'certbound config example' explains every key.
issuer: https://localhost:%d
listen:
  public:
    address: 127.0.0.1:%[2]d
    certificate: server.pem
    key: server-key.pem
  mtls:
    address: 127.0.0.1:%d
    url: https://localhost:%[3]d
  admin:
    address: ""
  shutdown_grace: 2s
store:
  sqlite: certbound.db
trust:
  sets:
    - name: dev
      anchors: [client-ca.pem]
authentication:
  methods: [tls_client_auth, self_signed_tls_client_auth, none]
tokens:
  scopes: [read, accounts, openid, profile, email]
  resources: ["https://localhost:%[4]d"]
people:
  enabled: true
  login: accounts
  title: Certbound dev
  scope_texts:
    - {scope: read, text: Say hello in your name}
    - {scope: accounts, text: See your accounts}
`, devMark, port, mtlsPort, apiPort))
}
