package people

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/server/store/sqlite"
)

// nobody is a login for a benchmark that begins with a code.
type nobody struct{}

func (nobody) ServeLogin(w http.ResponseWriter, _ *http.Request, _ *authserver.LoginAttempt) {
	w.WriteHeader(http.StatusTeapot)
}

// BenchmarkFlows measures the requests of a person's flow over mutual TLS, by 64 callers at
// once, on SQLite with full durability. In the same run commits of one row are measured,
// one after the other, on the same database: "commits" is what a request takes in units of
// those. It is below one because writes of concurrent requests share a commit.
func BenchmarkFlows(b *testing.B) {
	store, err := sqlite.Open(b.Context(), sqlite.Config{Path: filepath.Join(b.TempDir(), "bench.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	as := fixture.Start(b, func(c *authserver.Config) {
		c.Store = store
		c.Authorization = authserver.Authorization{Enabled: true, Login: nobody{}}
		c.Scopes = append(c.Scopes, "openid")
	})
	as.Register(b, &authserver.Client{
		ID: "bench", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true, Scope: "openid read",
		Resources: []string{fixture.Resource}, RedirectURIs: []string{"https://app.test/cb"}, GrantTypes: []string{"authorization_code", "refresh_token"},
	})
	value := func() string {
		var r [32]byte
		rand.Read(r[:])
		return base64.RawURLEncoding.EncodeToString(r[:])
	}
	verifier := value()
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])

	grant := func(i int) url.Values {
		code, now := "cbc_"+value(), time.Now()
		r := &authserver.AuthorizationRequest{Hash: sha256.Sum256([]byte(value())), ClientID: "bench", Created: now, Expires: now.Add(time.Hour)}
		if err := store.SaveRequest(b.Context(), r); err != nil {
			b.Fatal(err)
		}
		if r, err = store.Request(b.Context(), r.Hash); err != nil {
			b.Fatal(err)
		}
		g := &authserver.Grant{ID: value(), ClientID: "bench", Subject: "p-" + strconv.Itoa(i), Scope: "openid read", Resources: []string{fixture.Resource},
			AuthTime: now, SessionID: "s", Created: now, Expires: now.Add(24 * time.Hour)}
		c := &authserver.Code{Hash: sha256.Sum256([]byte(code)), GrantID: g.ID, ClientID: "bench", RedirectURI: "https://app.test/cb", RedirectURISent: true,
			Challenge: challenge, Expires: now.Add(time.Hour)}
		if err := store.Authorize(b.Context(), r, g, c, nil); err != nil {
			b.Fatal(err)
		}
		return url.Values{"client_id": {"bench"}, "grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"https://app.test/cb"}, "code_verifier": {verifier}}
	}
	clients := make([]*http.Client, 8)
	for i := range clients {
		clients[i] = as.As(b, as.L1)
	}
	post := func(i int, path string, v url.Values, want int) []byte {
		res, err := clients[i%len(clients)].Post(fixture.MTLSBase+path, "application/x-www-form-urlencoded", strings.NewReader(v.Encode()))
		if err != nil {
			b.Error(err)
			return nil
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != want {
			b.Errorf("%s: %d %s %v", path, res.StatusCode, body, err)
		}
		return body
	}
	run := func(name string, prepare func(n int), request func(i int)) {
		b.Run(name, func(b *testing.B) {
			const commits = 50
			begun := time.Now()
			for i := range commits {
				if err := store.Revoke(b.Context(), "raw "+name+strconv.Itoa(i), time.Now().Add(time.Hour)); err != nil {
					b.Fatal(err)
				}
			}
			alone := time.Since(begun) / commits
			prepare(b.N)
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			var callers sync.WaitGroup
			for range 64 {
				callers.Go(func() {
					for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
						request(i)
					}
				})
			}
			callers.Wait()
			each := b.Elapsed() / time.Duration(b.N)
			b.ReportMetric(float64(time.Second)/float64(each), "requests/s")
			b.ReportMetric(float64(time.Second)/float64(alone), "rawcommits/s")
			b.ReportMetric(float64(each)/float64(alone), "commits")
		})
	}
	push := url.Values{"client_id": {"bench"}, "response_type": {"code"}, "redirect_uri": {"https://app.test/cb"}, "scope": {"openid read"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}, "state": {"s"}}
	run("PAR", func(int) {}, func(i int) { post(i, "/par", push, http.StatusCreated) })

	var forms []url.Values
	prepare := func(n int) {
		forms = make([]url.Values, n)
		var wg sync.WaitGroup
		var next atomic.Int64
		for range 64 {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					forms[i] = grant(i)
				}
			})
		}
		wg.Wait()
	}
	run("code", prepare, func(i int) { post(i, "/token", forms[i], http.StatusOK) })
	run("refresh", func(n int) {
		prepare(min(n, 64))
		for i, form := range forms {
			body := post(i, "/token", form, http.StatusOK)
			var answer struct {
				Refresh string `json:"refresh_token"`
			}
			if err := json.NewDecoder(bytes.NewReader(body)).Decode(&answer); err != nil || answer.Refresh == "" {
				b.Fatalf("no refresh token: %s", body)
			}
			forms[i] = url.Values{"client_id": {"bench"}, "grant_type": {"refresh_token"}, "refresh_token": {answer.Refresh}}
		}
	}, func(i int) { post(i, "/token", forms[i%len(forms)], http.StatusOK) })
}
