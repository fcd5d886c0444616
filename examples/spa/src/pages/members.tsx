// The members of the organization, and its open invitations.
import { useState } from 'react';
import { useQuery } from 'urql';
import { graphql } from '../gql';
import { useHere } from '../here';
import { useLive } from '../ui/live';
import { Loaded, LoadMore } from '../ui/loaded';
import { Invitations } from './invitations';
import { MemberRow } from './member-row';
import { Used } from './used';

const MembersPage = graphql(`
  query Members($after: String) {
    organization {
      id
      members(first: 20, after: $after) {
        nodes { ...Member }
        pageInfo { hasNextPage endCursor }
      }
    }
  }

  fragment Member on Member { id role joinedAt user { id name email } }
`);

const Changed = graphql(`
  subscription MemberChanged { memberChanged { id member { ...Member } } }
`);

export function Members() {
  const { can } = useHere();
  const [after, setAfter] = useState<string | null>(null);
  const query = useQuery({ query: MembersPage, variables: { after } });
  useLive(Changed, { query: MembersPage, variables: { after: null } });
  return (
    <>
      <div className="bar">
        <Used feature="TEAM_MEMBERS" />
      </div>
      <Loaded query={query}>
        {({ organization }) => (
          <>
            <ul className="rows users" aria-label="Members">
              {organization?.members.nodes.map((member) => <MemberRow key={member.id} member={member} />)}
            </ul>
            {organization && <LoadMore page={organization.members.pageInfo} busy={query[0].fetching} onMore={setAfter} />}
          </>
        )}
      </Loaded>
      {can('MEMBER_INVITE') && <Invitations />}
    </>
  );
}
