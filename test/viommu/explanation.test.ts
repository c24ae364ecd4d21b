import { describe, expect, it } from 'vitest';
import { Explanation } from '../../src/viommu/explanation.ts';
import { TableIommu } from '../../src/viommu/table/table-iommu.ts';
import { endpointOf } from './support.ts';

function unit(): TableIommu {
  const iommu = new TableIommu();
  endpointOf(iommu, 0x0100, { pasidWidth: 16, ats: true });
  iommu.attach(0x0100, 5);
  iommu.map(0x0100, 5, { iova: 0x4000_0000, gpa: 0x7000_0000, size: 0x1000, permissions: 'rw' });
  return iommu;
}

const request = { rid: 0x0100, pasid: 5, address: 0x4000_0000n, access: 'read' } as const;

describe('an explanation', () => {
  it('names every step of a request that passes', () => {
    expect(String(unit().explain({ ...request, address: 0x4000_0010n })).split('\n')).toEqual([
      'read at 0x40000010 by 01:00.0, PASID 0x5',
      '  ok   endpoint pasidWidth=0x10 ats=true pri=false - an endpoint is behind the requester ID (PCIe 2.2.6.2)',
      '  ok   pasid endpointWidth=0x10 unitWidth=0x14 - endpoint and unit support PASID (PCIe 6.20.2)',
      '  ok   pasid pasid=5 endpointWidth=0x10 - PASID 0x5 < 2^16 (PCIe 7.8.9.2)',
      '  ok   request unitPasidWidth=0x14 - the endpoint may send such a request (PCIe 6.20.2, 10.2)',
      '  ok   attachment mappings=1 - PASID 0x5 is attached (table model: attach)',
      '  ok   address - address < 2^48 (table model: addressWidth)',
      '  ok   mapping iova=0x40000000 gpa=0x70000000 size=0x1000 permissions=rw - a mapping covers the address (table model: map)',
      '  ok   permissions permissions=rw - the mapping grants the access (table model: permissions)',
      '=> translated 0x70000010 page 0x1000 rw',
    ]);
  });

  it('ends with the check that failed', () => {
    const explanation = unit().explain({ ...request, pasid: 0x10000 });
    expect(explanation.steps.filter(({ ok }) => !ok)).toEqual([explanation.steps.at(-1)]);
    expect(String(explanation)).toContain(
      'FAIL pasid pasid=0x10000 endpointWidth=0x10 - expected PASID 0x10000 < 2^16',
    );
    expect(String(explanation)).toContain('=> unsupported-request pasid-beyond-width');
  });

  it('shows the whole request', () => {
    const asked = unit().explain({
      ...request,
      access: 'execute',
      privileged: true,
      noWrite: true,
      at: 'translation',
    });
    expect(String(asked).split('\n')[0]).toBe(
      'execute at 0x40000000 by 01:00.0, PASID 0x5, privileged, AT translation, no write',
    );
    expect(String(unit().explain({ rid: 3, address: 0, access: 'write' }))).toContain(
      'write at 0x0 by 00:00.3, no PASID',
    );
  });

  it('shows structures in guest memory, and codes', () => {
    const step = {
      structure: 'context entry',
      address: 0x1_0000n,
      raw: [0x1234, -1],
      fields: { present: false, domain: null, fault: 'off' },
      ok: false,
      spec: 'VT-d 9.3',
    };
    const hot = { rid: 0, pasid: -1, iovaHigh: 0, iovaLow: 0, access: 1 };
    const verdict = { status: 'ats', permissions: '', reason: 'not-present', code: 0x41 } as const;
    expect(
      String(new Explanation(hot, [step], verdict))
        .split('\n')
        .slice(1),
    ).toEqual([
      '  FAIL context entry at 0x10000: [00001234 ffffffff] present=false domain=null fault=off (VT-d 9.3)',
      '=> ats no rights not-present code 0x41',
    ]);
  });

  it('is bounded by the walk, and leaves no trace in the unit', () => {
    const iommu = unit();
    const heard: unknown[] = [];
    iommu.on('fault', (event) => heard.push(event));
    const before = iommu.counters();
    expect(iommu.explain(request).steps.length).toBeLessThan(10);
    iommu.explain({ ...request, pasid: 6 });
    expect(iommu.counters()).toEqual(before);
    iommu.request(request);
    expect(iommu.counters()).toMatchObject({ iotlbHits: 0, iotlbMisses: 1 });
    expect(heard).toEqual([]);
  });
});
