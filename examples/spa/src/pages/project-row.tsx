// A project in the list. Its name can be changed here; its page has everything else.
import { useState, type FormEvent } from 'react';
import { Link } from 'wouter';
import { isUnsaved } from '../cache';
import { graphql } from '../gql';
import type { ProjectFragment } from '../gql/graphql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { Field } from '../ui/field';
import { Ago } from '../ui/text';

const RenameProject = graphql(`
  mutation RenameProject($input: UpdateProjectInput!) { updateProject(input: $input) { project { id name } } }
`);

export function ProjectRow({ project: { id, name, description, createdAt, createdBy } }: { project: ProjectFragment }) {
  const { organization, can } = useHere();
  const rename = useAction(RenameProject, { inForm: true });
  /** What the user typed, while the name is edited. */
  const [draft, setDraft] = useState<string>();

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const typed = String(new FormData(event.currentTarget).get('name'));
    // The list shows the new name at once. If the server refuses it, the form returns with it.
    setDraft(undefined);
    const { problem } = await rename.run({ input: { id, name: typed } });
    if (problem) setDraft(typed);
  }

  if (draft !== undefined) {
    return (
      <li className="row">
        <form className="inline grow" onSubmit={submit}>
          <Field label="Project name" name="name" defaultValue={draft} problem={rename.problem} autoFocus />
          <button type="button" onClick={() => setDraft(undefined)}>Cancel</button>
          <button className="primary">Save</button>
        </form>
      </li>
    );
  }
  if (isUnsaved(id)) {
    return (
      <li className="row unsaved">
        <div className="grow">
          <h2>{name}</h2>
          <p className="quiet">Saving…</p>
        </div>
      </li>
    );
  }
  return (
    <li className="row">
      <div className="grow">
        <h2><Link href={`/${organization.slug}/projects/${id}`}>{name}</Link></h2>
        {description && <p className="line">{description}</p>}
        <p className="quiet">{createdBy?.name ?? 'A former member'} · <Ago time={createdAt} /></p>
      </div>
      {can('PROJECT_UPDATE') && (
        <button className="subtle" aria-label={`Rename ${name}`} onClick={() => setDraft(name)}>Rename</button>
      )}
    </li>
  );
}
