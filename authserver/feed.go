package authserver

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/feed"
)

// feedPath is where the revocation feed is, below the base URLs.
const feedPath = "/revocations"

// feedLifetime is how long a page may be on its way.
const feedLifetime = 5 * time.Minute

// revocations is the feed for resource servers that verify JWTs themselves: which tokens
// and certificates were revoked after the change with the number since, as a JWT signed
// with the key of access tokens. Who may introspect may read it. docs/revocation.md
// describes parameters and answer.
func (x *exchange) revocations() *refusal {
	c, refused := x.authenticate(false)
	if refused != nil {
		return refused
	}
	if !c.MayIntrospect {
		return x.fail(refuseCaller, decision.Check{Name: decision.CheckClient, Reason: decision.CallerNotAllowed,
			Expected: "certbound_may_introspect", Found: "not allowed"})
	}
	since := int64(0)
	if text := x.form.get("since"); text != "" {
		var err error
		if since, err = strconv.ParseInt(text, 10, 64); err != nil || since < 0 {
			return x.fail(refuseRequest, decision.Check{Name: decision.CheckGrant, Reason: decision.RequestMalformed,
				Expected: "since: a number of the feed", Found: clip(text, 64)})
		}
	}
	read, err := x.s.cfg.Store.Revocations(x.ctx(), since, feed.MaxEntries)
	if err == nil && since > 0 && (read.Feed != x.form.get("feed") || since > read.Last) {
		since = 0 // a number of another store, or of a later state of it
		read, err = x.s.cfg.Store.Revocations(x.ctx(), 0, feed.MaxEntries)
	}
	if err != nil {
		return x.unavailable(decision.CheckToken, err)
	}
	page := feed.Page{
		Issuer: x.s.cfg.Issuer, Audience: c.ID, Issued: x.now.Unix(), Expires: x.now.Add(feedLifetime).Unix(),
		Feed: read.Feed, Since: since, Next: read.Last, More: len(read.Entries) == feed.MaxEntries,
		Entries: make([]feed.Entry, 0, len(read.Entries)),
	}
	for _, r := range read.Entries {
		if page.More {
			page.Next = r.Number
		}
		e := feed.Entry{Number: r.Number, JTI: r.JTI, X5TS256: r.Certificate.Thumbprint, Restored: r.Restored}
		if e.JTI == "" && e.X5TS256 == "" {
			continue // what tokens are bound to has a record of its own
		}
		if !r.Expires.IsZero() {
			e.Expires = r.Expires.Unix() + 1 // never too early
		}
		page.Entries = append(page.Entries, e)
	}
	k, err := x.s.signingKey(x.ctx(), x.now)
	if err != nil {
		return x.unavailable(decision.CheckToken, err)
	}
	payload, err := json.Marshal(page)
	if err != nil {
		return x.fail(refuseServer, decision.Check{Name: decision.CheckToken, Reason: decision.Unspecified, Found: err.Error()})
	}
	signed, err := k.feed.Sign(payload)
	if err != nil {
		return x.fail(refuseServer, decision.Check{Name: decision.CheckToken, Reason: decision.LookupFailed, Found: "signing: " + err.Error()})
	}
	x.d.Pass(decision.CheckToken, "", strconv.Itoa(len(page.Entries))+" revocations")
	x.d.Allow()
	x.w.Header().Set("Content-Type", feed.MediaType)
	x.write(http.StatusOK, []byte(signed))
	return nil
}
