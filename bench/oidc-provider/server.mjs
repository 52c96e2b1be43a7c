// The peer node oidc-provider, set up for the same grant: tls_client_auth with a
// subject DN, a JWT access token with cnf for one resource, ES256.
// usage: node server.mjs DIR

import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import Provider from 'oidc-provider';

const dir = process.argv[2];
const file = (name) => readFileSync(join(dir, name));

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256', privateKeyEncoding: { type: 'pkcs8', format: 'pem' }, publicKeyEncoding: { type: 'spki', format: 'pem' } });
const jwk = { ...createPrivateKey(privateKey).export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'k1' };
const resource = 'https://rs.test';
const subject = 'CN=bench,OU=apps,O=Agora,C=GB';

const provider = new Provider('https://as.test', {
  clients: [{
    client_id: 'bench',
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: subject,
    tls_client_certificate_bound_access_tokens: true,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
    scope: 'read',
  }],
  clientAuthMethods: ['tls_client_auth'],
  scopes: ['read'],
  jwks: { keys: [jwk] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => {
        const peer = ctx.socket.getPeerX509Certificate();
        return peer ? peer.toString() : undefined;
      },
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) => {
        if (property !== 'tls_client_auth_subject_dn') throw new Error(`not set up for ${property}`);
        // node prints one attribute in each line, in the order of the certificate
        const printed = ctx.socket.getPeerX509Certificate().subject;
        return printed.split('\n').reverse().join(',') === expected;
      },
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'read',
        audience: resource,
        accessTokenTTL: 600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});

const server = createServer({
  key: file('server-key.pem'),
  cert: file('server.pem'),
  ca: file('ca.pem'),
  requestCert: true,
  rejectUnauthorized: false,
  minVersion: 'TLSv1.3',
}, provider.callback());
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ token_url: `https://127.0.0.1:${server.address().port}/token` }));
});
