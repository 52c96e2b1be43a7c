package gateway

import (
	"io"
	"net/http"
	"time"

	"github.com/certbound/certbound/decision"
)

// guard ends the request with its token, with the certificate that the token is bound to,
// or when it would not be allowed any more. A request is short as a rule, so there is one
// timer and no goroutine.
func (x *exchange) guard(now time.Time) {
	if next, ok := x.nextLook(now); ok {
		x.timer = time.AfterFunc(1<<62, x.look) // first there, then running: look uses it
		x.timer.Reset(next)
	}
}

func (x *exchange) unguard() {
	if x.timer != nil {
		x.timer.Stop()
	}
}

// nextLook returns how long the request may go on without being looked at.
func (x *exchange) nextLook(now time.Time) (time.Duration, bool) {
	next, ok := x.target.Recheck, x.target.Recheck > 0
	if until := x.verdict.Until(); !until.IsZero() && !x.target.InsecureOutliveToken {
		if left := until.Sub(now); !ok || left < next {
			next, ok = max(0, left), true
		}
	}
	return next, ok
}

// look judges the request again, by the settings of today.
func (x *exchange) look() {
	if x.Err() != nil {
		return
	}
	now := x.proxy.now()
	if until := x.verdict.Until(); !x.target.InsecureOutliveToken && !until.IsZero() && !now.Before(until) {
		reason := decision.Expired
		if x.verdict.Token != nil && !x.verdict.Token.Expires.IsZero() && !now.Before(x.verdict.Token.Expires) {
			reason = decision.TokenExpired
		}
		x.end(&EndedError{Reason: reason})
		return
	}
	if x.target.Recheck > 0 {
		err := x.proxy.state.Load().decider.Still(x.Context, x.judged)
		if e, ok := err.(*EndedError); ok && x.mayOutlive(e.Reason) {
			err = nil
		}
		if err != nil {
			x.end(err)
			return
		}
	}
	if next, ok := x.nextLook(now); ok {
		x.timer.Reset(next)
	}
}

// mayOutlive reports whether a stream goes on all the same: by setting, or because the
// issuer cannot be asked at the moment, which is no word against the token.
func (x *exchange) mayOutlive(r decision.Reason) bool {
	return r == decision.IssuerUnavailable || r == decision.TokenExpired && x.target.InsecureOutliveToken
}

func (x *exchange) end(err error) {
	x.target.metrics.ended(err)
	x.cancel(err)
}

// A slowBody gives up on a client that stops sending.
type slowBody struct {
	io.ReadCloser
	x        *exchange
	deadline time.Time
	err      error // how it ended
}

// abandonAfter bounds how long the server may read what an upstream did not want to.
const abandonAfter = 5 * time.Second

// abandon is called when the answer is there.
func (b *slowBody) abandon() {
	if b.err == nil {
		http.NewResponseController(b.x.w).SetReadDeadline(time.Now().Add(abandonAfter))
	}
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.err != nil {
		// The transport looks for more than the Content-Length. By then the server may
		// have closed the body, since the answer has begun; that error would cut it off.
		return 0, b.err
	}
	// A stream of unknown length, of a client whose token is good, may be silent: its end
	// is the token's.
	bounded := b.x.in.ContentLength >= 0 || b.x.verdict.Token == nil
	if bounded {
		if now := b.x.proxy.now(); b.deadline.Sub(now) < b.x.target.Stall*3/4 {
			b.deadline = now.Add(b.x.target.Stall)
			http.NewResponseController(b.x.w).SetReadDeadline(b.deadline)
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.err = err
	if err != nil && bounded {
		// Or the server would take the deadline for the client's going away.
		http.NewResponseController(b.x.w).SetReadDeadline(time.Time{})
	}
	return n, err
}

// The exchange is the ResponseWriter of the reverse proxy.

// Header implements [http.ResponseWriter].
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader notes the status. Early hints of the upstream are cleaned here; the header
// of the answer was.
func (x *exchange) WriteHeader(status int) {
	if status < 200 {
		x.clean(x.w.Header())
	} else if !x.began {
		x.status, x.began = status, true
		x.extend()
	}
	x.w.WriteHeader(status)
}

// Write gives the client Stall to take the next part.
func (x *exchange) Write(b []byte) (int, error) {
	x.extend()
	n, err := x.w.Write(b)
	x.sent += int64(n)
	return n, err
}

func (x *exchange) extend() {
	if now := x.proxy.now(); x.deadline.Sub(now) < x.target.Stall*3/4 {
		x.deadline = now.Add(x.target.Stall)
		http.NewResponseController(x.w).SetWriteDeadline(x.deadline)
	}
}

// FlushError is called after each part of a stream, which may then be silent as long as
// it likes.
func (x *exchange) FlushError() error {
	x.extend()
	control := http.NewResponseController(x.w)
	err := control.Flush()
	x.deadline = time.Time{}
	control.SetWriteDeadline(time.Time{})
	return err
}

// Unwrap is for [http.ResponseController].
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }
