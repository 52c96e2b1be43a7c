package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Limits of passwords, in bytes of UTF-8. The lower one counts characters.
const (
	MinPassword = 10
	MaxPassword = 1024
)

// Cost is what one hash takes.
type Cost struct {
	// Memory in KiB, Passes over it, and Lanes that may run at once.
	Memory, Passes uint32
	Lanes          uint8
}

// DefaultCost is the smallest that RFC 9106 recommends where memory is scarce: 64 MiB and
// three passes. One hash takes about a tenth of a second.
var DefaultCost = Cost{Memory: 64 << 10, Passes: 3, Lanes: 4}

// most bounds what a stored hash can make us spend.
var most = Cost{Memory: 1 << 20, Passes: 16, Lanes: 16}

// CheckPassword says what is wrong with a password that somebody wants to have.
func CheckPassword(password string) error {
	switch {
	case !utf8.ValidString(password):
		return errors.New("accounts: password: expected UTF-8")
	case utf8.RuneCountInString(password) < MinPassword:
		return fmt.Errorf("accounts: password: expected at least %d characters, found %d", MinPassword, utf8.RuneCountInString(password))
	case len(password) > MaxPassword:
		return fmt.Errorf("accounts: password: expected at most %d bytes, found %d", MaxPassword, len(password))
	}
	return nil
}

const saltLen, sumLen = 16, 32

// HashPassword returns the Argon2id hash (RFC 9106) in the PHC string format.
func HashPassword(password string, c Cost) string {
	salt := make([]byte, saltLen)
	rand.Read(salt)
	return encodeHash(c, salt, argon2.IDKey([]byte(password), salt, c.Passes, c.Memory, c.Lanes, sumLen))
}

func encodeHash(c Cost, salt, sum []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Passes, c.Lanes, b64(salt), b64(sum))
}

// A phc is a parsed hash.
type phc struct {
	cost      Cost
	salt, sum []byte
}

// parseHash reads the PHC string format, as other programs write it too.
func parseHash(s string) (phc, error) {
	var h phc
	bad := func(what string) (phc, error) {
		return phc{}, fmt.Errorf("accounts: password hash: expected $argon2id$v=19$m=…,t=…,p=…$salt$sum, found %s", what)
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return bad("another form")
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return bad("another version")
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.cost.Memory, &h.cost.Passes, &h.cost.Lanes); n != 3 || err != nil ||
		parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", h.cost.Memory, h.cost.Passes, h.cost.Lanes) {
		return bad("other parameters")
	}
	if c := h.cost; c.Memory < 8*uint32(c.Lanes) || c.Passes < 1 || c.Lanes < 1 || c.Memory > most.Memory || c.Passes > most.Passes || c.Lanes > most.Lanes {
		return bad("a cost out of bounds")
	}
	strict := base64.RawStdEncoding.Strict()
	var err1, err2 error
	h.salt, err1 = strict.DecodeString(parts[4])
	h.sum, err2 = strict.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return bad("a salt or a sum that is too short, too long or no base64")
	}
	return h, nil
}

func (h phc) verify(password string) bool {
	sum := argon2.IDKey([]byte(password), h.salt, h.cost.Passes, h.cost.Memory, h.cost.Lanes, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// A hasher bounds how many logins are judged at once, and so the memory that guesses can
// take and the guesses that can overtake the count of the wrong ones.
type hasher struct {
	slots chan struct{}
	// verified, if set, learns the cost of each hash that a password was compared with.
	verified func(Cost)
}

func newHasher() *hasher { return &hasher{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))} }

// do waits for its turn, or for the end of ctx.
func (h *hasher) do(ctx context.Context, work func() error) error {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		return work()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) verify(hash phc, password string) bool {
	if h.verified != nil {
		h.verified(hash.cost)
	}
	return hash.verify(password)
}
