// The single-page app with a real login: two users sign up at an OpenID Connect provider, and an
// invitation link leads through the login. Usage: node login.mjs BASE PROVIDER
import assert from 'node:assert/strict';
import { inspect, open, openPage, refuse } from './browser.mjs';

const [base, provider] = process.argv.slice(2);

const authenticate = async (page, email, name) => {
  await page.waitForURL(`${provider}/sign-in/*`);
  await page.getByLabel('Email').fill(email);
  await page.getByLabel('Name').fill(name);
  await page.getByRole('button', { name: 'Continue' }).click();
};

const { browser, page: ada } = await open(base);
await ada.getByRole('heading', { name: 'Welcome' }).waitFor();
await inspect(ada, 'welcome');

// PKCE: the request has a challenge, and the response a code.
const asked = ada.waitForRequest((request) => request.url().startsWith(`${provider}/auth?`));
await ada.getByRole('button', { name: 'Create an account' }).click();
const parameters = new URL((await asked).url()).searchParams;
assert.equal(parameters.get('response_type'), 'code');
assert.equal(parameters.get('code_challenge_method'), 'S256');
assert.ok(parameters.get('code_challenge') && parameters.get('state'));
await authenticate(ada, 'ada@example.com', 'Ada');

await ada.getByRole('heading', { name: 'Welcome, Ada' }).waitFor();
assert.equal(new URL(ada.url()).pathname, '/');
await inspect(ada, 'first-organization');
await ada.getByRole('button', { name: 'New organization' }).click();
await ada.getByRole('dialog').getByLabel('Name').fill('Analytical Engines');
await ada.getByRole('button', { name: 'Create organization' }).click();
await ada.waitForURL('**/analytical-engines/projects');

// A reload keeps the session of the tab.
await ada.goto(`${base}/analytical-engines/plan`);
await ada.getByRole('button', { name: 'Upgrade to Pro' }).click();
await ada.getByRole('dialog').getByRole('button', { name: 'Upgrade to Pro' }).click();
await ada.getByRole('article', { name: 'Pro' }).getByText('Current plan').waitFor();
await ada.getByRole('link', { name: 'Members' }).click();
await ada.getByLabel('Email').fill('bob@example.com');
await ada.getByRole('button', { name: 'Invite', exact: true }).click();
const link = await ada.getByLabel(/Invitation link/).inputValue();

// Another address cannot accept, and may sign in again as the right one, on the same page.
const bob = await openPage(browser, link);
await bob.getByRole('heading', { name: 'Accept your invitation' }).waitFor();
await inspect(bob, 'invitation-signed-out');
await bob.getByRole('button', { name: 'Sign in' }).click();
await authenticate(bob, 'robert@example.com', 'Robert');
await bob.waitForURL(link);
await refuse(bob, /was sent to an address other than/);
await bob.getByRole('button', { name: 'Sign in as another user' }).click();
await authenticate(bob, 'bob@example.com', 'Bob');
await bob.waitForURL(link);
await bob.getByText('bob@example.com').waitFor();
await bob.getByRole('button', { name: 'Accept invitation' }).click();
await bob.waitForURL('**/analytical-engines/projects');
await ada.getByRole('heading', { name: 'Bob', exact: true }).waitFor();

// Signing out ends the session at the provider too.
await bob.getByRole('button', { name: 'Sign out' }).click();
await bob.getByRole('button', { name: 'Sign out' }).click();
await bob.getByRole('heading', { name: 'Welcome' }).waitFor();
await bob.getByRole('button', { name: 'Sign in' }).click();
await bob.waitForURL(`${provider}/sign-in/*`);
await browser.close();
