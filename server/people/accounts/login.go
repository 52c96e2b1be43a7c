package accounts

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/pages"
)

// Login is an authserver.Login that asks for name and password.
type Login struct {
	dir    *Directory
	logger *slog.Logger
	hasher *hasher
	step   time.Duration
}

// refusalStep: a refusal leaves at a multiple of it after the request came. A wrong
// password for a name that is there is written down, one for another is not, and nobody
// shall see the difference.
const refusalStep = 250 * time.Millisecond

// NewLogin returns a login over the accounts of d. If logger is nil, slog.Default.
func NewLogin(d *Directory, logger *slog.Logger) *Login {
	if logger == nil {
		logger = slog.Default()
	}
	return &Login{dir: d, logger: logger, hasher: newHasher(), step: refusalStep}
}

// fault is one sentence for each refusal, so that it says nothing about the name.
const fault = "Name and password do not fit. After several wrong passwords an account is closed for a while."

// ServeLogin implements authserver.Login.
func (l *Login) ServeLogin(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	page := pages.Login{Action: a.Action, CSRF: a.CSRF, Name: a.Hint, Client: a.Page}
	if a.Path != "" {
		a.Fail(w, r, "invalid_request", errors.New("accounts: there is no such page"))
		return
	}
	if r.Method != http.MethodPost {
		l.show(w, r, a, http.StatusOK, page)
		return
	}
	// The server has read the form, within its limits.
	if r.PostForm.Get("decision") == "cancel" {
		a.Deny(w, r)
		return
	}
	page.Name = r.PostForm.Get("name")
	came := time.Now()
	u, err := l.dir.verify(r.Context(), l.hasher, page.Name, r.PostForm.Get("password"))
	switch {
	case err != nil:
		a.Fail(w, r, "temporarily_unavailable", err)
	case u == nil || a.Subject != "" && u.Subject != a.Subject:
		l.logger.LogAttrs(r.Context(), slog.LevelWarn, "login refused", slog.String("client", a.Client.ID))
		page.Fault = fault
		if len(page.Name) > 256 {
			page.Name = ""
		}
		select {
		case <-time.After(rest(time.Since(came), l.step)):
		case <-r.Context().Done():
		}
		l.show(w, r, a, http.StatusUnauthorized, page)
	default:
		a.Done(w, r, authserver.Authenticated{Subject: u.Subject, AMR: []string{"pwd"}, Claims: u.Claims})
	}
}

// rest is what is left of the step that is running.
func rest(passed, step time.Duration) time.Duration { return step - passed%step }

func (l *Login) show(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt, status int, page pages.Login) {
	if err := a.Pages.Login(w, status, page); err != nil {
		l.logger.LogAttrs(r.Context(), slog.LevelError, "login page", slog.Any("cause", err))
	}
}
