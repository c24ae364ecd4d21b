// docs/live in a real browser: x86 code runs there, and the page shows what it does.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { Page, whyNoChromium } from './browser.ts';

const repo = fileURLToPath(new URL('../../..', import.meta.url));
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.wasm': 'application/wasm',
};

/** Serves the files in `folder`, in a sub-folder of the server: the page must not rely on being at the top. */
async function serve(folder: string): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    const path = normalize((request.url ?? '/').replace(/\?.*/, '')).replace(/^\/here\//, '');
    try {
      const body = readFileSync(join(folder, path === '' ? 'index.html' : path));
      response.writeHead(200, { 'content-type': TYPES[extname(path === '' ? 'index.html' : path)] });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(undefined));
  });
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/here/` };
}

bed('chromium', whyNoChromium)('the live page', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vpci-live-'));
  let server: Server;
  let url: string;
  let page: Page;

  beforeAll(async () => {
    const root = join(repo, 'docs/live');
    const configFile = join(root, 'vite.config.ts');
    await build({ root, configFile, logLevel: 'error', build: { outDir: folder } });
    ({ server, url } = await serve(folder));
    page = await Page.open();
  }, 120_000);

  afterAll(async () => {
    await page.close();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const text = async (selector: string): Promise<string> =>
    String(await page.evaluate(`document.querySelector(${JSON.stringify(selector)}).innerText`));
  const lit = async (): Promise<unknown> =>
    page.evaluate(`[...document.querySelectorAll('.bit.on')].map(({ id }) => id)`);

  it('is live: the latch is lit between the guest enabling PASID and the reset', async () => {
    await page.goTo(`${url}?pace=300`);
    await page.until(`document.querySelectorAll('#steps li').length >= 7`);
    expect(await page.evaluate('document.body.dataset.state')).toBe('running');
    expect(await lit()).toEqual(['enable', 'execute']);
    expect(await text('#control')).toBe('0x0003');
    expect(await text('#may')).toBe('yes');
  }, 60_000);

  it('tells the whole story, with every verdict', async () => {
    await page.goTo(`${url}?pace=0`);
    await page.until(`document.body.dataset.state === 'done'`);
    const verdicts = (await text('#verdicts tbody')).split('\n').map((row) => row.split('\t').slice(1));
    expect(verdicts).toEqual([
      ['0x5', '0x40000000', 'rejected, unsupported-request: pasid-not-attached'],
      ['0x5', '0x40000000', 'accepted: guest memory at 0x70000000'],
      ['0x5', '0x40000040', 'accepted: guest memory at 0x70000040'],
      ['0x4', '0x40000000', 'rejected, unsupported-request: pasid-not-attached'],
      ['0x10000', '0x40000000', 'rejected, unsupported-request: pasid-beyond-width'],
      ['0x5', '0x40001000', 'rejected, unsupported-request: no-write-permission'],
      ['0x5', '0x40000000', 'rejected, unsupported-request: pasid-not-attached'],
    ]);
    expect(await page.evaluate(`document.querySelectorAll('#steps li').length`)).toBe(16);
    expect(await lit()).toEqual([]);
    expect(await text('#physical')).toBe('0');
  }, 60_000);

  it("shows the guest's accesses and what they wrote", async () => {
    expect(await text('#counts')).toMatch(/^\d+ reads and 2 writes reached the segment/);
    const lines = (await text('#accesses')).split('\n');
    expect(lines).toContain('ECAM  write 16 bits  01:00.0 +0xffe  <- 0003');
    expect(lines[0]).toBe('ECAM  read  8 bits  01:00.0 +0x000  -> 86');
    const registers = await text('#registers');
    expect(registers).toMatch(/^000: 86 80 c9 10 /);
    expect(registers).toMatch(/^ff0: 00 00 00 00 00 00 00 00 1b 00 01 00 02 10 00 00$/m);
    expect(
      await page.evaluate(`[...document.querySelectorAll('#registers mark')].map((one) => one.innerText)`),
    ).toEqual(['00', '00', '00', '00']);
  });

  it('plays again at a click', async () => {
    await page.evaluate(`document.querySelector('#run').click()`);
    expect(await page.evaluate('document.body.dataset.state')).toBe('running');
    await page.until(`document.body.dataset.state === 'done'`);
    expect(await page.evaluate(`document.querySelectorAll('#verdicts tbody tr').length`)).toBe(7);
  }, 60_000);

  it('asks for nothing from elsewhere, and logs no error', () => {
    const elsewhere = page.requests.filter((one) => !one.startsWith(url) && !/^(data|blob):/.test(one));
    expect(elsewhere).toEqual([]);
    expect(page.errors).toEqual([]);
  });

  it('has a picture', async () => {
    const picture = await page.screenshot();
    expect(picture.length).toBeGreaterThan(20_000);
    // VPCI_SCREENSHOT=path keeps it, for people.
    const keep = process.env['VPCI_SCREENSHOT'];
    if (keep !== undefined) writeFileSync(keep, picture);
  });
});

describe('the bed', () => {
  it('has a page to test', () => {
    expect(readFileSync(join(repo, 'docs/live/index.html'), 'utf8')).toContain('./main.ts');
  });
});
