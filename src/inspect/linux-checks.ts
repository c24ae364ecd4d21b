import { hex } from '../pci/bdf.ts';
import { EXTENDED_CHAIN_HEAD } from '../pci/capability-chain.ts';
import { EXT_CAP_PASID } from '../pci/capability-ids.ts';
import { CONFIG_SPACE_SIZE, EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import * as exp from '../pci/express.ts';
import * as reg from '../pci/header.ts';
import * as pasid from '../pci/pasid.ts';
import { checkAcsAbove, checkOwnAcs } from './acs-checks.ts';
import type { GuestSubject } from './guest-subject.ts';
import {
  type CheckContext,
  FULL_DUMP,
  type LinuxCheck,
  PLACE_IT,
  readRegister,
  unknownAbove,
} from './linux-check.ts';
import { deviceType } from './path-above.ts';

/**
 * What Linux checks before it enables PASID, in its order: what it reads when it finds a function
 * (`pci_setup_device`, `pci_configure_eetlp_prefix`, `pci_pasid_init`), then `pci_enable_pasid`.
 *
 * @module
 */

/** The checks for `subject`, which is no port. All of them are made, though Linux stops at the first that fails. */
export function linuxChecks(subject: GuestSubject, context: CheckContext): LinuxCheck[] {
  const checks = [checkFound(subject), checkExtendedSpace(subject), checkCapability(subject)];
  checks.push({
    id: 'virtual-function',
    status: 'pass',
    port: null,
    register: null,
    message: 'the guest sees no SR-IOV capability, so every function is a plain one to it, VFs too',
    remedy: null,
    linux: 'pci_enable_pasid: is_virtfn',
  });
  const { express } = subject.identity;
  if (express === null) return [...checks, withoutExpress()];
  checks.push(
    checkVersion(subject, express),
    checkPrefix(subject, null),
    ...checkPrefixAbove(subject, context),
  );
  checks.push(checkOwnAcs(subject, context), ...checkAcsAbove(context), ...checkFeatures(subject, context));
  return checks;
}

function checkFound({ guest }: GuestSubject): LinuxCheck {
  const value = guest.read(reg.VENDOR_ID, 4);
  const found = ![0, 0xffffffff, 0x0000ffff, 0xffff0000].includes(value);
  return {
    id: 'function-found',
    status: found ? 'pass' : 'fail',
    port: null,
    register: { name: 'Vendor ID and Device ID', offset: reg.VENDOR_ID, size: 4, mask: 0, value },
    message: found ? 'Linux finds a function here' : 'for Linux there is no function here',
    remedy: found
      ? null
      : 'give the IDs of the virtual function: --id VVVV:DDDD on the command line, vendorId and deviceId in the API',
    linux: 'pci_bus_generic_read_dev_vendor_id',
  };
}

function checkExtendedSpace({ guest, known, identity }: GuestSubject): LinuxCheck {
  const base = { id: 'extended-space', port: null, linux: 'pci_cfg_space_size' } as const;
  if (identity.express === null) {
    return {
      ...base,
      status: 'fail',
      register: null,
      message: 'without a PCI Express Capability Linux reads 256 bytes only',
      remedy: known < CONFIG_SPACE_SIZE ? `the dump has only ${known} bytes: ${FULL_DUMP}` : null,
    };
  }
  if (identity.size < EXTENDED_CONFIG_SPACE_SIZE) {
    return {
      ...base,
      status: 'fail',
      register: null,
      message: `there are ${known} bytes of configuration space and no extended capabilities`,
      remedy: `if the device has more, ${FULL_DUMP}`,
    };
  }
  const value = guest.read(EXTENDED_CHAIN_HEAD, 4);
  const reachable = value !== 0xffffffff;
  return {
    ...base,
    status: reachable ? 'pass' : 'fail',
    register: {
      name: 'first extended capability header',
      offset: EXTENDED_CHAIN_HEAD,
      size: 4,
      mask: 0,
      value,
    },
    message: reachable
      ? 'all 4096 bytes can be read, provided that the VMM has ECAM'
      : 'it reads all-ones, so Linux takes the extended space for unreachable',
    remedy: reachable ? null : 'see that the VMM has ECAM and routes it to this function',
  };
}

function checkCapability({ fn, guest }: GuestSubject): LinuxCheck {
  const base = { id: 'pasid-capability', port: null, linux: 'pci_pasid_init' } as const;
  const shown = fn.extendedCapabilities.find(({ id }) => id === EXT_CAP_PASID);
  if (shown !== undefined) {
    const register = readRegister(
      guest,
      'PASID Capability',
      shown.offset + pasid.PASID_CAPABILITY,
      2,
      pasid.PASID_MAX_WIDTH,
    );
    const width = (register.value & pasid.PASID_MAX_WIDTH) >>> pasid.PASID_MAX_WIDTH_SHIFT;
    return {
      ...base,
      status: 'pass',
      register,
      message: `at 0x${hex(shown.offset, 3)}, version ${shown.version}, ${width} bits`,
      remedy: null,
    };
  }
  const omitted = fn.findings.find(({ code }) => code === 'pasid-omitted');
  return {
    ...base,
    status: 'fail',
    register: null,
    message: omitted?.message ?? 'the guest sees none, because none is asked for',
    remedy:
      omitted === undefined ? 'ask for one: --pasid-width N on the command line, pasid in the API' : null,
  };
}

function withoutExpress(): LinuxCheck {
  return {
    id: 'end-end-prefix',
    status: 'fail',
    port: null,
    register: null,
    message: 'there is no PCI Express Capability, and so no Device Capabilities 2 to announce the prefix in',
    remedy: null,
    linux: 'pci_configure_eetlp_prefix',
  };
}

function checkVersion(
  { guest }: GuestSubject,
  { offset, version }: { offset: number; version: number },
): LinuxCheck {
  const enough = version >= 2;
  return {
    id: 'express-version',
    status: enough ? 'pass' : 'fail',
    port: null,
    register: readRegister(
      guest,
      'PCI Express Capabilities',
      offset + exp.EXP_CAPABILITIES,
      2,
      exp.EXP_CAPABILITY_VERSION,
    ),
    message: enough
      ? `version ${version} has Device Capabilities 2`
      : `version ${version} has no Device Capabilities 2, and Linux takes it for 0`,
    remedy: null,
    linux: 'pcie_capability_read_dword',
  };
}

/** End-End TLP Prefix Supported of a function (`port` null) or of a port above it. */
function checkPrefix(subject: GuestSubject, port: string | null): LinuxCheck {
  const { guest, identity, known } = subject;
  const base = {
    id: port === null ? 'end-end-prefix' : 'end-end-prefix-above',
    port,
    linux: 'pci_configure_eetlp_prefix',
  } as const;
  if (identity.express === null) {
    const cut = known < CONFIG_SPACE_SIZE;
    return {
      ...base,
      status: cut ? 'unknown' : 'fail',
      register: null,
      message: cut ? `the dump has only ${known} bytes of it` : 'it is no PCI Express port',
      remedy: cut ? FULL_DUMP : PLACE_IT,
    };
  }
  const { offset, version } = identity.express;
  if (version < 2) {
    return {
      ...base,
      status: 'fail',
      register: null,
      message: `a PCI Express Capability of version ${version} has no Device Capabilities 2 to announce the prefix in`,
      remedy: port === null ? null : PLACE_IT,
    };
  }
  const register = readRegister(
    guest,
    'Device Capabilities 2',
    offset + exp.EXP_DEVICE_CAPABILITIES_2,
    4,
    exp.EXP_END_END_TLP_PREFIX_SUPPORTED,
  );
  const supported = (register.value & exp.EXP_END_END_TLP_PREFIX_SUPPORTED) !== 0;
  return {
    ...base,
    status: supported ? 'pass' : 'fail',
    register,
    message: `End-End TLP Prefix is ${supported ? '' : 'not '}supported`,
    remedy: supported
      ? null
      : port === null
        ? 'vpci sets the bit when it shows a PASID capability'
        : PLACE_IT,
  };
}

function checkPrefixAbove(subject: GuestSubject, { above }: CheckContext): LinuxCheck[] {
  const base = { id: 'end-end-prefix-above', port: null, linux: 'pci_configure_eetlp_prefix' } as const;
  const express = subject.identity.express;
  if (express !== null && express.deviceType === exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT) {
    return [
      {
        ...base,
        status: 'pass',
        register: readRegister(
          subject.guest,
          'PCI Express Capabilities',
          express.offset + exp.EXP_CAPABILITIES,
          2,
          exp.EXP_DEVICE_PORT_TYPE,
        ),
        message: 'an RC integrated endpoint needs no port above it',
        remedy: null,
      },
    ];
  }
  const checks = above.ports.map((port) => checkPrefix(port, port.bdf));
  const top = above.ports.at(-1);
  // A root port stands alone; everything else needs the port above it. Of unknown type: its own check says it.
  if (top !== undefined && [exp.DEVICE_TYPE_ROOT_PORT, undefined].includes(deviceType(top))) return checks;
  checks.push(
    above.complete
      ? {
          ...base,
          status: 'fail',
          register: null,
          message: `${top?.bdf ?? 'it'} is on the root bus, and Linux wants a root port above it`,
          remedy: PLACE_IT,
        }
      : unknownAbove(base, top),
  );
  return checks;
}

function checkFeatures({ fn, guest }: GuestSubject, { execute, privileged }: CheckContext): LinuxCheck[] {
  const shown = fn.extendedCapabilities.find(({ id }) => id === EXT_CAP_PASID);
  if (shown === undefined) return [];
  const wanted =
    (execute ? pasid.PASID_EXECUTE_PERMISSION_SUPPORTED : 0) |
    (privileged ? pasid.PASID_PRIVILEGED_MODE_SUPPORTED : 0);
  const mask = pasid.PASID_EXECUTE_PERMISSION_SUPPORTED | pasid.PASID_PRIVILEGED_MODE_SUPPORTED;
  const register = readRegister(guest, 'PASID Capability', shown.offset + pasid.PASID_CAPABILITY, 2, mask);
  const missing = wanted & ~register.value;
  const supported = [
    ...((register.value & pasid.PASID_EXECUTE_PERMISSION_SUPPORTED) === 0 ? [] : ['Execute Permission']),
    ...((register.value & pasid.PASID_PRIVILEGED_MODE_SUPPORTED) === 0 ? [] : ['Privileged Mode']),
  ];
  return [
    {
      id: 'features',
      status: missing === 0 ? 'pass' : 'fail',
      port: null,
      register,
      message:
        missing === 0
          ? `supported: ${supported.length === 0 ? 'neither Execute Permission nor Privileged Mode' : supported.join(' and ')}; Linux asks for no more`
          : 'a permission that the guest asks for is not supported',
      remedy: missing === 0 ? null : 'show what the host has enabled: --exec, --priv',
      linux: 'pci_enable_pasid: features',
    },
  ];
}
