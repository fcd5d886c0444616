// The form that invites a member.
import type { FormEvent } from 'react';
import { graphql } from '../gql';
import type { Role } from '../gql/graphql';
import { useAction } from '../ui/action';
import { Field, FormProblem, SelectField } from '../ui/field';
import { words } from '../ui/text';
import type { Sent } from './invitation-link';
import { useGrantable } from './member-row';

const Invite = graphql(`
  mutation InviteMember($input: InviteMemberInput!) { inviteMember(input: $input) { invitation { ...Invitation } link } }
`);

export function InviteForm({ onSent }: { onSent: (sent: Sent) => void }) {
  const { run, busy, problem } = useAction(Invite, { inForm: true });
  const grantable = useGrantable();

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const values = new FormData(form);
    const { data } = await run({ input: { email: String(values.get('email')), role: values.get('role') as Role } });
    if (!data) return;
    onSent(data.inviteMember);
    form.reset();
  }

  return (
    <form className="inline" onSubmit={submit}>
      <Field label="Email" name="email" type="email" required problem={problem} placeholder="mia@example.com" />
      <SelectField label="Role" name="role" defaultValue="MEMBER">
        {grantable.map((role) => <option key={role} value={role}>{words(role)}</option>)}
      </SelectField>
      <button className="primary" disabled={busy}>Invite</button>
      <FormProblem problem={problem} fields={['email']} />
    </form>
  );
}
