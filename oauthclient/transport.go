package oauthclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"golang.org/x/oauth2"
)

// Errors of requests that [Client.HTTPClient] does not send.
var (
	// ErrForbiddenHeader reports a request with a field that is not the caller's to set.
	ErrForbiddenHeader = errors.New("oauthclient: header field not allowed")
	// ErrNotHTTPS reports a request that would send a token in the clear.
	ErrNotHTTPS = errors.New("oauthclient: not an https URL")
)

// transport adds tokens. One transport of net/http for each certificate does the rest.
type transport struct {
	c      *Client
	source tokens
}

// tokens are those of a client or of one person.
type tokens interface {
	// usable returns a token and the certificate that it goes with.
	usable(ctx context.Context) (*identity, *oauth2.Token, error)
	// renew drops a token that did not work with a certificate: refused by the
	// resource, or the connection failed. current is the client's certificate now.
	// It reports whether another token is worth an attempt.
	renew(id *identity, token string, refused bool, current *identity) bool
	// find returns the certificate that a token goes with.
	find(token string) (*identity, bool)
}

// RoundTrip implements [http.RoundTripper]. It is called for each hop of a redirect, so
// that nothing passes to a host that was not configured.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.roundTrip(req)
	if err != nil && req.Body != nil {
		req.Body.Close() // also where it was not sent
	}
	return resp, err
}

func (t *transport) roundTrip(req *http.Request) (*http.Response, error) {
	c := t.c
	if req.URL.Scheme != "https" {
		return nil, ErrNotHTTPS
	}
	if !c.resources[hostPort(req.URL)] {
		return nil, fmt.Errorf("%w: %q; add it to ResourceHosts if it is to get tokens", ErrHostNotAllowed, req.URL.Host)
	}
	for _, fields := range []http.Header{req.Header, req.Trailer} {
		for name := range fields {
			switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
			case "client-cert", "client-cert-chain":
				return nil, fmt.Errorf("%w: %s, which only proxies send (RFC 9440, Section 2.4)", ErrForbiddenHeader, name)
			}
		}
	}
	if len(req.Header["Authorization"]) > 0 {
		return t.withOwnToken(req)
	}
	id, tok, err := t.source.usable(req.Context())
	if err != nil {
		return nil, err
	}
	resp, err := id.roundTrip(withToken(req, tok.AccessToken, req.Body))
	retry, body := t.second(req, resp, err, id, tok)
	if retry.id == nil {
		return resp, err
	}
	if resp != nil {
		io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
		resp.Body.Close()
	}
	resp, err = retry.id.roundTrip(withToken(req, retry.token.AccessToken, body))
	if err == nil && invalidToken(resp) {
		c.cfg.Logger.LogAttrs(req.Context(), slog.LevelWarn, "oauthclient: the resource refuses a new token too",
			slog.String("host", req.URL.Host), slog.String("x5t#S256", retry.id.thumbprint))
	}
	return resp, err
}

// alert reports whether the peer sent a TLS alert. With TLS 1.3 a server judges the
// certificate when the client has begun to send already, so that its alert may be lost
// behind the failure to write; that error looks like any other.
func alert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// idempotent reports whether a request may be sent again when nobody knows whether it
// arrived (RFC 9110, Section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

type attempt struct {
	id    *identity
	token *oauth2.Token
}

// second decides about a second attempt: after invalid_token, which is how a resource
// says that token and certificate do not fit (RFC 8705, Section 6.3), and, when there is a
// new certificate, after a failed connection. There is no third.
func (t *transport) second(req *http.Request, resp *http.Response, err error, id *identity, tok *oauth2.Token) (attempt, io.ReadCloser) {
	c, ctx := t.c, req.Context()
	refused := err == nil && invalidToken(resp)
	broken := err != nil && (idempotent(req.Method) || alert(err))
	if !refused && !broken || ctx.Err() != nil {
		return attempt{}, nil
	}
	body := req.Body
	if body != nil && body != http.NoBody {
		if req.GetBody == nil {
			return attempt{}, nil
		}
		var err error
		if body, err = req.GetBody(); err != nil {
			return attempt{}, nil
		}
	}
	giveUp := func() (attempt, io.ReadCloser) {
		if body != nil {
			body.Close()
		}
		return attempt{}, nil
	}
	if !t.source.renew(id, tok.AccessToken, refused, c.identity(ctx, true)) {
		return giveUp()
	}
	next, newTok, tokErr := t.source.usable(ctx)
	if tokErr != nil || newTok.AccessToken == tok.AccessToken {
		if tokErr != nil {
			c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "oauthclient: token refused, and no new one to be had",
				slog.String("host", req.URL.Host), slog.Any("error", tokErr))
		}
		return giveUp()
	}
	return attempt{next, newTok}, body
}

// withOwnToken sends a request that brings its token, from an [oauth2.Transport] with a
// TokenSource of this client: over the certificate that this token is bound to, also if
// there is a newer one.
func (t *transport) withOwnToken(req *http.Request) (*http.Response, error) {
	values := req.Header["Authorization"]
	scheme, token, _ := strings.Cut(values[0], " ")
	id, ok := t.source.find(strings.TrimSpace(token))
	if len(values) != 1 || !strings.EqualFold(scheme, "Bearer") || !ok {
		return nil, fmt.Errorf("%w: Authorization with credentials that are not of this client", ErrForbiddenHeader)
	}
	return id.roundTrip(req.Clone(req.Context()))
}

// withToken returns a copy of a request with a token, since a RoundTripper must not change
// what it is given.
func withToken(req *http.Request, token string, body io.ReadCloser) *http.Request {
	r := req.Clone(req.Context())
	r.Body = body
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// invalidToken reports whether an answer says that the token does not work.
func invalidToken(resp *http.Response) bool {
	if resp.StatusCode != http.StatusUnauthorized {
		return false
	}
	for _, c := range parseChallenges(resp.Header["Www-Authenticate"]) {
		if strings.EqualFold(c.scheme, "Bearer") && c.params["error"] == "invalid_token" {
			return true
		}
	}
	return false
}
