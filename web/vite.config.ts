// Builds the page for /graphiql/, without inline scripts, which the Content-Security-Policy
// forbids.
import { defineConfig } from 'vite';

export default defineConfig({
  base: '/graphiql/',
  build: {
    target: 'es2023',
    // Monaco alone is larger than Vite's default limit.
    chunkSizeWarningLimit: 4000,
    modulePreload: { polyfill: false },
    // Many dependencies contain 'use client', which has no effect here.
    rolldownOptions: { checks: { moduleLevelDirective: false } },
  },
  worker: { format: 'es' },
});
