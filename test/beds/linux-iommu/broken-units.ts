// Models that are wrong on purpose: the bed has to notice.
import { type GuestMemory, type MemoryRequest, type Verdict, VtdIommu, type VtdOptions } from 'vpci/vtd';

const IQH = 0x80;
const IQT = 0x88;
const IQA = 0x90;
const WIDE = 0x800;
const QUEUE_SIZE = 0x7;
const DESCRIPTOR_TYPE = 0xf;
const CONTEXT_CACHE = 1;
const IOTLB = 2;
const WAIT = 5;
const PASID_IOTLB = 6;
const PASID_CACHE = 7;

/** Takes some invalidations for waits that wait for nothing. */
abstract class Deaf extends VtdIommu {
  protected abstract readonly ignored: readonly number[];

  override writeRegister(offset: number, size: 1 | 2 | 4, value: number): void {
    if (offset === IQT) this.#blank(value);
    super.writeRegister(offset, size, value);
  }

  #blank(tail: number): void {
    const address = this.readRegister64(IQA);
    const width = (address & BigInt(WIDE)) === 0n ? 16 : 32;
    const bytes = 0x1000 << Number(address & BigInt(QUEUE_SIZE));
    const base = Number(address & ~0xfffn);
    const descriptor = new Uint8Array(width);
    for (let at = this.readRegister(IQH, 4); at !== tail; at = (at + width) % bytes) {
      this.memory.read(base + at, descriptor);
      if (!this.ignored.includes((descriptor[0] ?? 0) & DESCRIPTOR_TYPE)) continue;
      descriptor.fill(0);
      descriptor[0] = WAIT;
      this.memory.write(base + at, descriptor);
    }
  }
}

/** Keeps all that it has found. */
export class IgnoresInvalidations extends Deaf {
  protected override readonly ignored = [CONTEXT_CACHE, IOTLB, PASID_IOTLB, PASID_CACHE];
}

/** Keeps translations. */
export class IgnoresIotlbInvalidations extends Deaf {
  protected override readonly ignored = [IOTLB, PASID_IOTLB];
}

/** Keeps PASID table entries. */
export class IgnoresPasidCacheInvalidations extends Deaf {
  protected override readonly ignored = [PASID_CACHE];
}

/** Takes every request for one without PASID. */
export class IgnoresPasids extends VtdIommu {
  override request(request: MemoryRequest): Verdict {
    const { access, privileged = false } = request;
    if (request.pasid === null || privileged || access === 'execute') return super.request(request);
    return super.request({ ...request, pasid: null });
  }
}

/** Looks at 8 bits of a PASID. */
export class MasksPasids extends VtdIommu {
  override request(request: MemoryRequest): Verdict {
    const { pasid } = request;
    return super.request(typeof pasid === 'number' ? { ...request, pasid: pasid & 0xff } : request);
  }
}

export type BrokenUnit = new (options: VtdOptions & { memory: GuestMemory }) => VtdIommu;
