package httpauth_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"time"
)

type ctx = context.Context

// fixed is a look-up that knows every client by one value.
func fixed[T any](value T) func(context.Context, string) (T, error) {
	return func(context.Context, string) (T, error) { return value, nil }
}

func nowAt(at time.Time) func() time.Time { return func() time.Time { return at } }

func mustParse(der []byte) *x509.Certificate {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

// decode reads JSON if it is any.
func decode(data []byte, v any) { json.Unmarshal(data, v) }
