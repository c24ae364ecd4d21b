// Chromium without a window, driven by the DevTools protocol over a pipe.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

/** Debian's name of the program. */
const PROGRAM = 'chromium';
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--window-size=1400,1250',
  '--remote-debugging-pipe',
];
/** Milliseconds that an answer may take on a busy machine. */
const PATIENCE = 60_000;

/** Why there is no browser here; undefined when there is. */
export function whyNoChromium(): string | undefined {
  const { status } = spawnSync(PROGRAM, ['--version'], { timeout: 30_000 });
  return status === 0 ? undefined : 'no chromium: apt-get install chromium';
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** A page in a browser of its own. */
export class Page {
  /** Addresses of everything that the page asked for. */
  readonly requests: string[] = [];
  /** What it wrote to its console as an error, and what it threw. */
  readonly errors: string[] = [];

  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #pending = new Map<number, (message: Message) => void>();
  #nextId = 1;
  #session: string | undefined;
  #unread = '';
  #onLoad: (() => void) | undefined;

  private constructor(process: ChildProcess, profile: string) {
    this.#process = process;
    this.#profile = profile;
    const output = process.stdio[4] as Readable;
    output.setEncoding('utf8').on('data', (text: string) => this.#received(text));
  }

  /** Starts a browser with an empty page. */
  static async open(): Promise<Page> {
    const profile = mkdtempSync(join(tmpdir(), 'vpci-chromium-'));
    const process = spawn(PROGRAM, [...FLAGS, `--user-data-dir=${profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    const page = new Page(process, profile);
    const { targetId } = await page.#send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await page.#send('Target.attachToTarget', { targetId, flatten: true });
    page.#session = String(sessionId);
    for (const domain of ['Page', 'Runtime', 'Network', 'Log']) await page.#send(`${domain}.enable`);
    return page;
  }

  /** Opens `url`, and waits until everything that it names has loaded. */
  async goTo(url: string): Promise<void> {
    const loaded = new Promise<void>((resolve) => {
      this.#onLoad = resolve;
    });
    await this.#send('Page.navigate', { url });
    await loaded;
  }

  /** The value of a JavaScript expression in the page. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.#send('Runtime.evaluate', {
      expression,
      returnByValue: true,
    });
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value?: unknown }).value;
  }

  /** Waits until the expression is true in the page. */
  async until(expression: string): Promise<void> {
    const end = Date.now() + PATIENCE;
    while ((await this.evaluate(expression)) !== true) {
      if (Date.now() > end || this.errors.length > 0) {
        throw new Error(`the page never came to ${expression}; its errors: ${this.errors.join('\n')}`);
      }
      await new Promise((resolve) => {
        setTimeout(resolve, 50);
      });
    }
  }

  /** What the page looks like, all of it, as PNG. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.#send('Page.captureScreenshot', {
      format: 'png',
      captureBeyondViewport: true,
    });
    return Buffer.from(String(data), 'base64');
  }

  async close(): Promise<void> {
    const gone = new Promise((resolve) => {
      this.#process.once('exit', resolve);
    });
    this.#session = undefined;
    await this.#send('Browser.close').catch(() => this.#process.kill('SIGKILL'));
    await gone;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  }

  #send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = this.#nextId++;
    const input = this.#process.stdio[3] as Writable;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer`)), PATIENCE);
      this.#pending.set(id, ({ result, error }) => {
        clearTimeout(timer);
        if (error === undefined) resolve(result ?? {});
        else reject(new Error(`${method}: ${error.message}`));
      });
      const session = this.#session === undefined ? {} : { sessionId: this.#session };
      input.write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    });
  }

  #received(text: string): void {
    const messages = (this.#unread + text).split('\0');
    this.#unread = messages.pop() ?? '';
    for (const json of messages) this.#handle(JSON.parse(json) as Message);
  }

  #handle(message: Message): void {
    const { id, method, params = {} } = message;
    if (id !== undefined) {
      this.#pending.get(id)?.(message);
      this.#pending.delete(id);
    } else if (method === 'Page.loadEventFired') {
      this.#onLoad?.();
    } else if (method === 'Network.requestWillBeSent') {
      this.requests.push((params as { request: { url: string } }).request.url);
    } else if (method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded') {
      this.errors.push(JSON.stringify(params).slice(0, 1000));
    } else if (method === 'Runtime.consoleAPICalled' && params['type'] === 'error') {
      this.errors.push(JSON.stringify(params['args']));
    }
  }
}
