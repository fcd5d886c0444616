// Provides the API client for an organization, or for none.
import { useMemo, type ReactNode } from 'react';
import { Provider, useQuery } from 'urql';
import { Link, Redirect } from 'wouter';
import { createClient } from './client';
import type { Permission } from './gql/graphql';
import { Here, HereContext } from './here';
import { UpgradeOffer } from './pages/upgrade';
import { useSession } from './session';
import { Shell } from './shell';
import { Loaded } from './ui/loaded';
import { Notices } from './ui/notices';

function Client({ slug, children }: { slug: string | null; children: ReactNode }) {
  const session = useSession();
  const client = useMemo(() => createClient(session, slug), [session, slug]);
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

type Props = { slug: string; page: string | undefined; id: string | undefined };

export function Organization(props: Props) {
  return (
    <Client slug={props.slug}>
      <Inside {...props} />
    </Client>
  );
}

function Inside({ slug, page, id }: Props) {
  return (
    <Loaded query={useQuery({ query: Here })} exit={<Link href="/">Your organizations</Link>}>
      {({ viewer, organization }) => {
        if (!organization) return <Redirect to="/" replace />;
        // A retired slug also leads here. Redirect to the current one.
        if (!page || organization.slug !== slug) {
          const rest = [page ?? 'projects', id].filter(Boolean).join('/');
          return <Redirect to={`/${organization.slug}/${rest}`} replace />;
        }
        const can = (permission: Permission) => organization.viewerPermissions.includes(permission);
        return (
          <HereContext value={{ viewer, organization, can }}>
            <Notices offer={UpgradeOffer}>
              <Shell path={page} id={id} />
            </Notices>
          </HereContext>
        );
      }}
    </Loaded>
  );
}
