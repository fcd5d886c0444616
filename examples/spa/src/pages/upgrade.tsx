// Offers the next plan that allows more, when a limit is reached.
import { useQuery } from 'urql';
import { useLocation } from 'wouter';
import { graphql } from '../gql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { Dialog } from '../ui/dialog';
import { useNotices, type Limit } from '../ui/notices';
import { amount, count } from '../ui/text';

export const Plans = graphql(`
  query Plans { plans { key name position prices { id interval currency unitAmount perSeat } features { feature { ...Feature } enabled limit } } }
`);

export const ChangePlan = graphql(`
  mutation ChangePlan($input: ChangePlanInput!) { changePlan(input: $input) { billing { ...Billing } } }

  fragment Billing on Billing { provider status plan { key } periodEnd trialEndsAt cancelAtPeriodEnd }
`);

export const BillingState = graphql(`
  query BillingState { organization { id billing { ...Billing } } }
`);

type Props = { limit: Limit; onClose: (upgraded: boolean) => void };

export function UpgradeOffer({ limit: { feature, limit }, onClose }: Props) {
  const { organization, can } = useHere();
  const { notify } = useNotices();
  const [{ data }] = useQuery({ query: Plans, requestPolicy: 'cache-first' });
  const [billing] = useQuery({ query: BillingState, pause: !can('BILLING_MANAGE') });
  const provider = billing.data?.organization?.billing?.provider;
  const [, navigate] = useLocation();
  const { run, busy } = useAction(ChangePlan);
  const known = data?.plans.flatMap(({ features }) => features).find((one) => one.feature.key === feature)?.feature;
  const next = data?.plans
    .filter(({ position }) => position > organization.plan.position)
    .map((plan) => ({ ...plan, allowance: plan.features.find((one) => one.feature.key === feature && one.enabled) }))
    .find(({ allowance }) => allowance && (allowance.limit == null || allowance.limit > limit));

  // Stripe sells plans on its own page.
  function compare() {
    onClose(false);
    navigate(`/${organization.slug}/plan`);
  }

  async function upgrade(plan: string, name: string) {
    const { data } = await run({ input: { plan } });
    onClose(!!data);
    if (data) notify(`Your plan is now ${name}.`);
  }

  return (
    <Dialog title="You’ve reached your plan’s limit" onClose={() => onClose(false)}>
      <p>
        {limit === 0
          ? `The ${organization.plan.name} plan does not include ${known?.name ?? feature}.`
          : `You can have ${known ? amount(known, limit) : count(limit)}.`}{' '}
        {next
          ? `${next.name} includes ${known ? amount(known, next.allowance?.limit) : 'more'}, and takes effect immediately.`
          : 'Delete something to make room.'}
        {next && !can('BILLING_MANAGE') && ' Ask an owner to upgrade.'}
      </p>
      <div className="actions">
        <button onClick={() => onClose(false)}>Not now</button>
        {next && provider === 'STRIPE' && (
          <button className="primary" onClick={compare}>Compare plans</button>
        )}
        {next && provider === 'MANUAL' && (
          <button className="primary" disabled={busy} onClick={() => upgrade(next.key, next.name)}>
            Upgrade to {next.name}
          </button>
        )}
      </div>
    </Dialog>
  );
}
