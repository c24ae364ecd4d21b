import { defineConfig } from 'vite';

export default defineConfig({
  // Relative addresses: the page works in any folder of any server.
  base: './',
  build: { outDir: '../../dist/live', emptyOutDir: true, target: 'es2023', chunkSizeWarningLimit: 1000 },
});
