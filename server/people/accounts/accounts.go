package accounts

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/text/secure/precis"

	"github.com/certbound/certbound/authserver"
)

// ErrName reports a name that cannot be one.
var ErrName = errors.New("accounts: name: expected 1 to 256 bytes without spaces and control characters")

// Fold returns the one form of a name that the store knows: the profile
// UsernameCaseMapped of RFC 8265. The error is [ErrName].
func Fold(name string) (string, error) {
	if len(name) > 256 {
		return "", ErrName
	}
	folded, err := precis.UsernameCaseMapped.String(name)
	if err != nil || folded == "" || len(folded) > 256 {
		return "", ErrName
	}
	// The store looks for the folded form: a name without one fixed form is none.
	if again, err := precis.UsernameCaseMapped.String(folded); err != nil || again != folded {
		return "", ErrName
	}
	return folded, nil
}

// Delays of a login after wrong passwords: the first few cost nothing, and each further
// one doubles the time in which no password is right.
const (
	freeFailures = 5
	firstDelay   = time.Second
	longestDelay = 15 * time.Minute
)

// delay returns how long an account is closed after so many failures.
func delay(failures int) time.Duration {
	if failures < freeFailures {
		return 0
	}
	return min(firstDelay<<min(failures-freeFailures, 20), longestDelay)
}

// A Directory manages accounts. It is safe for concurrent use.
type Directory struct {
	Store Store
	// Grants, if set, is where what a disabled or removed person has allowed ends.
	Grants authserver.GrantStore
	// Cost is for new hashes. If zero, DefaultCost.
	Cost Cost
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

func (d *Directory) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

func (d *Directory) cost() Cost {
	if d.Cost == (Cost{}) {
		return DefaultCost
	}
	return d.Cost
}

// Add makes an account. Claims may be nil; "preferred_username" is the name, unless they
// have another. A name that is there already is authserver.ErrExists.
func (d *Directory) Add(ctx context.Context, name, password string, claims map[string]json.RawMessage) (*User, error) {
	folded, err := Fold(name)
	if err != nil {
		return nil, err
	}
	if err := CheckPassword(password); err != nil {
		return nil, err
	}
	var random [18]byte
	rand.Read(random[:])
	now := d.now()
	u := &User{
		Name: folded, Subject: "p-" + base64.RawURLEncoding.EncodeToString(random[:]),
		PasswordHash: HashPassword(password, d.cost()), Claims: map[string]json.RawMessage{}, Created: now, Updated: now,
	}
	quoted, _ := json.Marshal(name) // a string always encodes
	u.Claims["preferred_username"] = quoted
	for k, v := range claims {
		u.Claims[k] = v
	}
	if err := d.Store.CreateUser(ctx, u); err != nil {
		return nil, err
	}
	return u, nil
}

// change reads an account, changes it and writes it back; again if somebody else was
// faster.
func (d *Directory) change(ctx context.Context, name string, edit func(u *User)) (*User, error) {
	folded, err := Fold(name)
	if err != nil {
		return nil, err
	}
	for range 10 {
		u, err := d.Store.User(ctx, folded)
		if err != nil {
			return nil, err
		}
		edit(u)
		u.Updated = d.now()
		err = d.Store.UpdateUser(ctx, u)
		if errors.Is(err, authserver.ErrConflict) {
			continue
		}
		return u, err
	}
	return nil, authserver.ErrConflict
}

// SetPassword replaces the password, opens the account again if it was closed after wrong
// ones, and ends the sessions of the person. What they have allowed stays.
func (d *Directory) SetPassword(ctx context.Context, name, password string) error {
	if err := CheckPassword(password); err != nil {
		return err
	}
	hash := HashPassword(password, d.cost())
	u, err := d.change(ctx, name, func(u *User) { u.PasswordHash = hash })
	if err != nil {
		return err
	}
	if err := d.Store.ClearFailures(ctx, u.Name); err != nil || d.Grants == nil {
		return err
	}
	return d.Grants.DeleteSessions(ctx, u.Subject)
}

// Disable closes an account, ends the sessions of the person and all that they have
// allowed, tokens included. It returns how many grants have ended.
func (d *Directory) Disable(ctx context.Context, name string) (grants int, err error) {
	u, err := d.change(ctx, name, func(u *User) { u.Disabled = true })
	if err != nil {
		return 0, err
	}
	return d.end(ctx, u)
}

// Enable opens an account again. What had ended stays so.
func (d *Directory) Enable(ctx context.Context, name string) error {
	u, err := d.change(ctx, name, func(u *User) { u.Disabled = false })
	if err != nil {
		return err
	}
	if err := d.Store.ClearFailures(ctx, u.Name); err != nil || d.Grants == nil {
		return err
	}
	p, err := d.Grants.Person(ctx, u.Subject)
	if errors.Is(err, authserver.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	// Later than what it replaces, whatever the clocks say: this record knows of it.
	updated := d.now()
	if !updated.After(p.Updated) {
		updated = p.Updated.Add(time.Microsecond)
	}
	p.Disabled, p.Updated = false, updated
	return d.Grants.SavePerson(ctx, p)
}

// Remove deletes an account, after all that Disable does.
func (d *Directory) Remove(ctx context.Context, name string) (grants int, err error) {
	if grants, err = d.Disable(ctx, name); err != nil {
		return grants, err
	}
	folded, err := Fold(name)
	if err != nil {
		return grants, err
	}
	return grants, d.Store.DeleteUser(ctx, folded)
}

// end marks the person as disabled first, so that nothing new begins while the rest ends.
func (d *Directory) end(ctx context.Context, u *User) (grants int, err error) {
	if d.Grants == nil {
		return 0, nil
	}
	if err := d.Grants.SavePerson(ctx, &authserver.Person{Subject: u.Subject, Claims: u.Claims, Disabled: true, Updated: d.now()}); err != nil {
		return 0, err
	}
	if err := d.Grants.DeleteSessions(ctx, u.Subject); err != nil {
		return 0, err
	}
	for {
		page, err := d.Grants.Grants(ctx, u.Subject, "", "", 100)
		if err != nil || len(page) == 0 {
			return grants, err
		}
		for _, g := range page { // they leave the list by being revoked
			if err := d.Grants.RevokeGrant(ctx, g.ID, d.now()); err != nil {
				return grants, err
			}
			grants++
		}
	}
}

// verify says who has this name and password, or returns nil. It does the same work
// whether the name is there, closed, disabled or not, but for one write; an error is one
// of the store only. The account is read when it is this login's turn, not before: of
// guesses that come at the same time, no more than there are turns at once see an account
// that the others have not closed yet.
func (d *Directory) verify(ctx context.Context, h *hasher, name, password string) (u *User, err error) {
	err = h.do(ctx, func() error {
		u, err = d.judge(ctx, h, name, password)
		return err
	})
	return u, err
}

func (d *Directory) judge(ctx context.Context, h *hasher, name, password string) (*User, error) {
	var u *User
	folded, err := Fold(name)
	if err == nil {
		if u, err = d.Store.User(ctx, folded); err != nil && !errors.Is(err, authserver.ErrNotFound) {
			return nil, err
		}
	}
	hash, known := absent(d.cost()), false
	if u != nil && u.PasswordHash != "" {
		if hash, err = parseHash(u.PasswordHash); err != nil {
			return nil, fmt.Errorf("accounts: %s: %w", folded, err)
		}
		known = true
	}
	if len(password) > MaxPassword {
		password, known = password[:MaxPassword], false
	}
	right := h.verify(hash, password)
	now := d.now()
	switch {
	case u == nil:
		return nil, nil
	case now.Before(u.LockedUntil):
		return nil, nil // whatever the password: a guesser learns nothing meanwhile
	case !right || !known || u.Disabled:
		return nil, d.Store.RecordFailure(ctx, u.Name, func(failures int) time.Time {
			if wait := delay(failures); wait > 0 {
				return now.Add(wait)
			}
			return time.Time{}
		})
	}
	if u.Failures > 0 {
		if err := d.Store.ClearFailures(ctx, u.Name); err != nil {
			return nil, err
		}
	}
	if hash.cost != d.cost() { // the cost was changed since: hash again, now that the password is here
		renewed := HashPassword(password, d.cost())
		_, err := d.change(ctx, u.Name, func(now *User) {
			if now.PasswordHash == u.PasswordHash { // and was not replaced meanwhile
				now.PasswordHash = renewed
			}
		})
		if err != nil && !errors.Is(err, authserver.ErrConflict) {
			return nil, err
		}
	}
	return u, nil
}

// absent is a hash that no password fits, at the cost of one that some may.
func absent(c Cost) phc {
	return phc{cost: c, salt: make([]byte, saltLen), sum: make([]byte, sumLen)}
}

// text returns a claim as a string, or "".
func (u *User) text(claim string) string {
	var s string
	if json.Unmarshal(u.Claims[claim], &s) != nil {
		return ""
	}
	return strings.TrimSpace(s)
}

// Label returns what to call the person on a page.
func (u *User) Label() string {
	for _, claim := range []string{"name", "preferred_username"} {
		if s := u.text(claim); s != "" {
			return s
		}
	}
	return u.Name
}
