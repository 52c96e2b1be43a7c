package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
)

var update = flag.Bool("update", false, "write the golden files")

// What differs from run to run, and what stands for it.
var varying = map[string]string{
	"time": "TIME", "request_id": "ID", "peer": "PEER", "serial": "SERIAL", "x5t#S256": "THUMBPRINT", "issuer_key_id": "KEY",
	"duration_ms": "MS", "bytes": "BYTES", "cause": "CAUSE",
}

var thumbprint = regexp.MustCompile(`[A-Za-z0-9_-]{43}`)

// settled replaces what differs from run to run.
func settled(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			if stand, ok := varying[name]; ok {
				v[name] = stand
			} else {
				v[name] = settled(v[name])
			}
		}
	case []any:
		for i := range v {
			v[i] = settled(v[i])
		}
	case string:
		return thumbprint.ReplaceAllString(v, "THUMBPRINT")
	}
	return value
}

// lastRecord waits for a record with a text and returns it.
func (w *world) lastRecord(t *testing.T, with string) string {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(w.log.String()) {
			if strings.Contains(line, with) {
				return line
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no record with %s:\n%s", with, w.log)
		}
	}
}

// One record for each outcome, as a collector gets it. The diff of the file is read in
// review: the names are a promise to whoever searches logs.
func TestRecordOfEachOutcome(t *testing.T) {
	t.Attr("requirement", "G-4.9-1")
	var revoked atomic.Bool
	asOf := time.Now().Add(-time.Hour)
	route := func(name, path string) *gateway.Route {
		return &gateway.Route{
			Name: name, Path: path, Hosts: []string{"rs.test"}, Methods: []string{"GET", "POST"},
			CheckCertificate: func(context.Context, *certsource.Presented) error {
				if revoked.Load() {
					return errors.New("revoked")
				}
				return nil
			},
			CertificateAsOf: func() time.Time { return asOf },
		}
	}
	w := newWorld(t, setup{
		routes:     []*gateway.Route{route("orders", "/orders")},
		target:     gateway.Target{Recheck: 50 * time.Millisecond},
		generation: func() uint64 { return 7 },
	})
	token := w.Token(t, w.L1, map[string]any{"jti": "id-7"})
	begun := make(chan struct{}, 1)
	w.serve(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/orders/cut":
			rw.Header().Set("Content-Length", "100")
			io.WriteString(rw, "half")
			http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		case "/orders/gone":
			panic(http.ErrAbortHandler)
		case "/orders/refused":
			rw.Header().Set(resourceserver.RequestIDHeader, "0123456789abcdef")
			rw.WriteHeader(http.StatusForbidden)
		case "/orders/stream", "/orders/leave":
			io.WriteString(rw, "first")
			http.NewResponseController(rw).Flush()
			begun <- struct{}{}
			<-r.Context().Done()
		default:
			io.WriteString(rw, content)
		}
	})
	var got strings.Builder
	wantRecord := func(title, with string) map[string]any {
		t.Helper()
		var record map[string]any
		if err := json.Unmarshal([]byte(w.lastRecord(t, with)), &record); err != nil {
			t.Fatal(err)
		}
		raw := maps.Clone(record)
		for _, name := range []string{"revocation_age_ms", "certificate_revocation_age_ms"} {
			if ms, ok := record[name].(float64); ok && (ms < 3_600_000 || ms > 4_000_000) {
				t.Errorf("%s: %s is %v, want an hour", title, name, ms)
			} else if ok {
				record[name] = "AN HOUR"
			}
		}
		text, err := json.MarshalIndent(settled(record), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("== " + title + "\n" + string(text) + "\n")
		return raw
	}
	leaf, other := w.client(w.L1, nil), w.client(w.L2, nil)

	a := w.do(leaf, "GET", "/orders/1?secret=1", token)
	raw := wantRecord("allowed", `"path":"/orders/1"`)
	if id := a.header.Get(resourceserver.RequestIDHeader); id == "" || id != raw["request_id"] || w.last().Header.Get(resourceserver.RequestIDHeader) != id {
		t.Errorf("the client has the id %q, the record %q", id, raw["request_id"])
	}
	a = w.do(other, "GET", "/orders/2", token)
	raw = wantRecord("refused", `"path":"/orders/2"`)
	if id := a.header.Get(resourceserver.RequestIDHeader); id == "" || id != raw["request_id"] {
		t.Errorf("the client has the id %q, the record %q", id, raw["request_id"])
	}
	w.do(leaf, "GET", "/elsewhere", token)
	wantRecord("refused: no route", `"path":"/elsewhere"`)
	w.do(leaf, "GET", "/orders/refused", token, func(r *http.Request) { r.Header.Set(resourceserver.RequestIDHeader, "forged") })
	wantRecord("allowed, but refused by the upstream", `"path":"/orders/refused"`)
	a = w.do(leaf, "POST", "/orders/gone", token)
	raw = wantRecord("failed: no answer", `"path":"/orders/gone"`)
	if id := a.header.Get(resourceserver.RequestIDHeader); a.status != http.StatusBadGateway || id == "" || id != raw["request_id"] {
		t.Errorf("status %d, the client has the id %q, the record %q", a.status, id, raw["request_id"])
	}

	stream := func(path string) (cancel func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", "https://rs.test"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := leaf.Do(req)
		if err == nil { // or it was cut off with the header
			go func() { io.Copy(io.Discard, resp.Body); resp.Body.Close() }()
		}
		return cancel
	}
	cut := stream("/orders/cut")
	defer cut()
	wantRecord("failed: half an answer", `"path":"/orders/cut"`)
	leave := stream("/orders/leave")
	<-begun
	leave()
	wantRecord("aborted", `"path":"/orders/leave"`)
	end := stream("/orders/stream")
	defer end()
	<-begun
	revoked.Store(true)
	wantRecord("ended", `"path":"/orders/stream"`)

	for _, secret := range []string{token, "secret=1", "forged"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	file := filepath.Join("testdata", "records.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("%s differs; got\n%s", file, got.String())
	}
	documented(t, got.String())
}

// documented makes sure that each name of a record stands in the table of the page.
func documented(t *testing.T, golden string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "gateway.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^  "([^"]+)":`).FindAllStringSubmatch(golden, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	for _, name := range names {
		if !strings.Contains(string(page), "| `"+name+"`") && !strings.Contains(string(page), ", `"+name+"`") {
			t.Errorf("docs/gateway.md: the table of the record has no %s", name)
		}
	}
}
