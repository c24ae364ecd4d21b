import { EXT_CAP_ACS } from '../pci/capability-ids.ts';
import { CONFIG_SPACE_SIZE, EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import * as exp from '../pci/express.ts';
import * as reg from '../pci/header.ts';
import type { GuestSubject } from './guest-subject.ts';
import {
  type CheckContext,
  FULL_DUMP,
  type LinuxCheck,
  PLACE_IT,
  readRegister,
  unknownAbove,
} from './linux-check.ts';
import { deviceType, type PlacedSubject } from './path-above.ts';

/**
 * `pci_acs_path_enabled(dev, NULL, PCI_ACS_RR | PCI_ACS_UF)`: from the function up to the root bus.
 *
 * @module
 */

/** P2P Request Redirect and Upstream Forwarding, in ACS Capability and ACS Control alike (PCIe 7.7.11). */
const ACS_REQUEST_REDIRECT = 0x0004;
const ACS_UPSTREAM_FORWARDING = 0x0010;
const ACS_NEEDED = ACS_REQUEST_REDIRECT | ACS_UPSTREAM_FORWARDING;
const ACS_CAPABILITY = 0x04;
const ACS_CONTROL = 0x06;

/** ACS of the function itself, which counts in a multi-function device only. */
export function checkOwnAcs(subject: GuestSubject, { sharesDevice }: CheckContext): LinuxCheck {
  const { guest, identity } = subject;
  if (identity.multiFunction || sharesDevice) {
    return checkAcs(
      subject,
      { id: 'acs', port: null },
      identity.multiFunction ? 'it is part of a multi-function device' : 'it shares its device with others',
      'place it alone in its slot, with bit 7 of Header Type clear (a segment of vpci does that), or show an ACS capability',
    );
  }
  return {
    id: 'acs',
    status: 'pass',
    port: null,
    register: readRegister(guest, 'Header Type', reg.HEADER_TYPE, 1, reg.HEADER_TYPE_MULTI_FUNCTION),
    message: 'a single-function device needs no ACS of its own',
    remedy: null,
    linux: 'pci_acs_path_enabled',
  };
}

/** ACS of everything above it. */
export function checkAcsAbove({ above }: CheckContext): LinuxCheck[] {
  const base = { id: 'acs-above', port: null, linux: 'pci_acs_path_enabled' } as const;
  const checks = above.ports.map(checkPortAcs);
  if (!above.complete) {
    checks.push(unknownAbove(base, above.ports.at(-1)));
  } else if (checks.length === 0) {
    checks.push({ ...base, status: 'pass', register: null, message: 'nothing is above it', remedy: null });
  }
  return checks;
}

function checkPortAcs(port: PlacedSubject): LinuxCheck {
  const { bdf, guest, identity, known } = port;
  const base = { id: 'acs-above', port: bdf, linux: 'pci_acs_path_enabled' } as const;
  const type = deviceType(port);
  if (type === undefined && known < CONFIG_SPACE_SIZE) {
    const message = `the dump has only ${known} bytes of it`;
    return { ...base, status: 'unknown', register: null, message, remedy: FULL_DUMP };
  }
  if (type === exp.DEVICE_TYPE_ROOT_PORT || type === exp.DEVICE_TYPE_DOWNSTREAM_PORT) {
    return checkAcs(port, base, `it is a ${identity.kind}`, PLACE_IT);
  }
  if (type !== exp.DEVICE_TYPE_UPSTREAM_PORT) {
    const message = `a ${identity.kind} does not isolate what is below it`;
    return { ...base, status: 'fail', register: null, message, remedy: PLACE_IT };
  }
  if (identity.multiFunction) return checkAcs(port, base, 'it is one function of several', PLACE_IT);
  return {
    ...base,
    status: 'pass',
    register: readRegister(guest, 'Header Type', reg.HEADER_TYPE, 1, reg.HEADER_TYPE_MULTI_FUNCTION),
    message: 'an upstream port that is a single function needs no ACS',
    remedy: null,
  };
}

/** The rule of `pci_acs_flags_enabled` for a function that needs the capability. */
function checkAcs(
  { fn, guest, known }: GuestSubject,
  what: Pick<LinuxCheck, 'id' | 'port'>,
  why: string,
  remedy: string,
): LinuxCheck {
  const base = { ...what, linux: 'pci_acs_path_enabled' };
  const found = fn.extendedCapabilities.find(({ id }) => id === EXT_CAP_ACS);
  if (found === undefined) {
    const cut = known < EXTENDED_CONFIG_SPACE_SIZE && what.port !== null;
    return {
      ...base,
      status: cut ? 'unknown' : 'fail',
      register: null,
      message: cut
        ? `${why} and needs an ACS capability, and the dump has only ${known} bytes of it`
        : `${why} and has no ACS capability`,
      remedy: cut
        ? FULL_DUMP
        : `${remedy}; Linux trusts a few devices without ACS by their IDs, which is not looked up here`,
    };
  }
  const supported = guest.read(found.offset + ACS_CAPABILITY, 2) & ACS_NEEDED;
  const control = guest.read(found.offset + ACS_CONTROL, 2);
  return {
    ...base,
    status: 'pass',
    register:
      supported === 0
        ? readRegister(guest, 'ACS Capability', found.offset + ACS_CAPABILITY, 2, ACS_NEEDED)
        : readRegister(guest, 'ACS Control', found.offset + ACS_CONTROL, 2, supported),
    message: acsMessage(supported, control),
    remedy: null,
  };
}

function acsMessage(supported: number, control: number): string {
  if (supported === 0)
    return 'Request Redirect and Upstream Forwarding are not selectable and count as enabled';
  return (supported & ~control) === 0
    ? 'Request Redirect and Upstream Forwarding are enabled'
    : 'Request Redirect and Upstream Forwarding are off; Linux enables them at boot when it has a vIOMMU, as PASID needs';
}
