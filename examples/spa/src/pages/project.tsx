// One project, refetched by its id. Shows changes of other users at once.
import { useState, type FormEvent } from 'react';
import { useQuery } from 'urql';
import { Link, useLocation } from 'wouter';
import { graphql } from '../gql';
import type { ProjectFragment } from '../gql/graphql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { ConfirmButton } from '../ui/dialog';
import { FormProblem, Field, TextField } from '../ui/field';
import { useLive } from '../ui/live';
import { Loaded } from '../ui/loaded';
import { Ago, day } from '../ui/text';
import { NotFound } from './not-found';
import { DeleteProject, ProjectChanged } from './projects';

const ProjectById = graphql(`
  query ProjectById($id: ID!) { node(id: $id) { __typename id ... on Project { ...Project } } }
`);

const EditProject = graphql(`
  mutation EditProject($input: UpdateProjectInput!) { updateProject(input: $input) { project { ...Project } } }
`);

export function ProjectPage({ id }: { id: string }) {
  const query = useQuery({ query: ProjectById, variables: { id } });
  useLive(ProjectChanged, { query: ProjectById, variables: { id } });
  return (
    <Loaded query={query}>
      {({ node }) => (node?.__typename === 'Project' ? <Project project={node} /> : <NotFound what="project" />)}
    </Loaded>
  );
}

function Project({ project }: { project: ProjectFragment }) {
  const { organization, can } = useHere();
  const [, navigate] = useLocation();
  const [editing, setEditing] = useState(false);
  const remove = useAction(DeleteProject);
  const projects = `/${organization.slug}/projects`;
  const { id, name, description, createdAt, updatedAt, createdBy } = project;

  async function erase() {
    const { data } = await remove.run({ input: { id } });
    if (data) navigate(projects);
  }

  return (
    <>
      <title>{`${name} · ${organization.name}`}</title>
      <p className="crumb"><Link href={projects}>Projects</Link></p>
      <div className="heading">
        <h1 className="grow">{name}</h1>
        {!editing && can('PROJECT_UPDATE') && <button onClick={() => setEditing(true)}>Edit</button>}
        {!editing && can('PROJECT_DELETE') && (
          <ConfirmButton label="Delete" title={`Delete ${name}?`} className="" busy={remove.busy} onConfirm={erase}>
            The project is deleted permanently, for all members.
          </ConfirmButton>
        )}
      </div>
      {editing ? (
        <EditForm project={project} onDone={() => setEditing(false)} />
      ) : (
        <p className="prose">{description ?? <span className="quiet">No description.</span>}</p>
      )}
      <dl className="facts">
        <dt>Created</dt>
        <dd>{day(createdAt)} by {createdBy?.name ?? 'a former member'}</dd>
        <dt>Updated</dt>
        <dd><Ago time={updatedAt} /></dd>
      </dl>
    </>
  );
}

function EditForm({ project, onDone }: { project: ProjectFragment; onDone: () => void }) {
  const { run, busy, problem } = useAction(EditProject, { inForm: true });

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const { data } = await run({
      input: { id: project.id, name: String(form.get('name')), description: String(form.get('description')) || null },
    });
    if (data) onDone();
  }

  return (
    <form className="card form" onSubmit={submit}>
      <Field label="Name" name="name" problem={problem} defaultValue={project.name} autoFocus />
      <TextField label="Description" name="description" problem={problem} defaultValue={project.description ?? ''} />
      <FormProblem problem={problem} fields={['name', 'description']} />
      <div className="actions">
        <button type="button" onClick={onDone}>Cancel</button>
        <button className="primary" disabled={busy}>Save</button>
      </div>
    </form>
  );
}
