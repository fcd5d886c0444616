// Subscriptions with common client libraries. Reads commands as lines of JSON from standard input,
// and writes one line for each.
//   {"do":"subscribe","over":"ws","id":"a","url":"…","token":"…","query":"…"}
//                                                 over ws (graphql-ws), sse (graphql-sse) or
//                                                 multipart (Apollo Client)
//   {"do":"next","id":"a","milliseconds":5000}    the next event; null when none comes, {"complete":true} at the end
//   {"do":"stop","id":"a"}
import { createInterface } from 'node:readline';
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createWsClient } from 'graphql-ws';
import WebSocket from 'ws';

const running = new Map();

const clients = {
  ws: ({ url, token }) =>
    createWsClient({
      url: url.replace('http', 'ws'),
      webSocketImpl: WebSocket,
      connectionParams: { Authorization: `Bearer ${token}` },
      retryAttempts: 0,
    }),
  sse: ({ url, token }) =>
    createSseClient({ url, headers: { Authorization: `Bearer ${token}` }, singleConnection: false, retryAttempts: 0 }),
  multipart: ({ url, token }) => {
    const link = new HttpLink({ uri: url, headers: { Authorization: `Bearer ${token}` } });
    const client = new ApolloClient({ link, cache: new InMemoryCache() });
    return {
      subscribe: ({ query }, { next, error, complete }) => {
        const events = client.subscribe({ query: gql(query), fetchPolicy: 'no-cache' });
        const event = (result) => next(result.error ? { errors: result.error.errors ?? [], text: String(result.error) } : result);
        const subscription = events.subscribe({ next: event, error, complete });
        return () => subscription.unsubscribe();
      },
      dispose: () => client.stop(),
    };
  },
};

// The reason for the end of a subscription: a close code, a status, or GraphQL errors.
const failure = (error) => ({
  code: error?.code ?? error?.response?.status ?? null,
  errors: Array.isArray(error) ? error : null,
  text: String(error?.reason ?? error?.message ?? error),
});

const commands = {
  subscribe: ({ over, id, url, token, query }) => {
    const events = [];
    const waiting = [];
    const push = (event) => (waiting.length > 0 ? waiting.shift()(event) : events.push(event));
    const client = clients[over]({ url, token });
    const stop = client.subscribe(
      { query },
      {
        next: (event) => push(event),
        error: (error) => push({ failed: failure(error) }),
        complete: () => push({ complete: true }),
      },
    );
    running.set(id, { events, waiting, stop: () => (stop(), client.dispose()) });
    return true;
  },
  next: ({ id, milliseconds }) => {
    const { events, waiting } = running.get(id);
    if (events.length > 0) return events.shift();
    return new Promise((resolve) => {
      const take = (event) => (clearTimeout(timer), resolve(event));
      const timer = setTimeout(() => {
        waiting.splice(waiting.indexOf(take), 1);
        resolve(null);
      }, milliseconds);
      waiting.push(take);
    });
  },
  stop: ({ id }) => (running.get(id).stop(), true),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    console.log(JSON.stringify({ ok: (await commands[command.do](command)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
process.exit(0);
