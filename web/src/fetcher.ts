// Sends requests: POST for queries and mutations, server-sent events for subscriptions.
import type { Fetcher, FetcherParams } from '@graphiql/toolkit';
import { getOperationAST, type ExecutionResult } from 'graphql';
import { createClient, type RequestParams } from 'graphql-sse';

/** Headers of the editor take precedence. `Headers` compares names without case. */
function headers(token: string, edited: Record<string, string> = {}) {
  const all = new Headers({
    'content-type': 'application/json',
    accept: 'application/graphql-response+json, application/json',
  });
  if (token !== '') all.set('authorization', `Bearer ${token}`);
  for (const [name, value] of Object.entries(edited)) all.set(name, value);
  return all;
}

export async function post<Data>(
  endpoint: string,
  headers: Headers,
  body: FetcherParams,
  signal: AbortSignal | null = null,
): Promise<ExecutionResult<Data>> {
  const response = await fetch(endpoint, { method: 'POST', headers, body: JSON.stringify(body), signal }).catch(() => {
    throw new Error('The server cannot be reached.');
  });
  return response.json().catch(() => {
    throw new Error(`The server's response is not GraphQL: HTTP ${response.status}.`);
  });
}

export const ask = <Data>(endpoint: string, token: string, query: string, signal: AbortSignal) =>
  post<Data>(endpoint, headers(token), { query }, signal);

export function createFetcher(endpoint: string, token: string): Fetcher {
  return (body, options) => {
    const all = headers(token, options?.headers);
    const operation = options?.documentAST && getOperationAST(options.documentAST, body.operationName);
    if (operation?.operation !== 'subscription') return post(endpoint, all, body);
    all.delete('accept');
    const client = createClient({ url: endpoint, headers: Object.fromEntries(all), retryAttempts: 0 });
    return client.iterate(body as RequestParams);
  };
}
