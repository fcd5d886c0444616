// A Chromium that reaches this machine only, and helpers for its pages.
import assert from 'node:assert/strict';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

const seen = new WeakMap();

export const open = async (url) => {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-background-networking',
      '--disable-quic',
      // No name resolves, and no other address is reachable.
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });
  return { browser, page: await openPage(browser, url) };
};

/** Opens a page for another user, in a separate browser context. */
export const openPage = async (browser, url) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: 'light' });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const urls = [];
  seen.set(page, urls);
  page.on('request', (request) => urls.push(request.url()));
  page.on('pageerror', (error) => console.error(`page: ${error.message}`));
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
      window.violations.push(`${violatedDirective} ${blockedURI}`),
    );
  });
  await page.goto(url);
  return page;
};

/** Returns the requests to other origins than `base`, and the violations of the page's policy. */
export const requests = async (page, base) => ({
  foreign: seen.get(page).filter((url) => !url.startsWith(`${base}/`) && !url.startsWith('data:')),
  violations: await page.evaluate(() => window.violations),
});

export const until = async (what, holds) => {
  const end = Date.now() + 60_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

/** What axe-core finds in the page, as a line for each fault. */
const faults = async (page, excluded) => {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate((exclude) => window.axe.run({ exclude }, { resultTypes: ['violations'] }), excluded);
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} ${target.join(' ')}: ${failureSummary}`));
};

/**
 * Checks a page as it is now: its accessibility, light and dark, and that nothing is wider than a
 * phone. Stores it on a desktop, dark and on a phone if TENANTRY_SCREENSHOTS is set. `excluded` are
 * selectors of elements that are not ours.
 */
export const inspect = async (page, name, excluded = []) => {
  const folder = process.env.TENANTRY_SCREENSHOTS;
  const shot = (kind) => folder && page.screenshot({ path: `${folder}/${name}-${kind}.png` });
  const { width, height } = page.viewportSize();
  // Without transitions, so that no state in between is seen.
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await shot('desktop');
  const found = await faults(page, excluded);
  await page.emulateMedia({ colorScheme: 'dark' });
  await shot('dark');
  found.push(...(await faults(page, excluded)));
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 360, height: 780 });
  await shot('phone');
  found.push(...(await faults(page, excluded)));
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (overflow > 0) found.push(`${overflow} pixels wider than a phone`);
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ reducedMotion: null });
  assert.deepEqual([...new Set(found)], [], name);
};

/** Waits until an invitation is refused: when its page opens, or when it is accepted. */
export const refuse = async (page, reason) => {
  const accept = page.getByRole('button', { name: 'Accept invitation' });
  const refusal = page.getByText(reason);
  await accept.or(refusal).first().waitFor();
  if (await accept.isVisible()) await accept.click();
  await refusal.waitFor();
};
