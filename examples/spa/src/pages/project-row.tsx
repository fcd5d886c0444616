// A project in the list, with the actions that the viewer may take.
import { useState, type FormEvent } from 'react';
import { UNSAVED } from '../cache';
import { graphql } from '../gql';
import type { ProjectFragment } from '../gql/graphql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { ConfirmButton } from '../ui/dialog';
import { Field } from '../ui/field';
import { Ago } from '../ui/text';

const Rename = graphql(`
  mutation UpdateProject($input: UpdateProjectInput!) { updateProject(input: $input) { project { id name } } }
`);

const Delete = graphql(`
  mutation DeleteProject($input: DeleteProjectInput!) { deleteProject(input: $input) { project { id } } }
`);

export function ProjectRow({ project: { id, name, description, createdAt, createdBy } }: { project: ProjectFragment }) {
  const { can } = useHere();
  const rename = useAction(Rename, { inForm: true });
  const remove = useAction(Delete);
  const [renaming, setRenaming] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const input = { id, name: String(new FormData(event.currentTarget).get('name')) };
    setRenaming(false);
    const { problem } = await rename.run({ input });
    if (problem) setRenaming(true);
  }

  if (renaming) {
    return (
      <li className="row">
        <form className="inline grow" onSubmit={submit}>
          <Field label="Project name" name="name" defaultValue={name} problem={rename.problem} autoFocus />
          <button type="button" onClick={() => setRenaming(false)}>Cancel</button>
          <button className="primary">Save</button>
        </form>
      </li>
    );
  }
  return (
    <li className={id === UNSAVED ? 'row unsaved' : 'row'}>
      <div className="grow">
        <h2>{name}</h2>
        {description && <p>{description}</p>}
        <p className="quiet">
          {id === UNSAVED ? 'Saving…' : <>{createdBy?.name ?? 'A former member'} · <Ago time={createdAt} /></>}
        </p>
      </div>
      {id !== UNSAVED && can('PROJECT_UPDATE') && (
        <button className="subtle" aria-label={`Rename ${name}`} onClick={() => setRenaming(true)}>Rename</button>
      )}
      {id !== UNSAVED && can('PROJECT_DELETE') && (
        <ConfirmButton label="Delete" subject={name} title={`Delete ${name}?`} onConfirm={() => remove.run({ input: { id } })}>
          The project is deleted permanently, for all members.
        </ConfirmButton>
      )}
    </li>
  );
}
