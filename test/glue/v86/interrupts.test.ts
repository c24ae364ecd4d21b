// INTx through v86's PIIX3 router to a real interrupt handler of the guest.
import { describe, expect, it } from 'vitest';
import { createFunction, type PciFunction, PciSegment } from 'vpci';
import { type Assembler, ring } from 'vpci/v86';
import { assemble, boot, type Op } from './guest.ts';

const RID = 0x100;
const IRQ = 11;
const BAR = 0xe1000000;
/** Registers of the device: writing ASSERT drives the pin, reading COUNT says how often it did. */
const ASSERT = 0;
const COUNTER = 0x300000;
const STACK = 0x400000;
const PIC = [0x20, 0x21, 0xa0, 0xa1] as const;

const out = (port: number, value: number): Op => ({ via: 'port', port, size: 1, value });
const cam = (rid: number, offset: number, size: number, value: number): Op => ({
  via: 'cam',
  rid,
  offset,
  size,
  value,
});

/** A device with one register, whose bit 0 is its interrupt line. */
function device(): PciFunction {
  const fn = createFunction({
    vendorId: 0x1234,
    deviceId: 0x5678,
    classCode: 0xff0000,
    interruptPin: 1,
    bars: [
      {
        index: 0,
        size: 0x1000,
        read: () => 0,
        write: (offset, _size, value) => {
          if (offset === ASSERT) fn.setInterrupt((value & 1) !== 0);
        },
      },
    ],
  });
  return fn;
}

/** GDT, IDT, and a handler of IRQ 11 that counts and quiets the device. */
function interruptTables(asm: Assembler): void {
  asm
    .mov('esp', STACK)
    .mov('eax', 0)
    .store({ offset: COUNTER }, 'eax')
    .store({ offset: COUNTER + 4 }, 'eax');
  asm.lgdt({ offset: 'gdtr' }).lidt({ offset: 'idtr' }).jump('tables done');
  asm.align(8).label('gdt').dword(0).dword(0);
  // Selectors 8 and 16: code and data, 4 GiB each.
  asm.dword(0x0000ffff).dword(0x00cf9a00).dword(0x0000ffff).dword(0x00cf9200);
  asm.label('gdtr').byte(23, 0).dword('gdt');
  asm.label('idtr').byte(0xff, 0x01).dword(0x500000);
  asm.label('handler').push('eax').push('edx');
  asm.load('eax', { offset: COUNTER }).arithmetic('add', 'eax', 1).store({ offset: COUNTER }, 'eax');
  asm.mov('eax', 0).store({ offset: BAR + ASSERT }, 'eax');
  asm.mov('eax', 0x20).mov('edx', 0xa0).out(1).mov('edx', 0x20).out(1);
  asm.pop('edx').pop('eax').iret();
  asm.label('tables done');
  // The gate of vector 0x20 + IRQ: offset 15:0, selector 8, present interrupt gate, offset 31:16.
  const gate = 0x500000 + 8 * (0x20 + IRQ);
  asm
    .mov('eax', 'handler')
    .arithmetic('and', 'eax', 0xffff)
    .arithmetic('or', 'eax', 0x80000)
    .store({ offset: gate }, 'eax');
  asm
    .mov('eax', 'handler')
    .arithmetic('and', 'eax', 0xffff0000)
    .arithmetic('or', 'eax', 0x8e00)
    .store({ offset: gate + 4 }, 'eax');
}

/** Both PICs at vectors 0x20 and 0x28, everything masked but IRQ 2 and 11, which is level-triggered. */
const PIC_SETUP: readonly Op[] = [
  ...[0x11, 0x20, 0x04, 0x01].map((value, i) => out(i === 0 ? PIC[0] : PIC[1], value)),
  ...[0x11, 0x28, 0x02, 0x01].map((value, i) => out(i === 0 ? PIC[2] : PIC[3], value)),
  out(PIC[1], 0xfb),
  out(PIC[3], 0xf7),
  out(0x4d1, 0x08),
];

/** Device 0, INTA behind the fixed address 01:00.0 is line 3 of the router. */
const ROUTED: readonly Op[] = [cam(8, 0x63, 1, IRQ), cam(RID, 0x10, 4, BAR), cam(RID, 0x04, 2, 0x0002)];

function wait(asm: Assembler, label: string, turns: number): void {
  asm.mov('ecx', turns).label(label).arithmetic('sub', 'ecx', 1).jump(label, 'notEqual');
}

describe('INTx', () => {
  it('reaches a handler, once for each time, until the handler quiets it', async () => {
    const segment = new PciSegment();
    segment.add('01:00.0', device());
    const { guest } = await boot(segment, (asm) => {
      interruptTables(asm);
      for (const op of [...PIC_SETUP, ...ROUTED]) assemble(asm, op);
      asm.sti();
      for (let i = 0; i < 3; i++) {
        asm.mov('eax', 1).store({ offset: BAR + ASSERT }, 'eax');
        wait(asm, `wait ${i}`, 1000);
      }
      ring(asm, 1);
    });
    await guest.run();
    expect([...guest.readWords(COUNTER, 1)]).toEqual([3]);
    await guest.close();
  });

  it('is level-triggered: a handler that does not quiet the device is entered again', async () => {
    const segment = new PciSegment();
    const fn = segment.add('01:00.0', device());
    let lowered = 0;
    fn.on('intx', ({ asserted }) => {
      if (!asserted) lowered++;
      // The first two times the device insists.
      if (!asserted && lowered < 3) fn.setInterrupt(true);
    });
    const { guest } = await boot(segment, (asm) => {
      interruptTables(asm);
      for (const op of [...PIC_SETUP, ...ROUTED]) assemble(asm, op);
      asm
        .sti()
        .mov('eax', 1)
        .store({ offset: BAR + ASSERT }, 'eax');
      wait(asm, 'wait', 3000);
      ring(asm, 1);
    });
    await guest.run();
    expect([...guest.readWords(COUNTER, 1)]).toEqual([3]);
    await guest.close();
  });

  it('is silent while Interrupt Disable is set, and while the router is off', async () => {
    const segment = new PciSegment();
    segment.add('01:00.0', device());
    const { guest } = await boot(segment, (asm) => {
      interruptTables(asm);
      for (const op of [...PIC_SETUP, ...ROUTED, cam(RID, 0x04, 2, 0x0402)]) assemble(asm, op);
      asm
        .sti()
        .mov('eax', 1)
        .store({ offset: BAR + ASSERT }, 'eax');
      wait(asm, 'disabled', 1000);
      ring(asm, 1);
      assemble(asm, cam(8, 0x63, 1, 0x80));
      assemble(asm, cam(RID, 0x04, 2, 0x0002));
      wait(asm, 'off', 1000);
      ring(asm, 2);
      assemble(asm, cam(8, 0x63, 1, IRQ));
      wait(asm, 'on', 1000);
      ring(asm, 3);
    });
    const counts: number[] = [];
    for (let i = 0; i < 3; i++) {
      await guest.run();
      counts.push(...guest.readWords(COUNTER, 1));
    }
    expect(counts).toEqual([0, 0, 1]);
    await guest.close();
  });
});
