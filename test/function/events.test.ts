import { describe, expect, it, vi } from 'vitest';
import {
  ByteConfigSpace,
  createFunction,
  type PassthroughOptions,
  type PciFunction,
} from '../../src/index.ts';
import { AER_HEAD, buildConfig, EXPRESS } from '../support/config-builder.ts';

// Design section 5, "Listeners", and the events of a function.

function make(options: Partial<PassthroughOptions> = {}): PciFunction {
  return createFunction({
    physical: buildConfig({
      express: { deviceCapabilities: 0x1000_0000 },
      extended: [AER_HEAD],
    }),
    pasid: { width: 16, execute: true },
    ...options,
  });
}

function control(fn: PciFunction): number {
  return (fn.pasid?.offset ?? 0) + 6;
}

/** The next error that nobody catches. */
function uncaught(): Promise<unknown> {
  return new Promise<unknown>((resolve) => {
    const known = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', (error) => {
      for (const one of known) process.on('uncaughtException', one);
      resolve(error);
    });
    const rejections = process.listeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection');
    process.once('unhandledRejection', (error) => {
      for (const one of rejections) process.on('unhandledRejection', one);
      for (const one of known) process.on('uncaughtException', one);
      resolve(error);
    });
  });
}

describe('pasid-control', () => {
  it('comes when a bit reads differently, and only then', () => {
    const fn = make();
    const heard: unknown[] = [];
    fn.on('pasid-control', (event) => heard.push({ ...event, reads: fn.read(control(fn), 2) }));
    fn.write(control(fn), 2, 0);
    fn.write(control(fn), 2, 0xfffc); // Priv is not supported, the rest reserved
    expect(heard).toEqual([]);
    fn.write(control(fn), 2, 1);
    fn.write(control(fn), 2, 1);
    fn.write(control(fn), 1, 3);
    fn.write(control(fn) - 2, 4, 0);
    expect(heard).toEqual([
      { enable: true, execute: false, privileged: false, reads: 1 },
      { enable: true, execute: true, privileged: false, reads: 3 },
      { enable: false, execute: false, privileged: false, reads: 0 },
    ]);
  });

  it('never comes with control: drop', () => {
    const fn = make({ control: 'drop' });
    const heard = vi.fn<(event: unknown) => void>();
    fn.on('pasid-control', heard);
    fn.write(control(fn), 2, 7);
    expect(heard).not.toHaveBeenCalled();
  });
});

describe('reset', () => {
  it('comes after the state is clear, from the embedder and from the guest', () => {
    const fn = make();
    const heard: unknown[] = [];
    fn.on('reset', ({ kind }) => heard.push([kind, fn.read(control(fn), 2), fn.endpointState.pasidEnable]));
    fn.write(control(fn), 2, 1);
    fn.reset('bus');
    fn.write(control(fn), 2, 1);
    fn.write(EXPRESS + 8, 2, 0x8000);
    expect(heard).toEqual([
      ['bus', 0, false],
      ['flr', 0, false],
    ]);
  });

  it('comes from Advanced Features where they have FLR', () => {
    for (const [capabilities, times] of [
      [3, 1],
      [1, 0],
    ] as const) {
      const af = { offset: 0x80, id: 0x13, body: [6, capabilities, 0, 0] };
      const fn = make({ physical: buildConfig({ standard: [af] }), pasid: undefined });
      const heard = vi.fn<(event: unknown) => void>();
      fn.on('reset', heard);
      fn.write(0x84, 1, 1);
      expect(heard).toHaveBeenCalledTimes(times);
      expect(fn.read(0x84, 1)).toBe(0);
    }
  });
});

describe('host-write', () => {
  it('comes for every access that reached the host, with what was stored', () => {
    const host = new ByteConfigSpace(buildConfig({ extended: [AER_HEAD] }));
    const fn = createFunction({ physical: host, passthroughRanges: [[0x200, 0x210]] });
    const heard: unknown[] = [];
    fn.on('host-write', (event) => heard.push({ ...event, stored: host.read(event.offset, event.size) }));
    fn.write(0x200, 4, 0x12345678);
    fn.write(0x20f, 2, 0xaabb);
    fn.write(EXPRESS + 8, 2, 0x0010);
    fn.write(4, 2, 7);
    expect(heard).toEqual([
      { offset: 0x200, size: 4, value: 0x12345678, stored: 0x12345678 },
      { offset: 0x20f, size: 1, value: 0xbb, stored: 0xbb },
      expect.objectContaining({ offset: EXPRESS + 8, stored: 0x10 }),
    ]);
  });
});

describe('finding', () => {
  it('comes with what is new when the unit narrows the width', () => {
    const fn = make();
    const heard: string[] = [];
    fn.on('finding', ({ code }) => heard.push(code));
    const before = fn.findings.length;
    fn.attach({
      rid: 8,
      host: undefined,
      sink: {
        pasidWidth: 10,
        attachEndpoint: () => undefined,
        endpointChanged: () => undefined,
        endpointReset: () => undefined,
        endpointMoved: () => undefined,
        detachEndpoint: () => undefined,
      },
    });
    expect(heard).toEqual(['pasid-width-limited']);
    expect(fn.findings).toHaveLength(before + 1);
  });
});

describe('listeners', () => {
  it('that throw hurt neither the guest nor the others', () => {
    const fn = make();
    const errors: unknown[] = [];
    fn.onListenerError = (error) => errors.push(error);
    const others = vi.fn<(event: unknown) => void>();
    fn.on('pasid-control', () => {
      throw new Error('first');
    });
    fn.on('pasid-control', others);
    fn.once('reset', () => {
      throw new Error('reset');
    });
    fn.write(control(fn), 2, 1);
    expect(fn.read(control(fn), 2)).toBe(1);
    expect(others).toHaveBeenCalledTimes(1);
    fn.reset('flr');
    fn.reset('flr');
    expect(errors.map(String), 'the first reset clears PASID Enable').toEqual([
      'Error: first',
      'Error: reset',
      'Error: first',
    ]);
  });

  it('hurt nobody either when what is told of it throws', async () => {
    const fn = make();
    const others = vi.fn<(event: unknown) => void>();
    fn.onListenerError = () => {
      throw new Error('worse');
    };
    fn.on('pasid-control', () => {
      throw new Error('first');
    });
    fn.on('pasid-control', others);
    const seen = uncaught();
    expect(() => fn.write(control(fn), 2, 1)).not.toThrow();
    expect(others).toHaveBeenCalledTimes(1);
    expect(String(await seen)).toBe('Error: worse');
  });

  it('that were added for once stay when they are added for good, and the other way around', () => {
    const fn = make();
    const first = vi.fn<(event: unknown) => void>();
    const second = vi.fn<(event: unknown) => void>();
    fn.once('reset', first).on('reset', first);
    fn.on('reset', second).once('reset', second);
    fn.reset('bus');
    fn.reset('bus');
    expect(first).toHaveBeenCalledTimes(2);
    expect(second).toHaveBeenCalledTimes(2);
  });

  it('by default throw from a microtask', async () => {
    const fn = make();
    const seen = uncaught();
    fn.on('pasid-control', () => {
      throw new Error('lost?');
    });
    fn.write(control(fn), 2, 1);
    expect(String(await seen)).toBe('Error: lost?');
  });

  it('may access the function again', () => {
    const fn = make();
    const heard: boolean[] = [];
    fn.on('pasid-control', ({ enable }) => {
      heard.push(enable);
      if (enable) fn.write(control(fn), 2, 0);
    });
    fn.write(control(fn), 2, 1);
    expect(heard).toEqual([true, false]);
    expect(fn.read(control(fn), 2)).toBe(0);
  });

  it('may reset the function from inside a write', () => {
    const fn = make();
    fn.once('pasid-control', () => fn.reset('bus'));
    fn.write(control(fn), 2, 3);
    expect(fn.read(control(fn), 2)).toBe(0);
    expect(fn.endpointState.pasidEnable).toBe(false);
  });

  it('may be removed by a listener, and may be added', () => {
    const fn = make();
    const second = vi.fn<(event: unknown) => void>();
    const added = vi.fn<(event: unknown) => void>();
    const first = vi.fn<(event: unknown) => void>(() => {
      fn.off('pasid-control', second).off('pasid-control', first).on('pasid-control', added);
    });
    fn.on('pasid-control', first).on('pasid-control', second);
    fn.write(control(fn), 2, 1);
    fn.write(control(fn), 2, 0);
    expect(first).toHaveBeenCalledTimes(1);
    expect(second, 'heard what was on its way when it was removed').toHaveBeenCalledTimes(1);
    expect(added).toHaveBeenLastCalledWith({ enable: false, execute: false, privileged: false });
  });

  it('added twice are called once', () => {
    const fn = make();
    const listener = vi.fn<(event: unknown) => void>();
    fn.on('reset', listener).on('reset', listener);
    fn.reset('bus');
    fn.off('reset', listener);
    fn.reset('bus');
    expect(listener).toHaveBeenCalledTimes(1);
  });
});
