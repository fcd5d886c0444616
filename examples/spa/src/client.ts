// A client of the API, for one person in one organization (or in none): an organization never sees another's cache.
import { createClient as createEventClient } from 'graphql-sse';
import { Client, fetchExchange, mapExchange, subscriptionExchange } from 'urql';
import { createCache } from './cache';
import { problemOf } from './errors';
import { Here } from './here';

export function createClient(token: string, slug: string | null, signOut: () => void): Client {
  const url = slug ? `/org/${slug}/graphql` : '/graphql';
  const headers = { authorization: `Bearer ${token}` };
  const events = createEventClient({ url, headers });
  const client: Client = new Client({
    url,
    fetchOptions: { headers },
    preferGetMethod: false,
    // What is cached is shown at once, and looked at again: others may have changed it.
    requestPolicy: 'cache-and-network',
    exchanges: [
      mapExchange({
        onError(error) {
          const { kind } = problemOf(error);
          if (kind === 'sign-in') signOut();
          // The role is another by now: what it does not allow disappears.
          if (kind === 'forbidden') void client.query(Here, {}, { requestPolicy: 'network-only' }).toPromise();
        },
      }),
      createCache(),
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query = '', variables }) => ({
          subscribe: (sink) => ({ unsubscribe: events.subscribe({ query, variables: variables ?? {} }, sink) }),
        }),
      }),
    ],
  });
  return client;
}
