// The filters of the audit log. The server lists the actions.
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { AuditLogFilter } from '../gql/graphql';
import { Field, SelectField } from '../ui/field';
import { words } from '../ui/text';
import { nameOfAction } from './audit-words';

const Actions = graphql(`
  query AuditActions { auditActions }
`);

const typeOf = (action: string) => action.split('.')[0] ?? '';

/** The start of a day in the local time zone. */
const midnight = (date: string) => (date ? new Date(`${date}T00:00`).toISOString() : null);

type Props = { filter: AuditLogFilter; onChange: (filter: AuditLogFilter) => void };

export function AuditFilters({ filter, onChange }: Props) {
  const [{ data }] = useQuery({ query: Actions, requestPolicy: 'cache-first' });
  const actions = data?.auditActions ?? [];
  const types = [...new Set(actions.map(typeOf))];
  const offered = actions.filter((action) => !filter.resourceType || typeOf(action) === filter.resourceType);
  return (
    <form className="inline filters" aria-label="Filters">
      <SelectField
        label="Area"
        value={filter.resourceType ?? ''}
        onChange={({ target }) => onChange({ ...filter, resourceType: target.value || null, action: null })}
      >
        <option value="">Everything</option>
        {types.map((type) => <option key={type} value={type}>{words(type)}</option>)}
      </SelectField>
      <SelectField
        label="Action"
        value={filter.action ?? ''}
        onChange={({ target }) => onChange({ ...filter, action: target.value || null })}
      >
        <option value="">Any</option>
        {offered.map((action) => <option key={action} value={action}>{nameOfAction(action)}</option>)}
      </SelectField>
      <Field
        label="Since"
        name="since"
        type="date"
        onChange={({ target }) => onChange({ ...filter, since: midnight(target.value) })}
      />
    </form>
  );
}
