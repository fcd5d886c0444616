// Small charts as SVG, in the width of their place. The label says what a screen reader needs.

import type { ReactNode } from 'react';

const WIDTH = 600;
const HEIGHT = 90;
const DAY = 86_400_000;

export type Day = { date: Date; value: number };

const short = (date: Date, timeZone?: string | undefined) => date.toLocaleDateString('en', { day: 'numeric', month: 'short', timeZone });

/** The last `count` days, oldest first, in the local time zone. */
export function lastDays(count: number): Date[] {
  const today = new Date();
  return Array.from({ length: count }, (_, ago) => new Date(today.getFullYear(), today.getMonth(), today.getDate() - (count - 1 - ago)));
}

/** The number of times in each day. */
export function perDay(days: Date[], times: string[]): Day[] {
  const moments = times.map(Date.parse);
  return days.map((date) => {
    const from = date.getTime();
    return { date, value: moments.filter((moment) => moment >= from && moment < from + DAY).length };
  });
}

/** `timeZone` is that of the dates, if it is not the user's. */
type Props = { title: string; label: string; days: Day[]; timeZone?: string | undefined };

function Figure({ title, label, days, timeZone, children }: Props & { children: ReactNode }) {
  const [first, last] = [days[0], days.at(-1)];
  if (!first || !last) return null;
  return (
    <figure className="card chart">
      <figcaption>{title} <span className="quiet" aria-hidden>{label}</span></figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>{children}</svg>
      <p className="quiet ends">
        <span>{short(first.date, timeZone)}</span>
        <span>{short(last.date, timeZone)}</span>
      </p>
    </figure>
  );
}

export function Bars(props: Props) {
  const { days, timeZone } = props;
  const most = Math.max(1, ...days.map(({ value }) => value));
  const width = WIDTH / days.length;
  return (
    <Figure {...props}>
      {days.map(({ date, value }, index) => {
        const height = value === 0 ? 2 : Math.max(6, (value / most) * HEIGHT);
        return (
          <rect key={date.getTime()} className={value === 0 ? 'none' : ''} x={index * width + width * 0.12} y={HEIGHT - height} width={width * 0.76} height={height}>
            <title>{`${short(date, timeZone)}: ${value}`}</title>
          </rect>
        );
      })}
    </Figure>
  );
}

export function Steps(props: Props) {
  const { days } = props;
  const most = Math.max(1, ...days.map(({ value }) => value));
  const width = WIDTH / days.length;
  const top = (value: number) => HEIGHT - 2 - (value / most) * (HEIGHT - 12);
  const line = days.map(({ value }, index) => `${index * width},${top(value)} ${(index + 1) * width},${top(value)}`).join(' ');
  return (
    <Figure {...props}>
      <polygon points={`0,${HEIGHT} ${line} ${WIDTH},${HEIGHT}`} />
      <polyline points={line} />
    </Figure>
  );
}
