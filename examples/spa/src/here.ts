// The current organization, as context for all pages.
import { createContext, useContext } from 'react';
import { graphql } from './gql';
import type { HereQuery, Permission } from './gql/graphql';

export const Here = graphql(`
  query Here {
    viewer { id name memberships { organizationId name slug } }
    organization { id name slug viewerRole viewerPermissions plan { key name position isDefault } }
  }
`);

type Here = {
  viewer: HereQuery['viewer'];
  organization: NonNullable<HereQuery['organization']>;
  can: (permission: Permission) => boolean;
};

export const HereContext = createContext<Here | null>(null);

export function useHere(): Here {
  const here = useContext(HereContext);
  if (!here) throw new Error('useHere needs an Organization around it');
  return here;
}
