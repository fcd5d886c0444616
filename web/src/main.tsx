// The page: the header above GraphiQL. Both use the same user and organization.
import 'graphiql/setup-workers/vite';
import '@graphiql/react/style.css';
import '@graphiql/plugin-doc-explorer/style.css';
import '@graphiql/plugin-history/style.css';
import 'graphiql/graphiql.css';
import './style.css';
import { GraphiQL } from 'graphiql';
import { useEffect, useMemo, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Examples, firstExample } from './examples';
import { createFetcher } from './fetcher';
import { Header } from './header';
import { endpoint, loadToken, pushPlace, readPlace, saveToken, type User, type Place } from './place';
import { Listening, Session } from './session';
import { storage } from './storage';
import { SystemTheme } from './theme';

function Page({ users }: { users: User[] }) {
  const [place, setPlace] = useState(() => readPlace(users));
  const [ownToken, setOwnToken] = useState(loadToken);
  const [permissions, setPermissions] = useState<string[] | null>(null);
  useEffect(() => {
    const back = () => setPlace(readPlace(users));
    addEventListener('popstate', back);
    return () => removeEventListener('popstate', back);
  }, [users]);

  const url = endpoint(place.slug);
  const token = users.find(({ subject }) => subject === place.subject)?.token ?? ownToken;
  const fetcher = useMemo(() => createFetcher(url, token), [url, token]);
  useEffect(() => {
    document.title = place.slug === null ? 'tenantry' : `${place.slug} · tenantry`;
  }, [place.slug]);

  const changePlace = (place: Place) => {
    pushPlace(place);
    setPlace(place);
  };
  const changeToken = (token: string) => {
    saveToken(token);
    setOwnToken(token);
  };
  return (
    <>
      <Header
        users={users}
        place={place}
        onPlace={changePlace}
        token={token}
        ownToken={ownToken}
        onOwnToken={changeToken}
        onPermissions={setPermissions}
      />
      <main>
        <GraphiQL fetcher={fetcher} storage={storage} defaultQuery={firstExample} shouldPersistHeaders={false}>
          <GraphiQL.Logo>
            <SystemTheme />
            <Session context={`${url} ${token}`} />
            <Examples permissions={permissions} />
          </GraphiQL.Logo>
          <GraphiQL.Footer>
            <Listening />
          </GraphiQL.Footer>
        </GraphiQL>
      </main>
    </>
  );
}

async function loadUsers(): Promise<User[]> {
  const response = await fetch('/graphiql/users.json');
  return response.ok ? (await response.json()).users : [];
}

const root = createRoot(document.getElementById('root')!);
root.render(<Page users={await loadUsers().catch(() => [])} />);
