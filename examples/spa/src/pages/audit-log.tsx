// The audit log. New entries appear automatically and are highlighted for a moment.
import { useState } from 'react';
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { AuditLogFilter, EntryFragment } from '../gql/graphql';
import { useLive } from '../ui/live';
import { Loaded, LoadMore } from '../ui/loaded';
import { Ago, Avatar } from '../ui/text';
import { AuditFilters } from './audit-filters';

const Log = graphql(`
  query AuditLog($filter: AuditLogFilter, $after: String) {
    organization {
      id
      auditLogs(first: 20, after: $after, filter: $filter) {
        nodes { ...Entry }
        pageInfo { hasNextPage endCursor }
      }
    }
  }

  fragment Entry on AuditLog { id actorName action resourceType metadata createdAt }
`);

const Added = graphql(`
  subscription AuditLogAdded { auditLogAdded { ...Entry } }
`);

export function AuditLog() {
  const [{ filter, after }, setPage] = useState<{ filter: AuditLogFilter; after: string | null }>({ filter: {}, after: null });
  const query = useQuery({ query: Log, variables: { filter, after } });
  const fresh = useLive(Added, { query: Log, variables: { filter, after: null } }, ({ auditLogAdded }) => auditLogAdded.id);
  return (
    <>
      <AuditFilters filter={filter} onChange={(filter) => setPage({ filter, after: null })} />
      <Loaded query={query}>
        {({ organization }) => {
          const { nodes = [], pageInfo } = organization?.auditLogs ?? {};
          if (nodes.length === 0) return <p className="empty">No entries match.</p>;
          return (
            <>
              <ul className="rows log" aria-label="Audit log" aria-live="polite">
                {nodes.map((entry) => <Entry key={entry.id} entry={entry} isFresh={fresh.includes(entry.id)} />)}
              </ul>
              {pageInfo && <LoadMore page={pageInfo} busy={query[0].fetching} onMore={(after) => setPage({ filter, after })} />}
            </>
          );
        }}
      </Loaded>
    </>
  );
}

function Entry({ entry: { actorName, action, metadata, createdAt }, isFresh }: { entry: EntryFragment; isFresh: boolean }) {
  const name = actorName ?? 'The system';
  return (
    <li className={isFresh ? 'row fresh' : 'row'}>
      <Avatar name={name} />
      <div className="grow">
        <p>
          <strong>{name}</strong> <code>{action}</code>
        </p>
        <p className="quiet">{describe(metadata).join(' · ')}</p>
      </div>
      <span className="quiet"><Ago time={createdAt} /></span>
    </li>
  );
}

/** Shows old and new values, without ids. */
function describe(metadata: Record<string, unknown>): string[] {
  return Object.entries(metadata)
    .filter(([key, value]) => value != null && !key.startsWith('old_') && !key.endsWith('_id'))
    .map(([key, value]) => {
      const before = metadata[`old_${key}`];
      return `${key.replaceAll('_', ' ')}: ${before == null ? '' : `${String(before)} → `}${String(value)}`;
    });
}
