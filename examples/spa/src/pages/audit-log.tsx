// The audit log. New entries appear automatically and are highlighted for a moment.
import { useMemo, useState } from 'react';
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { AuditLogFilter, EntryFragment } from '../gql/graphql';
import { Bars, lastDays, perDay } from '../ui/chart';
import { useLive } from '../ui/live';
import { Loaded, LoadMore } from '../ui/loaded';
import { Ago, Avatar } from '../ui/text';
import { AuditFilters } from './audit-filters';
import { sentence } from './audit-words';

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

const Recent = graphql(`
  query RecentChanges($since: DateTime!) {
    organization {
      id
      auditLogs(first: 100, filter: { since: $since }) {
        nodes { id createdAt }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
`);

const DAYS = 14;

export function AuditLog() {
  const [{ filter, after }, setPage] = useState<{ filter: AuditLogFilter; after: string | null }>({ filter: {}, after: null });
  const query = useQuery({ query: Log, variables: { filter, after } });
  const fresh = useLive(Added, { query: Log, variables: { filter, after: null } }, ({ auditLogAdded }) => auditLogAdded.id);
  return (
    <>
      <ChangesPerDay />
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

/** How much happens, from the newest hundred entries. */
function ChangesPerDay() {
  const days = useMemo(() => lastDays(DAYS), []);
  const [{ data }] = useQuery({ query: Recent, variables: { since: days[0]?.toISOString() ?? '' } });
  const log = data?.organization?.auditLogs;
  if (!log || log.pageInfo.hasNextPage) return null;
  const counted = perDay(days, log.nodes.map(({ createdAt }) => createdAt));
  const total = log.nodes.length;
  return <Bars title="Changes per day" label={`${total} changes in the last ${DAYS} days`} days={counted} />;
}

function Entry({ entry: { actorName, action, metadata, createdAt }, isFresh }: { entry: EntryFragment; isFresh: boolean }) {
  const name = actorName ?? 'The system';
  return (
    <li className={isFresh ? 'row fresh' : 'row'} title={action}>
      <Avatar name={name} />
      <p className="grow"><strong>{name}</strong> {sentence(action, metadata)}</p>
      <span className="quiet"><Ago time={createdAt} /></span>
    </li>
  );
}
