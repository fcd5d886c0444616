// The entries of the audit log as sentences. An action without words here is shown by its name.
import { withArticle, words } from '../ui/text';

type Metadata = Record<string, unknown>;

const text = (value: unknown) => (value == null ? '' : String(value));
/** Entries have the keys of plans. */
const planName = (key: unknown) => words(text(key));
const role = (value: unknown) => text(value).toLowerCase();
const statusName = (status: unknown) => role(status).replaceAll('_', ' ');
/** Continues after the actor's name. */
type Sentence = (metadata: Metadata) => string;

const changes = (metadata: Metadata): string =>
  Object.keys(metadata)
    .filter((key) => `old_${key}` in metadata && text(metadata[key]) !== text(metadata[`old_${key}`]))
    .map((key) => {
      const [before, after] = [text(metadata[`old_${key}`]), text(metadata[key])];
      if (key === 'description') return after ? 'the description' : 'the description, which is now empty';
      return before ? `the ${key} from “${before}” to “${after}”` : `the ${key} to “${after}”`;
    })
    .join(' and ');

const SENTENCES: Record<string, Sentence> = {
  'organization.created': ({ name }) => `created the organization ${text(name)}`,
  'organization.updated': (metadata) => `changed ${changes(metadata) || 'the organization'}`,
  'organization.deleted': ({ name }) => `deleted the organization ${text(name)}`,
  'organization.transferred': ({ name }) => `made ${text(name)} the owner`,
  'organization.moved': () => 'moved the organization’s data',
  'organization.exported': () => 'exported the organization’s data',
  'organization.restored': () => 'restored the organization from an export',
  'organization.suspended': () => 'suspended the organization',
  'organization.resumed': () => 'ended the suspension of the organization',
  'invitation.created': ({ email, role: given }) => `invited ${text(email)} as ${withArticle(text(given))}`,
  'invitation.resent': ({ email }) => `sent ${text(email)} a new invitation`,
  'invitation.revoked': ({ email }) => `revoked the invitation of ${text(email)}`,
  'invitation.accepted': ({ role: given }) => `accepted an invitation and joined as ${withArticle(text(given))}`,
  'invitation.declined': () => 'declined an invitation',
  'member.role_changed': ({ name, old_role, role: given }) => `changed the role of ${text(name)} from ${role(old_role)} to ${role(given)}`,
  'member.removed': ({ name }) => `removed ${text(name)}`,
  'member.left': () => 'left the organization',
  'billing.plan_changed': ({ old_plan, plan, status }) =>
    old_plan === plan ? `changed the subscription, which is now ${statusName(status)}` : `changed the plan from ${planName(old_plan)} to ${planName(plan)}`,
  'billing.trial_started': ({ plan }) => `started a trial of the plan ${planName(plan)}`,
  'billing.subscription_canceled': () => 'canceled the subscription',
  'billing.subscription_resumed': () => 'resumed the subscription',
  'billing.checkout_started': ({ plan }) => `went to the checkout for the plan ${planName(plan)}`,
  'billing.portal_opened': () => 'opened the billing portal',
  'billing.subscription_updated': ({ status }) => (status ? `updated the subscription, which is now ${statusName(status)}` : 'renewed or changed the subscription'),
  'billing.subscription_ignored': ({ subscription }) => `reported the subscription ${text(subscription)}, which has no effect`,
  'billing.customer_deleted': () => 'deleted the customer',
  'billing.seats_changed': ({ old_seats, seats }) => `changed the paid seats from ${text(old_seats)} to ${text(seats)}`,
  'billing.entitlement_changed': ({ feature, value }) => (value == null ? `ended the exception for ${text(feature)}` : `made an exception for ${text(feature)}: ${text(value)}`),
  'user.identity_linked': ({ email }) => `linked another sign-in to ${text(email) || 'the account'}`,
  'user.identity_unlinked': () => 'removed a sign-in from the account',
  'user.renamed': ({ name }) => `changed their name to ${text(name)}`,
  'user.suspended': ({ name }) => `suspended ${text(name)}`,
  'user.resumed': ({ name }) => `ended the suspension of ${text(name)}`,
  'audit.exported': () => 'exported the audit log',
  'audit.pruned': ({ entries }) => `deleted ${text(entries)} old entries of this log`,
  'project.created': ({ name }) => `created the project ${text(name)}`,
  'project.updated': (metadata) => {
    const changed = changes(metadata);
    return `changed ${changed || 'details'}${'old_name' in metadata ? '' : ` of the project ${text(metadata['name'])}`}`;
  },
  'project.deleted': ({ name }) => `deleted the project ${text(name)}`,
};

export const sentence = (action: string, metadata: Metadata): string =>
  SENTENCES[action]?.(metadata) ?? `did ${nameOfAction(action)}`;

/** `member.role_changed` as "Member: role changed". */
export function nameOfAction(action: string): string {
  const [area = '', verb = ''] = action.split('.');
  return `${words(area)}: ${words(verb).toLowerCase()}`;
}
