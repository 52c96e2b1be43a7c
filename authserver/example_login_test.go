package authserver_test

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/authserver/pages"
)

// A staffList is whatever knows your people.
type staffList interface {
	// Check returns the subject of the person with this name and password, or "".
	Check(name, password string) string
}

// directoryLogin asks for name and password with the built-in page.
type directoryLogin struct{ people staffList }

func (l directoryLogin) ServeLogin(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	page := pages.Login{Action: a.Action, CSRF: a.CSRF, Client: a.Page, Name: a.Hint}
	if r.Method == http.MethodPost {
		if r.PostFormValue("decision") == "cancel" {
			a.Deny(w, r)
			return
		}
		page.Name = r.PostFormValue("name")
		if subject := l.people.Check(page.Name, r.PostFormValue("password")); subject != "" {
			a.Done(w, r, authserver.Authenticated{Subject: subject, AMR: []string{"pwd"}})
			return
		}
		page.Fault = "Name and password do not fit."
	}
	_ = a.Pages.Login(w, http.StatusOK, page)
}

type onePerson struct{}

func (onePerson) Check(name, password string) string {
	if name == "ann" && password == "correct horse battery staple" {
		return "person-1"
	}
	return ""
}

// A login of your own: here it asks a directory, with the built-in page.
func ExampleLogin() {
	server, err := authserver.New(authserver.Config{
		Issuer: "https://as.example", Store: memstore.New(), AuthMethods: []string{authserver.None},
		Scopes: []string{"openid"}, Resources: []string{"https://api.example"},
		Authorization: authserver.Authorization{Enabled: true, Login: directoryLogin{onePerson{}}},
		Clients: []*authserver.Client{{ID: "app", Name: "An app", AuthMethod: authserver.None, Scope: "openid",
			GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{"https://app.example/cb"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// What a browser does.
	var cookies []string
	do := func(method, path string, form url.Values) *http.Response {
		r := httptest.NewRequest(method, "https://as.example"+path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			cookies = append(cookies, c.Name+"="+c.Value)
		}
		return w.Result()
	}
	first := do(http.MethodGet, "/authorize?"+url.Values{"client_id": {"app"}, "response_type": {"code"}, "scope": {"openid"},
		"redirect_uri": {"https://app.example/cb"}, "code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"}}.Encode(), nil)
	login := first.Header.Get("Location")
	page := new(strings.Builder)
	_ = do(http.MethodGet, login, nil).Write(page)
	csrf := html.UnescapeString(hiddenRE.FindStringSubmatch(page.String())[2])
	done := do(http.MethodPost, login, url.Values{"csrf": {csrf}, "name": {"ann"}, "password": {"correct horse battery staple"}})
	path, _, _ := strings.Cut(done.Header.Get("Location"), "?")
	fmt.Println(done.StatusCode, path)
	// Output: 303 /authorize
}
