// A bed is a test against a real counterpart (lspci, QEMU, a Linux guest) that not every machine has.
import { describe, it } from 'vitest';

type Verdict = 'run' | 'skip' | 'fail';

/** What becomes of a bed, given why it can't run and the comma-separated list in VPCI_REQUIRE. */
export function bedVerdict(name: string, reason: string | undefined, required: string | undefined): Verdict {
  if (reason === undefined) return 'run';
  const names = (required ?? '').split(',').map((entry) => entry.trim());
  return names.includes(name) ? 'fail' : 'skip';
}

/**
 * `bed('lspci', () => reasonOrUndefined)('title', () => { it(...) })`.
 * A bed that can't run is skipped with the reason in the test's name; it fails when VPCI_REQUIRE names it.
 */
export function bed(
  name: string,
  available: () => string | undefined,
): (title: string, body: () => void) => void {
  const reason = available();
  const verdict = bedVerdict(name, reason, process.env['VPCI_REQUIRE']);
  return (title, body) => {
    if (verdict === 'run') {
      describe(title, body);
    } else if (verdict === 'skip') {
      it.skip(`${title} (bed ${name}: ${String(reason)})`, () => undefined);
    } else {
      it(`${title} (bed ${name} is required)`, () => {
        throw new Error(`bed ${name} is named in VPCI_REQUIRE but can't run: ${String(reason)}`);
      });
    }
  };
}
