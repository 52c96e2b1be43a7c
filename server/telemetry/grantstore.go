package telemetry

import (
	"context"
	"time"

	"github.com/certbound/certbound/authserver"
)

// grantOps are the methods of a GrantStore that a Store does not have.
var grantOps = []string{
	"SaveRequest", "Request", "UpdateRequest", "Authorize", "DeleteRequest", "Code", "RedeemCode", "RefreshToken", "Refresh", "Grant", "Grants", "RevokeGrant", "SaveSession", "Session", "TouchSession", "DeleteSession", "DeleteSessions", "Consent", "DeleteConsent", "SavePerson", "Person", "SaveInitialToken", "InitialTokens", "InitialToken", "RegisterClient", "DeleteInitialToken",
}

// timedGrants is timedStore for a store that keeps grants too.
type timedGrants struct {
	*timedStore
	grants authserver.GrantStore
}

func (t timedGrants) SaveRequest(ctx context.Context, r *authserver.AuthorizationRequest) (err error) {
	defer t.done("SaveRequest", time.Now(), &err)
	return t.grants.SaveRequest(ctx, r)
}

func (t timedGrants) Request(ctx context.Context, hash [32]byte) (v0 *authserver.AuthorizationRequest, err error) {
	defer t.done("Request", time.Now(), &err)
	return t.grants.Request(ctx, hash)
}

func (t timedGrants) UpdateRequest(ctx context.Context, r *authserver.AuthorizationRequest) (err error) {
	defer t.done("UpdateRequest", time.Now(), &err)
	return t.grants.UpdateRequest(ctx, r)
}

func (t timedGrants) Authorize(ctx context.Context, r *authserver.AuthorizationRequest, g *authserver.Grant, c *authserver.Code, consent *authserver.Consent) (err error) {
	defer t.done("Authorize", time.Now(), &err)
	return t.grants.Authorize(ctx, r, g, c, consent)
}

func (t timedGrants) DeleteRequest(ctx context.Context, hash [32]byte) (err error) {
	defer t.done("DeleteRequest", time.Now(), &err)
	return t.grants.DeleteRequest(ctx, hash)
}

func (t timedGrants) Code(ctx context.Context, hash [32]byte) (v0 *authserver.Code, v1 *authserver.Grant, err error) {
	defer t.done("Code", time.Now(), &err)
	return t.grants.Code(ctx, hash)
}

func (t timedGrants) RedeemCode(ctx context.Context, hash [32]byte, now time.Time, issued authserver.Issued) (err error) {
	defer t.done("RedeemCode", time.Now(), &err)
	return t.grants.RedeemCode(ctx, hash, now, issued)
}

func (t timedGrants) RefreshToken(ctx context.Context, hash [32]byte) (v0 *authserver.RefreshToken, v1 *authserver.Grant, err error) {
	defer t.done("RefreshToken", time.Now(), &err)
	return t.grants.RefreshToken(ctx, hash)
}

func (t timedGrants) Refresh(ctx context.Context, hash [32]byte, now time.Time, grace time.Duration, extend time.Time, issued authserver.Issued) (err error) {
	defer t.done("Refresh", time.Now(), &err)
	return t.grants.Refresh(ctx, hash, now, grace, extend, issued)
}

func (t timedGrants) Grant(ctx context.Context, id string) (v0 *authserver.Grant, err error) {
	defer t.done("Grant", time.Now(), &err)
	return t.grants.Grant(ctx, id)
}

func (t timedGrants) Grants(ctx context.Context, subject, clientID, after string, limit int) (v0 []*authserver.Grant, err error) {
	defer t.done("Grants", time.Now(), &err)
	return t.grants.Grants(ctx, subject, clientID, after, limit)
}

func (t timedGrants) RevokeGrant(ctx context.Context, id string, now time.Time) (err error) {
	defer t.done("RevokeGrant", time.Now(), &err)
	return t.grants.RevokeGrant(ctx, id, now)
}

func (t timedGrants) SaveSession(ctx context.Context, s *authserver.Session, replaces [32]byte) (err error) {
	defer t.done("SaveSession", time.Now(), &err)
	return t.grants.SaveSession(ctx, s, replaces)
}

func (t timedGrants) Session(ctx context.Context, hash [32]byte) (v0 *authserver.Session, err error) {
	defer t.done("Session", time.Now(), &err)
	return t.grants.Session(ctx, hash)
}

func (t timedGrants) TouchSession(ctx context.Context, hash [32]byte, lastSeen, expires time.Time) (err error) {
	defer t.done("TouchSession", time.Now(), &err)
	return t.grants.TouchSession(ctx, hash, lastSeen, expires)
}

func (t timedGrants) DeleteSession(ctx context.Context, hash [32]byte) (err error) {
	defer t.done("DeleteSession", time.Now(), &err)
	return t.grants.DeleteSession(ctx, hash)
}

func (t timedGrants) DeleteSessions(ctx context.Context, subject string) (err error) {
	defer t.done("DeleteSessions", time.Now(), &err)
	return t.grants.DeleteSessions(ctx, subject)
}

func (t timedGrants) Consent(ctx context.Context, subject, clientID string) (v0 *authserver.Consent, err error) {
	defer t.done("Consent", time.Now(), &err)
	return t.grants.Consent(ctx, subject, clientID)
}

func (t timedGrants) DeleteConsent(ctx context.Context, subject, clientID string) (err error) {
	defer t.done("DeleteConsent", time.Now(), &err)
	return t.grants.DeleteConsent(ctx, subject, clientID)
}

func (t timedGrants) SavePerson(ctx context.Context, p *authserver.Person) (err error) {
	defer t.done("SavePerson", time.Now(), &err)
	return t.grants.SavePerson(ctx, p)
}

func (t timedGrants) Person(ctx context.Context, subject string) (v0 *authserver.Person, err error) {
	defer t.done("Person", time.Now(), &err)
	return t.grants.Person(ctx, subject)
}

func (t timedGrants) SaveInitialToken(ctx context.Context, token *authserver.InitialToken) (err error) {
	defer t.done("SaveInitialToken", time.Now(), &err)
	return t.grants.SaveInitialToken(ctx, token)
}

func (t timedGrants) InitialTokens(ctx context.Context, after string, limit int) (v0 []*authserver.InitialToken, err error) {
	defer t.done("InitialTokens", time.Now(), &err)
	return t.grants.InitialTokens(ctx, after, limit)
}

func (t timedGrants) InitialToken(ctx context.Context, hash [32]byte) (v0 *authserver.InitialToken, err error) {
	defer t.done("InitialToken", time.Now(), &err)
	return t.grants.InitialToken(ctx, hash)
}

func (t timedGrants) RegisterClient(ctx context.Context, c *authserver.Client, initial [32]byte, now time.Time) (err error) {
	defer t.done("RegisterClient", time.Now(), &err)
	return t.grants.RegisterClient(ctx, c, initial, now)
}

func (t timedGrants) DeleteInitialToken(ctx context.Context, name string) (err error) {
	defer t.done("DeleteInitialToken", time.Now(), &err)
	return t.grants.DeleteInitialToken(ctx, name)
}
