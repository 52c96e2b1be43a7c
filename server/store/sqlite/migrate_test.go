package sqlite

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
)

// A database of the first version, with revoked tokens and a certificate, is taken over:
// the tokens get numbers, so that the feed has them.
func TestMigrateRevocations(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	name := filepath.Join(dir, "certbound.db")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+name+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithTableName("schema_versions"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(ctx, 1); err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	statements := []string{
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf(`INSERT INTO certificates (thumbprint, issuer_key_id, serial, subject, client_id, not_after, tokens_until)
			VALUES ('t', 'aa', '1', 'CN=a', 'c', %d, %d)`, micros(expires), micros(expires)),
	}
	const n = 5
	for i := range n { // the last of them expires first
		statements = append(statements, fmt.Sprintf("INSERT INTO revocations (jti, expires) VALUES ('%d', %d)", i, micros(expires.Add(-time.Duration(i)*time.Minute))))
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s := open(t, dir)
	defer s.Close()
	page, err := s.Revocations(ctx, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) != n || page.Last != n || page.Feed == "" {
		t.Fatalf("the feed has %d entries up to %d, name %q", len(page.Entries), page.Last, page.Feed)
	}
	for i, e := range page.Entries {
		if want := fmt.Sprint(n - 1 - i); e.Number != int64(i)+1 || e.JTI != want {
			t.Errorf("entry %d is %+v, want %s", i, e, want)
		}
	}
	if err := s.Revoke(ctx, "new", expires); err != nil {
		t.Fatal(err)
	}
	if page, err = s.Revocations(ctx, n, 100); err != nil || len(page.Entries) != 1 || page.Entries[0].Number != n+1 {
		t.Errorf("a new one: %+v, error %v", page, err)
	}
	c, err := s.Certificate(ctx, "t")
	if err != nil || !c.FirstSeen.IsZero() || c.Subject != "CN=a" {
		t.Errorf("the certificate is %+v, error %v", c, err)
	}
}
