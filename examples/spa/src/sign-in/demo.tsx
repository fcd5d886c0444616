// Signs in as a demo user of `cargo run`, until the browser tab is closed. Without a password: for
// development only.
import { useCallback, useEffect, useMemo, useState, type ReactNode } from 'react';
import { useLocation } from 'wouter';
import type { Role } from '../gql/graphql';
import { SessionContext } from '../session';
import { Avatar, words } from '../ui/text';

type User = {
  organization: string;
  organizationName: string;
  name: string;
  role: Role;
  subject: string;
  token: string;
};

const KEY = 'user';

export function DemoSession({ children }: { children: ReactNode }) {
  const [user, setUser] = useState<User | null>(() => JSON.parse(sessionStorage.getItem(KEY) ?? 'null'));
  const [path, navigate] = useLocation();

  const session = useMemo(() => {
    const leave = () => (sessionStorage.removeItem(KEY), setUser(null));
    return { user, token: () => user?.token ?? '', signOut: () => (leave(), navigate('/')), expire: leave, switchUser: leave };
  }, [user]);

  function signIn(next: User) {
    sessionStorage.setItem(KEY, JSON.stringify(next));
    // After following a link, stay on its page.
    if (path === '/') navigate(`/${next.organization}/projects`);
    setUser(next);
  }

  return <SessionContext value={session}>{user ? children : <DemoUsers onChoose={signIn} />}</SessionContext>;
}

function DemoUsers({ onChoose }: { onChoose: (user: User) => void }) {
  const [users, setUsers] = useState<User[]>();
  const [failed, setFailed] = useState(false);

  const load = useCallback(() => {
    setFailed(false);
    fetch('/graphiql/users.json')
      .then(async (response) => setUsers((await response.json()).users))
      .catch(() => setFailed(true));
  }, []);
  useEffect(load, [load]);

  return (
    <main className="outside wide">
      <title>Sign in · tenantry</title>
      <h1>Sign in</h1>
      <p className="quiet">Choose a demo user. You can be a different user in each tab.</p>
      {failed && (
        <div className="empty" role="alert">
          <p>The server can’t be reached. Start it with <code>cargo run</code>.</p>
          <button onClick={load}>Try again</button>
        </div>
      )}
      {users?.length === 0 && (
        <div className="empty" role="alert">
          <p>This server has no demo users. Start the app with <code>npm run start:login</code>.</p>
        </div>
      )}
      <div className="cards faces">
        {users?.map((user) => (
          <button key={user.subject} className="card user-card" onClick={() => onChoose(user)}>
            <Avatar name={user.name} />
            <strong>{user.name}</strong>
            <span className="quiet">{words(user.role)} of {user.organizationName}</span>
          </button>
        ))}
      </div>
    </main>
  );
}
