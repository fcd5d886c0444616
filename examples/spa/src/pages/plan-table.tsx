// The plans side by side, and the buttons that change the plan.
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { BillingFragment, PlansQuery } from '../gql/graphql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { ConfirmButton } from '../ui/dialog';
import { Loaded } from '../ui/loaded';
import { priceText } from '../ui/price';
import { amount } from '../ui/text';
import { ChangePlan, Plans } from './upgrade';

const StartTrial = graphql(`
  mutation StartTrial($input: StartTrialInput!) { startTrial(input: $input) { billing { ...Billing } } }
`);

const Checkout = graphql(`
  mutation Checkout($input: CreateCheckoutSessionInput!) { createCheckoutSession(input: $input) { checkoutSession { id url } } }
`);

type Props = { billing: BillingFragment | null | undefined };

export function PlanTable({ billing }: Props) {
  const query = useQuery({ query: Plans, requestPolicy: 'cache-first' });
  return (
    <Loaded query={query}>
      {({ plans }) => (
        <div className="cards plans">
          {plans.map((plan) => <PlanCard key={plan.key} plan={plan} billing={billing} />)}
        </div>
      )}
    </Loaded>
  );
}

function PlanCard({ plan, billing }: Props & { plan: PlansQuery['plans'][number] }) {
  const { organization, can } = useHere();
  const change = useAction(ChangePlan);
  const trial = useAction(StartTrial);
  const checkout = useAction(Checkout);
  const input = { plan: plan.key };
  const current = organization.plan;
  const isCurrent = plan.key === current.key;
  const larger = plan.position > current.position;
  // An organization has one trial, and only while it has no paid plan.
  const mayTry = current.isDefault && larger && billing?.trialEndsAt == null;
  const features = plan.features.map(({ feature, enabled, limit }) => (
    <li key={feature.key}>{enabled ? amount(feature, limit) : <span className="quiet">{feature.name}: not included</span>}</li>
  ));

  async function buy(priceId: string) {
    const page = window.location.pathname;
    const { data } = await checkout.run({ input: { priceId, successPath: page, cancelPath: page } });
    if (data) window.location.assign(data.createCheckoutSession.checkoutSession.url);
  }

  return (
    <article className={isCurrent ? 'card current' : 'card'} aria-label={plan.name}>
      <h3>{plan.name} {isCurrent && <span className="badge">Current plan</span>}</h3>
      {plan.prices.length > 0 && <p className="quiet">{plan.prices.map(priceText).join(' or ')}</p>}
      <ul>{features}</ul>
      {can('BILLING_MANAGE') && billing?.provider === 'STRIPE' && current.isDefault && plan.prices.map((price) => (
        <button key={price.id} className="primary" disabled={checkout.busy} onClick={() => buy(price.id)}>Buy for {priceText(price)}</button>
      ))}
      {can('BILLING_MANAGE') && billing?.provider === 'MANUAL' && !isCurrent && (
        <ConfirmButton
          label={`${larger ? 'Upgrade' : 'Switch'} to ${plan.name}`}
          title={`Switch ${organization.name} to ${plan.name}?`}
          className={larger ? 'primary' : ''}
          tone={larger ? 'primary' : 'danger'}
          busy={change.busy}
          onConfirm={() => change.run({ input })}
        >
          <p>The plan changes from {current.name} to {plan.name} immediately, and includes:</p>
          <ul className="bullets">{features}</ul>
          {!larger && <p>Nothing is deleted. Where you use more than this, you can’t add more.</p>}
        </ConfirmButton>
      )}
      {can('BILLING_MANAGE') && billing?.provider === 'MANUAL' && mayTry && (
        <ConfirmButton
          label={`Try ${plan.name}`}
          title={`Try ${plan.name}?`}
          className=""
          tone="primary"
          busy={trial.busy}
          onConfirm={() => trial.run({ input })}
        >
          {plan.name} takes effect immediately. When the trial ends, {current.name} returns. An organization has one trial.
        </ConfirmButton>
      )}
    </article>
  );
}
