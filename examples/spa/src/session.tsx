// The signed-in demo user, stored until the browser tab is closed.
import { createContext, useContext, useMemo, useState, type ReactNode } from 'react';
import type { Role } from './gql/graphql';

export type User = {
  organization: string;
  organizationName: string;
  name: string;
  role: Role;
  subject: string;
  token: string;
};

type Session = {
  user: User | null;
  signIn: (user: User) => void;
  signOut: () => void;
};

const KEY = 'user';
const Context = createContext<Session | null>(null);

export function SessionProvider({ children }: { children: ReactNode }) {
  const [user, setUser] = useState<User | null>(() => JSON.parse(sessionStorage.getItem(KEY) ?? 'null'));
  const session = useMemo(
    () => ({
      user,
      signIn: (next: User) => {
        sessionStorage.setItem(KEY, JSON.stringify(next));
        setUser(next);
      },
      signOut: () => {
        sessionStorage.removeItem(KEY);
        setUser(null);
      },
    }),
    [user],
  );
  return <Context value={session}>{children}</Context>;
}

export function useSession(): Session {
  const session = useContext(Context);
  if (!session) throw new Error('useSession needs a SessionProvider');
  return session;
}
