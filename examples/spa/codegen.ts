// How the types of src/gql are made: from the server's schema and the documents in this app.
import type { CodegenConfig } from '@graphql-codegen/cli';

const scalars = { DateTime: 'string', ID: 'string', JSON: 'Record<string, unknown>' };

const config: CodegenConfig = {
  schema: '../../schema.graphql',
  documents: ['src/**/*.{ts,tsx}', '!src/gql/**'],
  generates: {
    'src/gql/': {
      preset: 'client',
      presetConfig: { fragmentMasking: false },
      config: { scalars, strictScalars: true, useTypeImports: true },
    },
    // The whole schema: no document asks for error codes, which come with errors.
    'src/gql/schema.ts': {
      plugins: ['typescript'],
      config: { scalars, enumType: 'string-literal' },
    },
  },
};

export default config;
