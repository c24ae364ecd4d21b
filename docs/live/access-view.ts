import { formatBdf } from '../../src/index.ts';
import type { GuestAccess } from '../../vmm-glue/v86/index.ts';
import { element, hex, make } from './dom.ts';

/** Lines kept; older ones go. */
const LINES = 400;

/** Accesses as they come. Those that nobody answers, thousands in a scan of the bus, are counted only. */
export class AccessView {
  readonly #list: HTMLOListElement = element('accesses', HTMLOListElement);
  readonly #counts: HTMLParagraphElement = element('counts', HTMLParagraphElement);
  #reads = 0;
  #writes = 0;
  #unanswered = 0;
  #pending: HTMLElement[] = [];

  constructor() {
    this.#list.replaceChildren();
    this.update();
  }

  /** `hit`: it went to the function that the page is about. */
  add(access: GuestAccess, hit: boolean): void {
    if (access.write) this.#writes++;
    else this.#reads++;
    if (hit) this.#pending.push(make('li', describe(access), access.write ? 'write' : ''));
    else this.#unanswered++;
    if (this.#pending.length > LINES) this.#pending.shift();
  }

  /** Shows what came since the last time. */
  update(): void {
    const all = `${this.#reads} reads and ${this.#writes} writes reached the segment`;
    this.#counts.textContent = `${all}; ${this.#unanswered} of them found nobody`;
    this.#list.append(...this.#pending.splice(0));
    while (this.#list.children.length > LINES) this.#list.firstChild?.remove();
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function describe(access: GuestAccess): string {
  const place =
    'rid' in access ? `${formatBdf(access.rid)} +0x${hex(access.offset, 3)}` : `0x${hex(access.address, 8)}`;
  const value = hex(access.value, 2 * access.size);
  return `${access.via.toUpperCase().padEnd(5)} ${access.write ? 'write' : 'read '} ${8 * access.size} bits  ${place}  ${access.write ? '<-' : '->'} ${value}`;
}
