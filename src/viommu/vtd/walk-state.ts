import { type GuestMemory, SPAN_MISS } from '../../memory/index.ts';
import {
  ACCESS_EXECUTE,
  ACCESS_NO_WRITE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_TRANSLATED,
  ACCESS_TRANSLATION,
  ACCESS_WRITE,
  NO_PASID,
} from '../access.ts';
import { EntryCache } from './entry-cache.ts';
import type { VtdRules } from './rules.ts';
import { LAST_RID } from './structures.ts';
import { Trail } from './trail.ts';

/** A step of a walk went well. Other results are fault codes, or {@link PENDING}. */
export const OK = 0;
/** Guest memory has to be fetched first. */
export const PENDING = -1;

// Not exported, and so folded into the code that uses them (see result.ts).
const NONE = NO_PASID;
const READS = ACCESS_READ | ACCESS_EXECUTE;
const WRITE = ACCESS_WRITE;
const EXECUTE = ACCESS_EXECUTE;
const PRIVILEGED = ACCESS_PRIVILEGED;
const TRANSLATION = ACCESS_TRANSLATION;
const TRANSLATED = ACCESS_TRANSLATED;
const NO_WRITE = ACCESS_NO_WRITE;
const ADDRESS_TYPE = ACCESS_TRANSLATION | ACCESS_TRANSLATED;
const LAST_REQUESTER = LAST_RID;
const MISS = SPAN_MISS;

const CONTEXTS = 256;
const PASIDS = 1024;

/**
 * One request on its way through the tables: what it wants, and what was found so far. There is one of these
 * per unit, used over and over, so that a walk allocates nothing. Addresses are pairs of signed halves.
 */
export class Walk {
  readonly rules: VtdRules;
  readonly memory: GuestMemory;
  readonly trail: Trail = new Trail();
  /** Context-cache: words 0 to 2 of context entries, or 0 and 2 of legacy ones. */
  readonly contexts: EntryCache = new EntryCache(CONTEXTS, 3);
  /** PASID-cache: words 0, 1, 2, 4 and 5 of PASID table entries; FPD also stands for that of the directory entry. */
  readonly pasids: EntryCache = new EntryCache(PASIDS, 5);

  /** TES. */
  enabled = false;
  /** TTM as latched. */
  mode = 0;
  /** The root table pointer as latched, and SSIRWE with it. */
  rootHigh = 0;
  rootLow = 0;
  alternateRights = false;

  // The request.
  rid = 0;
  hasPasid = false;
  /** That of the request, then RID_PASID for one without. */
  pasid = 0;
  /** Untranslated, with PASID, and of a RID of 16 bits: such a request can be. */
  isPlain = false;
  iovaHigh = 0;
  iovaLow = 0;
  /** `ACCESS_*` bits. */
  access = 0;
  /** That of the request, then RID_PRIV for one without PASID. */
  privileged = false;
  /** Fault processing disabled, in any structure met so far. */
  fpd = false;

  // The context entry.
  context0 = 0;
  context1 = 0;
  context2 = 0;

  // The PASID table entry, or what stands for it in legacy mode.
  entry0 = 0;
  entry1 = 0;
  entry2 = 0;
  entry4 = 0;
  entry5 = 0;
  domain = 0;
  /** `PGTT_*`. */
  kind = 0;

  // What the second stage found.
  hostHigh = 0;
  hostLow = 0;
  hostPage = 0;
  hostRead = false;
  hostWrite = false;
  hostSnoop = false;
  /** Index of its leaf in the trail. */
  hostLeaf = -1;

  // The result.
  high = 0;
  low = 0;
  page = 0;
  canRead = false;
  canWrite = false;
  privilegedOnly = false;
  snoop = false;
  /** The address is not translated. */
  passes = false;
  /** A translation request without PASID in the interrupt range. */
  interruptRange = false;
  /** The rights to write are in force, as far as dirty flags go. */
  dirty = false;
  /** The block (as a power of two) that an invalidation in it drops as a whole. */
  span = 0;

  constructor(rules: VtdRules, memory: GuestMemory) {
    this.rules = rules;
    this.memory = memory;
  }

  /** Begins with another request. */
  begin(rid: number, pasid: number, iovaHigh: number, iovaLow: number, access: number): void {
    this.rid = rid;
    this.hasPasid = pasid !== NONE;
    this.isPlain = pasid !== NONE && (access & ADDRESS_TYPE) === 0 && rid <= LAST_REQUESTER;
    this.pasid = pasid;
    this.iovaHigh = iovaHigh | 0;
    this.iovaLow = iovaLow | 0;
    this.access = access;
    this.privileged = (access & PRIVILEGED) !== 0;
    this.fpd = false;
    this.passes = false;
    this.interruptRange = false;
    this.privilegedOnly = false;
    this.trail.begin();
  }

  /** The PASID of the request itself, or -1. */
  get requestPasid(): number {
    return this.hasPasid ? this.pasid : NONE;
  }

  get reads(): boolean {
    return (this.access & READS) !== 0;
  }

  get writes(): boolean {
    return (this.access & WRITE) !== 0;
  }

  get executes(): boolean {
    return (this.access & EXECUTE) !== 0;
  }

  /** AT = 01. */
  get translation(): boolean {
    return (this.access & TRANSLATION) !== 0;
  }

  /** AT = 10. */
  get translated(): boolean {
    return (this.access & TRANSLATED) !== 0;
  }

  /** NW counts. */
  get noWrite(): boolean {
    return (this.access & NO_WRITE) !== 0 && this.rules.noWriteFlag;
  }

  /** What a span that memory does not have means: {@link PENDING}, or `fault`. */
  unread(status: number, fault: number): number {
    return status === MISS ? PENDING : fault;
  }
}

/** True in FEEx_xxxxh, where a write is an interrupt (3.14). */
export function isInterruptAddress(high: number, low: number): boolean {
  return high === 0 && low >>> 20 === 0xfee;
}
