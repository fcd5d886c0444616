// Signing in, as one of the people of the demo. A real app would send the browser to its identity provider here.
import { useCallback, useEffect, useState } from 'react';
import { useLocation } from 'wouter';
import { useSession, type Person } from '../session';
import { Avatar, words } from '../ui/text';

export function SignIn() {
  const { signIn } = useSession();
  const [location, navigate] = useLocation();
  const [people, setPeople] = useState<Person[]>([]);
  const [failed, setFailed] = useState(false);

  const load = useCallback(() => {
    setFailed(false);
    fetch('/graphiql/people.json')
      .then(async (response) => setPeople((await response.json()).people))
      .catch(() => setFailed(true));
  }, []);
  useEffect(load, [load]);

  function choose(person: Person) {
    // Whoever came by a link stays on its page.
    if (location === '/') navigate(`/${person.organization}/projects`);
    signIn(person);
  }

  return (
    <main className="outside wide">
      <title>Sign in · tenantry</title>
      <h1>Sign in</h1>
      <p className="quiet">Choose somebody of the demo. Two tabs can be two people.</p>
      {failed && (
        <div className="empty" role="alert">
          <p>The server cannot be reached. Start it with <code>cargo run</code>.</p>
          <button onClick={load}>Try again</button>
        </div>
      )}
      <div className="cards faces">
        {people.map((person) => (
          <button key={person.subject} className="card person-card" onClick={() => choose(person)}>
            <Avatar name={person.name} />
            <strong>{person.name}</strong>
            <span className="quiet">
              {words(person.role)} of {person.organizationName}
            </span>
          </button>
        ))}
      </div>
    </main>
  );
}
