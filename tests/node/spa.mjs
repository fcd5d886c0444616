// The single-page app in a real browser: two demo users and one organization, from its creation to
// a live audit log. Usage: node spa.mjs BASE [SCREENSHOT]
// With TENANTRY_SCREENSHOTS=FOLDER it also stores every page as desktop, phone and dark.
import assert from 'node:assert/strict';
import { inspect, open, openPage, refuse, requests, until } from './browser.mjs';

const [base, screenshot] = process.argv.slice(2);
const { browser, page: omar } = await open(base);

const create = async (page, name) => {
  await page.getByRole('button', { name: 'New project' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill(name);
  await dialog.getByRole('button', { name: 'Create project' }).click();
};
/**
 * Delays each creation until the project is shown as unsaved and `meanwhile` is done, and its response
 * until its event has arrived.
 */
const delayCreations = (page, meanwhile = () => undefined) =>
  page.route('**/org/initech/graphql', async (route) => {
    if (!route.request().postData()?.includes('mutation CreateProject')) return route.fallback();
    await page.getByText('Saving…').first().waitFor();
    await meanwhile();
    const response = await route.fetch();
    const { name } = route.request().postDataJSON().variables.input;
    // The event is missing only if its stream was not open yet.
    await page.getByRole('button', { name: `Rename ${name}` }).waitFor({ timeout: 5_000 }).catch(() => undefined);
    await route.fulfill({ response });
  });
const projects = (page) => page.getByRole('list', { name: 'Projects' });
/** A label is readable on its button if the two colours differ. */
const isReadable = (button) =>
  button.evaluate((element) => {
    const { color, backgroundColor } = getComputedStyle(element);
    return color !== backgroundColor && backgroundColor !== 'rgba(0, 0, 0, 0)';
  });

await omar.getByRole('button', { name: /Omar/ }).waitFor();
await inspect(omar, 'sign-in');
await omar.getByRole('button', { name: /Omar/ }).click();
await projects(omar).waitFor();
// The demo starts within its plans.
assert.equal(await omar.getByText(/more than the plan/).count(), 0);

// The demo has two months of API calls.
const olivia = await openPage(browser, base);
await olivia.getByRole('button', { name: /Olivia/ }).click();
await olivia.getByRole('link', { name: 'Plan' }).click();
await olivia.getByRole('img', { name: /^[1-9]\d,\d+ calls in the last 30 days/ }).waitFor();
if (screenshot) await olivia.screenshot({ path: screenshot });
await inspect(olivia, 'plan-of-the-demo');

// Addresses that lead nowhere say so.
await omar.goto(`${base}/globex/nothing`);
await omar.getByRole('heading', { name: 'Not found' }).waitFor();
await inspect(omar, 'not-found');
await omar.goto(`${base}/globex/projects/00000000-0000-4000-8000-000000000000`);
await omar.getByText('There is no such project').waitFor();

await omar.getByRole('button', { name: 'New organization' }).click();
const dialog = omar.getByRole('dialog');
assert.ok(await isReadable(dialog.getByRole('button', { name: 'Create organization' })), 'the primary button is visible');
await dialog.getByLabel('Name').fill('Initech');
await dialog.getByLabel('Slug').fill('acme');
await dialog.getByRole('button', { name: 'Create organization' }).click();
await dialog.getByRole('alert').waitFor();
await inspect(omar, 'new-organization');
await dialog.getByLabel('Slug').fill('initech');
await dialog.getByRole('button', { name: 'Create organization' }).click();
await omar.waitForURL('**/initech/projects');
await omar.getByText('No projects yet.').waitFor();
await inspect(omar, 'no-projects');

// With the keyboard: Enter opens a dialog at its first field, and Escape returns to the button.
await omar.getByRole('button', { name: 'New project' }).press('Enter');
await until('the field has the focus', () => dialog.getByLabel('Name').evaluate((field) => field === document.activeElement));
await omar.keyboard.press('Escape');
await dialog.waitFor({ state: 'detached' });
assert.ok(await omar.getByRole('button', { name: 'New project' }).evaluate((button) => button === document.activeElement));

// Two creations at a time, whose events arrive before their responses.
await delayCreations(omar);
for (const name of ['Portable hole', 'Instant tunnel']) await create(omar, name);
await omar.getByText('2 of 3 projects').waitFor();
await omar.unrouteAll({ behavior: 'wait' });
assert.equal(await projects(omar).getByRole('listitem').count(), 2);

// The free plan allows three projects. The fourth one leads to an offer, and what was typed stays.
await create(omar, 'Giant magnet');
await omar.getByRole('button', { name: 'Rename Giant magnet' }).waitFor();
await create(omar, 'Rocket skates');
await omar.getByRole('heading', { name: 'You’ve reached your plan’s limit' }).waitFor();
assert.equal(await projects(omar).getByRole('listitem').count(), 3, 'the fourth is removed again');
await inspect(omar, 'limit');
await omar.getByRole('button', { name: 'Not now' }).click();
assert.equal(await dialog.getByLabel('Name').inputValue(), 'Rocket skates');
await dialog.getByRole('button', { name: 'Create project' }).click();
await omar.getByRole('button', { name: 'Upgrade to Pro' }).click();
await omar.getByText('3 of 50 projects').waitFor();
assert.equal(await dialog.getByLabel('Name').inputValue(), 'Rocket skates');
await dialog.getByRole('button', { name: 'Create project' }).click();
await omar.getByRole('button', { name: 'Rename Rocket skates' }).waitFor();

// A refused name stays in the form with its error.
await omar.getByRole('button', { name: 'Rename Giant magnet' }).click();
await omar.getByLabel('Project name').fill('');
await omar.getByRole('button', { name: 'Save' }).click();
await omar.getByRole('alert').waitFor();
assert.equal(await omar.getByLabel('Project name').inputValue(), '');
await omar.getByRole('button', { name: 'Cancel' }).click();
await inspect(omar, 'projects');

// The page of a project.
await omar.getByRole('link', { name: 'Giant magnet' }).click();
await omar.getByRole('button', { name: 'Edit' }).click();
await omar.getByLabel('Description').fill('Attracts anvils.');
await inspect(omar, 'edit-project');
await omar.getByRole('button', { name: 'Save' }).click();
// The form closes when the server has answered. Until then, its field shows the same text.
await omar.getByRole('button', { name: 'Edit' }).waitFor();
await omar.reload();
await omar.getByText('Attracts anvils.', { exact: true }).waitFor();
await inspect(omar, 'project');

await omar.getByRole('link', { name: 'Members' }).click();
await omar.getByLabel('Email').fill('globex-member@example.com');
await omar.getByLabel('Role', { exact: true }).selectOption('MEMBER');
await omar.getByRole('button', { name: 'Invite', exact: true }).click();
const link = await omar.getByLabel(/Invitation link/).inputValue();
assert.ok(link.startsWith(`${base}/accept-invitation?token=`), link);
await inspect(omar, 'members');

const max = await openPage(browser, `${base}/accept-invitation`);
await max.getByRole('button', { name: /Max/ }).click();
await max.getByText('This link is incomplete.').waitFor();
await max.goto(`${base}/accept-invitation?token=no-such-token`);
await refuse(max, /was sent to an address other than globex-member@example.com/);
await inspect(max, 'invitation-refused');
await max.goto(link);
await max.getByRole('button', { name: 'Accept invitation' }).waitFor();
await inspect(max, 'invitation');
await max.getByRole('button', { name: 'Accept invitation' }).click();
await max.waitForURL('**/initech/projects');
assert.equal(await max.getByRole('link', { name: 'Audit log' }).count(), 0, 'a forbidden page has no link');
await max.goto(`${base}/initech/settings`);
await max.getByRole('heading', { name: 'Not found' }).waitFor();
await max.goto(`${base}/initech/projects`);
await omar.getByRole('list', { name: 'Members' }).getByText('Max').waitFor();
await omar.getByRole('img', { name: /From \d to 2 members/ }).waitFor();

// Omar's list contains what Max creates while a creation by Omar is in flight.
await omar.getByRole('link', { name: 'Projects' }).click();
const appears = (name, timeout) => omar.getByRole('button', { name: `Rename ${name}` }).first().waitFor({ timeout });
await until('an event', async () => {
  await create(max, 'Earthquake pills');
  return appears('Earthquake pills', 5_000).then(() => true, () => false);
});
await delayCreations(omar, async () => {
  await create(max, 'Trick boots');
  await appears('Trick boots');
});
await create(omar, 'Jet bike');
await appears('Jet bike');
await omar.unrouteAll({ behavior: 'wait' });
await omar.getByText('Saving…').waitFor({ state: 'detached' });
await appears('Trick boots');

// A change of the plan is confirmed.
await omar.getByRole('link', { name: 'Plan' }).click();
await omar.getByRole('button', { name: 'Switch to Free' }).click();
await inspect(omar, 'confirm-plan');
await dialog.getByRole('button', { name: 'Cancel' }).click();
await omar.getByRole('article', { name: 'Pro' }).getByText('Current plan').waitFor();
await omar.getByRole('img', { name: /^[\d,]+ calls in the last 30 days/ }).waitFor();
await inspect(omar, 'plan');

// Name and address.
await omar.getByRole('link', { name: 'Settings' }).click();
await omar.getByLabel('Name').fill('Initrode');
await omar.getByLabel('Slug').fill('initrode');
await inspect(omar, 'settings');
await omar.getByRole('button', { name: 'Save' }).click();
await omar.waitForURL('**/initrode/settings');
await omar.getByLabel('Organization').getByRole('option', { name: 'Initrode' }).waitFor({ state: 'attached' });

// Omar sees changes by Max at once.
await omar.getByRole('link', { name: 'Audit log' }).click();
await omar.getByText('accepted an invitation and joined as a member').waitFor();
await omar.getByText('changed the name from “Initech” to “Initrode” and the slug').waitFor();
await omar.getByLabel('Action').getByRole('option', { name: 'Project: created' }).waitFor({ state: 'attached' });
// The stream of events is open when the list has been loaded again over it.
await until('a live entry', async () => {
  await create(max, 'Live project');
  return omar.locator('.fresh').waitFor({ timeout: 5_000 }).then(() => true, () => false);
});
await omar.getByText('created the project Live project').first().waitFor();
await inspect(omar, 'audit-log');

// The end of the organization, for Max as well.
await omar.getByRole('link', { name: 'Settings' }).click();
await omar.getByRole('button', { name: 'Delete Initrode' }).click();
await dialog.getByLabel(/Type/).fill('initrode');
await inspect(omar, 'delete-organization');
await dialog.getByRole('button', { name: 'Delete permanently' }).click();
await omar.getByRole('heading', { name: 'Your organizations' }).waitFor();
await omar.getByRole('link', { name: 'Globex' }).waitFor();
assert.equal(await omar.getByText('Initrode').count(), 0);
await inspect(omar, 'organizations');

for (const page of [omar, max]) {
  const { foreign } = await requests(page, base);
  assert.deepEqual(foreign.filter((url) => !url.startsWith('ws://127.0.0.1')), [], 'no request goes to another origin');
}
await browser.close();
