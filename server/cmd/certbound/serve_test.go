package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/pkitest"
)

// CVE-2026-27586 (Caddy) and others: the file with the client CAs was missing or broken,
// and the server started all the same, with the system's roots or with no check at all.
// Here the process ends, with exit code 1, the file and what to do, and never listens.
func TestServeRefusesBrokenTrust(t *testing.T) {
	expired := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Old", NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	leaf := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"}).MustLeaf(pkitest.LeafOptions{Subject: "CN=leaf"})
	tests := []struct {
		name string
		make func(name string) error
	}{
		{"missing", func(string) error { return nil }},
		{"empty", func(name string) error { return os.WriteFile(name, nil, 0o600) }},
		{"malformed", func(name string) error { return os.WriteFile(name, []byte("-----BEGIN CERTIFICATE-----\nAAAA"), 0o600) }},
		{"unreadable", func(name string) error { return os.Symlink(name, name) }},
		{"expired only", func(name string) error { return os.WriteFile(name, expired.CertPEM(), 0o600) }},
		{"not a CA", func(name string) error { return os.WriteFile(name, leaf.CertPEM(), 0o600) }},
		{"a private key", func(name string) error { return os.WriteFile(name, leaf.KeyPEM(), 0o600) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("attack", "11")
			folder, err := openDevFolder(filepath.Join(t.TempDir(), "d"), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			// The ports are taken: whoever came as far as listening would say so.
			port := l.Addr().(*net.TCPAddr).Port
			text := fmt.Sprintf("issuer: https://localhost\nlisten: {public: {address: '127.0.0.1:%d', certificate: server.pem, key: server-key.pem}, admin: {address: ''}}\n"+
				"trust: {sets: [{name: x, anchors: [anchors.pem]}]}\ntokens: {resources: ['https://api.localhost']}\n", port)
			if err := writePrivate(folder.path("certbound.yaml"), []byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(folder.path("anchors.pem")); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"serve", "--config", folder.path("certbound.yaml")}, nil, &stdout, &stderr)
			if code != exitRefused {
				t.Errorf("exit code %d, expected %d", code, exitRefused)
			}
			if !strings.Contains(stderr.String(), "trust.sets[0]") || strings.Contains(stderr.String(), "in use") || strings.Contains(stderr.String(), "serving") {
				t.Errorf("expected an error about trust.sets[0] before anything listens, found %s", stderr.String())
			}
			if _, err := os.Stat(folder.path("certbound.db")); err == nil {
				t.Error("the database was made all the same")
			}
		})
	}
}

func TestKeyRows(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	keys := []authserver.SigningKey{
		{KID: "gone", NotBefore: at(-72 * time.Hour), Expires: at(-time.Hour)},
		{KID: "old", NotBefore: at(-48 * time.Hour), Expires: at(time.Hour)},
		{KID: "now", NotBefore: at(-time.Hour)},
		{KID: "soon", NotBefore: at(time.Minute)},
	}
	var got []string
	for _, r := range keyRows(keys, now) {
		got = append(got, r.KID+" "+r.State)
	}
	if want := "soon next, now signing, old published, gone expired"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, ", "), want)
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"certbound-dev/billing.pem": "certbound-dev/billing.pem", "": "''", "my folder": "'my folder'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "*.example": "'*.example'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}
