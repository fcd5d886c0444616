// The routes of the app.
import '@fontsource-variable/inter';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { Route, Switch } from 'wouter';
import { Outside, Organization } from './organization';
import { AcceptInvitation } from './pages/accept-invitation';
import { Home } from './pages/home';
import { DemoSession } from './sign-in/demo';
import { OidcSession, isConfigured } from './sign-in/oidc';
import './style.css';

const Session = isConfigured ? OidcSession : DemoSession;

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <Session>
      <Switch>
        <Route path="/">
          <Outside><Home /></Outside>
        </Route>
        <Route path="/accept-invitation">
          <Outside><AcceptInvitation /></Outside>
        </Route>
        <Route path="/:slug/:page?/:id?">
          {(parameters) => {
            const { slug, page, id } = parameters as { slug: string; page?: string; id?: string };
            return <Organization key={slug} slug={slug} page={page} id={id} />;
          }}
        </Route>
      </Switch>
    </Session>
  </StrictMode>,
);
