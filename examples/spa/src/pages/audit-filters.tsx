// The filters of the audit log. Actions are strings in the schema, so the known ones are listed
// here.
import type { AuditLogFilter } from '../gql/graphql';
import { Field, SelectField } from '../ui/field';
import { words } from '../ui/text';

const ACTIONS: Record<string, string[]> = {
  organization: ['created', 'updated', 'transferred', 'deleted'],
  project: ['created', 'updated', 'deleted'],
  member: ['role_changed', 'removed', 'left'],
  invitation: ['created', 'resent', 'revoked', 'accepted'],
  billing: [
    'plan_changed', 'trial_started', 'subscription_canceled', 'subscription_resumed',
    'subscription_updated', 'checkout_started', 'portal_opened',
  ],
  audit: ['exported', 'pruned'],
};

/** The start of a day in the local time zone. */
const midnight = (date: string) => (date ? new Date(`${date}T00:00`).toISOString() : null);

type Props = { filter: AuditLogFilter; onChange: (filter: AuditLogFilter) => void };

export function AuditFilters({ filter, onChange }: Props) {
  const types = filter.resourceType ? [filter.resourceType] : Object.keys(ACTIONS);
  return (
    <form className="inline filters" aria-label="Filters">
      <SelectField
        label="Resource type"
        value={filter.resourceType ?? ''}
        onChange={({ target }) => onChange({ ...filter, resourceType: target.value || null, action: null })}
      >
        <option value="">Everything</option>
        {Object.keys(ACTIONS).map((type) => <option key={type} value={type}>{words(type)}</option>)}
      </SelectField>
      <SelectField
        label="Action"
        value={filter.action ?? ''}
        onChange={({ target }) => onChange({ ...filter, action: target.value || null })}
      >
        <option value="">Any</option>
        {types.flatMap((type) => ACTIONS[type]?.map((verb) => `${type}.${verb}`)).map((action) => (
          <option key={action} value={action}>{action}</option>
        ))}
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
