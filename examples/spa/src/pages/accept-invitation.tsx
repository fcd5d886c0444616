// The page of an invitation link. The user signs in first, and returns here.
import { useState, type ReactNode } from 'react';
import { useQuery } from 'urql';
import { Link, useLocation, useSearchParams } from 'wouter';
import { graphql } from '../gql';
import { useSession } from '../session';
import { useAction } from '../ui/action';
import { FormProblem } from '../ui/field';
import { Ago, withArticle } from '../ui/text';
import { Preview, obstacles } from './invitation-preview';

const Invited = graphql(`
  query Invited { viewer { id name email } }
`);

const Accept = graphql(`
  mutation AcceptInvitation($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { organization { id slug } } }
`);

export function AcceptInvitation() {
  const [parameters] = useSearchParams();
  const token = parameters.get('token');
  return (
    <>
      <title>Invitation · tenantry</title>
      {token ? <Invitation token={token} /> : <Unusable text="This link is incomplete. Copy the whole link from the invitation, or ask for a new one." />}
    </>
  );
}

function Invitation({ token }: { token: string }) {
  const { user, switchUser } = useSession();
  const [, navigate] = useLocation();
  const [{ data }] = useQuery({ query: Invited });
  const [{ data: found, error, fetching }] = useQuery({ query: Preview, variables: { token } });
  const { run, busy, problem } = useAction(Accept, { inForm: true });
  const [refused, setRefused] = useState(false);
  const email = data?.viewer.email;

  async function accept() {
    const { data, problem } = await run({ input: { token } });
    if (data) navigate(`/${data.acceptInvitation.organization.slug}/projects`, { replace: true });
    setRefused(problem?.kind === 'not-found');
  }

  if (fetching && !found) return <p className="quiet loading" role="status">Loading…</p>;
  // Null: there is no such invitation. Undefined: the preview is not available now.
  const preview = error ? undefined : found?.invitation;
  const others = <button onClick={switchUser}>Sign in as another user</button>;
  if (refused || preview === null) {
    return (
      <Unusable
        text={`The invitation has expired, was revoked or used before, or was sent to an address other than ${email ?? 'yours'}. Ask for a new one.`}
      >
        {others}
      </Unusable>
    );
  }
  const obstacle = preview?.obstacle && obstacles[preview.obstacle];
  return (
    <>
      <h1>Join {preview?.organizationName ?? 'the organization'}</h1>
      {preview && (
        <p>
          {preview.inviterName ?? 'A member'} invited {preview.emailHint} to {preview.organizationName} as{' '}
          {withArticle(preview.role)}. The invitation expires <Ago time={preview.expiresAt} />.
        </p>
      )}
      <p>
        You are signed in as <strong>{data?.viewer.name ?? user?.name}</strong>
        {email && <> ({email})</>}. {obstacle ?? 'An invitation works only for the address that it was sent to.'}
      </p>
      <FormProblem problem={problem} fields={[]} />
      <div className="actions start">
        {!obstacle && <button className="primary" disabled={busy} onClick={accept}>Accept invitation</button>}
        {others}
      </div>
      <p><Link href="/">Your organizations</Link></p>
    </>
  );
}

function Unusable({ text, children }: { text: string; children?: ReactNode }) {
  return (
    <>
      <h1>This invitation can’t be used</h1>
      <p role="alert">{text}</p>
      {children && <div className="actions start">{children}</div>}
      <p><Link href="/">Your organizations</Link></p>
    </>
  );
}
