package resourceserver_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
)

// A slowIssuer answers introspection after a second, in the time of a synctest bubble.
type slowIssuer struct {
	mu        sync.Mutex
	questions int
	inactive  bool
	down      bool
	expires   time.Time
}

func (is *slowIssuer) set(f func()) {
	is.mu.Lock()
	defer is.mu.Unlock()
	f()
}

func (is *slowIssuer) asked() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.questions
}

func (is *slowIssuer) RoundTrip(req *http.Request) (*http.Response, error) {
	is.mu.Lock()
	is.questions++
	is.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.down {
		return nil, errors.New("connection refused")
	}
	answer := map[string]any{"active": false}
	if !is.inactive {
		answer = map[string]any{
			"active": true, "client_id": "client-1", "aud": resource, "scope": "read",
			"exp": is.expires.Unix(), "cnf": cnf(certs().l1)["cnf"],
		}
	}
	body, _ := json.Marshal(answer)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(body))),
	}, nil
}

// stale judges in a bubble: ask returns the reason of the refusal, "" if there is none, and
// how long it took.
func stale(t *testing.T, change func(*resourceserver.Introspection), f func(is *slowIssuer, v *resourceserver.Verifier, ask func(token string) (decision.Reason, time.Duration))) {
	certs() // made with the clock of today
	presented := certsource.NewPresented("tls", certs().l1.Cert, nil)
	synctest.Test(t, func(t *testing.T) {
		is := &slowIssuer{expires: time.Now().Add(time.Hour)}
		in := &resourceserver.Introspection{
			Endpoint: "https://as.test/introspect", ClientID: "rs", HTTPClient: &http.Client{Transport: is},
			CacheFor: 30 * time.Second, StaleFor: 60 * time.Second,
		}
		if change != nil {
			change(in)
		}
		v, err := resourceserver.New(resourceserver.Config{
			Resource: resource, Issuer: "https://as.test", Source: certsource.TLS{}, Introspection: in, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		f(is, v, func(token string) (decision.Reason, time.Duration) {
			begin := time.Now()
			_, d, _ := v.Verify(t.Context(), resourceserver.Request{Token: token, Presented: presented})
			return d.Reason(), time.Since(begin)
		})
	})
}

func wantIn(t *testing.T, what string, ask func(string) (decision.Reason, time.Duration), want decision.Reason, took time.Duration) {
	t.Helper()
	if reason, d := ask("tok"); reason != want || d != took {
		t.Errorf("%s: reason %q after %v, want %q after %v", what, reason, d, want, took)
	}
}

// An answer that has expired is used while one request renews it, whoever else comes; after
// that the new one counts.
func TestStaleAnswerWhileRevalidating(t *testing.T) {
	stale(t, nil, func(is *slowIssuer, v *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
		wantIn(t, "first", ask, "", time.Second)
		wantIn(t, "remembered", ask, "", 0)
		time.Sleep(40 * time.Second)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { wantIn(t, "stale", ask, "", 0) })
		}
		all.Wait()
		access, err := v.VerifyCall(t.Context(), resourceserver.Call{
			Authorization: []string{"Bearer tok"}, Presented: certsource.NewPresented("tls", certs().l1.Cert, nil),
		})
		if err != nil || !access.RevocationAsOf.Equal(time.Now().Add(-41*time.Second)) {
			t.Errorf("RevocationAsOf %v, error %v; want 41 s ago", access, err)
		}
		time.Sleep(2 * time.Second)
		if n := is.asked(); n != 2 {
			t.Errorf("%d questions after 21 requests with a stale answer, want 2", n)
		}
		time.Sleep(27 * time.Second) // 29 s after the second question
		wantIn(t, "renewed", ask, "", 0)
		time.Sleep(time.Second)
		if n := is.asked(); n != 2 {
			t.Errorf("%d questions while the renewed answer is fresh, want 2", n)
		}
	})
}

// Attack: a token is revoked, and the thief keeps it in use, so that its answer is always
// being renewed. The first renewal ends it.
func TestStaleAnswerEndsWhenTheIssuerRevokes(t *testing.T) {
	stale(t, nil, func(is *slowIssuer, _ *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
		wantIn(t, "first", ask, "", time.Second)
		is.set(func() { is.inactive = true })
		time.Sleep(30 * time.Second)
		wantIn(t, "while it is renewed", ask, "", 0)
		time.Sleep(time.Second)
		synctest.Wait()
		wantIn(t, "after that", ask, decision.TokenInactive, 0)
		time.Sleep(5 * time.Second)
		wantIn(t, "and for good", ask, decision.TokenInactive, time.Second)
	})
}

func TestStaleAnswerBounds(t *testing.T) {
	t.Run("StaleFor", func(t *testing.T) {
		stale(t, nil, func(is *slowIssuer, _ *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
			wantIn(t, "first", ask, "", time.Second) // asked at 0
			is.set(func() { is.down = true })
			time.Sleep(88 * time.Second)
			wantIn(t, "at 89 s", ask, "", 0)
			time.Sleep(2 * time.Second)
			wantIn(t, "at 91 s", ask, decision.IssuerUnavailable, time.Second)
		})
	})
	t.Run("exp", func(t *testing.T) {
		stale(t, nil, func(is *slowIssuer, _ *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
			is.expires = time.Now().Add(40 * time.Second)
			wantIn(t, "first", ask, "", time.Second)
			time.Sleep(38 * time.Second)
			wantIn(t, "before exp", ask, "", 0)
			time.Sleep(3 * time.Second)
			wantIn(t, "after exp", ask, decision.TokenExpired, time.Second)
		})
	})
	t.Run("not by default", func(t *testing.T) {
		stale(t, func(in *resourceserver.Introspection) { in.StaleFor = 0 }, func(is *slowIssuer, _ *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
			wantIn(t, "first", ask, "", time.Second)
			time.Sleep(29 * time.Second)
			wantIn(t, "when it has expired", ask, "", time.Second)
			if n := is.asked(); n != 2 {
				t.Errorf("%d questions, want 2", n)
			}
		})
	})
	t.Run("an issuer that is away is not asked by each request", func(t *testing.T) {
		stale(t, nil, func(is *slowIssuer, _ *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
			wantIn(t, "first", ask, "", time.Second)
			is.set(func() { is.down = true })
			time.Sleep(30 * time.Second)
			for range 100 { // of 20 s
				wantIn(t, "stale", ask, "", 0)
				time.Sleep(200 * time.Millisecond)
			}
			// One question takes a second, and then there is a second of peace.
			if n := is.asked() - 1; n < 5 || n > 11 {
				t.Errorf("%d questions in 20 s, want about 10", n)
			}
			is.set(func() { is.down = false })
			wantIn(t, "the issuer is back", ask, "", 0)
			time.Sleep(10 * time.Second)
			wantIn(t, "renewed", ask, "", 0)
		})
	})
}

// Made-up tokens are remembered for InactiveFor, no more than MaxInactive of them, and take
// no room from good ones.
func TestInactiveAnswers(t *testing.T) {
	t.Attr("requirement", "N-4-4")
	change := func(in *resourceserver.Introspection) {
		in.InactiveFor, in.MaxInactive, in.StaleFor = 3*time.Second, 16, 0
	}
	stale(t, change, func(is *slowIssuer, _ *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
		wantIn(t, "a good one", ask, "", time.Second)
		is.set(func() { is.inactive = true })
		for range 2 {
			if reason, _ := ask("made-up"); reason != decision.TokenInactive {
				t.Errorf("reason %q, want %q", reason, decision.TokenInactive)
			}
		}
		if n := is.asked(); n != 2 {
			t.Errorf("%d questions, want 2", n)
		}
		time.Sleep(3 * time.Second)
		ask("made-up")
		if n := is.asked(); n != 3 {
			t.Errorf("%d questions after InactiveFor, want 3", n)
		}
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() { ask("made-up-" + strconv.Itoa(i)) })
		}
		all.Wait()
		before := is.asked()
		all = sync.WaitGroup{}
		for i := range 60 {
			all.Go(func() { ask("made-up-" + strconv.Itoa(i)) })
		}
		all.Wait()
		if n := is.asked() - before; n < 60-16 {
			t.Errorf("of 60 made-up tokens %d are remembered, want at most 16", 60-n)
		}
		wantIn(t, "the good one", ask, "", 0)
	})
	t.Run("none", func(t *testing.T) {
		change := func(in *resourceserver.Introspection) { in.InactiveFor = -1 }
		stale(t, change, func(is *slowIssuer, _ *resourceserver.Verifier, ask func(string) (decision.Reason, time.Duration)) {
			is.inactive = true
			wantIn(t, "first", ask, decision.TokenInactive, time.Second)
			wantIn(t, "second", ask, decision.TokenInactive, time.Second)
		})
	})
}
