import { describe, expect, it } from 'vitest';
import { guestView, parseDump } from '../../src/inspect/index.ts';
import { buildConfig } from '../support/config-builder.ts';

describe('parseDump', () => {
  it.each([64, 256, 4096])('takes %i bytes of a device that is gone for a binary dump', (size) => {
    const [dumped] = parseDump(new Uint8Array(size).fill(0xff));
    expect(dumped?.bytes).toEqual(new Uint8Array(size).fill(0xff));
  });

  it('takes text in bytes for text, whatever letters a title has', () => {
    const line = `00:01.0 Contrôleur Ethernet\n00: ${'86 80 '.repeat(8)}`.trimEnd();
    const lines = [line, ...[1, 2, 3].map((i) => `${i}0:${' 00'.repeat(16)}`)].join('\n');
    expect(parseDump(new TextEncoder().encode(lines))[0]?.bytes.length).toBe(64);
  });
});

describe('guestView', () => {
  it('names a Capabilities Pointer that leads nowhere, since Status says that there is no list', () => {
    const bytes = buildConfig({ express: null, bytes: [[0x34, [0xc4]]] });
    const view = guestView(bytes);
    expect(view.bytes[0x34]).toBe(0);
    expect(view.findings).toContainEqual(
      expect.objectContaining({ code: 'unclaimed-bytes', offset: 0x34, length: 1 }),
    );
  });
});
