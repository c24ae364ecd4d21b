// The assembler, against the encodings that the manual gives (SDM volume 2), and in a real guest.
import { V86 } from 'v86';
import { Assembler, BareMetalGuest, multibootImage, MULTIBOOT_LOAD_ADDRESS, ring } from 'vpci/v86';
import { describe, expect, it } from 'vitest';
import { RESULTS, WASM_PATH } from './guest.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const code = (program: (asm: Assembler) => unknown, origin = 0): string => {
  const asm = new Assembler(origin);
  program(asm);
  return hex(asm.assemble());
};

describe('encodings', () => {
  it.each<[string, (asm: Assembler) => unknown, string]>([
    ['mov eax, imm', (asm) => asm.mov('eax', 0x12345678), 'b878563412'],
    ['mov edi, esi', (asm) => asm.mov('edi', 'esi'), '8bfe'],
    ['mov ecx, [imm]', (asm) => asm.load('ecx', { offset: 0x1000 }), '8b0d00100000'],
    ['movzx eax, word [esi+6]', (asm) => asm.load('eax', { base: 'esi', offset: 6 }, 2), '0fb78606000000'],
    [
      'movzx eax, byte [esi+ebx]',
      (asm) => asm.load('eax', { base: 'esi', index: 'ebx' }, 1),
      '0fb6841e00000000',
    ],
    ['mov eax, [esp+4]', (asm) => asm.load('eax', { base: 'esp', offset: 4 }), '8b842404000000'],
    [
      'mov eax, [ebx+imm] without base',
      (asm) => asm.load('eax', { index: 'ebx', offset: 8 }),
      '8b041d08000000',
    ],
    ['mov [imm], eax', (asm) => asm.store({ offset: 0x1000 }, 'eax'), '890500100000'],
    ['mov [edi], cx', (asm) => asm.store({ base: 'edi' }, 'ecx', 2), '66898f00000000'],
    ['mov [edi], al', (asm) => asm.store({ base: 'edi' }, 'eax', 1), '888700000000'],
    ['in, out', (asm) => asm.in(1).in(2).in().out(1).out(2).out(), 'ec66ededee66efef'],
    ['cmp ecx, imm', (asm) => asm.arithmetic('cmp', 'ecx', 5), '81f905000000'],
    ['and eax, imm', (asm) => asm.arithmetic('and', 'eax', -4), '81e0fcffffff'],
    ['shr eax, 20', (asm) => asm.shr('eax', 20), 'c1e814'],
    ['push, pop, ret', (asm) => asm.push('ebx').pop('ebx').ret(), '535bc3'],
    ['lgdt, lidt', (asm) => asm.lgdt({ offset: 16 }).lidt({ offset: 32 }), '0f0115100000000f011d20000000'],
    ['cli, sti, hlt, iret, stosd', (asm) => asm.cli().sti().hlt().iret().stosd(), 'fafbf4cfab'],
    ['jump back', (asm) => asm.label('here').jump('here'), 'e9fbffffff'],
    ['jump ahead', (asm) => asm.jump('on', 'equal').byte(0x90).label('on'), '0f840100000090'],
    ['call', (asm) => asm.label('here').call('here'), 'e8fbffffff'],
    ['align', (asm) => asm.byte(1).align(4).byte(2), '0100000002'],
  ])('%s', (_name, program, bytes) => {
    expect(code(program)).toBe(bytes);
    // What is relative does not depend on the origin.
    expect(code(program, 0x100000)).toBe(bytes);
  });

  it('addresses of labels are absolute', () => {
    expect(code((asm) => asm.byte(0x90).label('here').mov('eax', 'here').dword('here'), 0x2000)).toBe(
      '90b80120000001200000',
    );
  });

  it('refuses labels that are given twice or not at all', () => {
    const twice = new Assembler(0).label('here');
    expect(() => twice.label('here')).toThrow('"here" is given twice');
    expect(() => new Assembler(0).jump('there').assemble()).toThrow('"there" is used, and given nowhere');
  });
});

describe('a program', () => {
  it('runs in v86: loops, calls, comparisons, tables', async () => {
    const image = multibootImage((asm) => {
      asm.mov('esp', 0x300000).mov('edi', RESULTS).mov('ecx', 10).mov('esi', 'table');
      asm.label('loop').load('eax', { base: 'esi' }, 1).call('double').stosd();
      asm.arithmetic('add', 'esi', 1).arithmetic('sub', 'ecx', 1).jump('loop', 'notEqual');
      ring(asm, 7);
      asm.label('double').mov('ebx', 'eax').push('ebx').pop('edx').arithmetic('cmp', 'edx', 5);
      asm.jump('small', 'below').byte(0x01, 0xc0).label('small').ret();
      asm.label('table').byte(0, 1, 2, 3, 4, 5, 6, 7, 8, 0xff);
    });
    expect(new DataView(image).getUint32(28, true)).toBe(MULTIBOOT_LOAD_ADDRESS + 32);
    const guest = await BareMetalGuest.load(V86, { image, wasmPath: WASM_PATH });
    expect(await guest.run()).toBe(7);
    expect([...guest.readWords(RESULTS, 10)]).toEqual([0, 1, 2, 3, 4, 10, 12, 14, 16, 510]);
    await guest.close();
  });
});
