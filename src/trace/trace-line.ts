import { formatBdf, parseBdf } from '../pci/bdf.ts';
import { TraceError } from './trace-error.ts';

/** A value of a JSON line. */
type Json = Record<string, unknown>;

/** Fields of one line, read with the types that the format gives them. Whatever does not fit is a `bad-field`. */
export class TraceLine {
  readonly op: string;
  readonly #fields: Json;

  private constructor(op: string, fields: Json) {
    this.op = op;
    this.#fields = fields;
  }

  /** @throws TraceError `bad-line` when `text` is no JSON object with an `op`. */
  static parse(text: string): TraceLine {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw new TraceError('bad-line', 'the line is not JSON');
    }
    return TraceLine.of(value);
  }

  /** The line that `value` is. @throws TraceError `bad-line`. */
  static of(value: unknown): TraceLine {
    if (!isJson(value)) throw new TraceError('bad-line', 'the line is not a JSON object');
    const { op, ...fields } = value;
    if (typeof op !== 'string') throw new TraceError('bad-line', 'the line has no "op"');
    return new TraceLine(op, fields);
  }

  /** An object inside a line, read the same way; `what` names it in messages. @throws TraceError `bad-field`. */
  static nestedOf(what: string, value: unknown): TraceLine {
    if (!isJson(value)) throw new TraceError('bad-field', `"${what}" takes objects`);
    return new TraceLine(what, value);
  }

  /** True when the field is there and not null. */
  has(name: string): boolean {
    return this.#fields[name] !== undefined && this.#fields[name] !== null;
  }

  /** Refuses fields that are not in `known`: a typo must not be silent. @throws TraceError `bad-field`. */
  refuseUnknown(known: readonly string[]): void {
    const unknown = Object.keys(this.#fields).find((one) => !known.includes(one));
    if (unknown === undefined) return;
    throw new TraceError(
      'bad-field',
      `"${this.op}" has no field "${unknown.slice(0, SHOWN)}": it takes ${known.join(', ') || 'none'}`,
    );
  }

  /** A number, or `0x...`, from `min` to `max`. */
  number(name: string, min: number, max: number, fallback?: number): number {
    if (!this.has(name) && fallback !== undefined) return fallback;
    return this.#check(name, this.#fields[name], min, max);
  }

  /** The same, or undefined when the field is absent. */
  optionalNumber(name: string, min: number, max: number): number | undefined {
    return this.has(name) ? this.number(name, min, max) : undefined;
  }

  /** A 64-bit value: a hex string, or a number. */
  wide(name: string, fallback?: bigint): bigint {
    if (!this.has(name) && fallback !== undefined) return fallback;
    const value = this.#fields[name];
    const wide = toWide(value);
    if (wide === undefined || wide < 0n || wide >= 1n << 64n) {
      throw this.#bad(name, 'a 64-bit value: a "0x..." string or a JSON number');
    }
    return wide;
  }

  /** One of `choices`. */
  choice<const Choice extends string>(
    name: string,
    choices: readonly Choice[],
    fallback?: NoInfer<Choice>,
  ): Choice {
    if (!this.has(name) && fallback !== undefined) return fallback;
    const value = this.#fields[name];
    const found = choices.find((one) => one === value);
    if (found === undefined) throw this.#bad(name, `one of ${choices.join(', ')}`);
    return found;
  }

  /** True or false. */
  flag(name: string, fallback: boolean): boolean {
    if (!this.has(name)) return fallback;
    const value = this.#fields[name];
    if (typeof value !== 'boolean') throw this.#bad(name, 'true or false');
    return value;
  }

  optionalFlag(name: string): boolean | undefined {
    return this.has(name) ? this.flag(name, false) : undefined;
  }

  text(name: string): string {
    const value = this.#fields[name];
    if (typeof value !== 'string') throw this.#bad(name, 'a string');
    return value;
  }

  optionalText(name: string): string | undefined {
    return this.has(name) ? this.text(name) : undefined;
  }

  /** Bytes in hexadecimal. */
  hex(name: string): Uint8Array {
    const text = this.text(name).replaceAll(/\s/g, '');
    // Not one expression for all of it: those have a stack, and lines have any length.
    if (text.length % 2 !== 0 || /[^0-9a-f]/i.test(text)) throw this.#bad(name, 'bytes in hexadecimal');
    return Uint8Array.from({ length: text.length / 2 }, (_, i) =>
      Number.parseInt(text.slice(2 * i, 2 * i + 2), 16),
    );
  }

  /** A BDF as requester ID. */
  bdf(name = 'bdf'): number {
    return toRid(this.text(name));
  }

  /** A list of BDFs as requester IDs; undefined when absent. */
  optionalBdfs(name: string): readonly number[] | undefined {
    if (!this.has(name)) return undefined;
    return this.list(name).map((entry) => {
      if (typeof entry !== 'string') throw this.#bad(name, 'a list of BDFs');
      return toRid(entry);
    });
  }

  /** Any list. */
  list(name: string): readonly unknown[] {
    const value = this.#fields[name];
    if (!Array.isArray(value)) throw this.#bad(name, 'a list');
    return value;
  }

  /** A nested object, read the same way; undefined when absent or null. */
  nested(name: string): TraceLine | undefined {
    if (!this.has(name)) return undefined;
    const value = this.#fields[name];
    if (!isJson(value)) throw this.#bad(name, 'an object');
    return new TraceLine(`${this.op}.${name}`, value);
  }

  /** `value` of a list entry as a number from `min` to `max`. */
  entry(name: string, value: unknown, min: number, max: number): number {
    return this.#check(name, value, min, max);
  }

  #check(name: string, value: unknown, min: number, max: number): number {
    const wide = toWide(value);
    if (wide === undefined || wide < BigInt(min) || wide > BigInt(max)) {
      throw this.#bad(name, `a whole number from ${min} to 0x${max.toString(16)}`);
    }
    return Number(wide);
  }

  #bad(name: string, wanted: string): TraceError {
    return new TraceError(
      'bad-field',
      `"${name}" of "${this.op}" is ${shown(this.#fields[name])}: it takes ${wanted}`,
    );
  }
}

/** Most characters of a value or a name that a message quotes. */
const SHOWN = 60;

/** A value of a line for a message. Lists and objects may be of any depth. */
function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, SHOWN));
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  return value === undefined ? 'missing' : JSON.stringify(value);
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function toWide(value: unknown): bigint | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  // Neither BigInt nor an expression takes any length.
  if (typeof value !== 'string' || value.length > HEX_LIMIT || !/^0x[0-9a-f]+$/i.test(value))
    return undefined;
  return BigInt(value);
}

/** Longest text of a number. */
const HEX_LIMIT = 66;

function toRid(text: string): number {
  try {
    return parseBdf(text);
  } catch {
    throw new TraceError(
      'bad-field',
      `"${text.slice(0, SHOWN)}" is no BDF: write it as bb:dd.f in hexadecimal, such as ${formatBdf(0x100)}`,
    );
  }
}
