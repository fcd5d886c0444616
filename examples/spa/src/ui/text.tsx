// Elements that many pages use: times, avatars, names of features.
import type { CSSProperties } from 'react';
import type { FeatureFragment } from '../gql/graphql';

const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const STEPS = [
  ['minute', 60],
  ['hour', 3600],
  ['day', 86_400],
] as const;

/** A relative time. The tooltip has the exact one. */
export function Ago({ time }: { time: string }) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  const [unit, size] = STEPS.findLast(([, size]) => Math.abs(seconds) >= size) ?? ['minute', 60];
  const text = Math.abs(seconds) < 60 ? 'just now' : RELATIVE.format(Math.round(seconds / size), unit);
  return <time dateTime={time} title={new Date(time).toLocaleString()}>{text}</time>;
}

export const day = (time: string) => new Date(time).toLocaleDateString('en', { day: 'numeric', month: 'long', year: 'numeric' });

const PERIODS = { MONTH: ' a month', BILLING_PERIOD: ' per billing period' };

type Limit = number | null | undefined;
export const count = (limit: Limit) => limit?.toLocaleString('en') ?? 'unlimited';

/** What is included of a feature, also of one that this app does not know. */
export function amount({ kind, name, unit, period }: FeatureFragment, limit: Limit): string {
  if (kind === 'FLAG') return name;
  const amount = unit ? `${count(limit)} ${unit}${limit === 1 ? '' : 's'}` : `${name}: ${count(limit)}`;
  return amount + (period ? PERIODS[period] : '');
}

/** `PAST_DUE` as "Past due". */
export const words = (constant: string) => {
  const text = constant.toLowerCase().replaceAll('_', ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
};

/** The role `ADMIN` as "an admin". */
export const withArticle = (role: string) => `${/^[AO]/i.test(role) ? 'an' : 'a'} ${role.toLowerCase()}`;

export function Avatar({ name }: { name: string }) {
  const hue = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0) * 37, 0) % 360;
  return <span className="avatar" aria-hidden style={{ '--hue': hue } as CSSProperties}>{name.charAt(0)}</span>;
}

const ICONS = {
  projects: 'M4 7a2 2 0 0 1 2-2h4l2 2h6a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2z',
  members: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5c2 .8 3.2 2.7 3.5 5.5',
  plan: 'M4 19V11M10 19V5M16 19v-6M21 19H3',
  settings: 'M12 15.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4M12 2.8v2.6M12 18.6v2.6M4 7.4l2.3 1.3M17.7 15.3l2.3 1.3M4 16.6l2.3-1.3M17.7 8.7 20 7.4',
  'audit-log': 'M12 7v5l3.5 2M12 21a9 9 0 1 0-9-9M3 12l-1.5-2.5M3 12l2.5-1.5',
};
export type IconName = keyof typeof ICONS;

export const Icon = ({ name }: { name: IconName }) => (
  <svg className="icon" viewBox="0 0 24 24" aria-hidden>
    <path d={ICONS[name]} />
  </svg>
);
