package authserver

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// A secret that NewSecret made has 256 random bits, so that one SHA-256 protects it
// as well as any slow hash would. A secret that a person chose does not, and gets
// PBKDF2. Which of the two applies is seen from the form of the secret, prefix and
// checksum included, never from the stored record: so the work that a guess causes
// says nothing about the client.
const (
	secretPrefix  = "cbs_"
	secretLen     = len(secretPrefix) + 43 + 6
	minSecretLen  = 16
	maxSecretLen  = 1024
	pbkdf2Rounds  = 210_000
	fastHashLabel = "sha256"
	slowHashLabel = "pbkdf2-sha256"
)

// NewSecret returns a random client secret and the hash to register.
func NewSecret() (secret, hash string) {
	var b [32]byte
	rand.Read(b[:])
	body := base64.RawURLEncoding.EncodeToString(b[:])
	secret = secretPrefix + body + secretChecksum(body)
	return secret, fastHash(secret, newSalt())
}

// HashSecret returns the hash to register for a secret that exists already. A
// secret of NewSecret is hashed as it is there; any other one with PBKDF2, and it
// must have 16 to 1,024 printable ASCII characters.
func HashSecret(secret string) (string, error) {
	if generatedSecret(secret) {
		return fastHash(secret, newSalt()), nil
	}
	if len(secret) < minSecretLen || len(secret) > maxSecretLen {
		return "", fmt.Errorf("authserver: client secret: expected %d to %d characters, found %d; let the server make one", minSecretLen, maxSecretLen, len(secret))
	}
	for i := range len(secret) {
		if secret[i] < 0x20 || secret[i] > 0x7e {
			return "", fmt.Errorf("authserver: client secret: expected printable ASCII characters (RFC 6749, Appendix A.2)")
		}
	}
	return slowHash(secret, newSalt(), pbkdf2Rounds)
}

func newSalt() []byte {
	salt := make([]byte, 16)
	rand.Read(salt)
	return salt
}

func secretChecksum(body string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(body)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func generatedSecret(s string) bool {
	body, ok := strings.CutPrefix(s, secretPrefix)
	return ok && len(s) == secretLen && secretChecksum(body[:43]) == body[43:]
}

func fastHash(secret string, salt []byte) string {
	sum := sha256.Sum256(append(append([]byte(nil), salt...), secret...))
	return fastHashLabel + "$" + base64.RawURLEncoding.EncodeToString(salt) + "$" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func slowHash(secret string, salt []byte, rounds int) (string, error) {
	key, err := pbkdf2.Key(sha256.New, secret, salt, rounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("authserver: client secret: %w", err)
	}
	return slowHashLabel + "$" + strconv.Itoa(rounds) + "$" + base64.RawURLEncoding.EncodeToString(salt) + "$" + base64.RawURLEncoding.EncodeToString(key), nil
}

// A secretHash is a parsed hash.
type secretHash struct {
	slow      bool
	rounds    int
	salt, sum []byte
}

func parseSecretHash(s string) (h secretHash, ok bool) {
	parts := strings.Split(s, "$")
	var err error
	switch {
	case len(parts) == 3 && parts[0] == fastHashLabel:
	case len(parts) == 4 && parts[0] == slowHashLabel:
		h.slow = true
		if h.rounds, err = strconv.Atoi(parts[1]); err != nil || h.rounds < 10_000 || h.rounds > 10_000_000 {
			return secretHash{}, false
		}
		parts = parts[1:]
	default:
		return secretHash{}, false
	}
	if h.salt, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil || len(h.salt) < 8 {
		return secretHash{}, false
	}
	if h.sum, err = base64.RawURLEncoding.DecodeString(parts[2]); err != nil || len(h.sum) != sha256.Size {
		return secretHash{}, false
	}
	return h, true
}

// verify compares in constant time. The zero hash matches nothing, at the cost of a
// fast one.
func (h secretHash) verify(secret string) bool {
	if len(secret) > maxSecretLen {
		return false
	}
	if h.slow {
		key, err := pbkdf2.Key(sha256.New, secret, h.salt, h.rounds, sha256.Size)
		return err == nil && subtle.ConstantTimeCompare(key, h.sum) == 1
	}
	var buf [16 + secretLen]byte
	sum := sha256.Sum256(append(append(buf[:0], h.salt...), secret...))
	return subtle.ConstantTimeCompare(sum[:], h.sum) == 1
}
