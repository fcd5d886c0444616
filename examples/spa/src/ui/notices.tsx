// Notices above all pages: a message that disappears, or an offer to upgrade.
import { createContext, useContext, useEffect, useMemo, useState, type ComponentType, type ReactNode } from 'react';
import type { Problem } from '../errors';

export type Limit = Extract<Problem, { kind: 'upgrade' }>;
type Notice = { text: string; again?: (() => void) | undefined };
type Notices = {
  /** Resolves at once, or when an offer is closed: to whether the user has upgraded. */
  show: (problem: Problem, again?: () => void) => Promise<boolean>;
  notify: (text: string) => void;
};
type Offer = { limit: Limit; onClose: (upgraded: boolean) => void };
type Props = { children: ReactNode; offer?: ComponentType<Offer> };

const SECONDS = 8;
const Context = createContext<Notices>({ show: async () => false, notify: () => undefined });
export const useNotices = () => useContext(Context);

export function Notices({ children, offer: Offer }: Props) {
  const [notice, setNotice] = useState<Notice>();
  const [offer, setOffer] = useState<Offer>();

  useEffect(() => {
    const timer = setTimeout(() => setNotice(undefined), SECONDS * 1000);
    return () => clearTimeout(timer);
  }, [notice]);

  const notices = useMemo<Notices>(
    () => ({
      notify: (text) => setNotice({ text }),
      show: async (problem, again) => {
        if (problem.kind === 'sign-in') return false;
        if (problem.kind === 'upgrade' && Offer) {
          return new Promise((resolve) => {
            const onClose = (upgraded: boolean) => (setOffer(undefined), resolve(upgraded));
            setOffer({ limit: problem, onClose });
          });
        }
        setNotice({ text: problem.text, again: problem.kind === 'retry' ? again : undefined });
        return false;
      },
    }),
    [Offer],
  );

  return (
    <Context value={notices}>
      {children}
      {offer && Offer && <Offer {...offer} />}
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
