// The frame around the pages of an organization: switcher, navigation and user.
import type { ComponentType } from 'react';
import { Link, useLocation } from 'wouter';
import type { Permission } from './gql/graphql';
import { useHere } from './here';
import { AuditLog } from './pages/audit-log';
import { Members } from './pages/members';
import { NewOrganization } from './pages/new-organization';
import { PlanAndUsage } from './pages/plan';
import { Projects } from './pages/projects';
import { useSession } from './session';
import { Avatar, Icon, words, type IconName } from './ui/text';

type Page = { path: IconName; title: string; Body: ComponentType; needs?: Permission };

export const PAGES: Page[] = [
  { path: 'projects', title: 'Projects', Body: Projects },
  { path: 'members', title: 'Members', Body: Members },
  { path: 'plan', title: 'Plan and usage', Body: PlanAndUsage },
  { path: 'audit-log', title: 'Audit log', Body: AuditLog, needs: 'AUDIT_LOG_READ' },
];

export function Shell({ page: { path, title, Body } }: { page: Page }) {
  const { organization, viewer, can } = useHere();
  const { signOut } = useSession();
  const [, navigate] = useLocation();
  return (
    <div className="shell">
      <header className="side">
        <div className="switcher">
          <select
            aria-label="Organization"
            value={organization.slug}
            onChange={({ target }) => navigate(`/${target.value}/${path}`)}
          >
            {viewer.memberships.map(({ organizationId, slug, name }) => (
              <option key={organizationId} value={slug}>{name}</option>
            ))}
          </select>
          <NewOrganization />
        </div>
        <nav aria-label="Pages">
          {PAGES.filter(({ needs }) => !needs || can(needs)).map((page) => (
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
          <button className="subtle" onClick={() => (signOut(), navigate('/'))}>Sign out</button>
        </div>
      </header>
      <main>
        <title>{`${title} · ${organization.name}`}</title>
        <h1>{title}</h1>
        <Body key={path} />
      </main>
    </div>
  );
}
