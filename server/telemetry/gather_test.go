package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// A writes notes each write. With room set it takes that many bytes in all, and then has no
// more; with gate set it waits for it.
type writes struct {
	mu   sync.Mutex
	list []string
	room int
	gate chan struct{}
}

var errFull = errors.New("no space left")

func (w *writes) Write(b []byte) (int, error) {
	if w.gate != nil {
		<-w.gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.room > 0 && len(b) > w.room {
		w.list = append(w.list, string(b[:w.room]))
		return w.room, errFull
	}
	w.list = append(w.list, string(b))
	return len(b), nil
}

func (w *writes) take() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list, w.list = w.list, nil
	return list
}

func jsonLogger(t *testing.T, w io.Writer) *slog.Logger {
	t.Helper()
	l, err := NewLogger(w, FormatJSON, "info")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func later(t *testing.T, l *slog.Logger, text string, attrs ...slog.Attr) {
	t.Helper()
	if err := l.Handler().(LaterHandler).LogLater(t.Context(), time.Now(), text, attrs); err != nil {
		t.Error(err)
	}
}

// texts returns the messages of records, and checks that each line is one.
func texts(t *testing.T, written string) (list []string) {
	t.Helper()
	for line := range strings.Lines(written) {
		_, rest, ok := strings.Cut(line, `"msg":"`)
		text, _, ok2 := strings.Cut(rest, `"`)
		if !ok || !ok2 || !strings.HasPrefix(line, `{"time":`) || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("not a record: %q", line)
		}
		list = append(list, text)
	}
	return list
}

func TestRecordsThatWait(t *testing.T) {
	expect := func(t *testing.T, w *writes, want ...string) {
		t.Helper()
		var got []string
		for _, one := range w.take() {
			got = append(got, strings.Join(texts(t, one), " "))
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("written %q, want %q", got, want)
		}
	}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, l *slog.Logger, w *writes)
	}{
		{"one after a pause is written at once", func(t *testing.T, l *slog.Logger, w *writes) {
			for _, text := range []string{"a", "b"} {
				later(t, l, text)
				expect(t, w, text)
				time.Sleep(gatherFor)
			}
		}},
		{"those of a busy moment go out together, and soon", func(t *testing.T, l *slog.Logger, w *writes) {
			for _, text := range []string{"a", "b", "c"} {
				later(t, l, text)
			}
			expect(t, w, "a")
			time.Sleep(gatherFor)
			synctest.Wait()
			expect(t, w, "b c")
		}},
		{"one that does not wait brings those before it", func(t *testing.T, l *slog.Logger, w *writes) {
			for _, text := range []string{"a", "b", "c"} {
				later(t, l, text)
			}
			l.Info("d")
			expect(t, w, "a", "b c d")
			later(t, l, "e")
			l.With("x", 1).Error("f")
			expect(t, w, "e f")
			time.Sleep(10 * gatherFor)
			expect(t, w)
		}},
		{"one that has to be escaped, or has something to strike out, does not wait", func(t *testing.T, l *slog.Logger, w *writes) {
			for _, text := range []string{"a", "b"} {
				later(t, l, text)
			}
			later(t, l, "c", slog.String("subject", "CN=Ä"))
			expect(t, w, "a", "b c")
		}},
		{"after the end nothing waits", func(t *testing.T, l *slog.Logger, w *writes) {
			for _, text := range []string{"a", "b", "c"} {
				later(t, l, text)
			}
			if err := CloseLog(l); err != nil {
				t.Error(err)
			}
			expect(t, w, "a", "b c")
			later(t, l, "d")
			later(t, l, "e")
			expect(t, w, "d", "e")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := new(writes)
				tt.run(t, jsonLogger(t, w), w)
			})
		})
	}
}

// While the disk stands still, what waits stays within its bound: requests wait, too. In the
// end each record is there, once, whole, and in the order of the one who wrote it.
func TestNothingIsLostBehindASlowLog(t *testing.T) {
	w := &writes{gate: make(chan struct{})}
	l := jsonLogger(t, w)
	const writers, each = 8, 400
	padding := slog.String("padding", strings.Repeat("x", 100))
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for k := range each {
				later(t, l, fmt.Sprintf("%d-%03d", i, k), padding)
			}
		})
	}
	g := l.Handler().(*jsonHandler).out
	go func() {
		for range 100 {
			w.gate <- struct{}{}
			g.mu.Lock()
			if len(g.waiting) > maxGathered {
				t.Errorf("%d bytes wait, want at most %d", len(g.waiting), maxGathered)
			}
			g.mu.Unlock()
		}
		close(w.gate)
	}()
	wg.Wait()
	if err := CloseLog(l); err != nil {
		t.Fatal(err)
	}
	next, n := make([]int, writers), 0
	for _, text := range texts(t, strings.Join(w.take(), "")) {
		var i, k int
		if _, err := fmt.Sscanf(text, "%d-%d", &i, &k); err != nil {
			t.Fatal(err)
		}
		if next[i] != k {
			t.Fatalf("record %d of writer %d comes when %d is due", k, i, next[i])
		}
		next[i]++
		n++
	}
	if n != writers*each || LostRecords(l) != 0 {
		t.Errorf("%d records, %d lost; want %d", n, LostRecords(l), writers*each)
	}
}

// A log that takes no more is said where it can still be seen: in the metrics.
func TestLogThatIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{room: 150}
		l := jsonLogger(t, w)
		m := New("test")
		m.Log(l)
		for _, text := range []string{"a", "b", "c", "d"} { // some 70 bytes each
			later(t, l, text)
		}
		if err := CloseLog(l); !errors.Is(err, errFull) {
			t.Errorf("the end tells %v, want %v", err, errFull)
		}
		if got := LostRecords(l); got != 1 {
			t.Errorf("%d records lost, want 1", got)
		}
		// What comes when there is room again stands on a line of its own.
		w.room = 0
		l.Info("e")
		_, last, _ := strings.Cut(strings.Join(w.take()[2:], ""), "\n")
		if got := texts(t, last); len(got) != 1 || got[0] != "e" {
			t.Errorf("the last line has %q, want e", got)
		}
		families, err := m.Registry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "certbound_log_records_lost_total" {
				if got := f.GetMetric()[0].GetCounter().GetValue(); got != 1 {
					t.Errorf("the metric says %v, want 1", got)
				}
				return
			}
		}
		t.Error("there is no metric of lost records")
	})
}

// The records of requests wait with their spans.
func TestSpanOfARecordThatWaits(t *testing.T) {
	var b bytes.Buffer
	id := trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(id))
	var h LaterHandler = traceLog{jsonLogger(t, &b).Handler()}
	if err := h.LogLater(ctx, time.Now(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if want := `"trace_id":"01000000000000000000000000000000","span_id":"0200000000000000"`; !strings.Contains(b.String(), want) {
		t.Errorf("written %q, want %s", b.String(), want)
	}
}
