// Package feed is the form of the revocation feed, which the authorization server writes
// and resource servers read: a signed JWT with the changes of what is revoked after a
// number. docs/revocation.md describes it.
package feed

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Type is the typ of the JWT, so that it is no other kind of token, and MediaType what
// the answer is.
const (
	Type      = "certbound-revocations+jwt"
	MediaType = "application/" + Type
)

// Member is the name of the endpoint in the issuer's metadata.
const Member = "certbound_revocation_feed_endpoint"

// Limits of a page.
const (
	MaxEntries = 1000
	MaxBytes   = 1 << 20 // of the JWT
)

// A Page is the payload.
type Page struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"` // the client that asked
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	// Feed names the sequence of numbers. When it changes, what the reader has is
	// of another store, and it begins anew.
	Feed string `json:"feed"`
	// Since is the number after which the page begins: the one that was asked for,
	// or 0 if that does not belong to this feed.
	Since int64 `json:"since"`
	// Next is what to ask for next, and More says that there is more already.
	Next    int64   `json:"next"`
	More    bool    `json:"more"`
	Entries []Entry `json:"entries"`
}

// An Entry is one change: a token by jti or the tokens that are bound to a certificate
// are revoked, or the certificate is restored.
type Entry struct {
	Number   int64  `json:"n"`
	JTI      string `json:"jti,omitempty"`
	X5TS256  string `json:"x5t#S256,omitempty"`
	Restored bool   `json:"restored,omitempty"`
	// Expires is when the entry can be forgotten, in seconds since 1970. 0 is never.
	Expires int64 `json:"exp,omitempty"`
}

// Parse reads a payload whose signature was verified.
func Parse(payload []byte) (*Page, error) {
	p := new(Page)
	if err := json.Unmarshal(payload, p); err != nil {
		return nil, errors.New("feed: the payload is no page")
	}
	fault := ""
	switch {
	case p.Feed == "" || len(p.Feed) > 256:
		fault = "feed: expected 1 to 256 bytes"
	case p.Since < 0 || p.Next < p.Since:
		fault = fmt.Sprintf("next: expected %d or more, found %d", p.Since, p.Next)
	case p.More && p.Next == p.Since:
		fault = "more, but next is where the page began"
	case len(p.Entries) > MaxEntries:
		fault = fmt.Sprintf("entries: expected at most %d, found %d", MaxEntries, len(p.Entries))
	}
	last := p.Since
	for _, e := range p.Entries {
		switch {
		case fault != "":
		case e.Number <= last || e.Number > p.Next:
			fault = fmt.Sprintf("n: expected a number after %d and not after %d, found %d", last, p.Next, e.Number)
		case (e.JTI == "") == (e.X5TS256 == ""):
			fault = fmt.Sprintf("entry %d: expected either jti or x5t#S256", e.Number)
		case len(e.JTI) > 1024 || len(e.X5TS256) > 64 || e.Expires < 0:
			fault = fmt.Sprintf("entry %d: too long, or from before 1970", e.Number)
		}
		last = e.Number
	}
	if fault != "" {
		return nil, errors.New("feed: " + fault)
	}
	return p, nil
}
