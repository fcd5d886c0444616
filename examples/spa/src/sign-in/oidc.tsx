// Signs in with OpenID Connect: authorization code flow with PKCE. The variables VITE_OIDC_* name
// the provider; no other file knows it.
import { UserManager, type User } from 'oidc-client-ts';
import { useEffect, useMemo, useRef, useState, type ReactNode } from 'react';
import { useLocation } from 'wouter';
import { SessionContext } from '../session';

const { VITE_OIDC_AUTHORITY, VITE_OIDC_CLIENT_ID, VITE_OIDC_SCOPE, VITE_OIDC_AUDIENCE } = import.meta.env;

/** The provider returns here. Register it as a redirect URI. */
const CALLBACK = '/signed-in';

/** Whether a provider is configured. */
export const isConfigured = !!VITE_OIDC_AUTHORITY;

const manager = new UserManager({
  authority: VITE_OIDC_AUTHORITY ?? '',
  client_id: VITE_OIDC_CLIENT_ID ?? '',
  redirect_uri: `${location.origin}${CALLBACK}`,
  post_logout_redirect_uri: `${location.origin}/`,
  scope: VITE_OIDC_SCOPE ?? 'openid profile email offline_access',
  // Names the API, so that the access token is one for it: `resource` is the standard, `audience`
  // is Auth0's name for it.
  ...(VITE_OIDC_AUDIENCE && { resource: VITE_OIDC_AUDIENCE, extraQueryParams: { audience: VITE_OIDC_AUDIENCE } }),
});

type State = { returnTo: string };

const signIn = (more: { prompt?: string; extraQueryParams?: Record<string, string> } = {}) =>
  manager.signinRedirect({
    state: { returnTo: `${location.pathname}${location.search}` } satisfies State,
    ...more,
    extraQueryParams: { ...manager.settings.extraQueryParams, ...more.extraQueryParams },
  });

/** Completes the redirect from the provider, or finds the session of this tab. Runs once. */
let started: Promise<User | null> | undefined;
const start = () => (started ??= location.pathname === CALLBACK ? manager.signinRedirectCallback() : manager.getUser());

export function OidcSession({ children }: { children: ReactNode }) {
  /** Undefined until it is known. */
  const [user, setUser] = useState<User | null>();
  const [problem, setProblem] = useState<string>();
  const [, navigate] = useLocation();
  const token = useRef('');
  token.current = user?.access_token ?? '';

  useEffect(() => {
    const load = (next: User) => setUser(next);
    const unload = () => setUser(null);
    manager.events.addUserLoaded(load);
    manager.events.addUserUnloaded(unload);
    manager.events.addSilentRenewError(unload);
    start()
      .then((found) => {
        const returnTo = (found?.state as State | undefined)?.returnTo;
        if (location.pathname === CALLBACK) navigate(returnTo ?? '/', { replace: true });
        setUser(found?.expired ? null : found);
      })
      .catch((error: Error) => {
        if (location.pathname === CALLBACK) navigate('/', { replace: true });
        setProblem(error.message);
        setUser(null);
      });
    return () => {
      manager.events.removeUserLoaded(load);
      manager.events.removeUserUnloaded(unload);
      manager.events.removeSilentRenewError(unload);
    };
  }, []);

  const { sub: subject, name, email } = user?.profile ?? {};
  const session = useMemo(
    () => ({
      user: subject ? { subject, name: name ?? email ?? 'You' } : null,
      token: () => token.current,
      signOut: () => void manager.signoutRedirect().catch(() => manager.removeUser()),
      expire: () => void manager.removeUser(),
      switchUser: () => void signIn({ prompt: 'login' }),
    }),
    [subject, name, email],
  );

  if (user === undefined) return <p className="quiet loading" role="status">Signing in…</p>;
  return <SessionContext value={session}>{user ? children : <Welcome problem={problem} />}</SessionContext>;
}

function Welcome({ problem }: { problem: string | undefined }) {
  const isInvited = location.pathname === '/accept-invitation';
  const [failed, setFailed] = useState(problem);
  const go = (...parameters: Parameters<typeof signIn>) => signIn(...parameters).catch((error: Error) => setFailed(error.message));
  return (
    <main className="outside">
      <title>Sign in · tenantry</title>
      <h1>{isInvited ? 'Accept your invitation' : 'Welcome'}</h1>
      <p className="quiet">
        {isInvited
          ? 'Sign in, or create an account, with the address that the invitation was sent to.'
          : 'Sign in to see your organizations, or create an account to start one.'}
      </p>
      {failed && <p className="wrong" role="alert">Signing in failed: {failed}</p>}
      <div className="actions start">
        <button className="primary" onClick={() => go()}>Sign in</button>
        {/* A hint to begin with registration, which providers may ignore. */}
        <button onClick={() => go({ extraQueryParams: { screen_hint: 'signup' } })}>Create an account</button>
      </div>
    </main>
  );
}
