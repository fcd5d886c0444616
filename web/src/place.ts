// The user and the organization of requests. Both are stored in the browser's history, so that
// links, reload and "back" work.

export interface User {
  organization: string;
  organizationName: string;
  name: string;
  role: string;
  subject: string;
  token: string;
}

export interface Place {
  /** The slug in the address, or null without an organization. */
  slug: string | null;
  /** The subject of a demo user, or null for a token that the visitor entered. */
  subject: string | null;
}

const TOKEN = 'tenantry:token';

export const loadToken = () => sessionStorage.getItem(TOKEN) ?? '';
export const saveToken = (token: string) => sessionStorage.setItem(TOKEN, token);

const path = (slug: string | null) => (slug === null ? '' : `/org/${slug}`);

export const endpoint = (slug: string | null) => `${path(slug)}/graphql`;

/** A link does not name a user. Without one, this selects the organization's first demo user, if there is one. */
export function readPlace(users: User[]): Place {
  const slug = /^\/org\/([^/]+)\//.exec(location.pathname)?.[1] ?? null;
  const state = history.state as Place | null;
  if (state && (state.subject === null || users.some(({ subject }) => subject === state.subject))) {
    return { slug, subject: state.subject };
  }
  const user = users.find(({ organization }) => organization === slug) ?? users[0];
  return { slug, subject: loadToken() === '' ? (user?.subject ?? null) : null };
}

export function pushPlace(place: Place) {
  history.pushState(place, '', `${path(place.slug)}/graphiql`);
}
