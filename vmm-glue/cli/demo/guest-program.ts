import {
  EXTENDED_CHAIN_HEAD,
  MAX_CAPABILITIES,
  MAX_EXTENDED_CAPABILITIES,
} from '../../../src/pci/capability-chain.ts';
import { EXT_CAP_PASID } from '../../../src/pci/capability-ids.ts';
import { CAPABILITIES_POINTER, COMMAND, COMMAND_BUS_MASTER_ENABLE } from '../../../src/pci/header.ts';
import * as pasid from '../../../src/pci/pasid.ts';
import { type Assembler, multibootImage, ring } from '../../v86/index.ts';

/** Dwords in guest memory: how many dwords of results there are, and the results. */
export const RESULT_COUNT = 0x200000;
export const RESULTS = 0x200010;

/** What the guest rings when a part is done. */
export const SCANNED = 1;
export const WALKED = 2;
export const FOUND = 3;
export const ENABLED = 4;
export const CONTROL_READ = 5;

/** From function 0 of a device to that of the next, in the ECAM window. */
const DEVICE_STRIDE = 0x8000;

/**
 * The guest's machine code: it looks through the ECAM window of `size` bytes at `base`, and enables PASID in the
 * function whose configuration space is at `target`.
 */
export function guestImage(base: number, size: number, target: number): ArrayBuffer {
  return multibootImage((asm) => {
    scan(asm, base, base + size);
    asm.mov('esi', target);
    walk(asm);
    find(asm);
    enable(asm);
    part(asm, CONTROL_READ, () => {
      asm.load('eax', { base: 'esi', index: 'ebp', offset: pasid.PASID_CONTROL }, 2).stosd();
    });
    asm.hlt();
  });
}

/** A part of the guest: what `body` stores at `edi` is the result that it rings for. */
function part(asm: Assembler, bell: number, body: () => void): void {
  asm.mov('edi', RESULTS);
  body();
  asm.arithmetic('sub', 'edi', RESULTS).shr('edi', 2).store({ offset: RESULT_COUNT }, 'edi');
  ring(asm, bell);
}

/** Results: functions asked, then the address and the IDs of each that answered. */
function scan(asm: Assembler, start: number, end: number): void {
  part(asm, SCANNED, () => {
    asm.mov('ecx', 0).arithmetic('add', 'edi', 4).mov('esi', start);
    asm.label('next device').arithmetic('add', 'ecx', 1);
    asm.load('eax', { base: 'esi' }, 2).arithmetic('cmp', 'eax', 0xffff).jump('nobody', 'equal');
    asm.mov('eax', 'esi').stosd().load('eax', { base: 'esi' }).stosd();
    asm.label('nobody').arithmetic('add', 'esi', DEVICE_STRIDE).arithmetic('cmp', 'esi', end);
    asm.jump('next device', 'below').store({ offset: RESULTS }, 'ecx');
  });
}

/**
 * Results: offset and first dword of each capability, 0 and 0 between the chains. Leaves the offset of the PASID
 * capability in `ebp`.
 */
function walk(asm: Assembler): void {
  part(asm, WALKED, () => {
    asm.mov('ecx', MAX_CAPABILITIES).load('ebx', { base: 'esi', offset: CAPABILITIES_POINTER }, 1);
    asm.label('standard').arithmetic('and', 'ebx', 0xfc).jump('extended chain', 'equal');
    asm.mov('eax', 'ebx').stosd().load('eax', { base: 'esi', index: 'ebx' }).stosd();
    asm.mov('ebx', 'eax').shr('ebx', 8);
    asm.arithmetic('sub', 'ecx', 1).jump('standard', 'notEqual');

    asm.label('extended chain').mov('ebp', 0).mov('eax', 0).stosd().stosd();
    asm.mov('ecx', MAX_EXTENDED_CAPABILITIES).mov('ebx', EXTENDED_CHAIN_HEAD);
    asm.label('extended').mov('eax', 'ebx').stosd().load('eax', { base: 'esi', index: 'ebx' }).stosd();
    asm.mov('edx', 'eax').arithmetic('and', 'edx', 0xffff).arithmetic('cmp', 'edx', EXT_CAP_PASID);
    asm.jump('another', 'notEqual').mov('ebp', 'ebx');
    asm.label('another').mov('ebx', 'eax').shr('ebx', 20).arithmetic('and', 'ebx', 0xffc);
    asm.jump('walked', 'equal').arithmetic('sub', 'ecx', 1).jump('extended', 'notEqual').label('walked');
  });
}

/** Results: offset of the PASID capability, and PASID Capability, which stays in `ebx`. */
function find(asm: Assembler): void {
  part(asm, FOUND, () => {
    asm.mov('eax', 'ebp').stosd();
    asm.load('ebx', { base: 'esi', index: 'ebp', offset: pasid.PASID_CAPABILITY }, 2);
    asm.mov('eax', 'ebx').stosd();
  });
}

/** Results: what was written to PASID Control, and what it read then. */
function enable(asm: Assembler): void {
  const supported = pasid.PASID_EXECUTE_PERMISSION_SUPPORTED | pasid.PASID_PRIVILEGED_MODE_SUPPORTED;
  const control = { base: 'esi', index: 'ebp', offset: pasid.PASID_CONTROL } as const;
  part(asm, ENABLED, () => {
    asm.load('ecx', { base: 'esi', offset: COMMAND }, 2).arithmetic('or', 'ecx', COMMAND_BUS_MASTER_ENABLE);
    asm.store({ base: 'esi', offset: COMMAND }, 'ecx', 2);
    // The enables of Execute and Privileged have the bit positions of their Supported bits.
    asm.mov('eax', 'ebx').arithmetic('and', 'eax', supported).arithmetic('or', 'eax', pasid.PASID_ENABLE);
    asm.store(control, 'eax', 2).stosd().load('eax', control, 2).stosd();
  });
}
