// The page of an invitation link.
import { Link, useLocation, useSearchParams } from 'wouter';
import { graphql } from '../gql';
import { useSession } from '../session';
import { useAction } from '../ui/action';
import { FormProblem } from '../ui/field';

const Accept = graphql(`
  mutation AcceptInvitation($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { organization { id slug } } }
`);

export function AcceptInvitation() {
  const { user, signOut } = useSession();
  const [, navigate] = useLocation();
  const [parameters] = useSearchParams();
  const { run, busy, problem } = useAction(Accept, { inForm: true });

  async function accept() {
    const { data } = await run({ input: { token: parameters.get('token') ?? '' } });
    if (data) navigate(`/${data.acceptInvitation.organization.slug}/projects`, { replace: true });
  }

  return (
    <>
      <title>Invitation · tenantry</title>
      <h1>You are invited</h1>
      <p>
        You are signed in as <strong>{user?.name}</strong>. An invitation is for one user. If it is not for you, sign
        in as another user.
      </p>
      <FormProblem problem={problem} fields={[]} />
      <div className="actions start">
        <button className="primary" disabled={busy} onClick={accept}>Accept invitation</button>
        <button onClick={signOut}>Sign in as another user</button>
      </div>
      <p><Link href="/">Your organizations</Link></p>
    </>
  );
}
