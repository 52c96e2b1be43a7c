// Package pages renders what people see of an authorization server: login, consent,
// errors, logout. The pages are plain HTML that works without JavaScript; element ids
// are stable, and a folder of the operator's can replace any template.
package pages

import "html/template"

// A Set is the templates in use. It is safe for concurrent use. The zero value is not
// usable; see [Default] and [Load].
type Set struct {
	templates map[string]*template.Template
	css       template.CSS
	cssHash   string // for the content security policy
	// title is the name of the operator on each page.
	title string
}

// Login is the data of login.html: a form with name and password.
type Login struct {
	Action string // where the form posts to
	CSRF   string // hidden field "csrf"
	Client Client
	// Name is what was typed before, or the login_hint.
	Name string
	// Fault is a sentence to show above the form, or empty.
	Fault string
}

// Consent is the data of consent.html. The form posts "csrf" and "decision", which is
// "allow" or "deny".
type Consent struct {
	Action string
	CSRF   string
	Client Client
	// Person is the name to show for who is logged in, and Switch leads to another
	// login.
	Person, Switch string
	Scopes         []Scope
	Resources      []string
}

// Client is what a page shows of a client. URLs are https and may be empty.
type Client struct {
	ID, Name                 string
	URI, Logo, Policy, Terms string
	RedirectHost             string // where the person is sent back to
	Dynamic                  bool   // has registered itself: the name is its own claim
}

// Scope is one thing that the client asks for. New says that it was not allowed before.
type Scope struct {
	Name, Text string
	New        bool
}

// Error is the data of error.html. It says what happened and what to do, and never
// redirects.
type Error struct {
	Code      string // the OAuth error code
	Title     string
	Text      string // what happened
	Advice    string // what to do
	RequestID string // leads to the log record
}

// Logout is the data of logout.html: a question if Action is set, and otherwise the
// statement that the session has ended, with a link back if Back is set.
type Logout struct {
	Action, CSRF string
	Person       string
	Back         string
}

// FormPost is the data of form_post.html (OAuth 2.0 Form Post Response Mode): a form with
// a button that works without JavaScript, and posts itself with it.
type FormPost struct {
	Action string
	Fields []Field
}

// Field is one hidden field.
type Field struct{ Name, Value string }
