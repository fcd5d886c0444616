// Chromium without a way to anywhere but this machine, and what a test wants of it.
import { chromium } from 'playwright-core';

const seen = new WeakMap();

export const open = async (url) => {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-background-networking',
      '--disable-quic',
      // Names lead nowhere, and so does every address but this one.
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });
  return { browser, page: await person(browser, url) };
};

/** A browser window of somebody else, who shares nothing with the first. */
export const person = async (browser, url) => {
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

/** What the page asked of others than `base`, and what its policy forbade. */
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
