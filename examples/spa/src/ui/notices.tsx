// Notices above all pages: a message that disappears, or an offer to upgrade.
import { createContext, useCallback, useContext, useEffect, useMemo, useState, type ComponentType, type ReactNode } from 'react';
import type { Problem } from '../errors';

export type Limit = Extract<Problem, { kind: 'upgrade' }>;
type Notice = { text: string; again?: (() => void) | undefined };
type Notices = { show: (problem: Problem, again?: () => void) => void; notify: (text: string) => void };
type Props = { children: ReactNode; offer?: ComponentType<{ limit: Limit; onClose: () => void }> };

const SECONDS = 8;
const Context = createContext<Notices>({ show: () => undefined, notify: () => undefined });
export const useNotices = () => useContext(Context);

export function Notices({ children, offer: Offer }: Props) {
  const [notice, setNotice] = useState<Notice>();
  const [limit, setLimit] = useState<Limit>();
  const close = useCallback(() => setLimit(undefined), []);

  useEffect(() => {
    const timer = setTimeout(() => setNotice(undefined), SECONDS * 1000);
    return () => clearTimeout(timer);
  }, [notice]);

  const notices = useMemo<Notices>(
    () => ({
      notify: (text) => setNotice({ text }),
      show: (problem, again) => {
        if (problem.kind === 'sign-in') return;
        if (problem.kind === 'upgrade' && Offer) setLimit(problem);
        else setNotice({ text: problem.text, again: problem.kind === 'retry' ? again : undefined });
      },
    }),
    [Offer],
  );

  return (
    <Context value={notices}>
      {children}
      {limit && Offer && <Offer limit={limit} onClose={close} />}
      <div className="notices" role="status">
        {notice && (
          <div className="notice">
            <span>{notice.text}</span>
            {notice.again && (
              <button className="link" onClick={() => (setNotice(undefined), notice.again?.())}>
                Try again
              </button>
            )}
            <button className="link" aria-label="Dismiss" onClick={() => setNotice(undefined)}>
              ✕
            </button>
          </div>
        )}
      </div>
    </Context>
  );
}
