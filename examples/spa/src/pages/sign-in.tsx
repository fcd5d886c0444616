// Signs in as a demo user. A real app redirects to its identity provider here.
import { useCallback, useEffect, useState } from 'react';
import { useLocation } from 'wouter';
import { useSession, type User } from '../session';
import { Avatar, words } from '../ui/text';

export function SignIn() {
  const { signIn } = useSession();
  const [location, navigate] = useLocation();
  const [users, setUsers] = useState<User[]>([]);
  const [failed, setFailed] = useState(false);

  const load = useCallback(() => {
    setFailed(false);
    fetch('/graphiql/people.json')
      .then(async (response) => setUsers((await response.json()).people))
      .catch(() => setFailed(true));
  }, []);
  useEffect(load, [load]);

  function choose(user: User) {
    // After following a link, stay on its page.
    if (location === '/') navigate(`/${user.organization}/projects`);
    signIn(user);
  }

  return (
    <main className="outside wide">
      <title>Sign in · tenantry</title>
      <h1>Sign in</h1>
      <p className="quiet">Choose a demo user. Two tabs can use different users.</p>
      {failed && (
        <div className="empty" role="alert">
          <p>The server cannot be reached. Start it with <code>cargo run</code>.</p>
          <button onClick={load}>Try again</button>
        </div>
      )}
      <div className="cards faces">
        {users.map((user) => (
          <button key={user.subject} className="card user-card" onClick={() => choose(user)}>
            <Avatar name={user.name} />
            <strong>{user.name}</strong>
            <span className="quiet">
              {words(user.role)} of {user.organizationName}
            </span>
          </button>
        ))}
      </div>
    </main>
  );
}
