// The signed-in user's organizations, shown outside of an organization.
import { useQuery } from 'urql';
import { Link } from 'wouter';
import { graphql } from '../gql';
import { useSession } from '../session';
import { Loaded } from '../ui/loaded';
import { Avatar, words } from '../ui/text';
import { NewOrganization } from './new-organization';

const Memberships = graphql(`
  query Memberships { viewer { id name memberships { organizationId name slug role } } }
`);

export function Home() {
  const { signOut } = useSession();
  return (
    <Loaded query={useQuery({ query: Memberships })}>
      {({ viewer }) => (
        <>
          <title>Your organizations · tenantry</title>
          <h1>{viewer.memberships.length === 0 ? `Welcome, ${viewer.name ?? 'there'}` : 'Your organizations'}</h1>
          {viewer.memberships.length === 0 && (
            <p className="quiet">Create your first organization. If your team already has one, ask for an invitation.</p>
          )}
          <ul className="rows">
            {viewer.memberships.map(({ organizationId, name, slug, role }) => (
              <li key={organizationId} className="row">
                <Avatar name={name} />
                <div className="grow">
                  <Link href={`/${slug}/projects`}>{name}</Link>
                  <p className="quiet">{words(role)} · /{slug}</p>
                </div>
              </li>
            ))}
          </ul>
          <div className="actions start">
            <NewOrganization className="primary" />
            <button className="subtle" onClick={signOut}>Sign out</button>
          </div>
        </>
      )}
    </Loaded>
  );
}
