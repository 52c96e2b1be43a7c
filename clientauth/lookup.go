package clientauth

import (
	"context"
	"crypto/x509"
	"fmt"

	"github.com/certbound/certbound/internal/memo"
	"github.com/certbound/certbound/pki/subject"
)

// A SubjectLookup returns the registration of a tls_client_auth client. The second
// result is false if it does not know the client. It must be safe for concurrent use,
// and clientID comes from a stranger.
type SubjectLookup func(ctx context.Context, clientID string) (PKI, bool, error)

// A CertificateLookup does the same for a self_signed_tls_client_auth client.
type CertificateLookup func(ctx context.Context, clientID string) (SelfSigned, bool, error)

// SubjectDNs makes a [SubjectLookup] of a function that returns the subject DN of a
// client as RFC 4514 text, or "" for a client that it does not know. anchorSet names
// the CAs of these clients. A text that does not parse is an error of the look-up.
func SubjectDNs(anchorSet string, lookup func(ctx context.Context, clientID string) (string, error)) SubjectLookup {
	return SubjectValues(anchorSet, func(ctx context.Context, clientID string) (subject.Kind, string, error) {
		dn, err := lookup(ctx, clientID)
		if err != nil || dn == "" {
			return "", "", err
		}
		return subject.DN, dn, nil
	})
}

// SubjectValues makes a [SubjectLookup] of a function that returns the kind and the
// value of a client's one subject value, or the empty kind for a client that it does
// not know.
func SubjectValues(anchorSet string, lookup func(ctx context.Context, clientID string) (subject.Kind, string, error)) SubjectLookup {
	// Parsing a DN takes longer than all the rest.
	parsed := make(map[subject.Kind]*memo.Memo[subject.Expected])
	for _, kind := range subject.Kinds() {
		parsed[kind] = memo.New[subject.Expected](1 << 20)
	}
	return func(ctx context.Context, clientID string) (PKI, bool, error) {
		kind, value, err := lookup(ctx, clientID)
		if err != nil || kind == "" {
			return PKI{}, false, err
		}
		known, ok := parsed[kind]
		if ok {
			if expected, ok := known.Get(value); ok {
				return PKI{Expected: expected, AnchorSet: anchorSet}, true, nil
			}
		}
		expected, err := subject.New(kind, value)
		if err != nil {
			return PKI{}, false, fmt.Errorf("clientauth: look-up: %w", err)
		}
		if ok {
			known.Put(value, expected, 256+4*len(value))
		}
		return PKI{Expected: expected, AnchorSet: anchorSet}, true, nil
	}
}

// Certificates makes a [CertificateLookup] of a function that returns one or many
// certificates of a client, as DER or parsed, or nil for a client that it does not
// know. An empty list that is not nil is a client without a certificate, which is
// refused.
func Certificates[T []byte | [][]byte | *x509.Certificate | []*x509.Certificate](lookup func(ctx context.Context, clientID string) (T, error)) CertificateLookup {
	return func(ctx context.Context, clientID string) (SelfSigned, bool, error) {
		found, err := lookup(ctx, clientID)
		if err != nil {
			return SelfSigned{}, false, err
		}
		var reg SelfSigned
		switch found := any(found).(type) {
		case []byte:
			if found == nil {
				return SelfSigned{}, false, nil
			}
			reg.Certificates = [][]byte{found}
		case [][]byte:
			if found == nil {
				return SelfSigned{}, false, nil
			}
			reg.Certificates = found
		case *x509.Certificate:
			if found == nil {
				return SelfSigned{}, false, nil
			}
			reg.Certificates = [][]byte{found.Raw}
		case []*x509.Certificate:
			if found == nil {
				return SelfSigned{}, false, nil
			}
			reg.Certificates = make([][]byte, 0, len(found))
			for _, c := range found {
				if c != nil {
					reg.Certificates = append(reg.Certificates, c.Raw)
				}
			}
		}
		return reg, true, nil
	}
}
