package memstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/authserver/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) authserver.Store { return memstore.New() })
}

func TestGrants(t *testing.T) {
	storetest.RunGrants(t, func(*testing.T) authserver.GrantStore { return memstore.New() })
}

// The change feed forgets old changes, and must say so rather than leave them out.
func TestChangeFeedForgets(t *testing.T) {
	s := memstore.New()
	ctx := t.Context()
	const n = 10_001
	for i := range n {
		if err := s.CreateClient(ctx, &authserver.Client{ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if ids, last, complete, err := s.ClientChanges(ctx, 0, 1_000_000); complete || err != nil || last != n {
		t.Errorf("from the beginning: %d ids, last %d, complete %t, error %v, want incomplete", len(ids), last, complete, err)
	}
	if ids, _, complete, err := s.ClientChanges(ctx, 1, 1_000_000); !complete || err != nil || len(ids) != n-1 {
		t.Errorf("from the first change kept: %d ids, complete %t, error %v, want %d, true", len(ids), complete, err, n-1)
	}
}

func BenchmarkClient(b *testing.B) {
	s := memstore.New()
	if err := s.CreateClient(b.Context(), &authserver.Client{ID: "c", GrantTypes: []string{"client_credentials"}}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Client(b.Context(), "c"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUseOnce(b *testing.B) {
	s := memstore.New()
	expires := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if first, err := s.UseOnce(b.Context(), fmt.Sprint(i), expires); !first || err != nil {
			b.Fatal(first, err)
		}
	}
}
