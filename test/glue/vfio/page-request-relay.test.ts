// What the relay does when the kernel's fault queue fails for good; page requests themselves are in mirror-vtd.test.ts.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const dist = new URL('../../../dist/vmm-glue/', import.meta.url).href;

it('leaves a fault queue that cannot be read alone', () => {
  // A socket that listens is readable once somebody connects, and cannot be read.
  const script = `
    const { loadNative, listenUnix, connectUnix } = await import('${dist}linux/index.js');
    const { PageRequestRelay } = await import('${dist}vfio/mirror/page-request-relay.js');
    const native = await loadNative();
    const path = process.argv[1];
    const fd = listenUnix(native, path, 0o600);
    let reads = 0;
    const objects = { allocFaultQueue: () => ({ id: 7, fd }), destroy: () => undefined };
    const watching = { ...native, watch: (one, writable, ready) => native.watch(one, writable, () => { reads++; ready(); }) };
    const relay = new PageRequestRelay(objects, watching, () => undefined);
    const warnings = [];
    process.on('warning', ({ message }) => warnings.push(message));
    const { id } = relay;
    connectUnix(native, path);
    setTimeout(() => {
      relay.close();
      console.log(JSON.stringify({ id, reads, warnings }));
      process.exit();
    }, 200);`;
  const folder = mkdtempSync(join(tmpdir(), 'vpci-relay-'));
  const args = ['--input-type=module', '-e', script, join(folder, 'queue')];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  expect(stderr).not.toContain('rror:');
  expect(JSON.parse(stdout)).toEqual({
    id: 7,
    reads: 1,
    warnings: [expect.stringContaining('EINVAL')],
  });
});
