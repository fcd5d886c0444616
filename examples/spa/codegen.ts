// Generates src/gql from the server's schema and the documents of this app.
import type { CodegenConfig } from '@graphql-codegen/cli';

const scalars = { BigInt: 'number', DateTime: 'string', ID: 'string', JSON: 'Record<string, unknown>' };

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
