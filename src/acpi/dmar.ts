import { badArgument, checkAddress, checkInteger, TableBytes, type TableIdentity } from './table-bytes.ts';

/** A device that a structure of the DMAR table names (VT-d 8.3.1). */
export interface DeviceScope {
  /** An endpoint; a bridge with everything behind it; an I/O APIC; an HPET. Default `endpoint`. */
  readonly kind?: 'endpoint' | 'bridge' | 'ioapic' | 'hpet';
  /** Number of the I/O APIC or HPET. Default 0. */
  readonly enumerationId?: number;
  /** Bus of the first element of the path. Default 0. */
  readonly startBus?: number;
  /** Device (0..31) and function (0..7) of each bridge on the way, and of the device. At least one. */
  readonly path: readonly (readonly [device: number, fn: number])[];
}

/** A remapping unit (DRHD, VT-d 8.3). */
export interface RemappingUnit {
  /** Guest-physical address of the registers, a multiple of 4096. */
  readonly registers: number | bigint;
  /** PCI segment group, 16 bits. Default 0. */
  readonly segment?: number;
  /** It translates for all devices of the segment that no other unit names. Default: true without `scopes`. */
  readonly includeAll?: boolean;
  readonly scopes?: readonly DeviceScope[];
}

/** Root ports below which a device may use ATS (ATSR, VT-d 8.5). Without one Linux leaves ATS and PRI off. */
export interface AtsReporting {
  readonly segment?: number;
  /** All root ports. Default: true without `scopes`. */
  readonly allPorts?: boolean;
  readonly scopes?: readonly DeviceScope[];
}

/** Devices of the root complex with a translation cache (SATC, VT-d 8.8). */
export interface AtcReporting {
  readonly segment?: number;
  /** The devices need ATS to work. Default false. */
  readonly atcRequired?: boolean;
  readonly scopes: readonly DeviceScope[];
}

/** What a DMAR table says. */
export interface DmarTable extends TableIdentity {
  /** Bits of a guest-physical address, 1..64. Default 48, as the default of a unit. */
  readonly hostAddressWidth?: number;
  /** Interrupt remapping is there. Default false: the units of this library have none. */
  readonly interruptRemapping?: boolean;
  /** Firmware asks the system to leave x2APIC alone. Default false. */
  readonly x2apicOptOut?: boolean;
  readonly units: readonly RemappingUnit[];
  readonly atsr?: readonly AtsReporting[];
  readonly satc?: readonly AtcReporting[];
}

const DRHD = 0;
const ATSR = 2;
const SATC = 5;
const SCOPE_TYPES: Readonly<Record<NonNullable<DeviceScope['kind']>, number>> = {
  endpoint: 1,
  bridge: 2,
  ioapic: 3,
  hpet: 4,
};

/**
 * The DMAR table (VT-d 8.1): which unit translates for which device.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` for a number out of range, or more device scopes than a structure can hold.
 */
export function dmarTable(table: DmarTable): Uint8Array {
  const { hostAddressWidth = 48, interruptRemapping = false, x2apicOptOut = false } = table;
  checkInteger(hostAddressWidth, 1, 64, 'hostAddressWidth');
  const flags = (interruptRemapping ? 1 : 0) | (x2apicOptOut ? 2 : 0);
  const body = new TableBytes()
    .uint(hostAddressWidth - 1, 1)
    .uint(flags, 1)
    .zeros(10);
  // A unit for all the rest comes last in its segment (VT-d 8.3).
  const units = table.units.toSorted((left, right) => Number(includesAll(left)) - Number(includesAll(right)));
  for (const unit of units) {
    checkAddress(unit.registers, 0x1000n, 'registers of a remapping unit');
    const fields = new TableBytes().uint(includesAll(unit) ? 1 : 0, 1).uint(0, 1);
    fields.uint(segmentOf(unit), 2).uint(unit.registers, 8);
    body.append(structure(DRHD, fields, unit.scopes));
  }
  for (const ats of table.atsr ?? []) {
    const all = ats.allPorts ?? ats.scopes === undefined;
    const fields = new TableBytes()
      .uint(all ? 1 : 0, 1)
      .zeros(1)
      .uint(segmentOf(ats), 2);
    body.append(structure(ATSR, fields, ats.scopes));
  }
  for (const atc of table.satc ?? []) {
    const fields = new TableBytes()
      .uint(atc.atcRequired === true ? 1 : 0, 1)
      .zeros(1)
      .uint(segmentOf(atc), 2);
    body.append(structure(SATC, fields, atc.scopes));
  }
  return body.table('DMAR', 1, table);
}

function includesAll(unit: RemappingUnit): boolean {
  return unit.includeAll ?? unit.scopes === undefined;
}

function segmentOf({ segment = 0 }: { readonly segment?: number }): number {
  checkInteger(segment, 0, 0xffff, 'segment');
  return segment;
}

function structure(type: number, fields: TableBytes, scopes: readonly DeviceScope[] = []): TableBytes {
  const body = new TableBytes().append(fields);
  for (const scope of scopes) body.append(scopeBytes(scope));
  checkInteger(4 + body.length, 0, 0xffff, 'length of a structure with its device scopes');
  return new TableBytes()
    .uint(type, 2)
    .uint(4 + body.length, 2)
    .append(body);
}

function scopeBytes({ kind = 'endpoint', enumerationId = 0, startBus = 0, path }: DeviceScope): TableBytes {
  if (!Object.hasOwn(SCOPE_TYPES, kind)) {
    throw badArgument(`kind of a device scope is "${kind}": use ${Object.keys(SCOPE_TYPES).join(', ')}`);
  }
  checkInteger(enumerationId, 0, 0xff, 'enumerationId');
  checkInteger(startBus, 0, 0xff, 'startBus');
  checkInteger(path.length, 1, 124, 'elements of a path');
  const bytes = new TableBytes()
    .uint(SCOPE_TYPES[kind], 1)
    .uint(6 + 2 * path.length, 1)
    .zeros(2);
  bytes.uint(enumerationId, 1).uint(startBus, 1);
  for (const [device, fn] of path) {
    checkInteger(device, 0, 0x1f, 'device of a path');
    checkInteger(fn, 0, 7, 'function of a path');
    bytes.uint(device, 1).uint(fn, 1);
  }
  return bytes;
}
