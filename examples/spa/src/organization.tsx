// Provides the API client for an organization, or for none.
import { useMemo, type ReactNode } from 'react';
import { Provider, useQuery } from 'urql';
import { Link, Redirect } from 'wouter';
import { createClient } from './client';
import type { Permission } from './gql/graphql';
import { Here, HereContext } from './here';
import { UpgradeOffer } from './pages/upgrade';
import { useSession } from './session';
import { PAGES, Shell } from './shell';
import { Loaded } from './ui/loaded';
import { Notices } from './ui/notices';

function Client({ slug, children }: { slug: string | null; children: ReactNode }) {
  const { user, signOut } = useSession();
  const client = useMemo(() => createClient(user?.token ?? '', slug, signOut), [user, slug, signOut]);
  return <Provider value={client}>{children}</Provider>;
}

export function Outside({ children }: { children: ReactNode }) {
  return (
    <Client slug={null}>
      <Notices>
        <main className="outside">{children}</main>
      </Notices>
    </Client>
  );
}

export function Organization({ slug, page }: { slug: string; page: string | undefined }) {
  return (
    <Client slug={slug}>
      <Inside slug={slug} page={page} />
    </Client>
  );
}

function Inside({ slug, page }: { slug: string; page: string | undefined }) {
  return (
    <Loaded query={useQuery({ query: Here })} exit={<Link href="/">Your organizations</Link>}>
      {({ viewer, organization }) => {
        if (!organization) return <Redirect to="/" replace />;
        const can = (permission: Permission) => organization.viewerPermissions.includes(permission);
        const found = PAGES.find(({ path, needs }) => path === page && (!needs || can(needs)));
        // A retired slug also leads here. Redirect to the current one.
        if (!found || organization.slug !== slug) {
          return <Redirect to={`/${organization.slug}/${found?.path ?? 'projects'}`} replace />;
        }
        return (
          <HereContext value={{ viewer, organization, can }}>
            <Notices offer={UpgradeOffer}>
              <Shell page={found} />
            </Notices>
          </HereContext>
        );
      }}
    </Loaded>
  );
}
