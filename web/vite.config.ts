// How the page is built: below /graphiql/, with nothing inline that the Content-Security-Policy forbids.
import { defineConfig } from 'vite';

export default defineConfig({
  base: '/graphiql/',
  build: {
    target: 'es2023',
    // Monaco alone is larger than Vite's default limit.
    chunkSizeWarningLimit: 4000,
    modulePreload: { polyfill: false },
    // Dependencies are full of 'use client', which means nothing here.
    rolldownOptions: { checks: { moduleLevelDirective: false } },
  },
  worker: { format: 'es' },
});
