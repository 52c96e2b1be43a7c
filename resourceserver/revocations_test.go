package resourceserver_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/feed"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// A follower is a resource server that follows the revocations of a real authorization
// server.
func follower(t *testing.T, as *fixture.AS, change func(*resourceserver.Config)) *resourceserver.Verifier {
	t.Helper()
	cfg := resourceserver.Config{
		Resource: fixture.Resource, Issuer: fixture.Issuer, Source: certsource.TLS{}, HTTPClient: as.As(t, nil),
		Revocations: &resourceserver.RevocationFeed{ClientID: "c-rs", HTTPClient: as.As(t, as.L2), Every: 100 * time.Millisecond},
		Logger:      slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	v, err := resourceserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// judged judges a token that comes with a certificate.
func judged(t *testing.T, v *resourceserver.Verifier, token string, leaf *pkitest.Leaf) (*decision.Decision, int) {
	t.Helper()
	_, d, err := v.Verify(t.Context(), resourceserver.Request{Token: token, Presented: certsource.NewPresented("tls", leaf.Cert, nil)})
	if err == nil {
		return d, 200
	}
	e, ok := errors.AsType[*resourceserver.Error](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	return d, e.Status
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func wantReason(t *testing.T, d *decision.Decision, reason decision.Reason, found string) {
	t.Helper()
	c, _ := d.Failure()
	if c.Reason != reason || !strings.Contains(c.Found, found) {
		t.Errorf("reason %q, found %q; want %q with %q", c.Reason, c.Found, reason, found)
	}
}

// Attack: token, certificate and key of a client are stolen. The client revokes the token,
// or the operator the certificate; the thief goes on at an API that verifies JWTs itself.
func TestRevokedTokenIsRefused(t *testing.T) {
	t.Attr("requirement", "F2-5.3.4-3")
	as := fixture.Start(t)
	l1 := as.As(t, as.L1)
	v := follower(t, as, nil)
	token := fixture.Token(t, l1, "c-dn").AccessToken()
	other := fixture.Token(t, l1, "c-dn").AccessToken()
	renewed := fixture.Token(t, as.As(t, as.L1r), "c-dn").AccessToken()
	for range 2 { // the second time, its signature is remembered
		if d, status := judged(t, v, token, as.L1); status != 200 {
			t.Fatal(d)
		}
	}
	fixture.Post(t, l1, fixture.MTLSBase+"/revoke", "client_id", "c-dn", "token", token)
	eventually(t, "the token is refused", func() bool { _, status := judged(t, v, token, as.L1); return status == 401 })
	d, _ := judged(t, v, token, as.L1)
	jti, _ := fixture.Claims(token)["jti"].(string)
	wantReason(t, d, decision.TokenRevoked, "jti "+jti+", number 1 ")
	// Without its certificate the answer is the same: the thief learns nothing new.
	if _, status := judged(t, v, token, as.L2); status != 401 {
		t.Errorf("status %d", status)
	}
	if d, status := judged(t, v, other, as.L1); status != 200 {
		t.Errorf("another token of the client: %s", d)
	}

	stolen := authserver.RevokedCertificate{Thumbprint: certbound.Thumbprint(as.L1.Cert), At: time.Now()}
	if err := as.Store.RevokeCertificate(t.Context(), stolen); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all tokens of the certificate are refused", func() bool { _, status := judged(t, v, other, as.L1); return status == 401 })
	d, _ = judged(t, v, other, as.L1)
	wantReason(t, d, decision.TokenRevoked, "certificate "+stolen.Thumbprint+", number 2 ")
	if d, status := judged(t, v, renewed, as.L1r); status != 200 {
		t.Errorf("the token of another certificate: %s", d)
	}
	if err := as.Store.RestoreCertificate(t.Context(), stolen); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token passes again", func() bool { _, status := judged(t, v, other, as.L1); return status == 200 })
	if _, status := judged(t, v, token, as.L1); status != 401 {
		t.Error("the token that was revoked by itself passes again")
	}
	if s := v.RevocationFeed(); s.Entries != 1 || s.Err != nil || s.Read.IsZero() {
		t.Errorf("state %+v", s)
	}

	t.Run("the resource server restarts", func(t *testing.T) {
		again := follower(t, as, nil)
		if d, status := judged(t, again, token, as.L1); status != 401 {
			t.Errorf("the first request after a restart: %s", d)
		}
		if err := follower(t, as, nil).Warm(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("Run reads without a request", func(t *testing.T) {
		again := follower(t, as, nil)
		go again.Run(t.Context())
		eventually(t, "it was read twice", func() bool {
			first := again.RevocationFeed().Read
			time.Sleep(150 * time.Millisecond)
			return !first.IsZero() && again.RevocationFeed().Read.After(first)
		})
	})
}

// The authorization server restarts, first with its store, then with an empty one.
func TestFeedOfARestartedIssuer(t *testing.T) {
	first := fixture.Start(t)
	var at atomic.Pointer[fixture.AS]
	at.Store(first)
	v := follower(t, first, func(c *resourceserver.Config) {
		c.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) { return at.Load().As(t, nil).Do(r) })}
		c.Revocations.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) { return at.Load().As(t, first.L2).Do(r) })}
	})
	token := fixture.Token(t, first.As(t, first.L1), "c-dn").AccessToken()
	jti, _ := fixture.Claims(token)["jti"].(string)
	if err := first.Store.Revoke(t.Context(), jti, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if d, status := judged(t, v, token, first.L1); status != 401 {
		t.Fatal(d)
	}
	// The old process is gone; what is revoked at the new one counts.
	empty := fixture.Start(t, func(c *authserver.Config) { c.Store = memstore.New() })
	at.Store(empty)
	if err := empty.Store.RevokeCertificate(t.Context(), authserver.RevokedCertificate{Thumbprint: certbound.Thumbprint(first.L1r.Cert), At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	renewed := fixture.Token(t, empty.As(t, empty.L1k), "c-dn").AccessToken()
	eventually(t, "the new feed is read", func() bool {
		_, status := judged(t, v, renewed, empty.L1k) // has the reader look
		return status != 0 && v.RevocationFeed().Entries == 1
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The feed cannot be read, or what comes is not of the issuer. Tokens are refused with
// 503, or accepted with a warning if the operator has said so; those that are known to be
// revoked are refused in any case.
func TestStaleFeed(t *testing.T) {
	as := fixture.Start(t)
	l1 := as.As(t, as.L1)
	token := fixture.Token(t, l1, "c-dn").AccessToken()
	known := fixture.Token(t, l1, "c-dn").AccessToken()
	fixture.Post(t, l1, fixture.MTLSBase+"/revoke", "client_id", "c-dn", "token", known)
	stolen := fixture.Token(t, l1, "c-dn").AccessToken()

	key := pkitest.MustKey(pkitest.P256)
	keys, err := as.Store.SigningKeys(t.Context())
	if err != nil || len(keys) == 0 {
		t.Fatal(err)
	}
	kid := keys[0].KID
	now := time.Now().Unix()
	good := feed.Page{Issuer: fixture.Issuer, Audience: "c-rs", Issued: now, Expires: now + 60, Feed: "f", Next: 1, Entries: []feed.Entry{}}
	forged := func(key crypto.Signer, typ string) func(string) (int, string, string) {
		return func(string) (int, string, string) {
			payload, _ := json.Marshal(good)
			return 200, feed.MediaType, signWith(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, typ, string(payload))
		}
	}
	for _, tt := range []struct {
		name   string
		answer func(real string) (status int, mediaType, body string)
	}{
		{"down", func(string) (int, string, string) { return 502, "text/html", "down" }},
		{"not allowed", func(string) (int, string, string) { return 403, "application/json", `{"error":"access_denied"}` }},
		{"another media type", func(real string) (int, string, string) { return 200, "application/json", real }},
		{"not a JWT", func(string) (int, string, string) { return 200, feed.MediaType, "{}" }},
		{"empty", func(string) (int, string, string) { return 200, feed.MediaType, "" }},
		{"too large", func(string) (int, string, string) {
			return 200, feed.MediaType, strings.Repeat("A", feed.MaxBytes+1)
		}},
		{"signed by somebody else", forged(key, feed.Type)},
		{"an access token in its place", func(string) (int, string, string) { return 200, feed.MediaType, stolen }},
		{"changed on the way", func(real string) (int, string, string) {
			parts := strings.Split(real, ".")
			parts[1] = strings.Split(stolen, ".")[1]
			return 200, feed.MediaType, strings.Join(parts, ".")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, policy := range []resourceserver.StalePolicy{resourceserver.RefuseStale, resourceserver.AllowStale} {
				var broken atomic.Bool
				real := as.As(t, as.L2)
				through := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					resp, err := real.Do(r)
					if err != nil || !broken.Load() || !strings.HasSuffix(r.URL.Path, "/revocations") {
						return resp, err
					}
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						return nil, err
					}
					status, mediaType, text := tt.answer(string(body))
					return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {mediaType}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
				})}
				clock := atomic.Int64{}
				v := follower(t, as, func(c *resourceserver.Config) {
					c.Revocations.HTTPClient, c.Revocations.OnStale, c.Revocations.Every = through, policy, 30*time.Second
					c.Now = func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
				})
				// At the start there is nothing, which is as stale as can be.
				broken.Store(true)
				d, status := judged(t, v, token, as.L1)
				check := func(when string) {
					t.Helper()
					switch {
					case policy == resourceserver.RefuseStale && (status != 503 || d.Reason() != decision.IssuerUnavailable):
						t.Errorf("%s: status %d, %s", when, status, d)
					case policy == resourceserver.AllowStale && (status != 200 || len(d.Warnings) != 1):
						t.Errorf("%s: status %d, %d warnings, %s", when, status, len(d.Warnings), d)
					}
				}
				check("at the start")
				broken.Store(false)
				clock.Add(int64(2 * time.Second))
				if d, status := judged(t, v, token, as.L1); status != 200 || len(d.Warnings) != 0 {
					t.Fatalf("when it can be read: %s", d)
				}
				broken.Store(true)
				clock.Add(int64(110 * time.Second)) // StaleAfter is two minutes
				if d, status := judged(t, v, token, as.L1); status != 200 || len(d.Warnings) != 0 {
					t.Errorf("not stale yet: status %d, %s", status, d)
				}
				clock.Add(int64(20 * time.Second))
				d, status = judged(t, v, token, as.L1)
				check("later")
				if d, status := judged(t, v, known, as.L1); status != 401 || d.Reason() != decision.TokenRevoked {
					t.Errorf("a token that is known to be revoked: status %d, %s", status, d)
				}
				if v.RevocationFeed().Err == nil {
					t.Error("the state has no error")
				}
			}
		})
	}
}

func TestRevocationFeedSettings(t *testing.T) {
	for name, change := range map[string]func(*resourceserver.RevocationFeed){
		"no client":        func(f *resourceserver.RevocationFeed) { f.ClientID = "" },
		"no certificate":   func(f *resourceserver.RevocationFeed) { f.HTTPClient = nil },
		"http":             func(f *resourceserver.RevocationFeed) { f.Endpoint = "http://as.test/revocations" },
		"negative":         func(f *resourceserver.RevocationFeed) { f.Every = -1 },
		"stale before due": func(f *resourceserver.RevocationFeed) { f.Every, f.StaleAfter = time.Minute, time.Second },
		"no policy":        func(f *resourceserver.RevocationFeed) { f.OnStale = 7 },
	} {
		t.Run(name, func(t *testing.T) {
			f := &resourceserver.RevocationFeed{ClientID: "rs", HTTPClient: http.DefaultClient}
			change(f)
			if _, err := resourceserver.New(resourceserver.Config{Resource: resource, Issuer: fixture.Issuer, Source: certsource.TLS{}, Revocations: f}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func BenchmarkVerifyWithFeed(b *testing.B) {
	as := fixture.Start(b)
	token := fixture.Token(b, as.As(b, as.L1), "c-dn").AccessToken()
	v, err := resourceserver.New(resourceserver.Config{
		Resource: fixture.Resource, Issuer: fixture.Issuer, Source: certsource.TLS{}, HTTPClient: as.As(b, nil),
		Revocations: &resourceserver.RevocationFeed{ClientID: "c-rs", HTTPClient: as.As(b, as.L2)},
		Logger:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if err := as.Store.Revoke(b.Context(), strings.Repeat("x", 20)+string(rune('a'+i%26))+time.Duration(i).String(), time.Now().Add(time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	req := resourceserver.Request{Token: token, Presented: certsource.NewPresented("tls", as.L1.Cert, nil)}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.Verify(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
