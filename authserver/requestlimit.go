package authserver

import (
	"net/http"
	"sync"
	"time"
)

// What authorization requests can take that anybody can make: those that a browser brings, and
// those that a public client pushes. A request is kept until the person has decided, and there
// may be no person. Within the lifetime of a flow a process keeps 64 MiB for each client, and
// the same for all clients together that strangers have registered; a request counts for
// 1 KiB at least. That is 36 logins a second for ever, with the defaults. Requests of
// a client that has authenticated are not limited, nor kept out by others.
const (
	requestBudget  = 64 << 20
	minRequestSize = 1 << 10
	requestWindows = 1024 // clients that are remembered before those of the past are dropped
)

var refuseFlood = &refusal{http.StatusTooManyRequests, "temporarily_unavailable", "too many requests of this client are under way, try again later", false}

// A requestLimit is on the bytes that are written for each client. Its zero value is ready.
type requestLimit struct {
	mu      sync.Mutex
	windows map[string]*requestWindow
}

type requestWindow struct {
	begun time.Time
	bytes int
}

// admit counts a request, or refuses one too many.
func (l *requestLimit) admit(now time.Time, window time.Duration, a *authRequest, size int) bool {
	if a.proven {
		return true
	}
	key := a.client.ID
	if a.client.RegisteredBy == registeredOpenly {
		key = "" // no client has this id
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[key]
	if w == nil || now.Sub(w.begun) >= window {
		if len(l.windows) >= requestWindows {
			for k, old := range l.windows {
				if now.Sub(old.begun) >= window {
					delete(l.windows, k)
				}
			}
		}
		if l.windows == nil {
			l.windows = make(map[string]*requestWindow)
		}
		w = &requestWindow{begun: now}
		l.windows[key] = w
	}
	if w.bytes += max(size, minRequestSize); w.bytes > requestBudget {
		w.bytes = requestBudget
		return false
	}
	return true
}
