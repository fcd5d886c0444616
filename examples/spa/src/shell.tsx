// The frame around the pages of an organization: switcher, navigation and user.
import type { ComponentType } from 'react';
import { Link, useLocation } from 'wouter';
import type { Permission } from './gql/graphql';
import { useHere } from './here';
import { AuditLog } from './pages/audit-log';
import { Members } from './pages/members';
import { NewOrganization } from './pages/new-organization';
import { NotFound } from './pages/not-found';
import { PlanAndUsage } from './pages/plan';
import { ProjectPage } from './pages/project';
import { Projects } from './pages/projects';
import { Settings } from './pages/settings';
import { useSession } from './session';
import { Avatar, Icon, words, type IconName } from './ui/text';

type Page = { path: IconName; title: string; Body: ComponentType; needs?: Permission };

const PAGES: Page[] = [
  { path: 'projects', title: 'Projects', Body: Projects },
  { path: 'members', title: 'Members', Body: Members },
  { path: 'plan', title: 'Plan', Body: PlanAndUsage },
  { path: 'audit-log', title: 'Audit log', Body: AuditLog, needs: 'AUDIT_LOG_READ' },
  { path: 'settings', title: 'Settings', Body: Settings, needs: 'ORGANIZATION_UPDATE' },
];

export function Shell({ path, id }: { path: string; id: string | undefined }) {
  const { organization, viewer, can } = useHere();
  const { signOut } = useSession();
  const [, navigate] = useLocation();
  const pages = PAGES.filter(({ needs }) => !needs || can(needs));
  return (
    <div className="shell">
      <header className="side">
        <div className="switcher">
          <select
            aria-label="Organization"
            value={organization.slug}
            onChange={({ target }) => navigate(`/${target.value}/projects`)}
          >
            {viewer.memberships.map(({ organizationId, slug, name }) => (
              <option key={organizationId} value={slug}>{name}</option>
            ))}
          </select>
          <NewOrganization />
        </div>
        <nav aria-label="Pages">
          {pages.map((page) => (
            <Link
              key={page.path}
              href={`/${organization.slug}/${page.path}`}
              aria-current={page.path === path ? 'page' : undefined}
            >
              <Icon name={page.path} />
              {page.title}
            </Link>
          ))}
        </nav>
        <div className="user">
          <Avatar name={viewer.name ?? '?'} />
          <p>
            {viewer.name} <span className="quiet">{words(organization.viewerRole)}</span>
          </p>
          <button className="subtle" onClick={signOut}>Sign out</button>
        </div>
      </header>
      <main key={`${path}/${id}`}>
        <Body page={pages.find((page) => page.path === path)} id={id} />
      </main>
    </div>
  );
}

function Body({ page, id }: { page: Page | undefined; id: string | undefined }) {
  const { organization } = useHere();
  if (page?.path === 'projects' && id) return <ProjectPage id={id} />;
  if (!page || id) return <NotFound />;
  return (
    <>
      <title>{`${page.title} · ${organization.name}`}</title>
      <h1>{page.title}</h1>
      <page.Body />
    </>
  );
}
