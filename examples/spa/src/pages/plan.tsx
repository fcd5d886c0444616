// The limits of the organization, their usage, and the plans.
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { EntitlementFragment } from '../gql/graphql';
import { useHere } from '../here';
import { useLive } from '../ui/live';
import { Loaded } from '../ui/loaded';
import { count, day } from '../ui/text';
import { Billing } from './billing';
import { CallsPerDay } from './calls-per-day';
import { PlanTable } from './plan-table';
import { BillingState } from './upgrade';
import { Entitlements } from './used';

const Changed = graphql(`
  subscription EntitlementChanged { entitlementChanged { ...Entitlement } }
`);

export function PlanAndUsage() {
  const { can } = useHere();
  const [{ data }] = useQuery({ query: BillingState, pause: !can('BILLING_READ') });
  useLive(Changed, { query: Entitlements, variables: {} });
  const billing = data?.organization?.billing;
  return (
    <>
      {billing && <Billing billing={billing} />}
      <section>
        <h2>Usage</h2>
        <Loaded query={useQuery({ query: Entitlements })}>
          {({ organization }) => (
            <ul className="rows usage" aria-label="Usage">
              {organization?.entitlements.map((one) => <Usage key={one.feature.key} entitlement={one} />)}
            </ul>
          )}
        </Loaded>
        <CallsPerDay />
      </section>
      <section>
        <h2>Plans</h2>
        <PlanTable billing={billing} />
      </section>
    </>
  );
}

function Usage({ entitlement }: { entitlement: EntitlementFragment }) {
  const { feature, limit, remaining, overLimit, resetsAt, source, validUntil } = entitlement;
  const used = entitlement.used ?? 0;
  const state = overLimit ? 'over' : remaining === 0 ? 'full' : '';
  return (
    <li className="row">
      <div className="grow">
        <h3>{feature.name}</h3>
        {limit != null && entitlement.used != null && <progress aria-label={feature.name} max={Math.max(limit, 1)} value={used} className={state} />}
        {overLimit && <p className="wrong">{count(used - (limit ?? 0))} more than the plan includes. Nothing is deleted.</p>}
        {source === 'OVERRIDE' && <p className="quiet">An exception to your plan{validUntil && `, until ${day(validUntil)}`}.</p>}
        {resetsAt && limit != null && <p className="quiet">Resets on {day(resetsAt)}.</p>}
      </div>
      <span>{standing(entitlement)}</span>
    </li>
  );
}

function standing({ feature, enabled, limit, used }: EntitlementFragment): string {
  if (!enabled) return 'Not included';
  if (feature.kind === 'FLAG') return 'Included';
  // The server does not count every feature.
  if (used == null) return limit == null ? 'Unlimited' : `Up to ${count(limit)}`;
  return limit == null ? `${count(used)}, unlimited` : `${count(used)} of ${count(limit)}`;
}
