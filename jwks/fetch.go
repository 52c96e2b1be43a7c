package jwks

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FetcherConfig holds the settings of a [Fetcher].
type FetcherConfig struct {
	// Client makes the requests. If nil, one of [Guard] for public addresses.
	Client *http.Client
	// MinAge, MaxAge and DefaultAge bound how long an answer is used: its cache
	// headers count between MinAge and MaxAge. If zero, 1 minute, 24 hours and
	// 5 minutes.
	MinAge, MaxAge, DefaultAge time.Duration
	// RefetchEvery is the least time between two fetches of one URL that are
	// caused by a miss, and between a fetch that failed and the next. If zero, 30
	// seconds.
	RefetchEvery time.Duration
	// Timeout bounds a fetch, from the name look-up to the last byte. If zero, 5
	// seconds.
	Timeout time.Duration
	// MaxBytes bounds an answer. If zero or more than [MaxBytes], that.
	MaxBytes int64
	// MaxURLs bounds the cache. If zero, 10,000.
	MaxURLs int
	// MaxConcurrent bounds the fetches at one time. If zero, 32.
	MaxConcurrent int
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// A Fetcher reads key sets by URL, with a cache. It is safe for concurrent use.
type Fetcher struct {
	cfg   FetcherConfig
	slots chan struct{}

	mu      sync.Mutex
	entries map[string]*entry
	recent  *list.List // of *entry, the most recently used first
}

// An entry is what is known of one URL. The Fetcher's lock guards it.
type entry struct {
	url  string
	elem *list.Element

	set            *Set // the last good copy
	fetched, until time.Time
	err            error     // of the last fetch, if it failed
	retry          time.Time // not before then, after a failure
	missed         time.Time // the last fetch that a miss has caused
	flight         *flight   // the fetch that is under way
}

// A flight is one fetch that several callers may wait for. Its results are set
// before done is closed.
type flight struct {
	done  chan struct{}
	set   *Set
	fresh bool
	err   error
}

// NewFetcher returns a Fetcher.
func NewFetcher(cfg FetcherConfig) *Fetcher {
	if cfg.Client == nil {
		cfg.Client = Guard(GuardConfig{})
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&cfg.MinAge, time.Minute}, {&cfg.MaxAge, 24 * time.Hour}, {&cfg.DefaultAge, 5 * time.Minute},
		{&cfg.RefetchEvery, 30 * time.Second}, {&cfg.Timeout, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if cfg.MaxBytes <= 0 || cfg.MaxBytes > MaxBytes {
		cfg.MaxBytes = MaxBytes
	}
	if cfg.MaxURLs <= 0 {
		cfg.MaxURLs = 10_000
	}
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = 32
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Fetcher{
		cfg:     cfg,
		slots:   make(chan struct{}, cfg.MaxConcurrent),
		entries: make(map[string]*entry),
		recent:  list.New(),
	}
}

// Get returns the set behind an https URL, from the cache if it is fresh. Its certificates
// stand in Certificates only, not in Keys. A fetch
// that fails leaves a good copy in use until it is older than MaxAge; without one,
// the failure is the answer for RefetchEvery. A set without keys is a good copy: it
// says that there are none any more. Concurrent calls for one URL make one request,
// which goes on if ctx ends. Errors are of type *[Error] or those of ctx.
func (f *Fetcher) Get(ctx context.Context, url string) (*Set, error) {
	f.mu.Lock()
	e, err := f.entry(url)
	if err != nil {
		f.mu.Unlock()
		return nil, err
	}
	now := f.cfg.Now()
	if e.flight == nil {
		if e.set != nil && now.Before(e.until) || now.Before(e.retry) {
			set, err := f.known(e, now)
			f.mu.Unlock()
			return set, err
		}
		f.start(ctx, e)
	}
	flight := e.flight
	f.mu.Unlock()
	set, _, err := flight.wait(ctx)
	return set, err
}

// Refetch returns a newer set after a miss. Concurrent calls for one URL make one
// request, and there is at most one in RefetchEvery; otherwise, and if the fetch
// fails, the cached set is returned as by [Fetcher.Get], and fresh is false.
func (f *Fetcher) Refetch(ctx context.Context, url string) (set *Set, fresh bool, err error) {
	f.mu.Lock()
	e, err := f.entry(url)
	if err != nil {
		f.mu.Unlock()
		return nil, false, err
	}
	now := f.cfg.Now()
	if e.flight == nil {
		if now.Before(e.retry) || !e.missed.IsZero() && now.Before(e.missed.Add(f.cfg.RefetchEvery)) {
			set, err := f.known(e, now)
			f.mu.Unlock()
			return set, false, err
		}
		e.missed = now
		f.start(ctx, e)
	}
	flight := e.flight
	f.mu.Unlock()
	return flight.wait(ctx)
}

// known returns the last good copy, or the last error.
func (f *Fetcher) known(e *entry, now time.Time) (*Set, error) {
	if e.set != nil && now.Before(e.fetched.Add(f.cfg.MaxAge)) {
		return e.set, nil
	}
	if e.err != nil {
		return nil, e.err
	}
	// A copy that was refreshed by a miss, and is too old now.
	return nil, &Error{Key: -1, Fault: "the copy is too old, and the next fetch is not due yet"}
}

// entry returns the entry of a URL, new or known, and makes room for it.
func (f *Fetcher) entry(raw string) (*entry, error) {
	if e, ok := f.entries[raw]; ok {
		f.recent.MoveToFront(e.elem)
		return e, nil
	}
	if err := CheckURL(raw); err != nil {
		return nil, err
	}
	e := &entry{url: raw}
	e.elem = f.recent.PushFront(e)
	f.entries[raw] = e
	for len(f.entries) > f.cfg.MaxURLs {
		// A fetch that is under way goes on; its waiters hold the flight.
		old := f.recent.Remove(f.recent.Back()).(*entry)
		delete(f.entries, old.url)
	}
	return e, nil
}

// start begins a fetch. No caller's context ends it, since others wait for it too; the
// values of the first one's go along, such as its trace.
func (f *Fetcher) start(ctx context.Context, e *entry) {
	flight := &flight{done: make(chan struct{})}
	e.flight = flight
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.cfg.Timeout)
		defer cancel()
		var set *Set
		var age time.Duration
		var err error
		select {
		case f.slots <- struct{}{}:
			set, age, err = f.fetch(ctx, e.url)
			<-f.slots
		case <-ctx.Done():
			err = &Error{Key: -1, Fault: "too many fetches at one time", Err: ctx.Err()}
		}

		f.mu.Lock()
		now := f.cfg.Now()
		if err == nil {
			e.set, e.fetched, e.until = set, now, now.Add(age)
			e.err, e.retry = nil, time.Time{}
			flight.set, flight.fresh = set, true
		} else {
			e.err, e.retry = err, now.Add(f.cfg.RefetchEvery)
			flight.set, flight.err = f.known(e, now)
		}
		e.flight = nil
		f.mu.Unlock()
		close(flight.done)
	}()
}

func (fl *flight) wait(ctx context.Context) (*Set, bool, error) {
	select {
	case <-fl.done:
		return fl.set, fl.fresh, fl.err
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

func (f *Fetcher) fetch(ctx context.Context, raw string) (*Set, time.Duration, error) {
	fail := func(fault string, err error) (*Set, time.Duration, error) {
		return nil, 0, &Error{Key: -1, Fault: "fetch: " + fault, Err: err}
	}
	u, err := parseURL(raw)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return fail("not a URL", nil)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := f.cfg.Client.Do(req)
	if err != nil {
		return fail("no answer", cause(err))
	}
	defer resp.Body.Close()
	// Guard refuses this before it happens; a client of the caller's may not.
	if last := resp.Request.URL; last.Scheme != "https" || last.Host != u.Host {
		return fail("redirected to another host", nil)
	}
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Sprintf("status %d where 200 was expected", resp.StatusCode), nil)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, f.cfg.MaxBytes+1))
	if err != nil {
		return fail("the answer breaks off", cause(err))
	}
	if int64(len(data)) > f.cfg.MaxBytes {
		return fail(fmt.Sprintf("the answer is longer than %d bytes", f.cfg.MaxBytes), nil)
	}
	set, err := Parse(data, Lenient)
	if err != nil {
		return fail("the answer is not a key set", err)
	}
	// What is parsed can take 40 times as much memory as what was sent, for as long as the
	// URL is in the cache. The DER in Certificates is all that is needed.
	for i := range set.Keys {
		set.Keys[i].Certificates = nil
	}
	return set, f.age(resp.Header), nil
}

// age returns how long an answer may be used (RFC 9111, Section 4.2).
func (f *Fetcher) age(h http.Header) time.Duration {
	age, ok := time.Duration(0), false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return f.cfg.MinAge
		case "max-age":
			n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if errors.Is(err, strconv.ErrRange) {
				n, err = 1<<31-1, nil
			}
			if err != nil || ok {
				return f.cfg.MinAge // unclear: as if stale (Section 4.2.1)
			}
			age, ok = time.Duration(n)*time.Second, true
		}
	}
	if !ok {
		if expires := h.Get("Expires"); expires != "" {
			ok = true
			at, err := http.ParseTime(expires)
			date, dateErr := http.ParseTime(h.Get("Date"))
			if dateErr != nil {
				date = f.cfg.Now()
			}
			if err == nil {
				age = at.Sub(date)
			}
		}
	}
	if !ok {
		age = f.cfg.DefaultAge
	} else if n, err := strconv.ParseUint(h.Get("Age"), 10, 31); err == nil {
		age -= time.Duration(n) * time.Second
	}
	return max(f.cfg.MinAge, min(age, f.cfg.MaxAge))
}
