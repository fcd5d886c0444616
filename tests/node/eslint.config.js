// The rules of graphql-eslint for schemas, and for schemas that Relay reads; each exception with its reason.
import graphql from '@graphql-eslint/eslint-plugin';

export default [
  {
    files: ['**/schema.graphql'],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: 'schema.graphql' } } },
    plugins: { '@graphql-eslint': graphql },
    rules: {
      ...graphql.configs['flat/schema-recommended'].rules,
      ...graphql.configs['flat/schema-relay'].rules,
      // What wraps or tells something has no identity; facts about an organization have that of the organization.
      '@graphql-eslint/strict-id-in-types': [
        'error',
        {
          acceptedIdNames: ['id'],
          acceptedIdTypes: ['ID'],
          exceptions: {
            suffixes: ['Payload', 'Connection', 'Edge'],
            types: ['Billing', 'Entitlement', 'Membership', 'PageInfo', 'Plan', 'PlanFeature'],
          },
        },
      ],
      // Short lists need no pages: the catalogue of plans, entitlements. Entries of the audit log are read, never fetched again by id.
      '@graphql-eslint/relay-edge-types': [
        'error',
        { withEdgeSuffix: true, shouldImplementNode: false, listTypeCanWrapOnlyEdgeType: false },
      ],
      // A plan's key is called what it is called in every list of plans.
      '@graphql-eslint/no-typename-prefix': 'off',
    },
  },
];
