import type { PassthroughOptions } from '../../src/index.ts';
import { byteAt, type Link, wordAt } from './reference-chain.ts';
import type { CellRule, ReferenceFunction } from './reference-function.ts';
import type { Shown } from './reference-plan.ts';

// What a write does to the registers of each capability: design section 4 and the decisions where it is silent.

type Options = Omit<PassthroughOptions, 'physical'>;

/** Applies `rules` (offset in the capability, rule) as far as the capability's bytes reach. */
function apply(fn: ReferenceFunction, link: Link, rules: readonly (readonly [number, CellRule])[]): void {
  for (const [at, rule] of rules) if (at < link.length) fn.rule(link.offset + at, rule);
}

/** Read-write virtual bits that start as the physical ones. */
function latch(mask: number, more: Partial<CellRule> = {}): CellRule {
  return { virtual: mask, rw: mask, ...more };
}

function whole(from: number, count: number): [number, CellRule][] {
  return Array.from({ length: count }, (_, i) => [from + i, latch(0xff)]);
}

export function standardRules(fn: ReferenceFunction, link: Link, options: Options): void {
  const { bytes, express } = fn.plan;
  switch (link.id) {
    case 0x01:
      if (link.length > 4) {
        // D1 and D2 where they are supported; what is not supported is dropped (PCIe 7.5.2.2).
        const capabilities = byteAt(bytes, link.offset + 3);
        const states = [
          0,
          3,
          ...((capabilities & 2) === 0 ? [] : [1]),
          ...((capabilities & 4) === 0 ? [] : [2]),
        ];
        // The first structure is the function's own; No_Soft_Reset is bit 3.
        if (fn.powerStates.size === 0 && (byteAt(bytes, link.offset + 4) & 8) === 0) {
          fn.softReset = link.offset + 4;
        }
        fn.powerStates.set(link.offset + 4, states);
      }
      apply(fn, link, [
        [4, latch(0x03)],
        [5, { virtual: 0x81, rw: 0x01, rw1c: 0x80, sticky: 0x81 }],
      ]);
      break;
    case 0x05:
      msi(fn, link);
      break;
    case 0x11:
      // Message Control is the guest's as a whole: none of it can be passed through.
      apply(fn, link, [
        [2, { virtual: 0xff }],
        [3, { virtual: 0xff, rw: 0xc0 }],
      ]);
      break;
    case 0x13:
      advancedFeatures(fn, link);
      break;
    case 0x10:
      expressRules(fn, link);
      if (link.offset !== express?.offset) break;
      if (options.present === 'rciep' || options.present === 'endpoint') {
        present(fn, link, options.present === 'rciep' ? 9 : 0);
      }
      if (fn.plan.pasid !== undefined) prefixes(fn, link, byteAt(bytes, link.offset + 0x26));
      break;
    default:
  }
}

/** A mask bit for each vector that the function has. */
function maskBits(start: number, vectors: number): [number, CellRule][] {
  return [0, 1, 2, 3].map((i) => {
    const bits = Math.max(0, Math.min(8, vectors - 8 * i));
    return [start + i, { virtual: 0xff, rw: (1 << bits) - 1 }];
  });
}

function msi(fn: ReferenceFunction, link: Link): void {
  const control = wordAt(fn.plan.bytes, link.offset + 2);
  const wide = (control & 0x80) !== 0;
  const masking = (control & 0x100) !== 0;
  const extendedData = (control & 0x200) !== 0;
  const data = wide ? 12 : 8;
  apply(fn, link, [
    [2, { virtual: 0xff, rw: 0x71 }],
    [3, { virtual: 0xff }],
    [4, { virtual: 0xff, rw: 0xfc }],
    ...whole(5, 3),
    ...(wide ? whole(8, 4) : []),
    ...whole(data, extendedData ? 4 : 2),
    ...(masking ? maskBits(data + 4, 1 << Math.min(5, (control >>> 1) & 7)) : []),
  ]);
  if (masking) {
    // Pending bits belong to the emulated interrupts, and nothing waits here.
    for (let at = data + 8; at < data + 12; at++) apply(fn, link, [[at, { virtual: 0xff, value: 0 }]]);
  }
  if (extendedData) apply(fn, link, [[3, latch(0x04)]]);
}

function advancedFeatures(fn: ReferenceFunction, link: Link): void {
  if (link.length <= 4) return;
  if ((byteAt(fn.plan.bytes, link.offset + 3) & 0x02) === 0) return;
  fn.rule(link.offset + 4, { virtual: 0x01, value: 0 });
  fn.resets.set(link.offset + 4, 0x01);
}

function expressRules(fn: ReferenceFunction, link: Link): void {
  const at = link.offset;
  if (link.length > 8) {
    apply(fn, link, [
      // Max Payload Size: a Function Level Reset leaves it alone (PCIe 6.6.2).
      [8, latch(0xef, { keptByFlr: 0xe0 })],
      // Aux Power PM Enable is RWS.
      [9, latch(0x75, { reset: 0x20, sticky: 0x04 })],
      [9, { virtual: 0x80, value: 0 }],
    ]);
    fn.forward(at + 8, 0x10);
    fn.forward(at + 9, 0x08);
    if ((byteAt(fn.plan.bytes, at + 7) & 0x10) !== 0) fn.resets.set(at + 9, 0x80);
  }
  if (link.length > 0x28) {
    apply(fn, link, [
      [0x28, latch(0x1f)],
      [0x29, latch(0x77)],
    ]);
    fn.forward(at + 0x28, 0x40);
  }
}

/** Device/Port Type `type`; an RC integrated endpoint has no link. */
function present(fn: ReferenceFunction, link: Link, type: number): void {
  const was = byteAt(fn.plan.bytes, link.offset + 2) >> 4;
  if (![0, 1, 9].includes(was)) return;
  fn.rule(link.offset + 2, { virtual: 0xf0, value: type << 4 });
  if (type !== 9) return;
  const registers = [
    [0x0c, 8],
    [0x2c, 8],
  ] as const;
  for (const [start, count] of registers) {
    apply(
      fn,
      link,
      Array.from({ length: count }, (_, i) => [start + i, { virtual: 0xff, value: 0 }]),
    );
  }
}

/** Device Capabilities 2 of a function that shows PASID: bits 20, 21, and 23:22 where 21 was 0. */
function prefixes(fn: ReferenceFunction, link: Link, before: number): void {
  fn.rule(link.offset + 0x26, { virtual: 0x30, value: 0x30 });
  if ((before & 0x20) === 0) fn.rule(link.offset + 0x26, { virtual: 0xc0, value: 0x40 });
}

export function extendedRules(fn: ReferenceFunction, shown: Shown): void {
  const { bytes, pasid } = fn.plan;
  const at = shown.offset;
  if (!shown.virtual) {
    if (shown.id === 0x01) advancedErrors(fn, shown);
    if (shown.id === 0x0d && shown.length > 6) fn.rule(at + 6, latch(byteAt(bytes, at + 4)));
    return;
  }
  if (shown.id === 0x0f) {
    // Page Aligned Request and Global Invalidate Supported; STU and Enable.
    fn.rule(at + 4, { virtual: 0xff, value: 0x60 });
    fn.rule(at + 6, { virtual: 0xff, value: 0, rw: 0x1f });
    fn.rule(at + 7, { virtual: 0xff, value: 0, rw: 0x80 });
  } else if (shown.id === 0x13) {
    fn.pageRequest = at;
    fn.rule(at + 4, { virtual: 0xff, value: 0, rw: 0x01 });
    fn.rule(at + 7, { virtual: 0xff, value: pasid === undefined ? 0x01 : 0x81 });
    fn.rule(at + 9, { virtual: 0xff, value: 0x02 });
    for (let i = 12; i < 16; i++) fn.rule(at + i, { virtual: 0xff, value: 0, rw: 0xff });
  } else if (pasid !== undefined) {
    const supported = (pasid.execute ? 2 : 0) | (pasid.privileged ? 4 : 0);
    fn.rule(at + 4, { virtual: 0xff, value: supported });
    fn.rule(at + 5, { virtual: 0xff, value: pasid.width });
    fn.rule(at + 6, { virtual: 0xff, value: 0, rw: fn.plan.drop ? 0 : supported | 1 });
  }
}

function advancedErrors(fn: ReferenceFunction, shown: Shown): void {
  const all = (mask: number): CellRule => latch(mask, { sticky: mask });
  for (const start of [8, 0xc]) {
    apply(fn, shown, [
      [start, all(0x30)],
      [start + 1, all(0xf0)],
      [start + 2, all(0xff)],
      [start + 3, all(0x0f)],
    ]);
  }
  apply(fn, shown, [
    [0x14, all(0xc1)],
    [0x15, all(0xf1)],
    [0x18, all(0x40)],
    [0x19, all(0x01)],
  ]);
}
