// GraphiQL in a real browser, as `tenantry dev` serves it. Exits with an error on any mismatch.
// Usage: node graphiql.mjs BASE [SCREENSHOT]
import assert from 'node:assert/strict';
import { inspect, open, requests, until } from './browser.mjs';

const [base, screenshot] = process.argv.slice(2);
const { browser, page } = await open(`${base}/org/acme/graphiql`);

const identity = (text) => until(`identity ${text}`, async () => (await page.textContent('[role=status]')) === text);
// The editors render only the visible lines, and their models have all of them.
const model = (name) =>
  page.evaluate((name) => window.__MONACO?.editor.getModels().find(({ uri }) => uri.path.includes(name))?.getValue() ?? '', name);
const response = () => model('response');
const editor = () => model('operation');
const execute = async (what, holds) => {
  let clicked = 0;
  await until(what, async () => {
    // The page may not have read the editor yet. A user would click again.
    if (Date.now() - clicked > 4_000) {
      await page.click('[aria-label^="Execute"]');
      clicked = Date.now();
    }
    return holds();
  });
};
const run = (expected) => execute(`a response with ${expected}`, async () => (await response()).includes(expected));
const example = async (title, holds) => {
  await page.getByRole('button', { name: 'Examples' }).click();
  await page.getByRole('menuitem', { name: title }).first().click();
  await until(`the example ${title}`, async () => (await editor()).includes(holds));
};

await page.waitForSelector('.graphiql-query-editor .view-line', { timeout: 60_000 });
await identity('Olivia, OWNER of Acme');
await run('"Acme"');

// The permissions follow the user, and the URL follows the organization.
await example('Audit log: list', 'auditLogs');
await run('"auditLogs": {');
await page.getByLabel('User').selectOption('acme-viewer');
await identity('Victor, VIEWER of Acme');
await until('no response of the former user', async () => (await response()) === '');
const titles = async () => {
  await page.getByRole('button', { name: 'Examples' }).click();
  const found = await page.getByRole('menuitem').allTextContents();
  await page.keyboard.press('Escape');
  return found;
};
const offered = await titles();
assert.ok(offered.includes('Projects: list'), offered.join());
assert.ok(!offered.some((title) => /Audit log:|Projects: create|Billing/.test(title)), 'only what a viewer may do');
await run('FORBIDDEN');
await page.getByLabel('User').selectOption('globex-owner');
await identity('Omar, OWNER of Globex');
assert.equal(page.url(), `${base}/org/globex/graphiql`);
await page.getByLabel('Organization').selectOption('');
await identity('Omar, no organization');
await page.getByLabel('Organization').selectOption('acme');
await identity('The organization does not exist, or you are not a member (404)');

// A link leads every user to the same organization.
await page.goto(`${base}/org/globex/graphiql`);
await identity('Omar, OWNER of Globex');
await page.getByLabel('User').selectOption('acme-owner');
await identity('Olivia, OWNER of Acme');
await example('Projects: list', 'projects(');
await run('"projects"');

// Variables and headers come with an example: a page after another, and a repetition.
await example('Projects: next page', '$after');
await run('"endCursor"');
await example('Projects: create once', 'CreateProjectOnce');
await run('"Dehydrated boulders"');
const first = await response();
await page.click('[aria-label^="Execute"]');
await until('the same project again', async () => (await response()) === first);

// A subscription says that it waits, and shows what arrives.
await example('Projects: listen', 'projectChanged');
await execute('a subscription', async () => (await page.getByText('Listening for events').count()) > 0);
const token = await page.evaluate(async () =>
  (await (await fetch('/graphiql/users.json')).json()).users.find(({ subject }) => subject === 'acme-owner').token);
await until('an event', async () => {
  await fetch(`${base}/org/acme/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query: 'mutation { createProject(input: { name: "Tornado seeds" }) { project { id } } }' }),
  });
  return (await response()).includes('Tornado seeds');
});
await inspect(page, 'graphiql-listening', ['.graphiql-container']);
await page.getByLabel('User').selectOption('acme-admin');
await identity('Adam, ADMIN of Acme');
await until('the subscription ends', async () => (await page.getByText('Listening for events').count()) === 0);
await page.getByLabel('User').selectOption('acme-owner');
await identity('Olivia, OWNER of Acme');
await example('Projects: list', 'projects(');
await run('"projects"');
await inspect(page, 'graphiql', ['.graphiql-container']);
await page.click('[aria-label*="ocumentation"]');
await until('the docs', async () => (await page.textContent('.graphiql-doc-explorer'))?.includes('Mutation'));
if (screenshot) await page.screenshot({ path: screenshot });

const { foreign, violations } = await requests(page, base);
assert.deepEqual(foreign, [], 'no request goes to another origin');
assert.deepEqual(violations, [], 'the content security policy is kept');
await browser.close();
