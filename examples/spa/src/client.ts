// A client for one user in one organization, or in none, so that organizations never share a cache.
import { createClient as createEventClient } from 'graphql-sse';
import { Client, fetchExchange, mapExchange, subscriptionExchange } from 'urql';
import { createCache } from './cache';
import { problemOf } from './errors';
import { Here } from './here';
import type { Session } from './session';

export function createClient(session: Session, slug: string | null): Client {
  const url = slug ? `/org/${slug}/graphql` : '/graphql';
  const headers = () => ({ authorization: `Bearer ${session.token()}` });
  const events = createEventClient({ url, headers });
  const client: Client = new Client({
    url,
    fetchOptions: () => ({ headers: headers() }),
    preferGetMethod: false,
    // Show cached data at once, and query it again, because other users may have changed it.
    requestPolicy: 'cache-and-network',
    exchanges: [
      mapExchange({
        onError(error) {
          const { kind } = problemOf(error);
          if (kind === 'sign-in') session.expire();
          // The role has changed. Query the permissions again, which hides what it does not allow.
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
