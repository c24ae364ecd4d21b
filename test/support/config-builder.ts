// Physical configuration spaces for tests, written down briefly.

export interface BuiltCapability {
  readonly offset: number;
  readonly id: number;
  readonly version?: number;
  /** Bytes after the header. */
  readonly body?: readonly number[];
}

export interface BuiltConfig {
  /** Bytes. Default 4096. */
  readonly size?: number;
  readonly headerType?: number;
  /** The PCI Express capability, at 0x40; null for none. Default: an endpoint's, version 2. */
  readonly express?: {
    readonly type?: number;
    readonly version?: number;
    readonly deviceCapabilities?: number;
    readonly deviceCapabilities2?: number;
  } | null;
  /** More standard capabilities, in chain order behind the PCI Express one. */
  readonly standard?: readonly BuiltCapability[];
  /** The extended chain, in chain order. */
  readonly extended?: readonly BuiltCapability[];
  /** More bytes: offset and what stands there. */
  readonly bytes?: readonly (readonly [offset: number, bytes: readonly number[]])[];
}

/** Where {@link buildConfig} puts the PCI Express capability. */
export const EXPRESS = 0x40;

export function buildConfig(config: BuiltConfig = {}): Uint8Array {
  const bytes = new Uint8Array(config.size ?? 0x1000);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x1572_8086, true);
  bytes[0x0e] = config.headerType ?? 0;
  const standard: BuiltCapability[] = [...(config.standard ?? [])];
  if (config.express !== null) {
    const { type = 0, version = 2, deviceCapabilities = 0, deviceCapabilities2 = 0 } = config.express ?? {};
    standard.unshift({ offset: EXPRESS, id: 0x10 });
    view.setUint16(EXPRESS + 2, (type << 4) | version, true);
    view.setUint32(EXPRESS + 4, deviceCapabilities, true);
    view.setUint32(EXPRESS + 0x24, deviceCapabilities2, true);
  }
  const [first] = standard;
  if (first !== undefined) {
    bytes[0x06] = 0x10;
    bytes[(config.headerType ?? 0) % 0x80 === 2 ? 0x14 : 0x34] = first.offset;
  }
  for (const [index, { offset, id, body = [] }] of standard.entries()) {
    bytes.set([id, standard[index + 1]?.offset ?? 0, ...body], offset);
  }
  const extended = config.extended ?? [];
  for (const [index, { offset, id, version = 1, body = [] }] of extended.entries()) {
    const next = extended[index + 1]?.offset ?? 0;
    view.setUint32(offset, (id | (version << 16) | (next << 20)) >>> 0, true);
    bytes.set(body, offset + 4);
  }
  for (const [offset, some] of config.bytes ?? []) bytes.set(some, offset);
  return bytes;
}

/** An AER capability of 0x2c bytes at the head of the chain: the usual start. */
export const AER_HEAD: BuiltCapability = { offset: 0x100, id: 0x01, version: 2 };
