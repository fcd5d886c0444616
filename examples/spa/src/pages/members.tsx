// The members of the organization, and its open invitations.
import { useState } from 'react';
import { useQuery } from 'urql';
import { graphql } from '../gql';
import { useHere } from '../here';
import { Steps, lastDays } from '../ui/chart';
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

const Joined = graphql(`
  query Joined { organization { id members(first: 100) { nodes { id joinedAt } pageInfo { hasNextPage endCursor } } } }
`);

export function Members() {
  const { can } = useHere();
  const [after, setAfter] = useState<string | null>(null);
  const query = useQuery({ query: MembersPage, variables: { after } });
  useLive(Changed, { query: MembersPage, variables: { after: null } });
  return (
    <>
      <div className="bar">
        <Used feature="team_members" />
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
      <MembersOverTime />
    </>
  );
}

const DAYS = 30;

/** How many of today's members had joined on each day. */
function MembersOverTime() {
  const [{ data }] = useQuery({ query: Joined });
  const members = data?.organization?.members;
  if (!members || members.pageInfo.hasNextPage || members.nodes.length < 2) return null;
  const joined = members.nodes.map(({ joinedAt }) => Date.parse(joinedAt));
  const days = lastDays(DAYS).map((date) => {
    const end = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 1).getTime();
    return { date, value: joined.filter((moment) => moment < end).length };
  });
  const [first, last] = [days[0]?.value, days.at(-1)?.value];
  return (
    <section>
      <Steps title="Members over time" label={`From ${first} to ${last} members in ${DAYS} days`} days={days} />
    </section>
  );
}
