// Apollo, urql and Relay against a running server. Exits with an error on any mismatch.
// Usage: node clients.mjs URL TOKEN ARTIFACTS
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { Client, cacheExchange, fetchExchange } from '@urql/core';
import relay from 'relay-runtime';

const [url, token, artifacts] = process.argv.slice(2);
const headers = { authorization: `Bearer ${token}` };

// Apollo: a document is sent once, then by its hash. Errors have their code.
const sent = [];
const apollo = new ApolloClient({
  cache: new InMemoryCache({ possibleTypes: { Node: ['Organization', 'Member', 'Invitation', 'Project', 'User'] } }),
  link: ApolloLink.from([
    new PersistedQueryLink({ sha256: (text) => createHash('sha256').update(text).digest('hex') }),
    new HttpLink({
      uri: url,
      headers,
      fetch: (address, options) => {
        sent.push(JSON.parse(options.body));
        return fetch(address, options);
      },
    }),
  ]),
});
const query = gql`
  query ApolloNames {
    organization {
      id
      projects(first: 2) {
        nodes {
          id
          name
        }
      }
    }
  }
`;
for (const fetchPolicy of ['network-only', 'network-only', 'cache-only']) {
  const { data } = await apollo.query({ query, fetchPolicy });
  assert.equal(data.organization.projects.nodes.length, 2);
}
assert.deepEqual(sent.map((body) => 'query' in body), [false, true, false], 'by hash, in full, by hash');
const failing = gql`
  mutation ApolloFails {
    deleteProject(input: { id: "none" }) {
      project {
        id
      }
    }
  }
`;
await assert.rejects(apollo.mutate({ mutation: failing }), (error) => {
  assert.ok(CombinedGraphQLErrors.is(error), String(error));
  return error.errors[0].extensions.code === 'NOT_FOUND';
});
apollo.stop();

// urql: its Accept header includes event streams.
const urql = new Client({ url, exchanges: [cacheExchange, fetchExchange], fetchOptions: { headers }, preferGetMethod: false });
const named = await urql.query('query UrqlName { organization { name } }', {}).toPromise();
assert.equal(named.error, undefined);
assert.equal(named.data.organization.name, 'Acme');
const refused = await urql.query('{ organization { nothing } }', {}).toPromise();
assert.equal(refused.error.graphQLErrors[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED');

// Relay: its store, pages after a cursor, and a refetch by id only.
const require = createRequire(import.meta.url);
const artifact = (name) => require(join(artifacts, `out/${name}.graphql.js`));
const environment = new relay.Environment({
  store: new relay.Store(new relay.RecordSource()),
  network: relay.Network.create(async ({ text, name }, variables) => {
    const body = JSON.stringify({ query: text, operationName: name, variables });
    const response = await fetch(url, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body });
    return response.json();
  }),
});
const fetched = (name, variables) => relay.fetchQuery(environment, artifact(name), variables).toPromise();
await fetched('projectsQuery', { count: 2, cursor: null });
const records = () => Object.values(environment.getStore().getSource().toJSON());
const connection = () => records().find((record) => record.__id.includes('__projects_projects_connection'));
assert.equal(connection().edges.__refs.length, 2);
const cursor = environment.getStore().getSource().get(connection().pageInfo.__ref).endCursor;
await fetched('projectsPagination', { count: 2, cursor, id: records().find((record) => record.__typename === 'Organization').id });
assert.equal(connection().edges.__refs.length, 4, 'the next page follows the first');
const project = records().find((record) => record.__typename === 'Project');
await fetched('projectsRefetch', { id: project.id });
assert.ok(environment.getStore().getSource().get(project.id).updatedAt, 'refetched through node');
