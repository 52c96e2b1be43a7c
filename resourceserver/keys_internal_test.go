package resourceserver

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
)

// Two calls bring the first tokens of a new key at the same time. One has fetched the
// keys and not stored them yet when the other is told that no further fetch is due. The
// second call was judged by the old keys and refused; now it takes what was fetched.
func TestKeysOfAFetchThatIsNotStoredYet(t *testing.T) {
	var kid atomic.Value
	kid.Store("old")
	key := pkitest.MustKey(pkitest.P256)
	var fetches atomic.Int32
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: key.Public(), KeyID: kid.Load().(string), Algorithm: "ES256", Use: "sig"}}})
	}))
	defer srv.Close()
	fetcher := jwks.NewFetcher(jwks.FetcherConfig{Client: srv.Client()})
	k := &issuerKeys{uri: srv.URL, fetcher: fetcher, every: time.Hour, maxAge: time.Hour, retry: time.Second,
		timeout: 10 * time.Second, now: time.Now, logger: slog.New(slog.DiscardHandler)}
	old, err := k.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kid.Store("new")
	if _, fresh, err := fetcher.Refetch(t.Context(), srv.URL); err != nil || !fresh { // the first call, so far
		t.Fatal(fresh, err)
	}
	s, err := k.refetch(t.Context(), old) // the second
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.find("new", "ES256"); !ok {
		t.Error("the key that was fetched is not found")
	}
	// Nobody makes the keys anew, or fetches, for a kid that does not exist.
	if again, err := k.refetch(t.Context(), s); err != nil || again != s || fetches.Load() != 2 {
		t.Errorf("another snapshot %v, %d fetches, %v", again != s, fetches.Load(), err)
	}
}
