// Package accounts is who the people are, for small installations: names and passwords
// kept beside the server's own records. It is an authserver.Login.
package accounts

import (
	"context"
	"encoding/json"
	"time"
)

// A User is an account.
type User struct {
	// Name is what a person types, in its folded form (see [Fold]). It is unique.
	Name string
	// Subject is the "sub" of the person's tokens: random, and never given away again.
	Subject string
	// PasswordHash is Argon2id in the PHC string format. If empty, nobody can log in.
	PasswordHash string
	Disabled     bool
	// Claims are shown to clients by scope, such as "name" and "email".
	Claims map[string]json.RawMessage
	// Failures counts wrong passwords since the last right one. Until LockedUntil no
	// password is right.
	Failures         int
	LockedUntil      time.Time
	Created, Updated time.Time
	// Version is set by the store.
	Version int64
}

// A Store keeps accounts. The rules of authserver.Store hold, and its errors are used.
// Names are given in their folded form.
type Store interface {
	// CreateUser adds an account, or returns authserver.ErrExists if name or subject
	// are there already. It sets u.Version.
	CreateUser(ctx context.Context, u *User) error
	// User returns an account, or authserver.ErrNotFound.
	User(ctx context.Context, name string) (*User, error)
	// Users returns at most limit accounts with a name after the given one, sorted by
	// the bytes of the name.
	Users(ctx context.Context, after string, limit int) ([]*User, error)
	// UpdateUser replaces an account, except Failures and LockedUntil, if its version is
	// still u.Version, and sets the new one; otherwise authserver.ErrConflict or
	// authserver.ErrNotFound. A subject that another account has is authserver.ErrExists.
	UpdateUser(ctx context.Context, u *User) error
	// RecordFailure adds one to Failures and sets LockedUntil to what lockedUntil, which
	// must be pure, returns for the new number, in one transaction. The version stays.
	// An account that is not there is authserver.ErrNotFound.
	RecordFailure(ctx context.Context, name string, lockedUntil func(failures int) time.Time) error
	// ClearFailures sets both to zero. The version stays. An account that is not there
	// is authserver.ErrNotFound.
	ClearFailures(ctx context.Context, name string) error
	// DeleteUser removes an account, or returns authserver.ErrNotFound.
	DeleteUser(ctx context.Context, name string) error
}
