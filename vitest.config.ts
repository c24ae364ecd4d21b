import { defineConfig } from 'vitest/config';

// VPCI_JSON_REPORT=path adds a JSON report (CI counts from it).
const report = process.env['VPCI_JSON_REPORT'];

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Against hanging, not against a loaded machine that takes its time over another process or thread.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 10_000 } },
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts', 'vmm-glue/**/*.ts'],
      reporter: ['text', 'json-summary'],
    },
  },
});
