// The rules of graphql-eslint for schemas and for Relay; each exception has its reason.
import graphql from '@graphql-eslint/eslint-plugin';

export default [
  {
    files: ['**/schema.graphql'],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: 'schema.graphql' } } },
    plugins: { '@graphql-eslint': graphql },
    rules: {
      ...graphql.configs['flat/schema-recommended'].rules,
      ...graphql.configs['flat/schema-relay'].rules,
      // Wrapper types have no identity, and facts about an organization have the organization's. A
      // preview belongs to a link.
      '@graphql-eslint/strict-id-in-types': [
        'error',
        {
          acceptedIdNames: ['id'],
          acceptedIdTypes: ['ID'],
          exceptions: {
            suffixes: ['Payload', 'Connection', 'Edge'],
            types: ['Billing', 'Entitlement', 'Feature', 'InvitationPreview', 'Membership', 'PageInfo', 'Plan', 'PlanFeature', 'UsagePeriod'],
          },
        },
      ],
      // Short lists (plans, entitlements) need no pages. Audit entries are never refetched by id.
      '@graphql-eslint/relay-edge-types': [
        'error',
        { withEdgeSuffix: true, shouldImplementNode: false, listTypeCanWrapOnlyEdgeType: false },
      ],
    },
  },
];
