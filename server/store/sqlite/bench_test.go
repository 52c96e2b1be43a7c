package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

func benchClients(b *testing.B, n int) *Store {
	b.Helper()
	s := open(b, b.TempDir())
	b.Cleanup(func() { s.Close() })
	err := s.ImportClients(b.Context(), func(yield func(*authserver.Client) bool) {
		for i := range n {
			if !yield(&authserver.Client{
				ID: fmt.Sprintf("client-%07d", i), AuthMethod: "tls_client_auth",
				SubjectDN:  fmt.Sprintf("CN=client-%07d.example.com,OU=Machines,O=Agora,C=GR", i),
				GrantTypes: []string{"client_credentials"}, Scope: "accounts payments",
				Created: time.Unix(1_700_000_000, 0).UTC(),
			}) {
				return
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// Reading by key, and what is left of it when the JSON is taken away.
func BenchmarkClient(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			s := benchClients(b, n)
			ctx := b.Context()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := s.Client(ctx, fmt.Sprintf("client-%07d", i*7919%n)); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkRevoked(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close()
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Revoked(ctx, "jti"); err != nil {
			b.Fatal(err)
		}
	}
}

// One token in one commit, as each of so many goroutines at once sees it per token.
func BenchmarkSaveToken(b *testing.B) {
	for _, writers := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, b.TempDir())
			defer s.Close()
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range writers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						name := fmt.Sprint(i)
						if err := s.SaveToken(context.Background(), &authserver.OpaqueToken{
							Hash: sha256.Sum256([]byte(name)), JTI: name, ClientID: "client", Subject: "client",
							Scope: "accounts", Audience: []string{"https://api.example.com"}, Expires: far,
						}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// The floor of a durable write: the same bytes appended to a file and flushed.
func BenchmarkRawCommit(b *testing.B) {
	b.Run("append and fsync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		frames := make([]byte, 3*4120) // three pages, with the header of each
		for b.Loop() {
			if _, err := f.Write(frames); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one row by SQL", func(b *testing.B) {
		s := open(b, b.TempDir())
		defer s.Close()
		s.writer.close()
		ctx := b.Context()
		i := 0
		for b.Loop() {
			tx, err := s.writer.db.BeginTx(ctx, nil)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := tx.Exec("INSERT INTO revocations (jti, expires) VALUES (?, ?)", fmt.Sprint(i), 1); err != nil {
				b.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
}

func BenchmarkImportClients(b *testing.B) {
	for b.Loop() {
		benchClients(b, 10_000)
	}
}
