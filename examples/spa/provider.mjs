// An OpenID Connect provider for development: npm run provider. Every address may sign in, without
// a password, so that you can be several users. Accounts and keys live until it stops.
import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const app = process.env.APP_URL ?? 'http://127.0.0.1:5173';
const port = Number(process.env.PORT ?? 5556);
const issuer = `http://127.0.0.1:${port}`;
/** The API, as the audience of access tokens. */
const api = 'http://127.0.0.1:4000';

/** Accounts by their subject, which depends on the address only and so survives a restart. */
const accounts = new Map();
function account(email, name) {
  const subject = createHash('sha256').update(email.toLowerCase()).digest('hex').slice(0, 20);
  if (!accounts.has(subject)) accounts.set(subject, { sub: subject, email, email_verified: true, name });
  return subject;
}

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const provider = new Provider(issuer, {
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomUUID()] },
  clients: [
    {
      client_id: 'spa',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: [`${app}/signed-in`],
      post_logout_redirect_uris: [`${app}/`],
    },
  ],
  clientBasedCORS: () => true,
  scopes: ['openid', 'profile', 'email', 'offline_access'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  findAccount: (_context, subject) => {
    const claims = accounts.get(subject);
    return claims && { accountId: subject, claims: () => claims };
  },
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => api,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: '', audience: api, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
    },
    rpInitiatedLogout: {
      logoutSource: (context, form) => {
        context.body = page('Sign out', `${form}<button form="op.logoutForm" name="logout" value="yes">Sign out</button>`);
      },
    },
  },
  // What tenantry reads from access tokens.
  extraTokenClaims: (_context, token) => accounts.get(token.accountId),
  issueRefreshToken: () => true,
  ttl: { AccessToken: 300, IdToken: 300, Grant: 86_400, Session: 86_400, Interaction: 3600, RefreshToken: 86_400 },
  interactions: { url: (_context, { uid }) => `/sign-in/${uid}` },
  // The app belongs to the same company as the API, so users need not consent.
  loadExistingGrant: async ({ oidc }) => {
    const known = oidc.result?.consent?.grantId ?? oidc.session.grantIdFor(oidc.client.clientId);
    if (known) return oidc.provider.Grant.find(known);
    const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope('openid profile email offline_access');
    grant.addResourceScope(api, '');
    await grant.save();
    return grant;
  },
});

const escaped = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const page = (title, body) => `<!doctype html>
<html lang="en">
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width" />
<meta name="color-scheme" content="light dark" />
<title>${title}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 22rem; margin: 12vh auto; padding: 0 1rem; }
  label { display: block; margin-top: 1rem; }
  input, button { font: inherit; box-sizing: border-box; width: 100%; padding: 0.5rem; margin-top: 0.25rem; }
  button { margin-top: 1.5rem; }
</style>
<h1>${title}</h1>
${body}`;

const form = ({ login_hint: email = '' }) =>
  page(
    'Local identity provider',
    `<p>For development. Any address works, without a password.</p>
     <form method="post">
       <label>Email <input name="email" type="email" required autofocus value="${escaped(email)}" /></label>
       <label>Name <input name="name" autocomplete="name" placeholder="for a new account" /></label>
       <button>Continue</button>
     </form>`,
  );

async function body(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return new URLSearchParams(text);
}

const serve = provider.callback();
createServer(async (request, response) => {
  if (!request.url.startsWith('/sign-in/')) return serve(request, response);
  try {
    const { params } = await provider.interactionDetails(request, response);
    if (request.method !== 'POST') {
      response.setHeader('content-type', 'text/html; charset=utf-8');
      return response.end(form(params));
    }
    const fields = await body(request);
    const email = fields.get('email').trim();
    const accountId = account(email, fields.get('name').trim() || email.split('@')[0]);
    await provider.interactionFinished(request, response, { login: { accountId } });
  } catch (error) {
    response.writeHead(400, { 'content-type': 'text/plain' }).end(`${error.message}\n`);
  }
}).listen(port, '127.0.0.1', () => {
  console.log(`An identity provider for development, on ${issuer}. Start the server with

  JWT_JWKS_URL=${issuer}/jwks JWT_ISSUER=${issuer} JWT_AUDIENCE=${api} cargo run

and the app with npm run start:login.`);
});
