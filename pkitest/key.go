package pkitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
)

// A KeyType says which kind of key is made for a certificate.
type KeyType uint8

// The key types. P224 and RSA1024 exist to be refused.
const (
	P256 KeyType = iota // the default
	P384
	P521
	Ed25519
	RSA2048
	RSA3072
	P224
	RSA1024
)

func (k KeyType) String() string {
	names := [...]string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048", "RSA-3072", "P-224", "RSA-1024"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("KeyType(%d)", k)
}

// NewKey makes a new key, also where that takes a second (RSA).
func NewKey(kind KeyType) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case P224:
		return ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	}
	return nil, fmt.Errorf("pkitest: key: %v is not a key type", kind)
}

// MustKey is [NewKey] for tests; it panics instead of returning an error.
func MustKey(kind KeyType) crypto.Signer { return must(NewKey(kind)) }

// rsaPoolSize is how many RSA keys of one size a process makes.
const rsaPoolSize = 3

// keyPool hands out RSA keys in turn, since tests make many certificates and an
// RSA key is slow to make. Keys of other kinds are always new.
type keyPool struct {
	mu   sync.Mutex
	keys map[KeyType][]crypto.Signer
	next map[KeyType]int
}

var pool keyPool

func (p *keyPool) take(kind KeyType) (crypto.Signer, error) {
	switch kind {
	case RSA1024, RSA2048, RSA3072:
	default:
		return NewKey(kind)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys, p.next = make(map[KeyType][]crypto.Signer), make(map[KeyType]int)
	}
	i := p.next[kind]
	p.next[kind] = (i + 1) % rsaPoolSize
	if i == len(p.keys[kind]) {
		key, err := NewKey(kind)
		if err != nil {
			return nil, err
		}
		p.keys[kind] = append(p.keys[kind], key)
	}
	return p.keys[kind][i], nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
