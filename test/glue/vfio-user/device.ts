// The device that the vfio-user tests serve: one of everything, and a record of what its BARs were asked.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll } from 'vitest';
import {
  createFunction,
  expressCapability,
  msiCapability,
  msiXCapability,
  type PciFunction,
  powerManagementCapability,
} from 'vpci';

/** What a BAR was asked: read or write, offset, size and, of a write, the value. */
export type BarAccess = readonly [kind: 'read' | 'write', offset: number, size: number, value?: number];

export interface TestFunction {
  readonly fn: PciFunction;
  readonly accesses: BarAccess[];
}

export const MSI_X_VECTORS = 8;

export function testFunction(): TestFunction {
  const accesses: BarAccess[] = [];
  const fn = createFunction({
    vendorId: 0x1b36,
    deviceId: 0x00f5,
    classCode: 0x120000,
    pasid: { width: 16, execute: true, privileged: true },
    ats: true,
    pri: true,
    interruptPin: 1,
    capabilities: [
      powerManagementCapability(),
      msiCapability(4),
      msiXCapability(MSI_X_VECTORS, { bar: 2, offset: 0 }, { bar: 2, offset: 0x800 }),
      expressCapability(),
    ],
    bars: [
      {
        index: 0,
        size: 0x1000,
        read: (offset, size) => {
          accesses.push(['read', offset, size]);
          if (offset === 0xf00) throw new Error('a device with a bug');
          return 0xa0b0c0d0;
        },
        write: (offset, size, value) => {
          accesses.push(['write', offset, size, value]);
          if (offset === 0xf00) throw new Error('a device with a bug');
        },
      },
      { index: 2, size: 0x1000, kind: 'memory64' },
    ],
  });
  return { fn, accesses };
}

/** So that what memory is left says nothing about when the collector last ran. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect === 'function') collect();
}

const scratch = mkdtempSync(join(tmpdir(), 'vpci-vu-'));
let sockets = 0;
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A path for a socket, not used before. */
export function socketPath(): string {
  return join(scratch, `${sockets++}.sock`);
}

export function scratchFile(name: string): string {
  return join(scratch, name);
}
