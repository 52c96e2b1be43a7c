package memo_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/certbound/certbound/internal/memo"
)

func TestMemoIsBounded(t *testing.T) {
	m := memo.New[int](1000)
	for i := range 10_000 {
		m.Put(strconv.Itoa(i), i, 10)
		if n := m.Len(); n > 100 {
			t.Fatalf("%d entries of cost 10, the limit is 1000", n)
		}
	}
	if v, ok := m.Get("9999"); !ok || v != 9999 {
		t.Errorf("the newest entry: %d, %v", v, ok)
	}
	if _, ok := m.Get("0"); ok {
		t.Error("the oldest entry is still there")
	}
	m.Put("large", 1, 501)
	if _, ok := m.Get("large"); ok {
		t.Error("an entry of more than half the limit was kept")
	}
}

func TestMemoKeepsWhatIsUsed(t *testing.T) {
	m := memo.New[string](1000)
	m.Put("used", "v", 10)
	for i := range 1000 {
		m.Put(strconv.Itoa(i), "", 10)
		if v, ok := m.Get("used"); !ok || v != "v" {
			t.Fatalf("lost after %d others: %q, %v", i+1, v, ok)
		}
	}
	m.Put("used", "w", 20)
	if v, _ := m.Get("used"); v != "w" {
		t.Errorf("after a second Put: %q", v)
	}
}

func TestMemoConcurrent(t *testing.T) {
	m := memo.New[int](200)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				key := strconv.Itoa((i + g) % 50)
				if v, ok := m.Get(key); ok && strconv.Itoa(v) != key {
					t.Errorf("%s holds %d", key, v)
				}
				m.Put(key, (i+g)%50, 10)
			}
		})
	}
	wg.Wait()
}
