import { defineConfig } from 'vitest/config';

// VPCI_JSON_REPORT=path adds a JSON report (CI counts from it).
const report = process.env['VPCI_JSON_REPORT'];

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 20_000,
    hookTimeout: 60_000,
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts', 'vmm-glue/**/*.ts'],
      reporter: ['text', 'json-summary'],
    },
  },
});
