// Runs in a guest with VFIO and iommufd (Linux 6.15 or later): `node mirror-in-guest.mjs BDF`, as root, with the device
// bound to vfio-pci (a second argument is where /sys and /dev are). Prints a line of JSON for each step, `{ step, ok, ... }`; judging is for the test outside.
//
// What is to be expected, by step:
//   open         the PASID width that the host reported in `width`, `attach` true
//   table        attached [null, 5] and then [5]; `failures` []; PASID 5 detached leaves []
//   cut          unmapping the middle of a mapping: `failures` [] (the kernel would say ENOENT for a cut)
//   beyond       a PASID past the host's width: a failure `host` with EINVAL in its text, and `blocked` true
//   pasid-0      a failure `pasid-0`, and `blocked` true
//   closed       everything detached; a second mirror can be made: `again` [5]
//   nested       on an IOMMU of the host with ECAP.NEST: attached [null, 7] after the guest enabled, `failures` [],
//                `replaced` true; elsewhere ok false with code VPCI_UNSUPPORTED, and a text that says what is missing
//   guest-dma    requests without PASID on memory of this process: ok
//   interrupts   the eventfds that the kernel took, by kind
//   end          nothing threw
// The kernel log is to have no warning.
import { createFunction, expressCapability, PciSegment } from 'vpci';
import { TableIommu } from 'vpci/table';
import { GuestDma, IommufdMirror, openVfioDevice, passthroughFunction, VfioInterrupts } from 'vpci/vfio';
import { GuestMemory, VtdIommu } from 'vpci/vtd';

const [bdf = '01:00.0', host = '/'] = process.argv.slice(2);
const BYTES = 0x40_0000;
// Whole pages at an address that stays.
const { buffer } = new WebAssembly.Memory({ initial: BYTES >> 16, maximum: BYTES >> 16, shared: true });
const memory = [{ base: 0, buffer }];

function print(name, facts) {
  console.log(JSON.stringify({ step: name, ...facts }));
}

async function step(name, run) {
  try {
    print(name, { ok: true, ...(await run()) });
  } catch (error) {
    print(name, { ok: false, code: error.code ?? 'none', text: error.message });
  }
}

const failuresOf = (mirror) =>
  mirror.failures.map(({ pasid, reason, error }) => ({ pasid, reason, text: error.message }));

/** A function that stands for the device behind `iommu`: its own would be asked about PASID each time. */
function behind(iommu) {
  const endpoint = createFunction({
    vendorId: 0x8086,
    deviceId: 0x1234,
    classCode: 0x120000,
    pasid: { width: 20 },
    capabilities: [expressCapability()],
  });
  new PciSegment({ iommu }).add('01:00.0', endpoint);
  return endpoint;
}

const device = await openVfioDevice(bdf, { root: host });
let width = 0;

await step('open', () => {
  const { query } = passthroughFunction(device);
  width = query.feature?.width ?? 0;
  return { width, attach: query.attach ?? null, iommu: query.iommu ?? null, vtd: query.vtd ?? null };
});

{
  const iommu = new TableIommu();
  const endpoint = behind(iommu);
  let mirror = new IommufdMirror({ device, iommu, endpoint, memory });
  const both = [];
  await step('table', () => {
    iommu.attach(endpoint, 5);
    iommu.map(endpoint, 5, { iova: 0x10_0000, gpa: 0x1000, size: 0x8000, permissions: 'rw' });
    both.push(mirror.attached);
    iommu.attach(endpoint);
    iommu.map(endpoint, null, { iova: 0, gpa: 0, size: 0x10_0000, permissions: 'rw' });
    both.push(mirror.attached);
    iommu.detach(endpoint);
    both.push(mirror.attached);
    return { attached: both, failures: failuresOf(mirror) };
  });
  await step('cut', () => {
    iommu.unmap(endpoint, 5, { iova: 0x10_3000, size: 0x1000 });
    return { attached: mirror.attached, failures: failuresOf(mirror) };
  });
  await step('beyond', () => {
    const pasid = 2 ** width;
    if (width === 0 || width >= 20) return { skipped: 'the host takes all PASIDs that there are' };
    iommu.attach(endpoint, pasid);
    const seen = { failures: failuresOf(mirror), blocked: iommu.isBlocked(endpoint, pasid) };
    iommu.detach(endpoint, pasid);
    return { ...seen, after: failuresOf(mirror) };
  });
  await step('pasid-0', () => {
    iommu.attach(endpoint, 0);
    const seen = { failures: failuresOf(mirror), blocked: iommu.isBlocked(endpoint, 0) };
    iommu.detach(endpoint, 0);
    return seen;
  });
  await step('closed', () => {
    mirror.close();
    const closed = mirror.attached;
    mirror = new IommufdMirror({ device, iommu, endpoint, memory });
    const again = mirror.attached;
    iommu.reset();
    const reset = mirror.attached;
    mirror.close();
    return { closed, again, reset, failures: failuresOf(mirror) };
  });
}

await step('nested', () => {
  const view = new DataView(buffer);
  const write = (gpa, value) => view.setBigUint64(gpa, value, true);
  const iommu = new VtdIommu({ memory: new GuestMemory(memory) });
  const endpoint = behind(iommu);
  const mirror = new IommufdMirror({ device, iommu, endpoint, memory });
  try {
    const [root, queue, context, directory, table] = [0x1000, 0x2000, 0x3000, 0x10_0000, 0x20_0000];
    write(root + 16, BigInt(context) | 1n);
    // PDTS 7; PASIDE.
    write(context, BigInt(directory) | (7n << 9n) | 8n | 1n);
    write(directory, BigInt(table) | 1n);
    // RID_PASID 0: pass-through. PASID 7: an empty first stage at 0x300000, then one at 0x301000.
    write(table + 8, 1n);
    write(table, (4n << 6n) | (2n << 2n) | 1n);
    const entry = table + 7 * 64;
    write(entry + 8, 1n);
    write(entry + 16, 0x30_0000n);
    write(entry, (1n << 6n) | (2n << 2n) | 1n);
    const before = mirror.attached;
    iommu.writeRegister64(0x90, BigInt(queue) | 0x800n);
    iommu.writeRegister(0x18, 4, 0x0400_0000);
    iommu.writeRegister64(0x20, BigInt(root) | (1n << 10n));
    iommu.writeRegister(0x18, 4, 0x4400_0000);
    iommu.writeRegister(0x18, 4, 0x8400_0000);
    const attached = mirror.attached;
    let replaced = false;
    mirror.on('attached', (event) => {
      replaced ||= event.replaced;
    });
    write(entry + 16, 0x30_1000n);
    // PASID-cache of PASID 7, then its IOTLB, in domain 1.
    write(queue, 0x07n | (1n << 4n) | (1n << 16n) | (7n << 32n));
    write(queue + 32, 0x06n | (2n << 4n) | (1n << 16n) | (7n << 32n));
    iommu.writeRegister(0x88, 4, 64);
    return { before, attached, replaced, failures: failuresOf(mirror) };
  } finally {
    mirror.close();
  }
});

await step('guest-dma', () => {
  const dma = new GuestDma(device);
  dma.map(0n, new Uint8Array(buffer));
  dma.unmap(0n, BigInt(BYTES));
  dma.close();
  return {};
});

await step('interrupts', () => {
  const { fn } = passthroughFunction(device, { probeAttach: false });
  const interrupts = new VfioInterrupts(device, fn, { follow: false });
  const taken = {};
  interrupts.on('failure', ({ message }) => {
    taken.failure = message;
  });
  for (const { kind, count } of device.irqs()) {
    if (!['intx', 'msi', 'msi-x'].includes(kind) || count === 0) continue;
    interrupts.use(kind, [0]);
    taken[kind] = interrupts.kind === kind;
    interrupts.use(undefined);
  }
  interrupts.close();
  return { taken };
});

device.close();
print('end', { ok: true });
