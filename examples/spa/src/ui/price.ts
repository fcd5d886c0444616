// A price as text.
import type { PlansQuery } from '../gql/graphql';

type Price = PlansQuery['plans'][number]['prices'][number];

export function priceText({ interval, currency, unitAmount, perSeat }: Price): string {
  if (currency == null || unitAmount == null) return `paid each ${interval.toLowerCase()}`;
  const format = new Intl.NumberFormat('en', { style: 'currency', currency, trailingZeroDisplay: 'stripIfInteger' });
  // Amounts are in the smallest unit, and some currencies have no smaller one.
  const scale = 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2);
  return `${format.format(unitAmount / scale)} ${perSeat ? 'per seat ' : ''}a ${interval.toLowerCase()}`;
}
