package flight

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneWorkForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		var runs atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				v, err := g.Do(t.Context(), "k", time.Minute, func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return int(runs.Add(1)), nil
				})
				if v != 1 || err != nil {
					t.Errorf("Do = %d, %v; want 1, nil", v, err)
				}
			})
		}
		wg.Wait()
		if v, _ := g.Do(t.Context(), "k", time.Minute, func(context.Context) (int, error) { return 7, nil }); v != 7 {
			t.Errorf("a later call got %d, want its own work", v)
		}
	})
}

// The first caller hangs up. The work goes on for the second one.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, string]
		work := func(ctx context.Context) (string, error) {
			select {
			case <-time.After(time.Second):
				return "done", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := g.Do(first, 1, time.Minute, work); !errors.Is(err, context.Canceled) {
				t.Errorf("first caller: %v, want context.Canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, err := g.Do(t.Context(), 1, time.Minute, work); v != "done" || err != nil {
				t.Errorf("second caller: %q, %v", v, err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		_, err := g.Do(t.Context(), 1, time.Second, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
	})
}
