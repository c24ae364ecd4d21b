import type { QueryStep } from '../vfio/index.ts';
import type { HostAnswer } from './host.ts';

/** What `vpci host` says where no device is bound to VFIO. */
export const NO_VFIO = `No PCI device of this machine is bound to VFIO, so there is nothing to ask. A device is passed
through by the driver vfio-pci, which takes a Linux host with an IOMMU that is switched on (intel_iommu=on or
amd_iommu=on where it is not by default), "modprobe vfio-pci", and for each device
"driverctl set-override 0000:BB:DD.F vfio-pci". To be asked about PASID, Linux needs iommufd and the VFIO cdev
(6.6 or later, CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV). Inside a virtual machine or a container these are usually
missing. Without a host, "vpci view --pasid-width N DUMP" shows what a guest would see of a dumped device.`;

const MARKS: Readonly<Record<QueryStep['outcome'], string>> = {
  done: 'yes ',
  no: 'no  ',
  skipped: 'skip',
  note: 'note',
};

/** A device's answer for people, a paragraph that ends with an empty line. */
export function hostText(answer: HostAnswer): string {
  const { bars, irqs, canReset, configSize, driver, openedBy, steps } = answer;
  const lines = [
    `${answer.bdf}  ${pasidText(answer)}`,
    `  opened by ${openedBy}, driver ${driver ?? 'none'}, ${configSize} bytes of configuration space, ${
      canReset ? 'can be reset' : 'has no reset of its own'
    }`,
    ...bars.map(
      ({ index, size, mappable }) => `  BAR ${index}: ${sizeText(size)}${mappable ? ', mappable' : ''}`,
    ),
    ...(irqs.length === 0
      ? []
      : [`  interrupts: ${irqs.map(({ kind, count }) => `${kind} ${count}`).join(', ')}`]),
    ...steps.map(({ call, outcome, errno, text }) => {
      const name = errno === undefined ? '' : `${errno}: `;
      return `  ${MARKS[outcome]} ${call}: ${name}${text}`;
    }),
  ];
  return `${lines.join('\n')}\n\n`;
}

function pasidText({ feature, source, iommu, attach, ats, enabled }: HostAnswer): string {
  const behind = iommu === undefined ? '' : `, IOMMU ${iommu}`;
  const noAts = ats === false ? ', no ATS' : '';
  if (feature === undefined) return `no PASID${behind}${noAts}`;
  const permissions = [
    feature.execute === true ? 'execute' : '',
    feature.privileged === true ? 'privileged' : '',
  ]
    .filter((text) => text !== '')
    .join(' and ');
  const attached =
    attach === undefined ? '' : attach ? ', PASIDs can be attached' : ', PASIDs cannot be attached';
  const off = enabled === false ? ', but PASID Enable is clear' : '';
  return `PASID of ${feature.width} bits, ${permissions === '' ? 'no permissions' : permissions} enabled (source: ${source})${behind}${attached}${off}${noAts}`;
}

/** 4096 as `4 KiB`. */
function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && size % 1024 === 0 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size} ${units[unit]}`;
}
