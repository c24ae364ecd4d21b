import { afterAll, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { field, list, inWorld, removeScratch, whyNoShim } from './mirror-support.ts';

afterAll(removeScratch);

/** A function with MSI-X, its BAR on, and a way to program the table as a guest does. */
const FUNCTION = `
  const device = await vfio.openVfioDevice('1:0.0', { root });
  const fn = w.aFunction({ interruptPin: 1 });
  const { PciSegment } = await import('vpci');
  new PciSegment().add('01:00.0', fn);
  const msix = fn.capabilities.find(({ id }) => id === 0x11).offset;
  fn.write(0x10, 4, 0xe0000000);
  fn.write(4, 2, 6);
  const heard = [];
  const listen = (options) => {
    const interrupts = new vfio.VfioInterrupts(device, fn, options);
    interrupts.on('vector', ({ kind, vector, enabled, last, address, data }) => heard.push([kind, vector, enabled, last, address, data]));
    interrupts.on('failure', ({ message }) => heard.push(message));
    return interrupts;
  };
  const program = (vector, masked) => {
    fn.barWrite(0, vector * 16, 4, 0xfee00000);
    fn.barWrite(0, vector * 16 + 8, 4, 0x40 + vector);
    fn.barWrite(0, vector * 16 + 12, 4, masked ? 1 : 0);
  };
  const enable = (on) => fn.write(msix + 2, 2, on ? 0x8000 : 0);
  const soon = () => new Promise((resolve) => setTimeout(resolve, 30));
`;

bed('vfio-shim', whyNoShim)('VfioInterrupts', () => {
  it('uses INTx until the guest enables MSI-X, then each vector that is unmasked', () => {
    const { result } = inWorld(
      {},
      `${FUNCTION}
       const interrupts = listen();
       const intx = [typeof interrupts.intx, w.vectors(0)];
       program(2, false);
       enable(true);
       const two = [w.vectors(0), w.vectors(2), interrupts.intx === undefined];
       program(5, false);
       const five = w.vectors(2);
       program(2, true);
       enable(false);
       const off = [w.vectors(0), w.vectors(2)];
       interrupts.close();
       return { intx, two, five, off, closed: w.vectors(0), heard };`,
    );
    expect(result).toMatchObject({
      intx: ['number', 1],
      two: [0, 3, true],
      five: 6,
      off: [1, 0],
      closed: 0,
    });
    const address = 0xfee00000;
    expect(field(result, 'heard')).toEqual(
      expect.arrayContaining([
        ['intx', 0, false, true, 0, 0],
        ['msi-x', 2, true, false, address, 0x42],
        ['msi-x', 5, true, false, address, 0x45],
        ['msi-x', 2, false, false, address, 0x42],
        ['msi-x', 2, false, true, 0, 0],
        ['msi-x', 5, false, true, 0, 0],
        ['intx', 0, true, false, 0, 0],
      ]),
    );
  });

  it('goes back to INTx when a reset switches MSI-X off', () => {
    const { result } = inWorld(
      {},
      `${FUNCTION}
       const interrupts = listen();
       program(0, false);
       enable(true);
       const before = interrupts.kind;
       fn.reset('flr');
       const after = [interrupts.kind, w.vectors(0), w.vectors(2)];
       interrupts.close();
       return { before, after };`,
    );
    expect(result).toEqual({ before: 'msi-x', after: ['intx', 1, 0] });
  });

  it('reads the eventfds itself when it is told to', () => {
    const { result } = inWorld(
      { DYNAMIC: '1' },
      `${FUNCTION}
       const interrupts = listen({ read: true });
       const messages = [];
       fn.on('msi', ({ kind, vector, data }) => messages.push([kind, vector, data]));
       fn.on('intx', ({ asserted }) => messages.push(['intx', asserted]));
       w.interrupt(0, 0);
       await soon();
       const silent = w.interrupt(0, 0);
       interrupts.unmaskIntx();
       const again = w.interrupt(0, 0);
       await soon();
       program(1, false);
       enable(true);
       program(7, false);
       w.interrupt(2, 7);
       w.interrupt(2, 1);
       await soon();
       interrupts.close();
       return { messages, silent, again, gone: w.interrupt(2, 7) };`,
    );
    expect(result).toMatchObject({ silent: -1, again: 0, gone: -1 });
    expect(list(result, 'messages').slice(0, 4)).toEqual([
      ['intx', true],
      ['intx', false],
      ['intx', true],
      ['intx', false],
    ]);
    expect(new Set(list(result, 'messages').slice(4))).toEqual(
      new Set([
        ['msi-x', 1, 0x41],
        ['msi-x', 7, 0x47],
      ]),
    );
  });

  it('masks INTx, and lets an eventfd unmask it', () => {
    const { result } = inWorld(
      {},
      `${FUNCTION}
       const interrupts = listen();
       interrupts.maskIntx();
       const masked = w.intxMasked();
       interrupts.unmaskIntx();
       interrupts.unmaskIntxBy(interrupts.intx);
       return [masked, w.intxMasked(), heard];`,
    );
    expect(result).toEqual([1, 0, []]);
  });

  it('lets the device signal eventfds of the caller, and no others', () => {
    const { result } = inWorld(
      { VECTORS: '4' },
      `${FUNCTION}
       const { native } = device;
       const [a, b, c] = [1, 2, 3].map(() => native.eventfd(0, 0x800));
       const interrupts = listen({ follow: false });
       interrupts.use('msi-x', [0, 1], [a, b]);
       const two = w.vectors(2);
       // The host has too few; what there was goes on.
       interrupts.use('msi-x', [0, 1, 6], [a, b, c]);
       const refused = [w.vectors(2), w.interrupt(2, 1), w.interrupt(2, 6)];
       interrupts.use('msi-x', [1], [c]);
       const one = [w.interrupt(2, 0), w.interrupt(2, 1)];
       interrupts.close();
       const { readSync } = await import('node:fs');
       const counts = [a, b, c].map((eventfd) => {
         const count = new BigUint64Array(1);
         try { readSync(eventfd, new Uint8Array(count.buffer)); } catch ({ code }) { return code; }
         return Number(count[0]);
       });
       return { two, refused, one, counts, closed: w.vectors(2), heard: heard.filter((text) => typeof text === 'string') };`,
    );
    expect(result).toMatchObject({
      two: 2,
      refused: [2, 0, -1],
      one: [-1, 0],
      counts: ['EAGAIN', 1, 1],
      closed: 0,
      heard: [expect.stringContaining('the host has 4 vectors left')],
    });
  });

  it.each([
    [{ FAIL: 'VFIO_DEVICE_SET_IRQS:28' }, 'ENOSPC (the host has no interrupt vectors left'],
    [{ VECTORS: '2' }, 'the host has 2 vectors left'],
  ])('tells what the host refuses: %o', (kernel, words) => {
    const { result } = inWorld(
      kernel,
      `${FUNCTION}
       fn.write(0x3c, 1, 0);
       listen();
       program(3, false);
       enable(true);
       return heard.filter((one) => typeof one === 'string');`,
    );
    expect(list(result).at(-1)).toContain(words);
  });
});

bed('vfio-shim', whyNoShim)('GuestDma', () => {
  it.each(['16', '0'])('maps guest memory for requests without PASID, with %s bits of PASID', (WIDTH) => {
    const { result } = inWorld(
      { WIDTH },
      `const device = await vfio.openVfioDevice('1:0.0', { root });
       const dma = new vfio.GuestDma(device);
       const ram = new Uint8Array(w.regions[0].buffer, 0, 0x10000);
       dma.map(0n, ram);
       dma.map(0x100000n, ram.subarray(0x2000, 0x3000), { readOnly: true });
       const mapped = w.hostState().rid;
       dma.unmap(0n, 0x10000n);
       const left = w.hostState().rid.areas.length;
       let code;
       try { dma.map(0x1234n, ram); } catch (error) { ({ code } = error); }
       dma.close();
       return { mapped, left, code, end: w.hostState() };`,
    );
    expect(result).toMatchObject({
      mapped: {
        flags: WIDTH === '0' ? 0 : 8,
        areas: [
          ['0x0', '0x10000', '0x0', 7],
          ['0x100000', '0x1000', '0x2000', 5],
        ],
      },
      left: 1,
      code: 'VPCI_MEMORY',
      end: { rid: null, objects: 0 },
    });
  });
});
