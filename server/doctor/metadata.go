package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/metadata"
)

func mapsKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// maxHosts bounds the hosts that metadata can make us look at.
const maxHosts = 4

func (d *doctor) metadataURL() string {
	at, err := metadata.WellKnown(d.cfg.Issuer, "oauth-authorization-server")
	if err != nil { // CheckIssuer has seen it
		return d.cfg.Issuer
	}
	return at
}

func (d *doctor) metadataPath() string {
	u, err := url.Parse(d.metadataURL())
	if err != nil {
		return "/"
	}
	return u.EscapedPath()
}

// metadata reads the documents at both places.
func (d *doctor) metadata(ctx context.Context) {
	at := d.metadataURL()
	data, status, err := d.fetch(ctx, at)
	f := Finding{Check: CheckMetadata, Where: at, Rule: "RFC 8414, Section 3"}
	switch {
	case err != nil:
		f.Found, f.Expected = bounded(cause(err)), "the metadata"
		f.Fix = "see the findings about TLS; the issuer must be the URL that clients use"
		d.problem(f)
		return
	case status != http.StatusOK:
		f.Found, f.Expected = fmt.Sprintf("status %d", status), "status 200 and the metadata"
		f.Fix = "route the path to the authorization server; it stands before the path of the issuer, not behind it"
		d.problem(f)
		return
	}
	doc, err := metadata.Parse(data, d.cfg.Issuer)
	if err != nil {
		f.Found, f.Expected = bounded(strings.TrimPrefix(err.Error(), "metadata of "+d.cfg.Issuer+": ")), "metadata that can be used"
		f.Fix = "correct it at the authorization server; the issuer is compared letter by letter"
		d.problem(f)
		return
	}
	d.doc = doc
	openID := strings.TrimSuffix(d.cfg.Issuer, "/") + "/.well-known/openid-configuration"
	other, status, err := d.fetch(ctx, openID)
	if err == nil && status == http.StatusOK && !sameJSON(data, other) {
		f.Where, f.Found = openID, "another document than at "+at
		f.Expected, f.Fix = "the same at both places", "let the proxy route both paths to the same server, and cache neither for long"
		d.problem(f)
	} else {
		d.ok(CheckMetadata, at, "the issuer is the one asked for"+map[bool]string{true: ", and both places have the same document"}[status == http.StatusOK])
	}
	d.readAliases(ctx, data)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, errP := json.Marshal(x)
	q, errQ := json.Marshal(y)
	return errP == nil && errQ == nil && bytes.Equal(p, q)
}

// readAliases finds the hosts with mutual TLS.
func (d *doctor) readAliases(ctx context.Context, data []byte) {
	aliases := d.doc.Aliases()
	f := Finding{Check: CheckAliases, Where: d.cfg.Issuer, Rule: "RFC 8705, Section 5"}
	uses := d.doc.BoundTokens || slices.Contains(d.doc.AuthMethods, clientauth.TLSClientAuth) || slices.Contains(d.doc.AuthMethods, clientauth.SelfSignedTLSClientAuth)
	if len(aliases) == 0 {
		if !uses {
			d.skip(CheckAliases, d.cfg.Issuer, "the metadata offer no mutual TLS")
			return
		}
		// Then the conventional endpoints are for both.
		d.public.mtls = true
		d.mtls = append(d.mtls, d.public)
		d.skip(CheckAliases, d.cfg.Issuer, "the metadata have none: the host of the issuer is for clients with certificates too")
		return
	}
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		u, err := url.Parse(aliases[name])
		if err != nil {
			continue
		}
		if _, err := d.doc.Endpoint(name, false); err != nil {
			faults = append(faults, name+" has an alias and no conventional URL")
		}
		t := targetOf(u, true)
		if t.address == d.public.address {
			d.public.mtls = true
			t = d.public
		}
		if !slices.ContainsFunc(d.mtls, func(o *target) bool { return o.address == t.address }) && len(d.mtls) < maxHosts {
			d.mtls = append(d.mtls, t)
		}
	}
	if _, ok := aliases["token_endpoint"]; !ok {
		faults = append(faults, "token_endpoint has no alias, so that clients go to the conventional one")
	}
	if !uses {
		faults = append(faults, "the metadata list neither a method of mutual TLS nor bound tokens, so that nobody needs an alias")
	}
	// The metadata of a host with aliases, if it has any, are those of the issuer.
	for _, t := range d.mtls {
		if t == d.public {
			continue
		}
		other, status, err := d.fetch(ctx, "https://"+t.authority()+d.metadataPath())
		if err == nil && status == http.StatusOK && !sameJSON(data, other) {
			faults = append(faults, "the metadata at "+t.address+" differ from those of the issuer")
		}
	}
	if len(faults) > 0 {
		f.Found, f.Details = "they do not fit the rest of the metadata", faults
		f.Expected = "an alias for each endpoint that clients call with a certificate, beside its conventional URL"
		f.Fix = "correct the metadata; Certbound writes them from what it serves, so look for a proxy or another server in between"
		d.problem(f)
		return
	}
	d.ok(CheckAliases, d.cfg.Issuer, fmt.Sprintf("%d endpoints have one, each beside its conventional URL", len(aliases)))
}

// fetch gets JSON and notes the time of the answer.
func (d *doctor) fetch(ctx context.Context, at string) (data []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, 0, err
	}
	res, err := metadata.NoRedirect(d.client).Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	d.read(res.Header.Get("Date"))
	if res.StatusCode != http.StatusOK {
		return nil, res.StatusCode, nil
	}
	data, err = metadata.ReadJSON(res, metadata.MaxBytes)
	return data, res.StatusCode, err
}

// endpoints posts an empty request: an endpoint says in JSON that it wants more.
func (d *doctor) endpoints(ctx context.Context) {
	if d.doc == nil {
		d.skip(CheckEndpoints, d.cfg.Issuer, "there are no metadata")
		return
	}
	type endpoint struct{ name, at string }
	var all []endpoint
	for _, name := range []string{"token_endpoint", "introspection_endpoint", "revocation_endpoint"} {
		if at, err := d.doc.Endpoint(name, false); err == nil {
			all = append(all, endpoint{name, at})
		}
		if at, ok := d.doc.Alias(name); ok {
			all = append(all, endpoint{name + " (alias)", at})
		}
	}
	faults := 0
	for _, e := range all {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.at, strings.NewReader(""))
		if err != nil {
			continue
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		f := Finding{Check: CheckEndpoints, Where: e.at, Expected: "400 or 401 with an OAuth error in JSON", Rule: "RFC 6749, Section 5.2",
			Fix: "route " + e.name + " to the authorization server, unchanged; a page of the proxy in its place hides the reason from clients"}
		res, err := metadata.NoRedirect(d.client).Do(req)
		if err != nil {
			f.Found = e.name + ": " + bounded(cause(err))
			f.Fix = "see the findings about TLS of this host"
			d.problem(f)
			faults++
			continue
		}
		d.read(res.Header.Get("Date"))
		body, readErr := metadata.ReadJSON(res, maxAnswer)
		res.Body.Close()
		var answer struct {
			Error string `json:"error"`
		}
		if readErr != nil || json.Unmarshal(body, &answer) != nil || answer.Error == "" || res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusUnauthorized {
			f.Found = fmt.Sprintf("%s: status %d, %s", e.name, res.StatusCode, map[bool]string{true: "no OAuth error", false: "error " + bounded(answer.Error)}[answer.Error == ""])
			d.problem(f)
			faults++
		}
	}
	if faults == 0 {
		d.ok(CheckEndpoints, d.cfg.Issuer, fmt.Sprintf("%d URLs answer as endpoints do", len(all)))
	}
	d.keys(ctx)
}

// keys reads the key set: public keys, and nothing else.
func (d *doctor) keys(ctx context.Context) {
	if d.doc.JWKSURI == "" {
		d.skip(CheckKeys, d.cfg.Issuer, "the metadata have no jwks_uri")
		return
	}
	f := Finding{Check: CheckKeys, Where: d.doc.JWKSURI, Rule: "RFC 7517, Section 5"}
	data, status, err := d.fetch(ctx, d.doc.JWKSURI)
	if err != nil || status != http.StatusOK {
		f.Found, f.Expected = fmt.Sprintf("status %d", status), "a key set"
		if err != nil {
			f.Found = bounded(cause(err))
		}
		f.Fix = "route jwks_uri to the authorization server; without it nobody can check a token"
		d.problem(f)
		return
	}
	var set struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || len(set.Keys) == 0 {
		f.Found, f.Expected, f.Fix = "no keys", "one or more", "start the authorization server with a store that it can write; it makes its first key by itself"
		d.problem(f)
		return
	}
	for _, k := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := k[private]; ok {
				f.Found, f.Expected = "a key with its private part ("+private+")", "public keys"
				f.Fix = "take the set off the net, rotate the keys, and revoke what was signed with them"
				d.problem(f)
				return
			}
		}
	}
	d.ok(CheckKeys, d.doc.JWKSURI, fmt.Sprintf("%d in the set, public parts only", len(set.Keys)))
}

// A clockReading is what the clock of a server said when it was read.
type clockReading struct {
	theirs, ours time.Time
}

func (d *doctor) read(date string) {
	if t, err := http.ParseTime(date); err == nil && len(d.fetches) < 1000 {
		d.fetches = append(d.fetches, clockReading{t, d.cfg.Now()})
	}
}

// maxSkew is what a whole second and a slow answer can make.
const maxSkew = 10 * time.Second

// clock compares the Date field with our clock.
func (d *doctor) clock() {
	if len(d.fetches) == 0 {
		d.skip(CheckClock, d.cfg.Issuer, "no answer had a Date")
		return
	}
	var worst time.Duration
	for _, r := range d.fetches {
		if skew := r.theirs.Sub(r.ours); skew.Abs() > worst.Abs() {
			worst = skew
		}
	}
	if worst.Abs() > maxSkew {
		d.problem(Finding{Check: CheckClock, Where: d.cfg.Issuer, Found: fmt.Sprintf("the server's clock and ours differ by %s", worst.Abs().Round(time.Second)), Rule: "RFC 7519, Section 4.1.4",
			Expected: "at most " + maxSkew.String(), Fix: "set both clocks by NTP: tokens and certificates are judged by dates"})
		return
	}
	d.ok(CheckClock, d.cfg.Issuer, "it differs from ours by less than "+maxSkew.String())
}
