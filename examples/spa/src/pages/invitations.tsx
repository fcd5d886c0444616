// Open invitations: create, copy the link, resend, revoke.
import { useState } from 'react';
import { useQuery } from 'urql';
import { graphql } from '../gql';
import type { InvitationFragment } from '../gql/graphql';
import { useAction } from '../ui/action';
import { ConfirmButton } from '../ui/dialog';
import { Loaded, LoadMore } from '../ui/loaded';
import { Ago, words } from '../ui/text';
import { InviteForm } from './invite-form';
import { InvitationLink, type Sent } from './invitation-link';
import { useGrantable } from './member-row';

const InvitationsPage = graphql(`
  query Invitations($after: String) {
    organization {
      id
      invitations(first: 20, after: $after) {
        nodes { ...Invitation }
        pageInfo { hasNextPage endCursor }
      }
    }
  }

  fragment Invitation on Invitation { id email role expiresAt expired }
`);
const Resend = graphql(`
  mutation ResendInvitation($input: ResendInvitationInput!) {
    resendInvitation(input: $input) { invitation { ...Invitation } link }
  }
`);
const Revoke = graphql(`
  mutation RevokeInvitation($input: RevokeInvitationInput!) { revokeInvitation(input: $input) { invitation { id } } }
`);

export function Invitations() {
  const [after, setAfter] = useState<string | null>(null);
  const [sent, setSent] = useState<Sent>();
  const query = useQuery({ query: InvitationsPage, variables: { after } });
  return (
    <section>
      <h2>Invitations</h2>
      <InviteForm onSent={setSent} />
      <Loaded query={query}>
        {({ organization }) => {
          const { nodes = [], pageInfo } = organization?.invitations ?? {};
          return (
            <>
              {sent && nodes.some(({ id }) => id === sent.invitation.id) && <InvitationLink sent={sent} />}
              <ul className="rows users" aria-label="Invitations">
                {nodes.map((one) => <InvitationRow key={one.id} invitation={one} onSent={setSent} />)}
              </ul>
              {pageInfo && <LoadMore page={pageInfo} busy={query[0].fetching} onMore={setAfter} />}
            </>
          );
        }}
      </Loaded>
    </section>
  );
}

type RowProps = { invitation: InvitationFragment; onSent: (sent: Sent) => void };

function InvitationRow({ invitation: { id, email, role, expiresAt, expired }, onSent }: RowProps) {
  const resend = useAction(Resend);
  const revoke = useAction(Revoke);
  const mayAct = useGrantable().includes(role);

  async function again() {
    const { data } = await resend.run({ input: { id } });
    if (data) onSent(data.resendInvitation);
  }

  return (
    <li className="row">
      <div className="grow">
        <h3>{email}</h3>
        <p className={expired ? 'wrong' : 'quiet'}>{expired ? 'Expired' : 'Expires'} <Ago time={expiresAt} /></p>
      </div>
      <span className="badge">{words(role)}</span>
      {mayAct && (
        <>
          <button className="subtle" aria-label={`Resend ${email}`} disabled={resend.busy} onClick={again}>Resend</button>
          <ConfirmButton label="Revoke" subject={email} title="Revoke the invitation?" onConfirm={() => revoke.run({ input: { id } })}>
            The link for {email} stops working.
          </ConfirmButton>
        </>
      )}
    </li>
  );
}
