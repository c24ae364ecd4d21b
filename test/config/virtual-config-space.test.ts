import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LayoutBuilder, VirtualConfigSpace } from '../../src/config/index.ts';
import { malformed, RecordingConfigSpace } from '../support/recording-config-space.ts';

// The engine on its own: owners and write rules of arbitrary bits, and accesses that never span owners.

const SIZE = 256;
const WORDS = SIZE / 4;

interface Target {
  readonly writes: string[];
}

function note(
  target: Target,
  offset: number,
  before: number,
  after: number,
  written: number,
  lanes: number,
): void {
  target.writes.push([offset, before, after, written, lanes].map((n) => (n >>> 0).toString(16)).join(' '));
}

function make(define: (builder: LayoutBuilder<Target>) => void, bytes = new Uint8Array(SIZE).fill(0x5a)) {
  const builder = new LayoutBuilder<Target>(SIZE);
  define(builder);
  const host = new RecordingConfigSpace(bytes);
  const target: Target = { writes: [] };
  const shadow = builder.shadow.slice();
  const space = new VirtualConfigSpace(target, builder.build(), shadow, host, new ArrayBuffer(SIZE));
  return { space, host, target };
}

describe('write rules', () => {
  it('are the specification’s', () => {
    const { space, host } = make((builder) => {
      builder.register(0x10, 4, {
        value: 0x00ff00f0,
        rw: 0xff,
        rw1c: 0xff0000,
        ro: 0xff00,
        rsvdZ: 0xff000000,
      });
    });
    space.write(0x10, 4, 0x00010000);
    expect(space.read(0x10, 4)).toBe(0x00fe0000);
    space.write(0x10, 1, 0xab);
    expect(space.read(0x10, 4)).toBe(0x00fe00ab);
    space.write(0x11, 1, 0xff);
    space.write(0x13, 1, 0xff);
    expect(space.read(0x10, 4)).toBe(0x00fe00ab);
    expect(host.accesses).toEqual([]);
  });

  it('of a reset: reset values, and sticky bits stay', () => {
    const { space } = make((builder) => {
      builder.register(0x10, 4, { value: 0x11, rw: 0xffff, reset: 0x2a00, sticky: 0x000f });
    });
    space.write(0x10, 4, 0xffffffff);
    space.reset(false);
    expect(space.read(0x10, 4)).toBe(0x2a0f);
  });

  it('default to reading 0 and dropping writes', () => {
    const { space, host } = make(() => undefined);
    space.write(0, 4, 0xffffffff);
    expect(space.read(0, 4)).toBe(0);
    expect(host.accesses).toEqual([]);
  });

  it('later ones win, bit by bit', () => {
    const { space } = make((builder) => {
      builder.physical(0x10, 0x14);
      builder.register(0x10, 2, { value: 0xff, rw: 0xf, virtual: 0xf });
      builder.register(0x10, 1, { value: 0, virtual: 0x3 });
    });
    space.write(0x10, 4, 0xffffffff);
    expect(space.read(0x10, 4)).toBe(0x5a5a5a5c);
    space.write(0x10, 4, 0);
    expect(space.read(0x10, 4)).toBe(0x5a5a5a50);
  });

  it('tell the hook what changed, and which bits were written', () => {
    const { space, target } = make((builder) => {
      builder.register(0x10, 2, { value: 0x1234, rw: 0xff00, onWrite: note });
    });
    space.write(0x11, 1, 0xab);
    space.write(0x12, 2, 0xffff);
    expect(target.writes[0]).toBe('10 1234 ab34 ab00 ff00');
    expect(target.writes).toHaveLength(2);
  });

  it('forward single bits with the byte they are in', () => {
    const { space, host } = make((builder) => {
      builder.physical(0x10, 0x14);
      builder.forwardBits(0x10, 2, 0x0810);
    });
    space.write(0x10, 4, 0xffffffff);
    expect(host.bytes.subarray(0x10, 0x14)).toEqual(Uint8Array.of(0x5a, 0x5a, 0x5a, 0x5a));
    space.write(0x10, 4, 0);
    expect(host.bytes.subarray(0x10, 0x14)).toEqual(Uint8Array.of(0x4a, 0x52, 0x5a, 0x5a));
  });
});

/** Masks of every dword; each bit is virtual (with a rule), physical, or physical and forwarded. */
const layouts = fc.array(
  fc.record({
    virtual: fc.integer(),
    rule: fc.integer(),
    forward: fc.integer(),
    value: fc.integer(),
    whole: fc.constantFrom('mixed', 'virtual', 'physical', 'forward'),
  }),
  { minLength: WORDS, maxLength: WORDS },
);
const accesses = fc.array(
  fc.record({
    write: fc.boolean(),
    offset: fc.integer({ min: 0, max: SIZE + 4 }),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 9 }),
  }),
  { maxLength: 30 },
);

describe('any layout', () => {
  it('splits any access at owners, and does what each bit says', () => {
    fc.assert(
      fc.property(layouts, accesses, (words, sequence) => {
        const rules = words.map(({ virtual, rule, forward, value, whole }) => {
          const owned = { mixed: virtual, virtual: -1, physical: 0, forward: 0 }[whole];
          return { owned, rw: owned & rule, forward: ~owned & (whole === 'forward' ? -1 : forward), value };
        });
        const { space, host } = make((builder) => {
          builder.physical(0, SIZE);
          for (const [index, { owned, rw, forward, value }] of rules.entries()) {
            const register = { virtual: owned >>> 0, rw: rw >>> 0, value: (value & owned) >>> 0 };
            builder.register(4 * index, 4, register);
            if (forward !== 0) builder.forwardBits(4 * index, 4, forward >>> 0);
          }
        });
        const mask = (key: 'owned' | 'rw' | 'forward', at: number): number =>
          ((rules[at >> 2]?.[key] ?? 0) >>> (8 * (at & 3))) & 0xff;
        const shadow = Array.from(
          { length: SIZE },
          (_, at) => ((rules[at >> 2]?.value ?? 0) >>> (8 * (at & 3))) & mask('owned', at),
        );
        const physical = Array.from({ length: SIZE }, () => 0x5a);
        const seen = (at: number): number =>
          ((shadow[at] ?? 0) & mask('owned', at)) | ((physical[at] ?? 0) & ~mask('owned', at));
        for (const { write, offset, bytes } of sequence) {
          if (write) {
            space.writeFrom(offset, bytes);
            for (const [i, byte] of bytes.entries()) {
              const at = offset + i;
              if (at >= SIZE) continue;
              const [rw, forward] = [mask('rw', at), mask('forward', at)];
              shadow[at] = ((shadow[at] ?? 0) & ~rw) | (byte & rw);
              physical[at] = ((physical[at] ?? 0) & ~forward) | (byte & forward);
            }
          } else {
            const read = new Uint8Array(bytes.length);
            space.readInto(offset, read);
            expect([...read]).toEqual(
              [...bytes].map((_, i) => (offset + i < SIZE ? seen(offset + i) : 0xff)),
            );
          }
          for (const access of host.drain()) {
            expect(malformed(access, SIZE)).toBeUndefined();
            for (let at = access.offset; at < access.offset + access.size; at++) {
              expect(at >= offset && at < offset + bytes.length).toBe(true);
              expect(access.kind === 'read' ? mask('owned', at) !== 0xff : mask('forward', at) !== 0).toBe(
                true,
              );
            }
          }
          expect([...host.bytes]).toEqual(physical);
        }
      }),
      { numRuns: 60 },
    );
  });
});
