package sqlite

import (
	"context"
	"crypto/sha256"
	"errors"
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
			if _, err := tx.Exec("INSERT INTO grant_tokens (grant_id, jti, expires) VALUES ('', ?, ?)", fmt.Sprint(i), 1); err != nil {
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

// What a person's flow writes, by 64 requests at once, beside what a commit costs alone on
// the same disk in the same run: "commits" is how many commits the disk would have needed
// for one write, had it had one of its own. Below 1, requests share commits.
func BenchmarkGrants(b *testing.B) {
	const writers = 64
	run := func(b *testing.B, prepare, write func(s *Store, i int) error) {
		s := open(b, b.TempDir())
		defer s.Close()
		each := func(do func(s *Store, i int) error) {
			var next atomic.Int64
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						if err := do(s, int(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		}
		alone := rawCommit(b, s)
		if prepare != nil {
			each(prepare)
		}
		b.ReportAllocs()
		b.ResetTimer()
		each(write)
		b.StopTimer()
		perWrite := b.Elapsed() / time.Duration(b.N)
		b.ReportMetric(float64(time.Second)/float64(perWrite), "writes/s")
		b.ReportMetric(float64(time.Second)/float64(alone), "rawcommits/s")
		b.ReportMetric(float64(perWrite)/float64(alone), "commits")
	}
	ctx := b.Context()
	parameters := []byte(`{"client_id":"client","response_type":"code","redirect_uri":"https://client.example.com/callback","scope":"openid accounts payments","state":"af0ifjsldkj","nonce":"n-0S6_WzA2Mj","code_challenge":"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM","code_challenge_method":"S256"}`)
	request := func(i int) *authserver.AuthorizationRequest {
		return &authserver.AuthorizationRequest{Hash: sum(fmt.Sprint(i)), ClientID: "client", Pushed: true, Parameters: parameters, Created: begun, Expires: far}
	}
	authorize := func(s *Store, i int) error {
		r, id := request(i), fmt.Sprint(i)
		r.Version = 1
		return s.Authorize(ctx, r, &authserver.Grant{ID: id, ClientID: "client", Subject: "alice", Scope: "openid accounts payments", Created: begun, Expires: far},
			&authserver.Code{Hash: sum(id), GrantID: id, ClientID: "client", RedirectURI: "https://client.example.com/callback", Expires: far}, nil)
	}
	par := func(s *Store, i int) error { return s.SaveRequest(ctx, request(i)) }
	redeem := func(s *Store, i int) error { return redeemOne(s, fmt.Sprint(i), fmt.Sprint(i, " refresh")) }
	b.Run("par", func(b *testing.B) { run(b, nil, par) })
	b.Run("authorize", func(b *testing.B) { run(b, par, authorize) })
	b.Run("code", func(b *testing.B) {
		run(b, func(s *Store, i int) error { return errors.Join(par(s, i), authorize(s, i)) }, redeem)
	})
	for name, rotate := range map[string]bool{"refresh": false, "refresh rotated": true} {
		b.Run(name, func(b *testing.B) {
			run(b, func(s *Store, i int) error { return errors.Join(par(s, i), authorize(s, i), redeem(s, i)) },
				func(s *Store, i int) error {
					issued := issuedTo(fmt.Sprint(i), fmt.Sprint(i, " next"))
					if !rotate {
						issued.Refresh = nil
					}
					return s.Refresh(ctx, sum(fmt.Sprint(i, " refresh")), begun, 0, far.Add(time.Hour), issued)
				})
		})
	}
}

// rawCommit measures how long a transaction with one row takes, alone, on the disk of s.
func rawCommit(b *testing.B, s *Store) time.Duration {
	b.Helper()
	const n = 50
	start := time.Now()
	for i := range n {
		if err := s.Revoke(b.Context(), fmt.Sprint("raw ", i), far); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / n
}
