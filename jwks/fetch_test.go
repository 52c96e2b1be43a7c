package jwks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
)

// A site is an https server with a key set that a test changes.
type site struct {
	*httptest.Server
	requests atomic.Int64
	handler  atomic.Pointer[http.HandlerFunc]
}

func newSite(t *testing.T, h http.HandlerFunc) *site {
	s := &site{}
	s.serve(h)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) serve(h http.HandlerFunc) { s.handler.Store(&h) }

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
}

// clock is a Now that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
}

func newFetcher(s *site, c *clock) *jwks.Fetcher {
	return jwks.NewFetcher(jwks.FetcherConfig{Client: s.Client(), Now: c.Now})
}

func get(t *testing.T, f *jwks.Fetcher, url string) *jwks.Set {
	t.Helper()
	set, err := f.Get(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func set(t *testing.T) string {
	return string(document(t, jwk(t, pkitest.MustSelfSigned(pkitest.LeafOptions{}).Cert.Raw)))
}

func TestGetCacheHeaders(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"none", nil, 5 * time.Minute},
		{"max-age", http.Header{"Cache-Control": {"public, max-age=600"}}, 10 * time.Minute},
		{"max-age in quotes", http.Header{"Cache-Control": {`Max-Age="600"`}}, 10 * time.Minute},
		{"max-age less Age", http.Header{"Cache-Control": {"max-age=600"}, "Age": {"300"}}, 5 * time.Minute},
		{"more than a day", http.Header{"Cache-Control": {"max-age=31536000"}}, 24 * time.Hour},
		{"out of range", http.Header{"Cache-Control": {"max-age=99999999999999999999999"}}, 24 * time.Hour},
		{"less than a minute", http.Header{"Cache-Control": {"max-age=0"}}, time.Minute},
		{"negative", http.Header{"Cache-Control": {"max-age=-1"}}, time.Minute},
		{"no number", http.Header{"Cache-Control": {"max-age=soon"}}, time.Minute},
		{"twice", http.Header{"Cache-Control": {"max-age=600", "max-age=3600"}}, time.Minute},
		{"no-store", http.Header{"Cache-Control": {"max-age=600, no-store"}}, time.Minute},
		{"no-cache", http.Header{"Cache-Control": {"no-cache"}}, time.Minute},
		{"Expires", http.Header{"Date": {"Sun, 06 Nov 1994 08:00:00 GMT"}, "Expires": {"Sun, 06 Nov 1994 09:00:00 GMT"}}, time.Hour},
		{"Expires is not a date", http.Header{"Expires": {"0"}}, time.Minute},
		{"max-age before Expires", http.Header{"Cache-Control": {"max-age=600"}, "Expires": {"0"}}, 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := set(t)
			s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
				for name, values := range tt.header {
					w.Header()[name] = values
				}
				io.WriteString(w, body)
			})
			c := newClock()
			f := newFetcher(s, c)
			get(t, f, s.URL)
			c.add(tt.want - time.Second)
			get(t, f, s.URL)
			if n := s.requests.Load(); n != 1 {
				t.Errorf("%d requests a second before the end, want 1", n)
			}
			c.add(time.Second)
			get(t, f, s.URL)
			if n := s.requests.Load(); n != 2 {
				t.Errorf("%d requests at the end, want 2", n)
			}
		})
	}
}

func TestGetRefuses(t *testing.T) {
	body := set(t)
	other := newSite(t, text(body))
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
	}{
		{"status 500", status(500)},
		{"status 404", status(404)},
		{"status 204", status(204)},
		{"not JSON", text("<html>")},
		{"empty", text("")},
		{"no key set", text(`{"keys":{}}`)},
		{"redirect to another host", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }},
		{"redirect to http", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+r.Host+"/x", http.StatusFound)
		}},
		{"redirect in a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, body[:100])
		}},
		{"100 MB", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"keys":[`)
			for chunk := strings.Repeat(" ", 1<<20); r.Context().Err() == nil; {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}},
		{"never ends", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"keys":[`)
			w.(http.Flusher).Flush()
			select {
			case <-never:
			case <-r.Context().Done():
			}
		}},
		{"never begins", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-never:
			case <-r.Context().Done():
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.h)
			client := jwks.Guard(jwks.GuardConfig{AllowPrivate: true, RootCAs: s.pool()})
			c := newClock()
			f := jwks.NewFetcher(jwks.FetcherConfig{Client: client, Timeout: 500 * time.Millisecond, Now: c.Now})
			got, err := f.Get(t.Context(), s.URL)
			if !isError(err) || got != nil {
				t.Fatalf("got %v, %v", got, err)
			}
			// The failure is the answer for a while: nobody can make us knock on.
			before := s.requests.Load()
			for range 10 {
				if got, err := f.Get(t.Context(), s.URL); !isError(err) || got != nil {
					t.Fatalf("got %v, %v", got, err)
				}
				if got, fresh, err := f.Refetch(t.Context(), s.URL); !isError(err) || got != nil || fresh {
					t.Fatalf("got %v, %v, %v", got, fresh, err)
				}
			}
			if n := s.requests.Load(); n != before {
				t.Errorf("%d more requests", n-before)
			}
			// And the site can recover.
			s.serve(text(body))
			c.add(30 * time.Second)
			if set := get(t, f, s.URL); len(set.Certificates) != 1 {
				t.Errorf("%d certificates", len(set.Certificates))
			}
		})
	}
	if n := other.requests.Load(); n != 0 {
		t.Errorf("the other host saw %d requests", n)
	}
}

// A client of the caller's that follows redirects anywhere does not weaken the rule.
func TestGetForeignClientRedirect(t *testing.T) {
	other := newSite(t, text(set(t)))
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	client := jwks.Guard(jwks.GuardConfig{AllowPrivate: true, RootCAs: s.pool()})
	client.CheckRedirect = nil
	if got, err := jwks.NewFetcher(jwks.FetcherConfig{Client: client}).Get(t.Context(), s.URL); !isError(err) || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestCheckURL(t *testing.T) {
	for _, tt := range []struct {
		url string
		ok  bool
	}{
		{"https://client.test/jwks", true},
		{"https://client.test:8443/jwks?v=1", true},
		{"https://[2001:db8::1]/jwks", true},
		{"HTTPS://client.test", true},
		{"http://client.test/jwks", false},
		{"", false},
		{"client.test/jwks", false},
		{"https:client.test", false},
		{"https:///jwks", false},
		{"https://user@client.test/jwks", false},
		{"https://client.test/jwks#k1", false},
		{"https://client.test/jwks#", false},
		{"https://client.test/%zz", false},
		{"https://client.test/\n", false},
		{"file:///etc/passwd", false},
		{"https://client.test/" + strings.Repeat("a", 2048), false},
	} {
		t.Run(tt.url[:min(len(tt.url), 40)], func(t *testing.T) {
			err := jwks.CheckURL(tt.url)
			if (err == nil) != tt.ok || err != nil && !isError(err) {
				t.Errorf("got %v", err)
			}
			if tt.ok {
				return
			}
			f := jwks.NewFetcher(jwks.FetcherConfig{})
			if got, err := f.Get(t.Context(), tt.url); !isError(err) || got != nil {
				t.Errorf("Get: %v, %v", got, err)
			}
			if got, _, err := f.Refetch(t.Context(), tt.url); !isError(err) || got != nil {
				t.Errorf("Refetch: %v, %v", got, err)
			}
		})
	}
}

// A key set that has moved on: the new one is there at the first miss, and an attacker
// with many unknown certificates causes one fetch in 30 seconds.
func TestRefetch(t *testing.T) {
	s := newSite(t, text(set(t)))
	c := newClock()
	f := newFetcher(s, c)
	get(t, f, s.URL)

	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
	s.serve(text(string(document(t, jwk(t, leaf.Cert.Raw)))))
	got, fresh, err := f.Refetch(t.Context(), s.URL)
	if err != nil || !fresh || len(got.Certificates) != 1 || !bytes.Equal(got.Certificates[0], leaf.Cert.Raw) {
		t.Fatalf("the new set is not there: %v, %v", fresh, err)
	}
	for range 100 {
		c.add(299 * time.Millisecond)
		if got, fresh, err := f.Refetch(t.Context(), s.URL); err != nil || fresh || got == nil {
			t.Fatalf("got %v, %v, %v", got, fresh, err)
		}
	}
	if n := s.requests.Load(); n != 2 {
		t.Errorf("%d requests within 30 seconds of the miss, want 2", n)
	}
	c.add(time.Second)
	if _, fresh, err := f.Refetch(t.Context(), s.URL); err != nil || !fresh {
		t.Errorf("after 30 seconds: %v, %v", fresh, err)
	}
	if n := s.requests.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// A failure never evicts a good copy, and never makes it live longer than MaxAge.
func TestFailureKeepsGoodCopy(t *testing.T) {
	s := newSite(t, text(set(t)))
	c := newClock()
	f := newFetcher(s, c)
	good := get(t, f, s.URL)
	for _, h := range []http.HandlerFunc{status(500), text("<html>"), text(`{"keys":1}`)} {
		s.serve(h)
		c.add(6 * time.Minute)
		if got := get(t, f, s.URL); got != good {
			t.Error("Get: the good copy is gone")
		}
		c.add(time.Minute)
		if got, fresh, err := f.Refetch(t.Context(), s.URL); got != good || fresh || err != nil {
			t.Errorf("Refetch: %v, %v, %v", got, fresh, err)
		}
	}
	c.add(24 * time.Hour)
	if got, err := f.Get(t.Context(), s.URL); !isError(err) || got != nil {
		t.Errorf("after MaxAge: %v, %v", got, err)
	}
	// The last key withdrawn is an answer, not a failure.
	s.serve(text(`{"keys":[]}`))
	c.add(time.Minute)
	if got := get(t, f, s.URL); len(got.Keys) != 0 {
		t.Errorf("%d keys", len(got.Keys))
	}
}

// A removed certificate stops to count when the copy ends, without any miss.
func TestRemovalCounts(t *testing.T) {
	s := newSite(t, text(set(t)))
	c := newClock()
	f := newFetcher(s, c)
	get(t, f, s.URL)
	s.serve(text(`{"keys":[]}`))
	c.add(5 * time.Minute)
	if got := get(t, f, s.URL); len(got.Certificates) != 0 {
		t.Error("the removed certificate still counts")
	}
}

func TestCoalescing(t *testing.T) {
	body := set(t)
	release := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		io.WriteString(w, body)
	})
	f := newFetcher(s, newClock())

	// The caller that began the fetch goes away; the others still get their answer.
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := f.Get(ctx, s.URL)
		gone <- err
	}()
	for s.requests.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if i%2 == 0 {
				if _, err := f.Get(t.Context(), s.URL); err != nil {
					t.Error(err)
				}
			} else if _, _, err := f.Refetch(t.Context(), s.URL); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // most of them wait by now
	close(release)
	wg.Wait()
	// A Refetch that came after the first answer may make one more, by a miss.
	if n := s.requests.Load(); n > 2 {
		t.Errorf("%d requests", n)
	}
}

// roundTripper answers without a network, so that time can be a bubble's.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestMaxConcurrent(t *testing.T) {
	body := set(t)
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		f := jwks.NewFetcher(jwks.FetcherConfig{
			MaxConcurrent: 2,
			Timeout:       5 * time.Second,
			Client: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(2 * time.Second)
				now.Add(-1)
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			})},
		})
		var wg sync.WaitGroup
		var failed atomic.Int64
		for i := range 10 {
			wg.Go(func() {
				if _, err := f.Get(t.Context(), fmt.Sprintf("https://c%d.test/", i)); err != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		// Two at a time of two seconds each: the rest has waited longer than a fetch may take.
		if most.Load() != 2 || failed.Load() != 4 {
			t.Errorf("%d at one time, %d failed", most.Load(), failed.Load())
		}
	})
}

func TestMaxURLs(t *testing.T) {
	body := set(t)
	s := newSite(t, text(body))
	f := jwks.NewFetcher(jwks.FetcherConfig{Client: s.Client(), MaxURLs: 2, Now: newClock().Now})
	for _, path := range []string{"/a", "/b", "/a", "/c", "/a", "/b"} { // c evicts b
		get(t, f, s.URL+path)
	}
	if n := s.requests.Load(); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

func BenchmarkGetCached(b *testing.B) {
	f := jwks.NewFetcher(jwks.FetcherConfig{Client: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"keys":[]}`)), Request: r}, nil
	})}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Get(b.Context(), "https://client.test/jwks"); err != nil {
			b.Fatal(err)
		}
	}
}
