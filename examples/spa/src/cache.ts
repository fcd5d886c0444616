// The normalized cache of one organization: the keys of objects, and how changes update lists and
// pages.
import { cacheExchange, type Cache, type Resolver } from '@urql/exchange-graphcache';
import { relayPagination } from '@urql/exchange-graphcache/extras';
import { gql } from 'urql';
import type * as Api from './gql/graphql';

type List = 'projects' | 'members' | 'invitations' | 'auditLogs';
type Filter = Api.AuditLogFilter | null | undefined;

let creations = 0;
const unsavedId = () => `unsaved-${++creations}`;

/** Whether this is the id of a project that the server has not confirmed yet. */
export const isUnsaved = (id: string) => id.startsWith('unsaved-');

const organization = (cache: Cache) => cache.resolve('Query', 'organization') as string;

const PROJECT = gql`
  fragment CachedProject on Project { __typename id name description createdAt updatedAt createdBy { __typename id name } }
`;

/** Without the fields that the mutation leaves unchanged. */
const defined = (input: object) => Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined));

/** Returns the loaded pages of a list, each with its cache key, its variables and the keys of its nodes. */
function pages(cache: Cache, list: List) {
  const fields = cache.inspectFields(organization(cache)).filter(({ fieldName }) => fieldName === list);
  return fields.map((field) => {
    const page = cache.resolve(organization(cache), field.fieldKey) as string;
    const keys = (cache.resolve(page, 'nodes') ?? []) as string[];
    return { page, keys, variables: field.arguments ?? {} };
  });
}

/** Adds an object to the top of a list. Returns whether the list lacked it. */
function add(cache: Cache, list: List, key: string, belongs = (_filter: Filter) => true): boolean {
  const found = pages(cache, list).filter(({ variables }) => belongs(variables['filter'] as Filter));
  if (found.some(({ keys }) => keys.includes(key))) return false;
  for (const { page, keys, variables } of found) {
    if (!variables['after']) cache.link(page, 'nodes', [key, ...keys]);
  }
  return true;
}

/** Removes an object from a list. Returns whether the list contained it. */
function remove(cache: Cache, list: List, key: string): boolean {
  const found = pages(cache, list).filter(({ keys }) => keys.includes(key));
  for (const { page, keys } of found) cache.link(page, 'nodes', keys.filter((other) => other !== key));
  return found.length > 0;
}

/**
 * Returns the keys of the projects that are being saved. The cached lists do not contain them: an
 * event that arrives meanwhile would write them into a list for good.
 */
const unsaved = (cache: Cache) => (cache.resolve('Unsaved', 'projects') ?? []) as string[];

const savedProjects = relayPagination();

/**
 * Shows the projects that are being saved above the loaded pages. The event of a creation can arrive
 * before its response: a project whose name is already in the list is not shown twice.
 */
const projects: Resolver = (parent, variables, cache, info) => {
  const page = savedProjects(parent, variables, cache, info) as { nodes: string[] } | undefined;
  if (!page) return page;
  const name = (key: string) => cache.resolve(key, 'name');
  const names = new Set(page.nodes.map(name));
  return { ...page, nodes: [...unsaved(cache).filter((key) => !names.has(name(key))), ...page.nodes] };
};

/** Invalidates fields of the organization. Components that show them query again. */
function forget(cache: Cache, ...fields: string[]) {
  for (const { fieldName, fieldKey } of cache.inspectFields(organization(cache))) {
    if (fields.includes(fieldName)) cache.invalidate(organization(cache), fieldKey);
  }
}

/** A billing mutation returns `billing` only, but it also changes the plan in effect and its limits. */
const forgetPlan = (_result: unknown, _variables: unknown, cache: Cache) => forget(cache, 'plan', 'entitlements');

export const createCache = () =>
  cacheExchange({
    // The cache holds one organization, so a feature identifies an entitlement, and billing is a
    // single object.
    keys: {
      Billing: () => 'current',
      InvitationPreview: () => null,
      Entitlement: ({ feature }) => (feature as { key: string }).key,
      Feature: ({ key }) => key as string,
      Membership: ({ organizationId }) => organizationId as string,
      Plan: ({ key }) => key as string,
      PlanFeature: () => null,
      UsagePeriod: () => null,
    },
    resolvers: {
      Organization: {
        projects,
        members: relayPagination(),
        invitations: relayPagination(),
        auditLogs: relayPagination(),
      },
    },
    optimistic: {
      createProject: ({ input }: Api.CreateProjectMutationVariables) => ({
        __typename: 'CreateProjectPayload',
        // Without one of the fragment's fields, the list would not show the project.
        project: {
          __typename: 'Project',
          id: unsavedId(),
          name: input.name,
          description: input.description ?? null,
          createdAt: new Date().toISOString(),
          updatedAt: new Date().toISOString(),
          createdBy: null,
        } satisfies Api.ProjectFragment & { __typename: 'Project' },
      }),
      updateProject: ({ input }: Api.EditProjectMutationVariables, cache) => ({
        __typename: 'UpdateProjectPayload',
        project: { ...cache.readFragment(PROJECT, { __typename: 'Project', id: input.id }), ...defined(input) },
      }),
      updateMemberRole: ({ input }: Api.UpdateMemberRoleMutationVariables) => ({
        __typename: 'UpdateMemberRolePayload',
        member: { __typename: 'Member', id: input.id, role: input.role },
      }),
    },
    updates: {
      Mutation: {
        createProject({ createProject }: Api.CreateProjectMutation, _variables, cache, { optimistic }) {
          const key = `Project:${createProject.project.id}`;
          if (optimistic) return cache.link('Unsaved', 'projects', [key, ...unsaved(cache)]);
          add(cache, 'projects', key);
          forget(cache, 'entitlements');
        },
        deleteProject(_result, { input }: Api.DeleteProjectMutationVariables, cache) {
          remove(cache, 'projects', `Project:${input.id}`);
          forget(cache, 'entitlements');
        },
        inviteMember({ inviteMember }: Api.InviteMemberMutation, _variables, cache) {
          add(cache, 'invitations', `Invitation:${inviteMember.invitation.id}`);
          forget(cache, 'entitlements');
        },
        revokeInvitation(_result, { input }: Api.RevokeInvitationMutationVariables, cache) {
          remove(cache, 'invitations', `Invitation:${input.id}`);
          forget(cache, 'entitlements');
        },
        removeMember(_result, { input }: Api.RemoveMemberMutationVariables, cache) {
          remove(cache, 'members', `Member:${input.id}`);
          forget(cache, 'entitlements');
        },
        // The response contains only the new owner, but the previous one is now an admin.
        transferOwnership: (_result, _variables, cache) => forget(cache, 'members', 'viewerRole', 'viewerPermissions'),
        changePlan: forgetPlan,
        startTrial: forgetPlan,
        cancelSubscription: forgetPlan,
        resumeSubscription: forgetPlan,
      },
      Subscription: {
        projectChanged({ projectChanged: { id, project } }: Api.ProjectChangedSubscription, _variables, cache) {
          const key = `Project:${id}`;
          const counts = project ? add(cache, 'projects', key) : remove(cache, 'projects', key);
          if (counts) forget(cache, 'entitlements');
        },
        memberChanged({ memberChanged: { id, member } }: Api.MemberChangedSubscription, _variables, cache) {
          const key = `Member:${id}`;
          const counts = member ? add(cache, 'members', key) : remove(cache, 'members', key);
          if (counts) forget(cache, 'entitlements', 'invitations');
          if (cache.resolve('Query', 'viewer') === `Viewer:${member?.user?.id}`) {
            forget(cache, 'viewerRole', 'viewerPermissions');
          }
        },
        auditLogAdded({ auditLogAdded: entry }: Api.AuditLogAddedSubscription, _variables, cache) {
          add(cache, 'auditLogs', `AuditLog:${entry.id}`, (filter) => matches(filter, entry));
        },
      },
    },
  });

function matches(filter: Filter, entry: Api.AuditLogAddedSubscription['auditLogAdded']): boolean {
  const { action, resourceType, since } = filter ?? {};
  return (
    (!action || action === entry.action) &&
    (!resourceType || resourceType === entry.resourceType) &&
    (!since || Date.parse(since) <= Date.parse(entry.createdAt))
  );
}
