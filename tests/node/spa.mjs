// The single-page app in a real browser: two users and one organization, from its creation to a
// live audit log. Usage: node spa.mjs BASE [SCREENSHOT]
import assert from 'node:assert/strict';
import { open, openPage, requests } from './browser.mjs';

const [base, screenshot] = process.argv.slice(2);
const { browser, page: omar } = await open(base);

const create = async (page, name) => {
  await page.getByRole('button', { name: 'New project' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill(name);
  await dialog.getByRole('button', { name: 'Create project' }).click();
};

await omar.getByRole('button', { name: /Omar/ }).click();
await omar.getByRole('button', { name: 'New organization' }).click();
const dialog = omar.getByRole('dialog');
await dialog.getByLabel('Name').fill('Initech');
await dialog.getByLabel('Slug').fill('acme');
await dialog.getByRole('button', { name: 'Create organization' }).click();
await dialog.getByRole('alert').waitFor();
await dialog.getByLabel('Slug').fill('initech');
await dialog.getByRole('button', { name: 'Create organization' }).click();
await omar.waitForURL('**/initech/projects');

// The free plan allows three projects. The fourth one leads to an offer.
for (const name of ['Giant magnet', 'Portable hole', 'Instant tunnel']) {
  await create(omar, name);
  await omar.getByRole('button', { name: `Rename ${name}` }).waitFor();
}
await create(omar, 'Rocket skates');
await omar.getByRole('heading', { name: 'Your plan is full' }).waitFor();
assert.equal(await omar.getByRole('list', { name: 'Projects' }).getByRole('listitem').count(), 3, 'the fourth is removed again');
await omar.getByRole('button', { name: 'Upgrade to Pro' }).click();
await omar.getByText('3 of 50 projects').waitFor();
await create(omar, 'Rocket skates');
await omar.getByRole('button', { name: 'Rename Rocket skates' }).waitFor();

await omar.getByRole('link', { name: 'Members' }).click();
await omar.getByLabel('Email').fill('globex-member@example.com');
await omar.getByLabel('Role', { exact: true }).selectOption('MEMBER');
await omar.getByRole('button', { name: 'Invite', exact: true }).click();
const link = await omar.getByLabel(/Invitation link/).inputValue();
assert.ok(link.startsWith(`${base}/accept-invitation?token=`), link);

const max = await openPage(browser, link);
await max.getByRole('button', { name: /Max/ }).click();
await max.getByRole('button', { name: 'Accept invitation' }).click();
await max.waitForURL('**/initech/projects');
assert.equal(await max.getByRole('link', { name: 'Audit log' }).count(), 0, 'a forbidden page has no link');
await omar.getByRole('list', { name: 'Members' }).getByText('Max').waitFor();

// Omar sees changes by Max at once.
await omar.getByRole('link', { name: 'Audit log' }).click();
await omar.locator('code', { hasText: 'invitation.accepted' }).first().waitFor();
await omar.waitForTimeout(1_000);
await create(max, 'Live project');
await omar.locator('.fresh').waitFor();
if (screenshot) await omar.screenshot({ path: screenshot });

for (const page of [omar, max]) {
  const { foreign } = await requests(page, base);
  assert.deepEqual(foreign.filter((url) => !url.startsWith('ws://127.0.0.1')), [], 'no request goes to another origin');
}
await browser.close();
