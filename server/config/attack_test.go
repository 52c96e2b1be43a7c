package config

import (
	"strings"
	"testing"
)

// Whoever reads what 'certbound config check' or a failed start has printed, in a ticket or
// in the log of a build, found a secret there that consists of digits and was not in
// quotes, or that stood behind a sign of YAML. A fault says where, and not what.
func TestAttackSecretsInFaults(t *testing.T) {
	for _, secret := range []string{
		"471108151234", "4711.08151234", "0x471108151234", "1e4711", ".inf", "true",
		">hunter2", "|hunter2", `"hunter2`, "'hunter2", "@hunter2", "%hunter2", "*hunter2", "&hunter2 x", "!hunter2", "{hunter2", "[hunter2",
		"`hunter2", "hunter2: x", `"hunter2\q"`,
	} {
		_, err := Parse("certbound.yaml", []byte("issuer: https://as.example\nclients:\n  - client_id: x\n    client_secret: "+secret+"\n    client_name: n\n"),
			func(string) (string, bool) { return "", false })
		if err == nil {
			t.Errorf("%s: accepted", secret)
			continue
		}
		if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "4711") || strings.Contains(text, "found "+secret) {
			t.Errorf("%s: %s", secret, text)
		}
	}
}
