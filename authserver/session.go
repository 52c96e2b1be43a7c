package authserver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"
)

// touchEvery is how often at most the use of a session is written down.
const touchEvery = time.Minute

// session returns the session of the browser, or nil if there is none that lives. It is
// the only thing that says who the person is: neither an authorization request nor a
// cookie of another name does.
func (x *exchange) session() (*Session, error) {
	value := cookieValue(x.r, sessionCookie)
	if value == "" {
		return nil, nil
	}
	sess, err := x.s.grants.Session(x.ctx(), sha256.Sum256([]byte(value)))
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if a := &x.s.cfg.Authorization; !x.now.Before(sess.Expires) || !x.now.Before(sess.Created.Add(a.SessionLifetime)) ||
		!x.now.Before(sess.LastSeen.Add(a.SessionIdle)) {
		return nil, nil
	}
	return sess, nil
}

// beginSession makes a session under a value that nobody has seen before the login, so
// that whoever planted or read the old cookie has nothing (session fixation). The session
// that the browser had ends.
func (x *exchange) beginSession(p Authenticated) (*Session, error) {
	value := random()
	var id [16]byte
	rand.Read(id[:])
	sess := &Session{
		Hash: sha256.Sum256([]byte(value)), ID: base64.RawURLEncoding.EncodeToString(id[:]), Subject: p.Subject,
		AuthTime: p.Time, ACR: p.ACR, AMR: p.AMR, Created: x.now, LastSeen: x.now, Expires: x.s.sessionExpiry(x.now, x.now),
	}
	var replaces [32]byte
	if old := cookieValue(x.r, sessionCookie); old != "" {
		replaces = sha256.Sum256([]byte(old))
	}
	if err := x.s.grants.SaveSession(x.ctx(), sess, replaces); err != nil {
		return nil, err
	}
	setCookie(x.w, sessionCookie, value)
	return sess, nil
}

// sessionExpiry is when a session ends that is not used any more.
func (s *Server) sessionExpiry(created, seen time.Time) time.Time {
	end, idle := created.Add(s.cfg.Authorization.SessionLifetime), seen.Add(s.cfg.Authorization.SessionIdle)
	if idle.Before(end) {
		return idle
	}
	return end
}

// touchSession writes down that a session was used.
func (s *Server) touchSession(ctx context.Context, sess *Session, now time.Time) error {
	if now.Sub(sess.LastSeen) < touchEvery {
		return nil
	}
	err := s.grants.TouchSession(ctx, sess.Hash, now, s.sessionExpiry(sess.Created, now))
	if errors.Is(err, ErrNotFound) { // ended meanwhile, in another window
		return nil
	}
	return err
}
