package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func get(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

var quiet = slog.New(slog.DiscardHandler)

func TestEndpoints(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") })
	h := New(Config{Metrics: metrics, Revocation: func() any { return []string{"a"} }, Logger: quiet, Checks: []Check{
		{"store", func(context.Context) error { return nil }},
		{"signing keys", func(context.Context) error { return errors.New("there is none") }},
	}})
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/livez", 200, `{"alive":true}`},
		{"HEAD", "/livez", 200, ""},
		{"GET", "/readyz", 503, `{"ready":false,"checks":{"signing keys":"there is none","store":"ok"}}`},
		{"GET", "/metrics", 200, "metrics"},
		{"GET", "/revocation", 200, `["a"]`},
		{"POST", "/livez", 405, ""},
		{"DELETE", "/readyz", 405, ""},
		{"GET", "/", 404, ""},
		{"GET", "/token", 404, ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			w := get(h, test.method, test.path)
			if w.Code != test.status {
				t.Errorf("status %d, want %d", w.Code, test.status)
			}
			if test.body != "" && strings.TrimSpace(w.Body.String()) != test.body {
				t.Errorf("body %s, want %s", w.Body, test.body)
			}
		})
	}
}

func TestNoMetrics(t *testing.T) {
	if w := get(New(Config{Logger: quiet}), "GET", "/metrics"); w.Code != http.StatusNotFound {
		t.Errorf("status %d, want 404", w.Code)
	}
}

// Readiness goes away and comes back with what it depends on, and each change is
// logged once.
func TestReadinessFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		var logged bytes.Buffer
		h := New(Config{Logger: slog.New(slog.NewTextHandler(&logged, nil)), Checks: []Check{{"store", func(context.Context) error {
			if broken.Load() {
				return errors.New("the disk is gone")
			}
			return nil
		}}}})
		for _, step := range []struct {
			broken bool
			want   int
		}{{false, 200}, {false, 200}, {true, 503}, {true, 503}, {false, 200}} {
			broken.Store(step.broken)
			time.Sleep(time.Second)
			if w := get(h, "GET", "/readyz"); w.Code != step.want {
				t.Errorf("broken %t: status %d, want %d", step.broken, w.Code, step.want)
			}
		}
		if n := strings.Count(logged.String(), "\n"); n != 3 {
			t.Errorf("%d lines were logged, want 3:\n%s", n, logged.String())
		}
		h.Stop()
		w := get(h, "GET", "/readyz")
		var r Readiness
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != 503 || !r.Stopping {
			t.Errorf("stopping: status %d, %s", w.Code, w.Body)
		}
		if w := get(h, "GET", "/livez"); w.Code != 200 {
			t.Errorf("stopping is not dying: status %d, want 200", w.Code)
		}
	})
}

// Many probes at once are one look at the store.
func TestProbesAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		h := New(Config{Logger: quiet, Checks: []Check{{"store", func(context.Context) error {
			runs.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil
		}}}})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { get(h, "GET", "/readyz") })
		}
		wg.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("%d looks at the store, want 1", n)
		}
		time.Sleep(time.Second)
		get(h, "GET", "/readyz")
		if n := runs.Load(); n != 2 {
			t.Errorf("%d looks at the store a second later, want 2", n)
		}
	})
}

// A check that hangs makes the server unready, and does not make the probe hang.
func TestHangingCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := New(Config{Logger: quiet, Timeout: time.Second, Checks: []Check{
			{"good", func(context.Context) error { return nil }},
			{"hangs", func(context.Context) error { <-release; return nil }},
			{"ends with its context", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		}})
		start := time.Now()
		r := h.Ready(t.Context())
		if r.Ready || r.Checks["good"] != "ok" || r.Checks["hangs"] == "ok" || time.Since(start) != time.Second {
			t.Errorf("%+v after %v, want not ready after 1s", r, time.Since(start))
		}
		close(release)
	})
}
