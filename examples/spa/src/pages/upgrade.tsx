// Offers the next plan that allows more, when a limit is reached.
import { useQuery } from 'urql';
import { graphql } from '../gql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { Dialog } from '../ui/dialog';
import { useNotices, type Limit } from '../ui/notices';
import { amount, count } from '../ui/text';

export const Plans = graphql(`
  query Plans { plans { plan name position features { plan feature enabled limit } } }
`);

export const ChangePlan = graphql(`
  mutation ChangePlan($input: ChangePlanInput!) { changePlan(input: $input) { billing { ...Billing } } }

  fragment Billing on Billing { status plan periodEnd trialEndsAt cancelAtPeriodEnd }
`);

export function UpgradeOffer({ limit: { feature, limit }, onClose }: { limit: Limit; onClose: () => void }) {
  const { organization, can } = useHere();
  const { notify } = useNotices();
  const [{ data }] = useQuery({ query: Plans, requestPolicy: 'cache-first' });
  const { run, busy } = useAction(ChangePlan);
  const next = data?.plans
    .filter(({ position }) => position > organization.plan.position)
    .map((plan) => ({ ...plan, allowance: plan.features.find((one) => one.feature === feature && one.enabled) }))
    .find(({ allowance }) => allowance && (allowance.limit == null || allowance.limit > limit));

  async function upgrade(plan: string, name: string) {
    const { data } = await run({ input: { plan } });
    onClose();
    if (data) notify(`Your plan is now ${name}. You can continue.`);
  }

  return (
    <Dialog title="Your plan is full" onClose={onClose}>
      <p>
        {organization.plan.name} allows {amount(feature, limit)}.{' '}
        {next ? `${next.name} allows ${count(next.allowance?.limit)}.` : 'Delete something to continue.'}
        {next && !can('BILLING_MANAGE') && ' Ask an owner to upgrade.'}
      </p>
      <div className="actions">
        <button onClick={onClose}>Not now</button>
        {next && can('BILLING_MANAGE') && (
          <button className="primary" disabled={busy} onClick={() => upgrade(next.plan, next.name)}>
            Upgrade to {next.name}
          </button>
        )}
      </div>
    </Dialog>
  );
}
