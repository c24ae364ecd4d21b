import type { PciFunction } from '../../src/index.ts';
import { element, hex } from './dom.ts';

/** The PASID capability as vpci keeps it. */
export class LatchView {
  readonly #fn: PciFunction;

  constructor(fn: PciFunction) {
    this.#fn = fn;
    const { pasid } = fn;
    set('width', pasid === undefined ? 'none' : `${pasid.width} bits`);
    set('offset', pasid === undefined ? 'none' : `0x${hex(pasid.offset, 3)}`);
    this.update(0);
  }

  update(physicalWrites: number): void {
    const { pasidEnable, executeEnable, privilegedEnable } = this.#fn.endpointState;
    const bits = [pasidEnable, executeEnable, privilegedEnable];
    for (const [i, id] of ['enable', 'execute', 'privileged'].entries())
      element(id, HTMLSpanElement).classList.toggle('on', bits[i] === true);
    const control = bits.reduce((value, bit, i) => value | (bit ? 1 << i : 0), 0);
    set('control', `0x${hex(control, 4)}`);
    set('may', this.#fn.canIssue(0) ? 'yes' : 'no');
    set('physical', String(physicalWrites));
  }
}

function set(id: string, text: string): void {
  element(id, HTMLElement).textContent = text;
}
