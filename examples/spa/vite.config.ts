// The dev server. It forwards API requests to tenantry.
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const target = process.env.TENANTRY_URL ?? 'http://127.0.0.1:4000';

export default defineConfig({
  plugins: [react()],
  server: {
    host: '127.0.0.1',
    port: 5173,
    strictPort: true,
    proxy: {
      '^/graphql$': { target },
      '^/org/[^/]+/graphql$': { target },
      '^/graphiql/users.json$': { target },
    },
  },
});
