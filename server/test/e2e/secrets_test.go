package e2e

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound/pkitest"
)

// sensitive are the secrets of this run: tokens, client secrets, assertions.
var sensitive struct {
	sync.Mutex
	values map[string]string // value → what it is
}

// remember notes a secret that must not be in any log.
func remember(what, value string) string {
	if len(value) < 8 {
		return value
	}
	sensitive.Lock()
	defer sensitive.Unlock()
	if sensitive.values == nil {
		sensitive.values = map[string]string{}
	}
	sensitive.values[value] = what
	return value
}

// rememberKey notes a private key, in the lines of its PEM.
func rememberKey(leaf *pkitest.Leaf) {
	for line := range strings.Lines(string(leaf.KeyPEM())) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && len(line) > 20 {
			remember("a private key", line)
		}
	}
}

var secretForms = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]|cbt_[A-Za-z0-9_-]{8,}|PRIVATE KEY|(?i:bearer|basic) [A-Za-z0-9+/_-]{12,}|"d":"[A-Za-z0-9_-]{8,}`)

// checkLog fails the test if a log has a secret of this run, or what looks like one.
// The end of a token is as bad as the whole of it.
func checkLog(t testing.TB, log string) {
	t.Helper()
	if found := secretForms.FindStringIndex(log); found != nil {
		from, to := max(0, found[0]-200), min(len(log), found[1]+20)
		t.Errorf("a log has what looks like a secret: …%s…", log[from:to])
	}
	sensitive.Lock()
	defer sensitive.Unlock()
	for value, what := range sensitive.values {
		parts := []string{value}
		if i := strings.LastIndexByte(value, '.'); i > 0 && len(value)-i > 12 {
			parts = append(parts, value[i+1:]) // the signature of a JWT
		}
		for _, part := range parts {
			if i := strings.Index(log, part); i >= 0 {
				t.Errorf("a log has %s: …%s…", what, log[max(0, i-200):i])
			}
		}
	}
}

// A lockedBuffer is a log in memory.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
