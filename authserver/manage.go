package authserver

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
)

// manage is the client configuration endpoint (RFC 7592, Section 2).
func (x *exchange) manage() {
	x.begin()
	if refused := x.manageClient(); refused != nil {
		x.refuse(refused)
	}
}

func (x *exchange) manageClient() *refusal {
	id := x.r.URL.Path[strings.LastIndexByte(x.r.URL.Path, '/')+1:]
	c, token, refused := x.ownRegistration(id)
	if refused != nil {
		return refused
	}
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		x.answerClient(http.StatusOK, c, token, "", "")
		return nil
	case http.MethodPut:
		return x.updateRegistration(c, token)
	case http.MethodDelete:
		return x.deleteRegistration(c)
	}
	x.w.Header()["Allow"] = []string{"GET, HEAD, PUT, DELETE"}
	return x.fail(refuseManageMethod, decision.Check{Name: decision.CheckMetadata, Rule: "RFC 7592, Section 2",
		Reason: decision.RequestMalformed, Expected: "GET, PUT or DELETE", Found: clip(x.r.Method, 16)})
}

// ownRegistration returns the client that the registration access token belongs to. It
// says nothing about which clients exist. The client is read from the store, since what
// is remembered may be a moment old.
func (x *exchange) ownRegistration(id string) (*Client, string, *refusal) {
	bad := func(code string, reason decision.Reason, found string) (*Client, string, *refusal) {
		return nil, "", x.unauthorized(refuseManage, code, decision.Check{Name: decision.CheckToken, Rule: "RFC 7592, Section 2", Reason: reason, Found: found})
	}
	if len(x.r.Header["Authorization"]) == 0 {
		return bad("", decision.NoToken, "")
	}
	token, ok := bearerToken(x.r)
	if !ok {
		return bad("invalid_token", decision.TokenMalformed, "not one Authorization: Bearer")
	}
	var c *Client
	if x.s.declared[id] == nil && len(id) <= 256 {
		var err error
		if c, err = x.s.cfg.Store.Client(x.ctx(), id); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, "", x.unavailable(decision.CheckClient, err)
		}
	}
	if !isRegistrationToken(c, token) {
		return bad("invalid_token", decision.TokenInactive, "no registration access token of "+clip(id, 64))
	}
	x.d.ClientID, x.d.Method = c.ID, c.Method()
	x.d.Pass(decision.CheckToken, "RFC 7592, Section 2", "")
	if c.Disabled {
		return nil, "", x.fail(refuseManageOff, decision.Check{Name: decision.CheckClient, Rule: "RFC 7592, Section 2", Reason: decision.ClientDisabled})
	}
	return c, token, nil
}

// notInUpdate are members of an answer that an update must not carry (RFC 7592, Section
// 2.2).
var notInUpdate = []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"}

// updateRegistration replaces the metadata (RFC 7592, Section 2.2). What is left out is
// deleted. What the client was given stays.
func (x *exchange) updateRegistration(c *Client, token string) *refusal {
	members, refused := x.readMetadata()
	if refused != nil {
		return refused
	}
	var faults []Fault
	id := ""
	for _, m := range members {
		switch {
		case m.name == "client_id":
			_ = json.Unmarshal(m.value, &id) // then it is not the id
		case m.name == "client_secret":
			var secret string
			h, ok := parseSecretHash(c.SecretHash)
			if json.Unmarshal(m.value, &secret) != nil || !ok || !h.verify(secret) {
				faults = append(faults, Fault{Member: m.name, Fault: "not the current secret; leave it out"})
			}
		case slices.Contains(notInUpdate, m.name):
			faults = append(faults, Fault{Member: m.name, Fault: "must not stand in an update (RFC 7592, Section 2.2)"})
		}
	}
	if id != c.ID {
		faults = append(faults, Fault{Member: "client_id", Fault: "expected that of the client, as it was registered (RFC 7592, Section 2.2)"})
	}
	members, statement, issuer, refused := x.mergeStatement(members)
	switch {
	case refused != nil:
		return refused
	case c.StatementIssuer != "" && (issuer == nil || issuer.Issuer != c.StatementIssuer):
		return x.fail(refuseStatement, statementCheck(decision.StatementInvalid, "a statement of "+c.StatementIssuer+", with which the client has registered", "none, or of somebody else"))
	}

	n := &Client{}
	faults = append(faults, n.setMembers(members, &x.s.rules, false)...)
	n.ID, n.Created, n.Version = c.ID, c.Created, c.Version
	n.Updated = x.now.UTC().Truncate(time.Second)
	n.Dynamic, n.RegistrationTokenHash = true, c.RegistrationTokenHash
	n.RegisteredBy, n.StatementIssuer = c.RegisteredBy, c.StatementIssuer
	n.AllowedMethods, n.AllowedGrantTypes, n.AllowedScopes = c.AllowedMethods, c.AllowedGrantTypes, c.AllowedScopes
	n.Resources, n.TokenFormat, n.TokenLifetime = c.Resources, c.TokenFormat, c.TokenLifetime
	n.MayIntrospect, n.Introspects, n.Profile = c.MayIntrospect, c.Introspects, c.Profile
	// Who is not asked for consent was looked at with these redirect URIs.
	n.SkipConsent = c.SkipConsent && slices.Equal(n.RedirectURIs, c.RedirectURIs)
	n.AllowedAnchorSet = c.AllowedAnchorSet
	if n.Method() == clientauth.TLSClientAuth {
		n.AnchorSet = c.AnchorSet
		if c.Method() != clientauth.TLSClientAuth {
			n.AnchorSet = c.AllowedAnchorSet
		}
		n.SoleEntry = c.SoleEntry && n.SubjectDN == ""
	} else if c.Method() == clientauth.TLSClientAuth {
		n.AllowedAnchorSet = c.AnchorSet // the operator may have changed it
	}
	if n.subjectMembers() == c.subjectMembers() && n.Method() == c.Method() && string(n.JWKS) == string(c.JWKS) {
		n.NextSubjectKind, n.NextSubject, n.NextAnchorSet, n.NextJWKS = c.NextSubjectKind, c.NextSubject, c.NextAnchorSet, c.NextJWKS
		n.NextNotBefore, n.CurrentNotAfter = c.NextNotBefore, c.CurrentNotAfter
	}
	secret := ""
	if n.Method() == ClientSecretBasic {
		if n.SecretHash = c.SecretHash; n.SecretHash == "" {
			secret, n.SecretHash = NewSecret()
		}
	}
	if refused := x.judgeMetadata(n, faults); refused != nil {
		return refused
	}
	switch err := x.s.cfg.Store.UpdateClient(x.ctx(), n); {
	case errors.Is(err, ErrConflict):
		return x.fail(refuseChanged, decision.Check{Name: decision.CheckClient, Rule: "RFC 7592, Section 2.2", Reason: decision.RequestMalformed,
			Expected: "no other change at the same time"})
	case errors.Is(err, ErrNotFound):
		return x.unauthorized(refuseManage, "invalid_token", decision.Check{Name: decision.CheckClient, Reason: decision.UnknownClient})
	case err != nil:
		return x.unavailable(decision.CheckClient, err)
	}
	x.s.ClientChanged(n.ID)
	x.registered(n, "client has changed its registration")
	x.answerClient(http.StatusOK, n, token, secret, statement)
	return nil
}

// deleteRegistration ends a registration, and all that people have allowed the client
// (RFC 7592, Section 2.3).
func (x *exchange) deleteRegistration(c *Client) *refusal {
	// Before, so that nothing is left if this process ends in between; and afterwards,
	// for a grant that was made at the same time.
	if refused := x.endGrants(c.ID); refused != nil {
		return refused
	}
	switch err := x.s.cfg.Store.DeleteClient(x.ctx(), c.ID); {
	case errors.Is(err, ErrNotFound):
		return x.unauthorized(refuseManage, "invalid_token", decision.Check{Name: decision.CheckClient, Reason: decision.UnknownClient})
	case err != nil:
		return x.unavailable(decision.CheckClient, err)
	}
	x.s.ClientChanged(c.ID)
	x.s.registry.changed(c, -1)
	if refused := x.endGrants(c.ID); refused != nil {
		// The client is gone, which is what was asked for; its grants are worth nothing
		// without it.
		x.s.cfg.Logger.LogAttrs(x.ctx(), slog.LevelError, "grants of a deleted client could not be ended",
			slog.String("request_id", x.id), slog.String("client_id", c.ID))
	}
	x.s.cfg.Logger.LogAttrs(x.ctx(), slog.LevelInfo, "client has deleted its registration", slog.String("request_id", x.id), slog.String("client_id", c.ID))
	x.d.Allow()
	x.write(http.StatusNoContent, nil)
	return nil
}

// endGrants revokes what people have allowed a client.
func (x *exchange) endGrants(clientID string) *refusal {
	const page = 100
	for {
		grants, err := x.s.registry.store.Grants(x.ctx(), "", clientID, "", page)
		if err != nil {
			return x.unavailable(decision.CheckGrant, err)
		}
		for _, g := range grants { // those that are revoked are not on the next page
			if err := x.s.registry.store.RevokeGrant(x.ctx(), g.ID, x.now); err != nil && !errors.Is(err, ErrNotFound) {
				return x.unavailable(decision.CheckGrant, err)
			}
		}
		if len(grants) < page {
			return nil
		}
	}
}
