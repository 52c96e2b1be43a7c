package probe_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/probe"
)

var quiet = slog.New(slog.DiscardHandler)

// A store that counts what it is asked.
type countingStore struct {
	*memstore.Store
	reads atomic.Int64
	fail  error
}

func (s *countingStore) Token(ctx context.Context, hash [32]byte) (*authserver.OpaqueToken, error) {
	s.reads.Add(1)
	if s.fail != nil {
		return nil, s.fail
	}
	return s.Store.Token(ctx, hash)
}

// server serves probes before a handler that knows nothing of them.
func server(t *testing.T, cfg probe.Config) string {
	t.Helper()
	cfg.Logger = quiet
	srv := httptest.NewUnstartedServer(probe.Handler(cfg, http.NotFoundHandler()))
	srv.Config.ConnContext = certsource.ConnContext
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// ask sends a probe; the answer is nil if the server knows of none.
func ask(t *testing.T, url, authorization string, header http.Header) *probe.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+probe.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("status %d", res.StatusCode)
		}
		return nil
	}
	a := new(probe.Answer)
	if err := json.NewDecoder(res.Body).Decode(a); err != nil {
		t.Fatal(err)
	}
	return a
}

// Only the credential opens the answer, for as long as it is good; everything else finds
// what a path finds that nobody serves.
func TestCredential(t *testing.T) {
	store := &countingStore{Store: memstore.New()}
	now := time.Now()
	clock := atomic.Int64{}
	url := server(t, probe.Config{Listener: "mtls", Store: store, Now: func() time.Time { return now.Add(time.Duration(clock.Load())) }})
	credential, expires, err := probe.Create(t.Context(), store, time.Minute, now)
	if err != nil || !expires.Equal(now.Add(time.Minute)) || !probe.WellFormed(credential) {
		t.Fatal(credential, expires, err)
	}
	other := "cbp_" + strings.Repeat("A", 43)
	opaque := "cbt_" + strings.Repeat("B", 43)
	if err := store.SaveToken(t.Context(), &authserver.OpaqueToken{Hash: sha256.Sum256([]byte(opaque)), JTI: "x", Audience: []string{"https://api"}, Expires: expires}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, authorization string
		want                bool
	}{
		{"none", "", false},
		{"another", "Bearer " + other, false},
		{"an access token", "Bearer " + opaque, false},
		{"another scheme", "Basic " + credential, false},
		{"cut", "Bearer " + credential[:40], false},
		{"right", "Bearer " + credential, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := ask(t, url, tt.authorization, nil); (a != nil) != tt.want {
				t.Errorf("%+v", a)
			}
		})
	}
	clock.Store(int64(time.Minute))
	if a := ask(t, url, "Bearer "+credential, nil); a != nil {
		t.Errorf("after its end: %+v", a)
	}
	// To the rest of the server it is no token.
	if _, err := store.Store.Token(t.Context(), sha256.Sum256([]byte(credential))); !errors.Is(err, authserver.ErrNotFound) {
		t.Errorf("introspection would find it: %v", err)
	}
	for _, lifetime := range []time.Duration{-1, time.Millisecond, probe.MaxLifetime + 1} {
		if c, _, err := probe.Create(t.Context(), store, lifetime, now); err == nil || c != "" {
			t.Errorf("lifetime %s", lifetime)
		}
	}
}

// A stranger cannot make the store work: what is no credential by its form is not looked
// up, and what is, only so often. A good one is not asked for again with every request.
func TestLookups(t *testing.T) {
	store := &countingStore{Store: memstore.New()}
	now := time.Now()
	url := server(t, probe.Config{Listener: "mtls", Store: store, Now: func() time.Time { return now }})
	for range 100 {
		ask(t, url, "Bearer cbp_x", nil)
	}
	if n := store.reads.Load(); n != 0 {
		t.Errorf("%d look-ups of what is no credential", n)
	}
	for range 100 {
		ask(t, url, "Bearer cbp_"+strings.Repeat("A", 43), nil)
	}
	if n := store.reads.Load(); n != 20 {
		t.Errorf("%d look-ups in one second", n)
	}
	now = now.Add(time.Second)
	credential, _, err := probe.Create(t.Context(), store, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	store.reads.Store(0)
	for range 50 {
		if ask(t, url, "Bearer "+credential, nil) == nil {
			t.Fatal("not believed")
		}
	}
	if n := store.reads.Load(); n != 1 {
		t.Errorf("%d look-ups of a good one", n)
	}
	store.fail = errors.New("down")
	now = now.Add(3 * time.Second)
	if a := ask(t, url, "Bearer "+credential, nil); a != nil {
		t.Errorf("while the store is down: %+v", a)
	}
}

// The answer is what the source of the listener says.
func TestAnswer(t *testing.T) {
	store := memstore.New()
	credential, _, err := probe.Create(t.Context(), store, 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=../../etc/passwd,O=Agora"})
	nginx, err := certsource.NewPreset("nginx", certsource.PresetConfig{Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := certsource.NewPreset("nginx", certsource.PresetConfig{Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}})
	if err != nil {
		t.Fatal(err)
	}
	forward := func(name string) http.Header {
		for _, p := range certsource.Presets() {
			if p.Name == name {
				return p.Forward(leaf.Cert)
			}
		}
		return nil
	}
	twice := forward("nginx")
	twice["X-Ssl-Client-Cert"] = append(twice["X-Ssl-Client-Cert"], "x")
	for _, tt := range []struct {
		name    string
		source  certsource.Source
		header  http.Header
		kind    string
		reason  decision.Reason
		arrived int
	}{
		{"no source", nil, forward("nginx"), "none", "", 2},
		{"the proxy's", nginx, forward("nginx"), "certificate", "", 2},
		{"another proxy's", nginx, forward("traefik"), "none", "", 1},
		{"twice", nginx, twice, "none", decision.SourceRepeated, 2},
		{"from a stranger", elsewhere, forward("nginx"), "none", decision.SourceUntrusted, 2},
		{"nothing", nginx, nil, "none", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := server(t, probe.Config{Listener: "mtls", Source: tt.source, Store: store})
			a := ask(t, url, "Bearer "+credential, tt.header)
			if a == nil || a.Kind != tt.kind || a.Reason != tt.reason || len(a.Arrived) != tt.arrived || a.Listener != "mtls" || a.Peer == "" {
				t.Fatalf("%+v", a)
			}
			want := ""
			if tt.kind == "certificate" {
				want = certbound.Thumbprint(leaf.Cert)
			}
			if a.Thumbprint != want || (a.Subject != "") != (want != "") {
				t.Errorf("%+v", a)
			}
		})
	}
}
