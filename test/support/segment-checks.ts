import { expect } from 'vitest';
import type { PciFunction, PciSegment } from '../../src/index.ts';

/** Where a test put a function: at a fixed address, or behind a port. */
export type Put =
  | { readonly rid: number }
  | { readonly port: PciFunction; readonly device: number; readonly fn: number };

/** Every function of a segment, with where the test put it. */
export type Placed = ReadonlyMap<PciFunction, Put>;

interface Space {
  readonly kind: 'memory' | 'io';
  readonly address: number;
  readonly size: number;
}

/** The ports above `fn`, the nearest first. */
export function portsAbove(placed: Placed, fn: PciFunction): PciFunction[] {
  const put = placed.get(fn);
  return put === undefined || 'rid' in put ? [] : [put.port, ...portsAbove(placed, put.port)];
}

type Window = readonly [base: number, limit: number];

/** A port passes something on: it is in D0, and its link is neither disabled nor in reset. */
function isOpen(port: PciFunction): boolean {
  const at = (id: number): number => port.capabilities.find((one) => one.id === id)?.offset ?? 0;
  const power = port.read(at(0x01) + 4, 2) & 3;
  return power === 0 && (port.read(0x3e, 2) & 0x40) === 0 && (port.read(at(0x10) + 0x10, 2) & 0x10) === 0;
}

/** What a port's registers say that it forwards, read as a guest reads them (PCIe 7.5.1.3). */
function windowsOf(port: PciFunction, kind: Space['kind']): Window[] {
  const command = port.read(0x04, 2);
  if ((command & (kind === 'io' ? 1 : 2)) === 0 || !isOpen(port)) return [];
  if (kind === 'io') {
    return [[(port.read(0x1c, 1) & 0xf0) * 0x100, (port.read(0x1d, 1) & 0xf0) * 0x100 + 0xfff]];
  }
  const window = (register: number): Window => [
    (port.read(register, 2) & 0xfff0) * 0x10000,
    (port.read(register + 2, 2) & 0xfff0) * 0x10000 + 0xfffff,
  ];
  const [base, limit] = window(0x24);
  return [window(0x20), [base + port.read(0x28, 4) * 2 ** 32, limit + port.read(0x2c, 4) * 2 ** 32]];
}

/** What the ports above let through of a BAR: cut at every edge of a window, and tried part by part. */
function partsOf(ports: readonly PciFunction[], { kind, address, size }: Space): Space[] {
  const windows = ports.map((port) => windowsOf(port, kind));
  const edges = windows.flat().flatMap(([base, limit]) => [base, limit + 1]);
  const inside = edges.filter((edge) => edge > address && edge < address + size);
  const points = [...new Set([address, ...inside, address + size])].toSorted((a, b) => a - b);
  const parts: Space[] = [];
  for (const [i, start] of points.entries()) {
    const end = points[i + 1];
    if (end === undefined) continue;
    if (!windows.every((all) => all.some(([base, limit]) => start >= base && end - 1 <= limit))) continue;
    const before = parts.at(-1);
    if (before !== undefined && before.address + before.size === start) {
      parts[parts.length - 1] = { kind, address: before.address, size: end - before.address };
    } else parts.push({ kind, address: start, size: end - start });
  }
  return parts;
}

/** Requester IDs, the table behind the accesses and the bus numbers must agree. */
export function checkAddresses(segment: PciSegment, placed: Placed): void {
  const table = new Map([...segment.functions()].map(([rid, fn]) => [fn, rid]));
  expect(new Set(table.values()).size, 'one function per requester ID').toBe(table.size);
  for (const fn of table.keys()) expect(placed.has(fn), 'nobody is there who was not put there').toBe(true);
  for (const [fn, put] of placed) {
    const { rid } = fn.endpointState;
    expect(rid, 'the function and the table').toBe(table.get(fn) ?? -1);
    if (rid !== -1) {
      expect(segment.function(rid)).toBe(fn);
      const answers = portsAbove(placed, fn).every(isOpen);
      expect(segment.configSpace(rid), 'the registers that answer').toBe(answers ? fn.space : undefined);
    }
    if ('rid' in put) {
      expect(rid).toBe(put.rid);
      continue;
    }
    const above = put.port.endpointState.rid;
    const secondary = put.port.read(0x19, 1);
    const wanted = (secondary << 8) | (put.device << 3) | put.fn;
    const limit = Math.min(0xff, ...portsAbove(placed, put.port).map((port) => port.read(0x1a, 1)));
    const reachable = above !== -1 && secondary > above >>> 8 && secondary <= limit;
    if (rid !== -1) expect([reachable, rid]).toEqual([true, wanted]);
    else if (reachable) expect(segment.function(wanted), 'out of reach without a reason').toBeDefined();
  }
}

/** The decode map must be what follows from BARs, windows and enables. */
export function checkDecoding(segment: PciSegment, placed: Placed): void {
  const expected: string[] = [];
  const name = (fn: PciFunction, { kind, address, size }: Space, bar: number, offset: number): string =>
    `${kind} ${address.toString(16)}+${size.toString(16)} ${fn.endpointState.rid.toString(16)}.${bar} at ${offset.toString(16)}`;
  for (const fn of placed.keys()) {
    if (fn.endpointState.rid === -1) continue;
    for (const { index, kind, address, size, enabled } of fn.bars) {
      const space: Space = { kind: kind === 'io' ? 'io' : 'memory', address, size };
      if (!enabled) continue;
      for (const part of partsOf(portsAbove(placed, fn), space)) {
        expected.push(name(fn, part, index, part.address - address));
      }
    }
  }
  const windows = segment.windows();
  expect(windows.map((window) => name(window.fn, window, window.bar, window.offset)).toSorted()).toEqual(
    expected.toSorted(),
  );
  for (const { kind, address, size } of windows) {
    for (const at of [address - 1, address, address + size - 1, address + size]) {
      const claimed = windows.some(
        (one) => one.kind === kind && at >= one.address && at < one.address + one.size,
      );
      const found = segment.findWindow(kind, at);
      expect(found !== undefined, `${kind} ${at.toString(16)}`).toBe(claimed);
      if (found !== undefined) expect(at >= found.address && at < found.address + found.size).toBe(true);
    }
  }
}
