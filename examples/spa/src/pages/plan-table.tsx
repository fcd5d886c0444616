// The plans side by side, and the buttons that change the plan.
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { BillingFragment, PlansQuery } from '../gql/graphql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { Loaded } from '../ui/loaded';
import { amount, nameOf } from '../ui/text';
import { ChangePlan, Plans } from './upgrade';

const StartTrial = graphql(`
  mutation StartTrial($input: StartTrialInput!) { startTrial(input: $input) { billing { ...Billing } } }
`);

type Props = { billing: BillingFragment | null | undefined };

export function PlanTable({ billing }: Props) {
  const query = useQuery({ query: Plans, requestPolicy: 'cache-first' });
  return (
    <Loaded query={query}>
      {({ plans }) => (
        <div className="cards plans">
          {plans.map((plan) => <PlanCard key={plan.plan} plan={plan} billing={billing} />)}
        </div>
      )}
    </Loaded>
  );
}

function PlanCard({ plan, billing }: Props & { plan: PlansQuery['plans'][number] }) {
  const { organization, can } = useHere();
  const change = useAction(ChangePlan);
  const trial = useAction(StartTrial);
  const input = { plan: plan.plan };
  const current = organization.plan;
  const isCurrent = plan.plan === current.plan;
  const larger = plan.position > current.position;
  // An organization has one trial, and only while it has no paid plan.
  const mayTry = current.isDefault && larger && billing?.trialEndsAt == null;
  return (
    <article className={isCurrent ? 'card current' : 'card'} aria-label={plan.name}>
      <h3>{plan.name} {isCurrent && <span className="badge">Current plan</span>}</h3>
      <ul>
        {plan.features.map(({ feature, enabled, limit }) => (
          <li key={feature}>{enabled ? amount(feature, limit) : `no ${nameOf(feature, null)}`}</li>
        ))}
      </ul>
      {can('BILLING_MANAGE') && !isCurrent && (
        <button className={larger ? 'primary' : ''} disabled={change.busy} onClick={() => change.run({ input })}>
          {larger ? 'Upgrade' : 'Change'} to {plan.name}
        </button>
      )}
      {can('BILLING_MANAGE') && mayTry && (
        <button disabled={trial.busy} onClick={() => trial.run({ input })}>Try {plan.name}</button>
      )}
    </article>
  );
}
