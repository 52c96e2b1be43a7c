package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/certbound/certbound/pki"
)

// Check looks at the files that the configuration names: whether they can be read,
// hold what they should, and belong together. It returns an *[Error], and warnings
// that hinder nothing.
func (f *File) Check(now time.Time) (warnings []Fault, err error) {
	c := &checker{file: f}
	w := &checker{file: f}
	pair := func(section string, cert, key Path) {
		if cert == "" || key == "" {
			return
		}
		checkPair(c, w, section, f.Path(cert), f.Path(key), now)
	}
	pair("listen.public", f.Listen.Public.Certificate, f.Listen.Public.Key)
	if m := f.Listen.MTLS; m.Address != "" && f.origins["listen.mtls.certificate"] != "as listen.public" {
		pair("listen.mtls", m.Certificate, m.Key)
	}
	for i, s := range f.Trust.Sets {
		if _, err := f.fileSet(s).Load(now); err != nil {
			for _, e := range unjoin(err) {
				path, fix := fmt.Sprintf("trust.sets[%d]", i), ""
				if fe, ok := errors.AsType[*pki.FileError](e); ok {
					path = c.fileKey(path, s, fe.Path)
				}
				c.fault(path, fix, "%s", bare(e))
			}
		}
	}
	for i, s := range f.Trust.Sets {
		c.certificates(fmt.Sprintf("trust.sets[%d].revocation.root_cas", i), s.Revocation.RootCAs)
	}
	c.certificates("jwks_uri.root_cas", f.JWKSURI.RootCAs)
	c.certificates("self_probe.root_cas", f.SelfProbe.RootCAs)
	if len(c.faults) > 0 {
		sortFaults(c.faults)
		return w.faults, &Error{c.faults}
	}
	return w.faults, nil
}

func (c *checker) certificates(path string, files []Path) {
	for i, p := range files {
		if _, err := readCertificates(c.file.Path(p)); err != nil {
			c.fault(fmt.Sprintf("%s[%d]", path, i), fileFix(err), "%s", err)
		}
	}
}

// fileKey returns the key that names a file, or a folder above it.
func (c *checker) fileKey(path string, s AnchorSet, name string) string {
	for _, list := range []struct {
		key   string
		files []Path
	}{{"anchors", s.Anchors}, {"intermediates", s.Intermediates}} {
		for i, p := range list.files {
			if full := c.file.Path(p); name == full || strings.HasPrefix(name, full+"/") {
				return fmt.Sprintf("%s.%s[%d]", path, list.key, i)
			}
		}
	}
	return path
}

// fileFix says what to do about a file that cannot be opened.
func fileFix(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "correct the path, or create the file"
	case errors.Is(err, fs.ErrPermission):
		return "give the user of this process the right to read it"
	}
	return ""
}

func checkPair(c, w *checker, section, cert, key string, now time.Time) {
	certs, err := readCertificates(cert)
	if err != nil {
		c.fault(section+".certificate", fileFix(err), "%s", err)
	}
	keyPEM, kerr := readLimited(key, 1<<20)
	if kerr != nil {
		c.fault(section+".key", fileFix(kerr), "%s", kerr)
	}
	if err != nil || kerr != nil {
		return
	}
	certPEM, err := readLimited(cert, 4<<20)
	if err != nil {
		c.fault(section+".certificate", "", "%s", err)
		return
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		fix := ""
		text := strings.TrimPrefix(err.Error(), "tls: ")
		if strings.Contains(text, "does not match") {
			text, fix = "the private key belongs to another certificate than "+cert, "name the key that this certificate was made for"
		}
		c.fault(section+".key", fix, "%s: %s", key, text)
		return
	}
	leaf := certs[0]
	switch {
	case now.After(leaf.NotAfter):
		c.fault(section+".certificate", "renew it", "%s: expired on %s", cert, leaf.NotAfter.UTC().Format(time.DateTime))
	case now.Before(leaf.NotBefore):
		c.fault(section+".certificate", "check the clock", "%s: not valid before %s", cert, leaf.NotBefore.UTC().Format(time.DateTime))
	case now.Add(14 * 24 * time.Hour).After(leaf.NotAfter):
		w.fault(section+".certificate", "renew it", "%s: expires on %s", cert, leaf.NotAfter.UTC().Format(time.DateTime))
	}
	if host := c.file.hostOf(section); host != "" {
		if err := leaf.VerifyHostname(host); err != nil {
			w.fault(section+".certificate", "clients will refuse the connection", "%s is not for the host %s", cert, host)
		}
	}
	if !serverAuth(leaf) {
		w.fault(section+".certificate", "clients may refuse it", "%s lacks the extended key usage serverAuth", cert)
	}
}

func serverAuth(c *x509.Certificate) bool {
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0
}
