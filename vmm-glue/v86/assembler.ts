import { VpciError } from '../../src/index.ts';

/** General registers in the order of their numbers. */
const REGISTERS = ['eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi'] as const;
/** A general register; accesses of 1 and 2 bytes use its low part, and for 1 byte there are only the first four. */
export type Register = (typeof REGISTERS)[number];

/** `add` and its family, by the number in their encoding. */
const ARITHMETIC = { add: 0, or: 1, and: 4, sub: 5, xor: 6, cmp: 7 } as const;
export type Arithmetic = keyof typeof ARITHMETIC;

/** Condition codes of jumps, unsigned comparisons. */
const CONDITIONS = { below: 2, notBelow: 3, equal: 4, notEqual: 5, above: 7 } as const;
export type Condition = keyof typeof CONDITIONS;

/** A place in memory: the sum of what is given. */
export interface MemoryOperand {
  readonly base?: Register;
  /** Any register but `esp`. */
  readonly index?: Register;
  /** A number, or a label whose address counts. Default 0. */
  readonly offset?: number | string;
}

const OPERAND_SIZE = 0x66;

/**
 * Assembles 32-bit x86 machine code: the few instructions that a guest needs to exercise devices. Methods are named
 * as the instructions are and return the assembler; sizes are 1, 2 or 4 bytes and default to 4.
 */
export class Assembler {
  readonly #origin: number;
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #references: { readonly at: number; readonly label: string; readonly relative: boolean }[] = [];

  /** `origin`: the address where the code will lie. */
  constructor(origin: number) {
    this.#origin = origin;
  }

  /** Bytes assembled so far. */
  get length(): number {
    return this.#bytes.length;
  }

  /** Names this place; a name may be used before it is given. @throws VpciError `VPCI_BAD_ARGUMENT` when taken. */
  label(name: string): this {
    if (this.#labels.has(name)) {
      throw new VpciError('VPCI_BAD_ARGUMENT', `the label "${name}" is given twice`);
    }
    this.#labels.set(name, this.#origin + this.#bytes.length);
    return this;
  }

  /** `register` = a number, the address of a label, or another register. */
  mov(register: Register, source: number | string): this {
    if (isRegister(source)) return this.byte(0x8b, 0xc0 | (number(register) << 3) | number(source));
    return this.byte(0xb8 | number(register)).dword(source);
  }

  /** `register` = memory, zero-extended. */
  load(register: Register, place: MemoryOperand, size: number = 4): this {
    if (size === 4) this.byte(0x8b);
    else this.byte(0x0f, size === 2 ? 0xb7 : 0xb6);
    return this.#operand(number(register), place);
  }

  /** Memory = the low `size` bytes of `register`. */
  store(place: MemoryOperand, register: Register, size: number = 4): this {
    if (size === 2) this.byte(OPERAND_SIZE);
    return this.byte(size === 1 ? 0x88 : 0x89).#operand(number(register), place);
  }

  /** `al`, `ax` or `eax` = the port in `dx`. */
  in(size: number = 4): this {
    if (size === 2) this.byte(OPERAND_SIZE);
    return this.byte(size === 1 ? 0xec : 0xed);
  }

  /** The port in `dx` = `al`, `ax` or `eax`. */
  out(size: number = 4): this {
    if (size === 2) this.byte(OPERAND_SIZE);
    return this.byte(size === 1 ? 0xee : 0xef);
  }

  /** `register` = `register` op `value`; `cmp` sets the flags only. */
  arithmetic(operation: Arithmetic, register: Register, value: number): this {
    return this.byte(0x81, 0xc0 | (ARITHMETIC[operation] << 3) | number(register)).dword(value);
  }

  /** Shifts right by `count` bits. */
  shr(register: Register, count: number): this {
    return this.byte(0xc1, 0xe8 | number(register), count);
  }

  /** Jumps to `label`, always or when the flags say so. */
  jump(label: string, condition?: Condition): this {
    if (condition === undefined) this.byte(0xe9);
    else this.byte(0x0f, 0x80 | CONDITIONS[condition]);
    return this.#reference(label, true);
  }

  call(label: string): this {
    return this.byte(0xe8).#reference(label, true);
  }

  ret(): this {
    return this.byte(0xc3);
  }

  push(register: Register): this {
    return this.byte(0x50 | number(register));
  }

  pop(register: Register): this {
    return this.byte(0x58 | number(register));
  }

  /** Memory at `edi` = `eax`, and `edi` += 4. */
  stosd(): this {
    return this.byte(0xab);
  }

  /** Loads the table register from the 6 bytes at `place`. */
  lgdt(place: MemoryOperand): this {
    return this.byte(0x0f, 0x01).#operand(2, place);
  }

  lidt(place: MemoryOperand): this {
    return this.byte(0x0f, 0x01).#operand(3, place);
  }

  sti(): this {
    return this.byte(0xfb);
  }

  cli(): this {
    return this.byte(0xfa);
  }

  hlt(): this {
    return this.byte(0xf4);
  }

  /** Returns from an interrupt. */
  iret(): this {
    return this.byte(0xcf);
  }

  /** Bytes as they are: data, or an instruction that has no method. */
  byte(...values: readonly number[]): this {
    for (const value of values) this.#bytes.push(value & 0xff);
    return this;
  }

  /** Four bytes: a number, or the address of a label. */
  dword(value: number | string): this {
    if (typeof value === 'string') return this.#reference(value, false);
    return this.byte(value, value >>> 8, value >>> 16, value >>> 24);
  }

  /** Fills up with zeroes to the next multiple of `size` bytes. */
  align(size: number): this {
    while (this.#bytes.length % size !== 0) this.byte(0);
    return this;
  }

  /** The machine code. @throws VpciError `VPCI_BAD_ARGUMENT` when a label is missing. */
  assemble(): Uint8Array {
    const code = Uint8Array.from(this.#bytes);
    const view = new DataView(code.buffer);
    for (const { at, label, relative } of this.#references) {
      const target = this.#labels.get(label);
      if (target === undefined) {
        throw new VpciError('VPCI_BAD_ARGUMENT', `the label "${label}" is used, and given nowhere`);
      }
      view.setInt32(at, target - (relative ? this.#origin + at + 4 : 0), true);
    }
    return code;
  }

  #reference(label: string, relative: boolean): this {
    this.#references.push({ at: this.#bytes.length, label, relative });
    return this.dword(0);
  }

  /** ModR/M and what follows, always with 32 bits of displacement. */
  #operand(field: number, { base, index, offset = 0 }: MemoryOperand): this {
    const scaled = index === undefined ? 4 : number(index);
    if (index !== undefined || base === 'esp') {
      this.byte((base === undefined ? 0x04 : 0x84) | (field << 3));
      this.byte((scaled << 3) | (base === undefined ? 5 : number(base)));
    } else {
      this.byte(base === undefined ? 0x05 | (field << 3) : 0x80 | (field << 3) | number(base));
    }
    return this.dword(offset);
  }
}

function isRegister(source: number | string): source is Register {
  return REGISTERS.some((name) => name === source);
}

function number(register: Register): number {
  return REGISTERS.indexOf(register);
}
