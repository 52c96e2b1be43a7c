package sqlite

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/storetest"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: filepath.Join(dir, "certbound.db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) authserver.Store { return open(t, t.TempDir()) })
}

func TestStoreDurable(t *testing.T) {
	storetest.RunDurable(t, func(t *testing.T, dir string) authserver.Store { return open(t, dir) })
}

func TestGrants(t *testing.T) {
	storetest.RunGrants(t, func(t *testing.T) authserver.GrantStore { return open(t, t.TempDir()) })
}

func TestGrantsDurable(t *testing.T) {
	storetest.RunGrantsDurable(t, func(t *testing.T, dir string) authserver.GrantStore { return open(t, dir) })
}
