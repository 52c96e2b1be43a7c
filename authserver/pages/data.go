package pages

// Login is the data of login.html. The form posts "csrf", "name" and "password", or
// "decision" with the value "cancel".
type Login struct {
	Action string // where the form posts to
	CSRF   string
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
	// Person is the name to show for who has logged in, and Switch the URL of another
	// login, or empty.
	Person, Switch string
	Scopes         []Scope
	Resources      []string
}

// A Client is what a page shows of a client. Each URL may be empty.
type Client struct {
	ID, Name                 string
	URI, Logo, Policy, Terms string
	RedirectURI              string // where the person is sent back to
	// Dynamic says that the client has registered itself: its name is its own claim.
	Dynamic bool
}

// A Scope is one thing that the client asks for. Text may be empty. New says that it was
// not allowed before.
type Scope struct {
	Name, Text string
	New        bool
}

// Error is the data of error.html. It says what happened and what to do.
type Error struct {
	Code      string // the OAuth error code
	Title     string
	Text      string // what happened
	Advice    string // what to do
	RequestID string // leads to the log record
}

// Logout is the data of logout.html: a question if Action is set, and otherwise the
// statement that the session has ended. Back, if set, leads back to the client. The form
// posts "csrf" and "decision", which is "logout" or "stay".
type Logout struct {
	Action, CSRF string
	Person       string
	Back         string
}

// FormPost is the data of form_post.html (OAuth 2.0 Form Post Response Mode): a form
// with a button that works without JavaScript, and posts itself with it.
type FormPost struct {
	Action string
	Fields []Field
}

// A Field is a hidden field.
type Field struct{ Name, Value string }
