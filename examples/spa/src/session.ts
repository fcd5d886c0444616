// Who is signed in. src/sign-in provides it: from an identity provider, or as a demo user.
import { createContext, useContext } from 'react';

export type Session = {
  user: { subject: string; name: string } | null;
  /** The current token. Read it for each request, because it is renewed. */
  token: () => string;
  /** Ends the session here and at the identity provider. */
  signOut: () => void;
  /** The server refused the token. */
  expire: () => void;
  /** Signs in as another user, and returns to this page. */
  switchUser: () => void;
};

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error('useSession needs a session around it');
  return session;
}
