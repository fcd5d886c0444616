// Who asks, and in which organization: both live in the browser's history, so that links, reload and "back" work.

export interface Person {
  organization: string;
  organizationName: string;
  name: string;
  role: string;
  subject: string;
  token: string;
}

export interface Place {
  /** As in the address; null: no organization. */
  slug: string | null;
  /** One of the people's; null: a token of one's own. */
  subject: string | null;
}

const TOKEN = 'tenantry:token';

export const loadToken = () => sessionStorage.getItem(TOKEN) ?? '';
export const saveToken = (token: string) => sessionStorage.setItem(TOKEN, token);

const path = (slug: string | null) => (slug === null ? '' : `/org/${slug}`);

export const endpoint = (slug: string | null) => `${path(slug)}/graphql`;

/** Where a link leads says nothing about who follows it: then it is the organization's first person, if we know any. */
export function readPlace(people: Person[]): Place {
  const slug = /^\/org\/([^/]+)\//.exec(location.pathname)?.[1] ?? null;
  const state = history.state as Place | null;
  if (state && (state.subject === null || people.some(({ subject }) => subject === state.subject))) {
    return { slug, subject: state.subject };
  }
  const person = people.find(({ organization }) => organization === slug) ?? people[0];
  return { slug, subject: loadToken() === '' ? (person?.subject ?? null) : null };
}

export function pushPlace(place: Place) {
  history.pushState(place, '', `${path(place.slug)}/graphiql`);
}
