package pki

import (
	"strings"
	"testing"
)

// Whatever a stranger's certificate has for a name: what is permitted ends as the limit
// does, and holds nothing that a host name cannot hold.
func FuzzNamesWithin(f *testing.F) {
	for _, seed := range []string{
		"corp.example", "a.corp.example", "evilcorp.example", "*.corp.example", "corp.example.", "corp.example\x00.evil", "CORP.EXAMPLE", "",
		"https://corp.example/", "https://corp.example@evil.example/", "https://evil.example#corp.example", "https://evil.example\\@corp.example/",
		"spiffe://a.corp.example/x", "urn:corp.example", "//corp.example", "https://[::1]/", "a@corp.example", "a@evil@corp.example", "@corp.example",
		"a@corp.example>", "https://corp.example%2eevil.example/", "ａ.corp.example",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, limit := range []string{"corp.example", ".corp.example"} {
			host := strings.TrimPrefix(limit, ".")
			ends := strings.HasSuffix(strings.ToLower(name), host)
			if dnsWithin(name, limit) && (!ends || !isHost(strings.TrimPrefix(name, "*."))) {
				t.Errorf("host %q within %q", name, limit)
			}
			if emailWithin(name, limit) && (!ends || !strings.Contains(name, "@")) {
				t.Errorf("mailbox %q within %q", name, limit)
			}
			if uriWithin(name, limit) && !strings.Contains(strings.ToLower(name), "//") {
				t.Errorf("URI %q within %q", name, limit)
			}
		}
		if emailWithin(name, "ops@corp.example") && name != "ops@"+name[len("ops@"):] {
			t.Errorf("mailbox %q is another", name)
		}
		if hostWithin(name, "corp.example") != strings.EqualFold(name, "corp.example") && isHost(name) {
			t.Errorf("host %q is another", name)
		}
	})
}
