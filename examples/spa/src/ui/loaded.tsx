// The states of a query (data, error, loading), and the button that loads the next page of a list.
import type { ReactNode } from 'react';
import type { UseQueryResponse, AnyVariables } from 'urql';
import { problemOf } from '../errors';

type LoadedProps<Data, Variables extends AnyVariables> = {
  query: UseQueryResponse<Data, Variables>;
  /** A link below the error. */
  exit?: ReactNode;
  children: (data: Data) => ReactNode;
};

export function Loaded<Data, Variables extends AnyVariables>({ query, exit, children }: LoadedProps<Data, Variables>) {
  const [{ data, error }, repeat] = query;
  if (data) return children(data);
  if (!error) return <p className="quiet loading" role="status">Loading…</p>;
  const problem = problemOf(error);
  return (
    <div className="empty" role="alert">
      <p>{problem.kind === 'sign-in' ? 'You are signed out.' : problem.text}</p>
      {problem.kind === 'retry' && (
        <button onClick={() => repeat({ requestPolicy: 'network-only' })}>Try again</button>
      )}
      {exit}
    </div>
  );
}

type Page = { hasNextPage: boolean; endCursor?: string | null };

export function LoadMore({ page, busy, onMore }: { page: Page; busy: boolean; onMore: (after: string) => void }) {
  const { hasNextPage, endCursor } = page;
  if (!hasNextPage || !endCursor) return null;
  return (
    <button className="more" disabled={busy} onClick={() => onMore(endCursor)}>
      {busy ? 'Loading…' : 'Load more'}
    </button>
  );
}
