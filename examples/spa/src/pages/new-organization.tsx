// The button and dialog that create an organization.
import { useState, type FormEvent } from 'react';
import { useLocation } from 'wouter';
import { graphql } from '../gql';
import { useAction } from '../ui/action';
import { Dialog } from '../ui/dialog';
import { Field, FormProblem } from '../ui/field';

const CreateOrganization = graphql(`
  mutation CreateOrganization($input: CreateOrganizationInput!) { createOrganization(input: $input) { organization { id slug } } }
`);

const slugOf = (name: string) => name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, '');

export function NewOrganization({ className = '' }: { className?: string }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button className={className} onClick={() => setOpen(true)}>New organization</button>
      {open && <OrganizationDialog onClose={() => setOpen(false)} />}
    </>
  );
}

function OrganizationDialog({ onClose }: { onClose: () => void }) {
  const { run, busy, problem } = useAction(CreateOrganization, { inForm: true });
  const [, navigate] = useLocation();
  const [name, setName] = useState('');
  const [slug, setSlug] = useState<string>();

  async function submit(event: FormEvent) {
    event.preventDefault();
    const { data } = await run({ input: { name, slug: slug ?? slugOf(name) } });
    if (data) navigate(`/${data.createOrganization.organization.slug}/projects`);
  }

  return (
    <Dialog title="New organization" onClose={onClose}>
      <form onSubmit={submit}>
        <Field label="Name" name="name" problem={problem} value={name} onChange={(event) => setName(event.target.value)} autoFocus />
        <Field
          label="Slug"
          name="slug"
          problem={problem}
          hint={`Address: ${location.origin}/${slug ?? slugOf(name)}`}
          value={slug ?? slugOf(name)}
          onChange={(event) => setSlug(event.target.value)}
        />
        <FormProblem problem={problem} fields={['name', 'slug']} />
        <div className="actions">
          <button type="button" onClick={onClose}>Cancel</button>
          <button className="primary" disabled={busy}>Create organization</button>
        </div>
      </form>
    </Dialog>
  );
}
