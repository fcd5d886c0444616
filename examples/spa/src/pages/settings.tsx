// Name and address of the organization, its ownership, and its end.
import { useState, type FormEvent } from 'react';
import { useQuery } from 'urql';
import { useLocation } from 'wouter';
import { graphql } from '../gql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { ConfirmButton, Dialog } from '../ui/dialog';
import { Field, FormProblem, SelectField } from '../ui/field';
import { useNotices } from '../ui/notices';

const UpdateOrganization = graphql(`
  mutation UpdateOrganization($input: UpdateOrganizationInput!) {
    updateOrganization(input: $input) { organization { id name slug } }
    query { viewer { id memberships { organizationId name slug } } }
  }
`);

const TransferOwnership = graphql(`
  mutation TransferOwnership($input: TransferOwnershipInput!) { transferOwnership(input: $input) { member { id role } } }
`);

const DeleteOrganization = graphql(`
  mutation DeleteOrganization($input: DeleteOrganizationInput!) { deleteOrganization(input: $input) { organization { id } } }
`);

const Candidates = graphql(`
  query Candidates { organization { id members(first: 100) { nodes { id role user { id name email } } } } }
`);

export function Settings() {
  const { can } = useHere();
  return (
    <>
      <General />
      {can('ORGANIZATION_TRANSFER') && <Ownership />}
      {can('ORGANIZATION_DELETE') && <End />}
    </>
  );
}

function General() {
  const { organization, can } = useHere();
  const { notify } = useNotices();
  const [, navigate] = useLocation();
  const { run, busy, problem } = useAction(UpdateOrganization, { inForm: true });

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const slug = can('ORGANIZATION_UPDATE_SLUG') ? String(form.get('slug')) : organization.slug;
    const { data } = await run({
      // Null leaves the slug unchanged: each change counts against a limit.
      input: { name: String(form.get('name')), slug: slug === organization.slug ? null : slug },
    });
    if (!data) return;
    notify('Saved.');
    const current = data.updateOrganization.organization.slug;
    if (current !== organization.slug) navigate(`/${current}/settings`, { replace: true });
  }

  return (
    <form className="card form" onSubmit={submit}>
      <Field label="Name" name="name" problem={problem} defaultValue={organization.name} />
      <Field
        label="Slug"
        name="slug"
        problem={problem}
        disabled={!can('ORGANIZATION_UPDATE_SLUG')}
        hint={can('ORGANIZATION_UPDATE_SLUG') ? `The address is ${location.origin}/${organization.slug}. Links to the old address keep working.` : 'Only owners can change it.'}
        defaultValue={organization.slug}
      />
      <FormProblem problem={problem} fields={['name', 'slug']} />
      <div className="actions">
        <button className="primary" disabled={busy}>Save</button>
      </div>
    </form>
  );
}

function Ownership() {
  const { viewer } = useHere();
  const { notify } = useNotices();
  const [{ data }] = useQuery({ query: Candidates });
  const { run, busy } = useAction(TransferOwnership);
  const [chosen, setChosen] = useState('');
  const others = data?.organization?.members.nodes.filter(({ user }) => user && user.id !== viewer.id) ?? [];
  const member = others.find(({ id }) => id === chosen) ?? others[0];
  const name = member?.user?.name ?? member?.user?.email ?? 'this member';

  async function transfer() {
    if (!member) return;
    const { data } = await run({ input: { memberId: member.id } });
    if (data) notify(`${name} is now the owner. You are an admin.`);
  }

  return (
    <section>
      <h2>Ownership</h2>
      <div className="card form">
        {member ? (
          <>
            <SelectField label="New owner" value={member.id} onChange={({ target }) => setChosen(target.value)}>
              {others.map(({ id, user }) => <option key={id} value={id}>{user?.name ?? user?.email}</option>)}
            </SelectField>
            <div className="actions">
              <ConfirmButton label="Transfer ownership" title={`Make ${name} the owner?`} className="" busy={busy} onConfirm={transfer}>
                You become an admin. Only {name} can undo this.
              </ConfirmButton>
            </div>
          </>
        ) : (
          <p className="quiet">Invite another member to transfer the ownership.</p>
        )}
      </div>
    </section>
  );
}

function End() {
  const { organization } = useHere();
  const [open, setOpen] = useState(false);
  return (
    <section>
      <h2>Delete the organization</h2>
      <div className="card form">
        <p>All projects, members and invitations of {organization.name} are deleted. This cannot be undone.</p>
        <div className="actions">
          <button className="danger" onClick={() => setOpen(true)}>Delete {organization.name}</button>
        </div>
      </div>
      {open && <DeleteDialog onClose={() => setOpen(false)} />}
    </section>
  );
}

function DeleteDialog({ onClose }: { onClose: () => void }) {
  const { organization } = useHere();
  const [, navigate] = useLocation();
  const { run, busy, problem } = useAction(DeleteOrganization, { inForm: true });
  const [typed, setTyped] = useState('');

  async function submit(event: FormEvent) {
    event.preventDefault();
    const { data } = await run({ input: { slug: typed } });
    if (data) navigate('/', { replace: true });
  }

  return (
    <Dialog title={`Delete ${organization.name}?`} onClose={onClose}>
      <form onSubmit={submit}>
        <Field
          label={`Type “${organization.slug}” to confirm`}
          name="slug"
          problem={problem}
          value={typed}
          onChange={({ target }) => setTyped(target.value)}
          autoFocus
        />
        <FormProblem problem={problem} fields={['slug']} />
        <div className="actions">
          <button type="button" onClick={onClose}>Cancel</button>
          <button className="danger" disabled={busy || typed !== organization.slug}>Delete permanently</button>
        </div>
      </form>
    </Dialog>
  );
}
