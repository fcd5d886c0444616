// The usage of a feature, as one line above a list.
import { useQuery } from 'urql';
import { Link } from 'wouter';
import { graphql } from '../gql';
import { useHere } from '../here';
import { amount, count } from '../ui/text';

export const Entitlements = graphql(`
  query Entitlements {
    organization {
      id
      entitlements { ...Entitlement }
    }
  }

  fragment Entitlement on Entitlement {
    feature { ...Feature }
    enabled limit used remaining overLimit resetsAt source validUntil
  }

  fragment Feature on Feature { key name kind unit period }
`);

/** `feature` is a key. */
export function Used({ feature }: { feature: string }) {
  const { organization } = useHere();
  const [{ data }] = useQuery({ query: Entitlements });
  const entitlement = data?.organization?.entitlements.find((one) => one.feature.key === feature);
  if (!entitlement) return <p />;
  const { used, limit, remaining, overLimit } = entitlement;
  return (
    <p className="quiet">
      {limit == null ? amount(entitlement.feature, used) : `${count(used)} of ${amount(entitlement.feature, limit)}`}
      {overLimit && ', more than the plan includes'}
      {remaining === 0 && <> · <Link href={`/${organization.slug}/plan`}>Compare plans</Link></>}
    </p>
  );
}
