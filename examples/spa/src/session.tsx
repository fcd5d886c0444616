// Who is signed in: a demo person, kept for as long as the browser tab.
import { createContext, useContext, useMemo, useState, type ReactNode } from 'react';
import type { Role } from './gql/graphql';

export type Person = {
  organization: string;
  organizationName: string;
  name: string;
  role: Role;
  subject: string;
  token: string;
};

type Session = {
  person: Person | null;
  signIn: (person: Person) => void;
  signOut: () => void;
};

const KEY = 'person';
const Context = createContext<Session | null>(null);

export function SessionProvider({ children }: { children: ReactNode }) {
  const [person, setPerson] = useState<Person | null>(() => JSON.parse(sessionStorage.getItem(KEY) ?? 'null'));
  const session = useMemo(
    () => ({
      person,
      signIn: (next: Person) => {
        sessionStorage.setItem(KEY, JSON.stringify(next));
        setPerson(next);
      },
      signOut: () => {
        sessionStorage.removeItem(KEY);
        setPerson(null);
      },
    }),
    [person],
  );
  return <Context value={session}>{children}</Context>;
}

export function useSession(): Session {
  const session = useContext(Context);
  if (!session) throw new Error('useSession needs a SessionProvider');
  return session;
}
