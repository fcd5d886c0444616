// The state of the subscription, and the buttons that cancel or resume it.
import { graphql } from '../gql';
import type { BillingFragment, SubscriptionStatus } from '../gql/graphql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { ConfirmButton } from '../ui/dialog';
import { day, words } from '../ui/text';

const Cancel = graphql(`
  mutation CancelSubscription($input: CancelSubscriptionInput!) { cancelSubscription(input: $input) { billing { ...Billing } } }
`);
const Resume = graphql(`
  mutation ResumeSubscription($input: ResumeSubscriptionInput!) { resumeSubscription(input: $input) { billing { ...Billing } } }
`);

const ENDED: SubscriptionStatus[] = ['CANCELED', 'UNPAID', 'INCOMPLETE_EXPIRED', 'PAUSED'];

export function Billing({ billing }: { billing: BillingFragment }) {
  const { organization, can } = useHere();
  const cancel = useAction(Cancel);
  const resume = useAction(Resume);
  const input = { organizationId: organization.id };
  const subscribed = !organization.plan.isDefault && !ENDED.includes(billing.status);
  return (
    <section className="card billing">
      <div className="grow">
        <h2>{organization.plan.name} <span className="badge">{words(billing.status)}</span></h2>
        <p className="quiet">{standing(billing)}</p>
      </div>
      {can('BILLING_MANAGE') && billing.cancelAtPeriodEnd && (
        <button className="primary" disabled={resume.busy} onClick={() => resume.run({ input })}>Resume subscription</button>
      )}
      {can('BILLING_MANAGE') && subscribed && !billing.cancelAtPeriodEnd && (
        <ConfirmButton label="Cancel subscription" title="Cancel the subscription?" className="" onConfirm={() => cancel.run({ input })}>
          You keep {organization.plan.name} until the end of the period.
        </ConfirmButton>
      )}
    </section>
  );
}

function standing({ status, periodEnd, trialEndsAt, cancelAtPeriodEnd }: BillingFragment): string {
  if (cancelAtPeriodEnd && periodEnd) return `Ends on ${day(periodEnd)}.`;
  if (status === 'TRIALING' && trialEndsAt) return `The trial ends on ${day(trialEndsAt)}.`;
  if (status === 'PAST_DUE') return 'The last payment failed. You keep the plan for a few days.';
  if (ENDED.includes(status)) return 'The subscription has ended.';
  return periodEnd ? `Renews on ${day(periodEnd)}.` : 'The plan has no renewal date.';
}
