// The API calls of the last 30 days as a chart. The server counts days in UTC.
import { useMemo } from 'react';
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { CallsPerDayQuery } from '../gql/graphql';
import { Bars, type Day } from '../ui/chart';
import { count } from '../ui/text';

const CallsPerDayPage = graphql(`
  query CallsPerDay($from: DateTime!) {
    organization { id usage(feature: "api_calls_per_month", from: $from) { start days } }
  }
`);

const DAYS = 30;
const DAY = 86_400_000;

type Period = NonNullable<CallsPerDayQuery['organization']>['usage'][number];

/** The start of a day or, with `day`, of another day of its month. */
const midnight = (date: Date, day = date.getUTCDate()) => Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), day);

function lastDays(today: number, periods: Period[]): Day[] {
  const calls = new Map<number, number>();
  for (const { start, days } of periods) {
    days.forEach((value, index) => calls.set(Date.parse(start) + index * DAY, value));
  }
  return Array.from({ length: DAYS }, (_, index) => {
    const time = today - (DAYS - 1 - index) * DAY;
    return { date: new Date(time), value: calls.get(time) ?? 0 };
  });
}

export function CallsPerDay() {
  const today = useMemo(() => midnight(new Date()), []);
  const first = new Date(today - (DAYS - 1) * DAY);
  const from = new Date(midnight(first, 1)).toISOString();
  const [{ data }] = useQuery({ query: CallsPerDayPage, variables: { from } });
  const periods = data?.organization?.usage;
  if (!periods || periods.length === 0) return null;
  const days = lastDays(today, periods);
  const total = days.reduce((sum, { value }) => sum + value, 0);
  return <Bars title="API calls per day" label={`${count(total)} calls in the last ${DAYS} days (UTC)`} days={days} timeZone="UTC" />;
}
