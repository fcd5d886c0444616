// A Chromium that reaches this machine only, and helpers for its pages.
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

/** Stores a page as it is now, on a desktop, on a phone and dark, if TENANTRY_SCREENSHOTS is set. */
export const shoot = async (page, name) => {
  const folder = process.env.TENANTRY_SCREENSHOTS;
  if (!folder) return;
  const { width, height } = page.viewportSize();
  // Without transitions, so that no picture shows a state in between.
  await page.emulateMedia({ reducedMotion: 'reduce' });
  const shot = (kind) => page.screenshot({ path: `${folder}/${name}-${kind}.png` });
  await shot('desktop');
  await page.emulateMedia({ colorScheme: 'dark' });
  await shot('dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  await shot('phone');
  // Nothing is wider than the phone.
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (overflow > 0) throw new Error(`${name} is ${overflow} pixels wider than a phone`);
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ reducedMotion: null });
};

/** Waits until an invitation is refused: when its page opens, or when it is accepted. */
export const refuse = async (page, reason) => {
  const accept = page.getByRole('button', { name: 'Accept invitation' });
  const refusal = page.getByText(reason);
  await accept.or(refusal).first().waitFor();
  if (await accept.isVisible()) await accept.click();
  await refusal.waitFor();
};
