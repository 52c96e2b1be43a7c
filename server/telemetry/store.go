package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certbound/certbound/authserver"
)

// Store times what a store does. The operation is named after the method. For an
// authserver.GrantStore the answer is one, too.
func (m *Metrics) Store(s authserver.Store) authserver.Store {
	t := &timedStore{Store: s, ok: make(map[string]prometheus.Observer), failed: make(map[string]prometheus.Observer)}
	ops := []string{
		"Client", "Clients", "CreateClient", "UpdateClient", "DeleteClient", "ClientChanges",
		"SigningKeys", "AddSigningKey", "DeleteSigningKey", "SaveToken", "Token", "Revoke", "Revoked",
		"UseOnce", "SaveCertificate", "Certificate", "Certificates", "ClientCertificates", "RevokeCertificate",
		"RestoreCertificate", "CertificateRevoked", "Revocations", "Sweep", "Ping",
	}
	grants, ok := s.(authserver.GrantStore)
	if ok {
		ops = append(ops, grantOps...)
	}
	for _, op := range ops {
		t.ok[op] = m.store.WithLabelValues(op, "ok")
		t.failed[op] = m.store.WithLabelValues(op, "error")
	}
	if ok {
		return timedGrants{t, grants}
	}
	return t
}

type timedStore struct {
	authserver.Store
	ok, failed map[string]prometheus.Observer
}

// done notes an operation. What the caller asked for and did not get is an answer; a
// caller that left is not the store's fault.
func (t *timedStore) done(op string, start time.Time, err *error) {
	observers := t.ok
	if *err != nil && !errors.Is(*err, authserver.ErrNotFound) && !errors.Is(*err, authserver.ErrExists) &&
		!errors.Is(*err, authserver.ErrConflict) && !errors.Is(*err, authserver.ErrRevoked) && !errors.Is(*err, authserver.ErrUsed) &&
		!errors.Is(*err, authserver.ErrGrantRevoked) && !errors.Is(*err, context.Canceled) {
		observers = t.failed
	}
	observers[op].Observe(time.Since(start).Seconds())
}

func (t *timedStore) Client(ctx context.Context, id string) (c *authserver.Client, err error) {
	defer t.done("Client", time.Now(), &err)
	return t.Store.Client(ctx, id)
}

func (t *timedStore) Clients(ctx context.Context, after string, limit int) (page []*authserver.Client, err error) {
	defer t.done("Clients", time.Now(), &err)
	return t.Store.Clients(ctx, after, limit)
}

func (t *timedStore) CreateClient(ctx context.Context, c *authserver.Client) (err error) {
	defer t.done("CreateClient", time.Now(), &err)
	return t.Store.CreateClient(ctx, c)
}

func (t *timedStore) UpdateClient(ctx context.Context, c *authserver.Client) (err error) {
	defer t.done("UpdateClient", time.Now(), &err)
	return t.Store.UpdateClient(ctx, c)
}

func (t *timedStore) DeleteClient(ctx context.Context, id string) (err error) {
	defer t.done("DeleteClient", time.Now(), &err)
	return t.Store.DeleteClient(ctx, id)
}

func (t *timedStore) ClientChanges(ctx context.Context, since int64, max int) (ids []string, last int64, complete bool, err error) {
	defer t.done("ClientChanges", time.Now(), &err)
	return t.Store.ClientChanges(ctx, since, max)
}

func (t *timedStore) SigningKeys(ctx context.Context) (keys []authserver.SigningKey, err error) {
	defer t.done("SigningKeys", time.Now(), &err)
	return t.Store.SigningKeys(ctx)
}

func (t *timedStore) AddSigningKey(ctx context.Context, k authserver.SigningKey, after string) (err error) {
	defer t.done("AddSigningKey", time.Now(), &err)
	return t.Store.AddSigningKey(ctx, k, after)
}

func (t *timedStore) DeleteSigningKey(ctx context.Context, kid string) (err error) {
	defer t.done("DeleteSigningKey", time.Now(), &err)
	return t.Store.DeleteSigningKey(ctx, kid)
}

func (t *timedStore) SaveToken(ctx context.Context, token *authserver.OpaqueToken) (err error) {
	defer t.done("SaveToken", time.Now(), &err)
	return t.Store.SaveToken(ctx, token)
}

func (t *timedStore) Token(ctx context.Context, hash [32]byte) (token *authserver.OpaqueToken, err error) {
	defer t.done("Token", time.Now(), &err)
	return t.Store.Token(ctx, hash)
}

func (t *timedStore) Revoke(ctx context.Context, jti string, expires time.Time) (err error) {
	defer t.done("Revoke", time.Now(), &err)
	return t.Store.Revoke(ctx, jti, expires)
}

func (t *timedStore) Revoked(ctx context.Context, jti string) (is bool, err error) {
	defer t.done("Revoked", time.Now(), &err)
	return t.Store.Revoked(ctx, jti)
}

func (t *timedStore) UseOnce(ctx context.Context, key string, expires time.Time) (first bool, err error) {
	defer t.done("UseOnce", time.Now(), &err)
	return t.Store.UseOnce(ctx, key, expires)
}

func (t *timedStore) SaveCertificate(ctx context.Context, c authserver.CertificateRecord) (err error) {
	defer t.done("SaveCertificate", time.Now(), &err)
	return t.Store.SaveCertificate(ctx, c)
}

func (t *timedStore) Certificate(ctx context.Context, thumbprint string) (c *authserver.CertificateRecord, err error) {
	defer t.done("Certificate", time.Now(), &err)
	return t.Store.Certificate(ctx, thumbprint)
}

func (t *timedStore) Certificates(ctx context.Context, after string, limit int) (page []authserver.CertificateRecord, err error) {
	defer t.done("Certificates", time.Now(), &err)
	return t.Store.Certificates(ctx, after, limit)
}

func (t *timedStore) ClientCertificates(ctx context.Context, clientID string, limit int) (list []authserver.CertificateRecord, err error) {
	defer t.done("ClientCertificates", time.Now(), &err)
	return t.Store.ClientCertificates(ctx, clientID, limit)
}

func (t *timedStore) RevokeCertificate(ctx context.Context, r authserver.RevokedCertificate) (err error) {
	defer t.done("RevokeCertificate", time.Now(), &err)
	return t.Store.RevokeCertificate(ctx, r)
}

func (t *timedStore) RestoreCertificate(ctx context.Context, r authserver.RevokedCertificate) (err error) {
	defer t.done("RestoreCertificate", time.Now(), &err)
	return t.Store.RestoreCertificate(ctx, r)
}

func (t *timedStore) CertificateRevoked(ctx context.Context, thumbprint, issuerKeyID, serial string) (r *authserver.RevokedCertificate, err error) {
	defer t.done("CertificateRevoked", time.Now(), &err)
	return t.Store.CertificateRevoked(ctx, thumbprint, issuerKeyID, serial)
}

func (t *timedStore) Revocations(ctx context.Context, since int64, limit int) (page *authserver.RevocationPage, err error) {
	defer t.done("Revocations", time.Now(), &err)
	return t.Store.Revocations(ctx, since, limit)
}

func (t *timedStore) Sweep(ctx context.Context, now time.Time, limit int) (removed int, err error) {
	defer t.done("Sweep", time.Now(), &err)
	return t.Store.Sweep(ctx, now, limit)
}

func (t *timedStore) Ping(ctx context.Context) (err error) {
	defer t.done("Ping", time.Now(), &err)
	return t.Store.Ping(ctx)
}
