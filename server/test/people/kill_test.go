package people

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
)

// steps of a flow, in the order of a person and a client. Each answers what it was told,
// or an error if the connection ended without an answer.
const (
	stepPAR = iota
	stepLogin
	stepConsent
	stepToken
	stepRefresh
	stepEnd
)

// A journey is one flow, with all that the browser and the client remember of it.
type journey struct {
	*flow
	link, code      string
	access, refresh string
	jar             http.CookieJar
}

// try does one step, without failing the test if there is no answer.
func (j *journey) try(t *testing.T, p *program, step int) (status int, err error) {
	t.Helper()
	send := func(c *http.Client, method, to string, v url.Values) (*http.Response, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(v.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := c.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp, string(body), err
	}
	app, person := p.as(t, p.L1), p.as(t, nil)
	person.Jar = j.jar
	page := func(to string) (*fixture.Page, error) {
		for {
			resp, body, err := send(person, http.MethodGet, to, nil)
			if err != nil {
				return nil, err
			}
			next := resp.Header.Get("Location")
			if next == "" || !strings.HasPrefix(next, "/") && !strings.HasPrefix(next, issuer) {
				return &fixture.Page{Answer: &fixture.Answer{Status: resp.StatusCode, Header: resp.Header, Text: body}, At: to}, nil
			}
			u, err := resp.Request.URL.Parse(next)
			if err != nil {
				t.Fatal(err)
			}
			to = u.String()
		}
	}
	form := func(p *fixture.Page, pairs ...string) (*http.Response, error) {
		to, v := fixture.Form(t, *p)
		for i := 0; i+1 < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		resp, _, err := send(person, http.MethodPost, to, v)
		return resp, err
	}
	switch step {
	case stepPAR:
		resp, body, err := send(app, http.MethodPost, mtlsBase+"/par", j.params)
		if err != nil {
			return 0, err
		}
		_, after, _ := strings.Cut(body, `"request_uri":"`)
		uri, _, _ := strings.Cut(after, `"`)
		j.link = j.flow.link(uri)
		return resp.StatusCode, nil
	case stepLogin:
		at, err := page(j.link)
		if err != nil {
			return 0, err
		}
		if !strings.Contains(at.Text, `id="login"`) { // logged in by the POST whose answer was lost
			return http.StatusSeeOther, nil
		}
		resp, err := form(at, "name", "ann", "password", password)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, nil
	case stepConsent:
		at, err := page(j.link)
		if err != nil {
			return 0, err
		}
		if at.Status != http.StatusOK {
			return at.Status, nil // the consent was taken, and the answer lost
		}
		resp, err := form(at, "decision", "allow")
		if err != nil {
			return 0, err
		}
		u, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		j.code = u.Query().Get("code")
		return resp.StatusCode, nil
	}
	v := url.Values{"client_id": {"app"}, "grant_type": {"refresh_token"}, "refresh_token": {j.refresh}}
	if step == stepToken {
		v = url.Values{"client_id": {"app"}, "grant_type": {"authorization_code"}, "code": {j.code}, "redirect_uri": {appCallback}, "code_verifier": {j.verifier}}
	}
	resp, body, err := send(app, http.MethodPost, mtlsBase+"/token", v)
	if err != nil {
		return 0, err
	}
	if _, after, ok := strings.Cut(body, `"refresh_token":"`); ok {
		j.refresh, _, _ = strings.Cut(after, `"`)
	}
	if _, after, ok := strings.Cut(body, `"access_token":"`); ok {
		j.access, _, _ = strings.Cut(after, `"`)
	}
	return resp.StatusCode, nil
}

// The server is killed at some point of a flow, between two steps or in the middle of one,
// started again, and person and client go on. What was acknowledged is there; a step whose
// answer was lost has either not happened, and is done again, or has happened, and is not
// accepted a second time.
func TestKillAtAnyPoint(t *testing.T) {
	dir := newFolder(t, `people: {enabled: true, login: accounts, consent_lifetime: 0s, refresh_tokens: {rotate_all: true, grace: 0s}}`)
	addUser(t, dir, "ann", "Ann Example")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	names := []string{"par", "login", "consent", "token", "refresh"}
	p := serveProgram(t, dir)
	lost := 0
	for round := range 10 {
		at, between := round%stepEnd, round < stepEnd
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		j := &journey{flow: newFlow("app", "prompt", "login"), jar: jar}
		var spent string // a refresh token that was replaced
		for step := stepPAR; step < stepEnd; step++ {
			before := *j
			var status int
			if step == at && !between {
				// Somewhere in the middle: while the request is on its way, is worked upon, or
				// is answered.
				killed := make(chan error, 1)
				wait := time.Duration(random.Int64N(int64(60 * time.Millisecond)))
				go func() { time.Sleep(wait); killed <- p.cmd.Process.Kill() }()
				status, err = j.try(t, p, step)
				if err := <-killed; err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
				<-p.ended
				p = serveProgram(t, dir)
				if err != nil { // no answer: the client tries again
					lost++
					j.code, j.refresh = before.code, before.refresh
					status, err = j.try(t, p, step)
					if err != nil {
						t.Fatal(err)
					}
					if step >= stepConsent && status/100 == 4 {
						// It had happened. Nothing came of it, and nothing comes a second time.
						t.Logf("round %d: %s had happened, its answer was lost", round, names[step])
						break
					}
				}
			} else {
				if status, err = j.try(t, p, step); err != nil {
					t.Fatal(err)
				}
				if step == at {
					p.kill(t)
					p = serveProgram(t, dir)
				}
			}
			if want := []int{201, 303, 303, 200, 200}[step]; status != want {
				t.Fatalf("round %d, killed at %s: %s answered %d, want %d\n%s", round, names[at], names[step], status, want, p.text())
			}
			if step == stepRefresh {
				spent = before.refresh
			}
		}
		if j.access == "" || spent == "" {
			continue
		}
		// All of it was acknowledged: it holds, and nothing of it is accepted again.
		if status := p.userinfo(t, j.access); status != http.StatusOK {
			t.Errorf("round %d: the access token is worth %d", round, status)
		}
		if spent != j.refresh {
			if r := refreshWith(t, p.as(t, p.L1), "app", j.refresh); r.Status != http.StatusOK {
				t.Errorf("round %d: the refresh token is lost: %d %s", round, r.Status, r.Error())
			}
			if r := refreshWith(t, p.as(t, p.L1), "app", spent); r.Error() != "invalid_grant" {
				t.Errorf("round %d: a spent refresh token is worth %d", round, r.Status)
			}
		}
		if r := j.redeem(t, p.as(t, p.L1), j.code); r.Error() != "invalid_grant" {
			t.Errorf("round %d: a spent code is worth %d", round, r.Status)
		}
	}
	t.Logf("%d answers were lost", lost)
}

// userinfo returns the status with a token.
func (p *program) userinfo(t *testing.T, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, mtlsBase+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return fixture.Do(t, p.as(t, p.L1), req).Status
}
