// An application with the npm package openid-client. Its settings are the first line of
// stdin; it writes one JSON value on each line: first the URL for the browser. The second
// line of stdin is where the browser came back to.
import https from 'node:https'
import { createRequire } from 'node:module'
import readline from 'node:readline'
import { pathToFileURL } from 'node:url'

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const next = async () => (await lines.next()).value
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')

const settings = JSON.parse(await next())
const resolved = createRequire(settings.folder + '/package.json').resolve('openid-client')
const client = await import(pathToFileURL(resolved))

// fetchAs returns a fetch over mutual TLS that knows where the hosts of the test are.
const fetchAs = ({ cert, key }) => (url, { method, headers, body }) =>
  new Promise((resolve, reject) => {
    const u = new URL(url)
    const [host, port] = settings.hosts[u.hostname].split(':')
    const request = https.request({
      host, port, servername: u.hostname, path: u.pathname + u.search, method,
      headers: { ...headers, host: u.host }, ca: settings.ca, cert, key, agent: false,
    }, (response) => {
      const chunks = []
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const fields = new Headers()
        for (let i = 0; i < response.rawHeaders.length; i += 2) fields.append(response.rawHeaders[i], response.rawHeaders[i + 1])
        resolve(new Response(Buffer.concat(chunks), { status: response.statusCode, headers: fields }))
      })
    })
    request.on('error', reject)
    request.end(body?.toString())
  })

const discover = (pair) => client.discovery(new URL(settings.issuer), settings.clientId,
  { use_mtls_endpoint_aliases: true, tls_client_certificate_bound_access_tokens: true },
  settings.public ? client.None() : client.TlsClientAuth(), { [client.customFetch]: fetchAs(pair) })

const config = await discover(settings.own)
const pkceCodeVerifier = client.randomPKCECodeVerifier()
const expectedState = client.randomState()
const expectedNonce = client.randomNonce()
const url = await client.buildAuthorizationUrlWithPAR(config, {
  redirect_uri: settings.redirectUri, scope: 'openid profile read', state: expectedState, nonce: expectedNonce,
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256',
})
say({ url: url.href })

const tokens = await client.authorizationCodeGrant(config, new URL(await next()), { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true })
const claims = tokens.claims()
const person = await client.fetchUserInfo(config, tokens.access_token, claims.sub)

// Whoever has both tokens, but another certificate.
const thief = await discover(settings.thief)
const refused = async (attempt) => {
  try {
    await attempt()
    return 'accepted'
  } catch (e) {
    // A challenge comes before the body, which has the error of the token endpoint.
    return e.error ?? e.cause?.[0]?.parameters?.error ?? (await e.response?.json().catch(() => undefined))?.error ?? e.code ?? String(e)
  }
}
const thiefRefresh = await refused(() => client.refreshTokenGrant(thief, tokens.refresh_token))
const thiefUserInfo = await refused(() => client.fetchUserInfo(thief, tokens.access_token, claims.sub))

const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token)
const again = await client.fetchUserInfo(config, refreshed.access_token, claims.sub)
say({
  claims, person, again, thiefRefresh, thiefUserInfo, method: config.serverMetadata().mtls_endpoint_aliases,
  accessToken: tokens.access_token, refreshToken: tokens.refresh_token, refreshed: refreshed.access_token, next: refreshed.refresh_token ?? '',
})
await next() // the test tries the tokens
await client.tokenRevocation(config, refreshed.refresh_token ?? tokens.refresh_token)
say({ afterRevocation: await refused(() => client.refreshTokenGrant(config, refreshed.refresh_token ?? tokens.refresh_token)) })
process.exit(0)
