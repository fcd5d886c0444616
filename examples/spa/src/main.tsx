// The routes of the app.
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Route, Switch } from 'wouter';
import { Outside, Organization } from './organization';
import { AcceptInvitation } from './pages/accept-invitation';
import { Home } from './pages/home';
import { SignIn } from './pages/sign-in';
import { SessionProvider, useSession } from './session';
import './style.css';

function App() {
  const { user } = useSession();
  if (!user) return <SignIn />;
  return (
    <Switch>
      <Route path="/">
        <Outside><Home /></Outside>
      </Route>
      <Route path="/accept-invitation">
        <Outside><AcceptInvitation /></Outside>
      </Route>
      <Route path="/:slug/:page?">
        {({ slug, page }) => <Organization key={slug} slug={slug} page={page} />}
      </Route>
    </Switch>
  );
}

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <SessionProvider>
      <App />
    </SessionProvider>
  </StrictMode>,
);
