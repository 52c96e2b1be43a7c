package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// oddCertificates returns what no CA issues, from damaged copies of L1 to keys that TLS
// has no use for.
func oddCertificates() map[string][][]byte {
	certs := fixture.Certs()
	l1, ca := certs.L1.Cert.Raw, certs.CA1i.Cert.Raw
	odd := map[string][][]byte{
		"an empty certificate":     {{}},
		"garbage":                  {[]byte("not a certificate")},
		"cut short":                {l1[:len(l1)-1]},
		"a trailing octet":         {append(bytes.Clone(l1), 0)},
		"garbage for a chain":      {l1, []byte("not a certificate")},
		"an empty chain element":   {l1, {}},
		"an endless length":        {[]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30}},
		"deeply nested":            {bytes.Repeat([]byte{0x30, 0x80}, 4000)},
		"a key of an unknown kind": {replaceOnce(l1, oidECPublicKey, []byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x63})},
		"a curve of nobody":        {replaceOnce(l1, oidP256, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x63})},
		"an unknown signature":     {bytes.ReplaceAll(l1, oidECDSAWithSHA256, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x63})},
		"the chain alone":          {ca},
		"P-224":                    {certs.CA1.MustLeaf(pkitest.LeafOptions{Subject: fixture.SubjectDN, Key: p224}).Cert.Raw},
	}
	random := mathrand.New(mathrand.NewPCG(8705, 9440))
	for i := range 200 {
		der := bytes.Clone(l1)
		for range 1 + i%4 {
			der[random.IntN(len(der))] ^= byte(1 + random.IntN(255))
		}
		odd[fmt.Sprintf("damaged %d", i)] = [][]byte{der, ca}
	}
	return odd
}

var (
	oidECPublicKey     = []byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01}
	oidP256            = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	oidECDSAWithSHA256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
)

var p224 = func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}()

func replaceOnce(b, old, with []byte) []byte { return bytes.Replace(b, old, with, 1) }

// large returns certificates of together n bytes and more.
func large(n int) [][]byte {
	chain := [][]byte{fixture.Certs().L1.Cert.Raw}
	for size := 0; size < n; size += len(fixture.Certs().CA1i.Cert.Raw) {
		chain = append(chain, fixture.Certs().CA1i.Cert.Raw)
	}
	return chain
}

// Whatever stands in the place of a certificate: the handshake fails, or the answer is
// an OAuth error; never a 5xx, and the listener lives on. Only what is L1 in all that
// counts may be taken for L1, which no damaged copy is.
func TestOddCertificates(t *testing.T) {
	w := small(t)
	w.addresses[rsHost] = w.startAPI(t, rsHost, certsource.TLS{}, false)
	l1 := w.as(t, w.L1)
	token := issued(t, w.token(t, l1, "c-dn"), w.L1)
	odd := oddCertificates()
	odd["a megabyte"] = large(1 << 20)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		v := w.with(version, false)
		for name, chain := range odd {
			t.Run(v.name+" "+name, func(t *testing.T) {
				t.Attr("requirement", "T-P-1")
				cfg := v.clientTLS(nil)
				cert := &tls.Certificate{Certificate: chain, PrivateKey: w.L1.Key}
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
				c := v.http(t, cfg)
				if a := try(t, c, fixture.MTLSBase+"/token", "", "grant_type=client_credentials&client_id=c-dn"); a != nil {
					refused(t, a, "invalid_client")
				}
				if a := try(t, c, fixture.Resource+"/", token, ""); a != nil {
					invalidToken(t, a)
				}
			})
		}
	}
	issued(t, w.token(t, w.as(t, w.L1), "c-dn"), w.L1)
	served(t, w.api(t, w.as(t, w.L1), rsHost, token))
}

// try sends a request and returns nil if the connection fails.
func try(t *testing.T, c *http.Client, to, token, form string) *fixture.Answer {
	t.Helper()
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &fixture.Answer{Status: resp.StatusCode, Header: resp.Header, Text: string(body)}
	_ = json.Unmarshal(body, &a.JSON) // if it is JSON
	return noted(a)
}

// The same in the fields of a trusted proxy that passes on what it got, however odd: 400,
// or 431 from the HTTP server if it is longer than a header may be.
func TestOddCertificatesBehindProxy(t *testing.T) {
	w := small(t, func(s *settings) {
		s.mtls = "insecure_plain_http: true, source: rfc9440, proxy: {prefixes: [127.0.0.1]}"
	})
	c := &http.Client{}
	request := func(t *testing.T, chain [][]byte) *http.Request {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.mtls+"/token",
			strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		var fields []string
		for _, der := range chain {
			fields = append(fields, ":"+base64.StdEncoding.EncodeToString(der)+":")
		}
		req.Header.Set("Client-Cert", fields[0])
		if len(fields) > 1 {
			req.Header.Set("Client-Cert-Chain", strings.Join(fields[1:], ", "))
		}
		return req
	}
	send := func(t *testing.T, chain [][]byte) *fixture.Answer {
		t.Helper()
		return noted(fixture.Do(t, c, request(t, chain)))
	}
	good := [][]byte{w.L1.Cert.Raw, w.CA1i.Cert.Raw}
	issued(t, send(t, good), w.L1)
	for name, chain := range oddCertificates() {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "T-P-1")
			if a := send(t, chain); a.Error() != "invalid_request" || a.Status != http.StatusBadRequest {
				refused(t, a, "invalid_client")
			}
		})
	}
	t.Run("a megabyte", func(t *testing.T) {
		t.Attr("requirement", "T-P-1")
		// The server closes while we still send, so that its answer may not be seen.
		resp, err := c.Do(request(t, large(1<<20)))
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d, want 431", resp.StatusCode)
		}
	})
	t.Run("fields that are none", func(t *testing.T) {
		t.Attr("requirement", "T-P-1")
		for _, value := range []string{"", "::", ":", "MIIB", ":MIIB:", "?1", `"text"`, ":" + strings.Repeat("A", 60000) + ":", "()", "a=1"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.mtls+"/token",
				strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Client-Cert", value)
			if a := fixture.Do(t, c, req); a.Status/100 != 4 || a.AccessToken() != "" {
				t.Errorf("%.40q: %d %s", value, a.Status, a.Text)
			}
		}
	})
	issued(t, send(t, good), w.L1)
}

// Without a trusted peer the fields are not a source: the server does not start, however
// secret the names of fields may be.
func TestNoProxyNoStart(t *testing.T) {
	t.Attr("requirement", "H-B1-1")
	for name, mtls := range map[string]string{
		"no proxy":                            "insecure_plain_http: true, source: rfc9440",
		"everybody":                           "insecure_plain_http: true, source: rfc9440, proxy: {prefixes: [0.0.0.0/0]}",
		"plain HTTP":                          "insecure_plain_http: true, proxy: {prefixes: [127.0.0.1]}",
		"over TLS, too":                       "source: rfc9440",
		"a field whose name nobody can guess": "insecure_plain_http: true, source: header-der, proxy: {field: X-Cert-3f9a77c2}",
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, settings{mtls: mtls})
			r := command(t, dir, "serve", "--config", "certbound.yaml")
			if check := command(t, dir, "config", "check", "certbound.yaml"); check.code != 1 || !strings.Contains(r.stderr, check.stderr) {
				t.Errorf("config check: exit code %d\n%s", check.code, check.stderr)
			}
			if r.code != 1 || !strings.Contains(r.stderr, "certbound.yaml:4:") {
				t.Errorf("exit code %d\n%s", r.code, r.stderr)
			}
		})
	}
}

// The PKI method without a trust anchor, and a listener that asks nobody: the settings
// do not fit the methods, and the server does not start.
func TestSettingsFitMethods(t *testing.T) {
	for name, s := range map[string]settings{
		"no anchors":   {trust: "{sets: []}"},
		"no trust":     {trust: "{}"},
		"empty anchor": {trust: "{sets: [{name: ca1, anchors: [empty.pem]}]}", files: map[string][]byte{"empty.pem": nil}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "M-6.1-1 M-7.4-1")
			r := command(t, folder(t, s), "serve", "--config", "certbound.yaml")
			if r.code != 1 || !strings.Contains(r.stderr, "trust") {
				t.Errorf("exit code %d\n%s", r.code, r.stderr)
			}
		})
	}
}
