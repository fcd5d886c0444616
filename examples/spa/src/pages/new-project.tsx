// Creates a project. The dialog closes before the response arrives, and reopens with its input
// after an error, also when the plan was full.
import { useState, type FormEvent } from 'react';
import type { Problem } from '../errors';
import { graphql } from '../gql';
import type { CreateProjectInput } from '../gql/graphql';
import { useAction } from '../ui/action';
import { Dialog } from '../ui/dialog';
import { Field, FormProblem, TextField } from '../ui/field';

const CreateProject = graphql(`
  mutation CreateProject($input: CreateProjectInput!) { createProject(input: $input) { project { ...Project } } }
`);

export function NewProject() {
  const { run } = useAction(CreateProject, { inForm: true });
  const [draft, setDraft] = useState<{ input: CreateProjectInput; problem?: Problem | undefined }>();

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const input = { name: String(form.get('name')), description: String(form.get('description')) || null };
    setDraft(undefined);
    const { problem } = await run({ input });
    if (problem) setDraft({ input, problem: problem.kind === 'upgraded' ? undefined : problem });
  }

  return (
    <>
      <button className="primary" onClick={() => setDraft({ input: { name: '' } })}>New project</button>
      {draft && (
        <Dialog title="New project" onClose={() => setDraft(undefined)}>
          <form onSubmit={submit}>
            <Field label="Name" name="name" problem={draft.problem} defaultValue={draft.input.name} autoFocus />
            <TextField label="Description" name="description" problem={draft.problem} defaultValue={draft.input.description ?? ''} />
            <FormProblem problem={draft.problem} fields={['name', 'description']} />
            <div className="actions">
              <button type="button" onClick={() => setDraft(undefined)}>Cancel</button>
              <button className="primary">Create project</button>
            </div>
          </form>
        </Dialog>
      )}
    </>
  );
}
