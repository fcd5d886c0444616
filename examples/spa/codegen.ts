// Generates src/gql from the server's schema and the documents of this app.
import type { CodegenConfig } from '@graphql-codegen/cli';

// Every scalar that a schema of tenantry may have, also with resources of your own.
const scalars = {
  BigInt: 'number',
  Date: 'string',
  DateTime: 'string',
  ID: 'string',
  JSON: 'Record<string, unknown>',
  UUID: 'string',
};

const config: CodegenConfig = {
  schema: '../../schema.graphql',
  documents: ['src/**/*.{ts,tsx}', '!src/gql/**'],
  generates: {
    'src/gql/': {
      preset: 'client',
      presetConfig: { fragmentMasking: false },
      config: { scalars, strictScalars: true, useTypeImports: true },
    },
    // The whole schema, because no document selects the error codes.
    'src/gql/schema.ts': {
      plugins: ['typescript'],
      config: { scalars, enumType: 'string-literal' },
    },
  },
};

export default config;
