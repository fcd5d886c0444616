// A mutation as the pages use it: what goes wrong is told in one way, wherever it is triggered.
import { useState } from 'react';
import { useMutation, type AnyVariables, type DocumentInput } from 'urql';
import { isForForm, problemOf, type Problem } from '../errors';
import { useNotices } from './notices';

type Action<Data, Variables> = {
  /** Resolves to the answer, or to the problem that is the form's to show. */
  run: (variables: Variables) => Promise<{ data?: Data; problem?: Problem }>;
  busy: boolean;
  problem: Problem | undefined;
};

/** `inForm`: the form that triggers the action shows what is wrong with its fields. */
export function useAction<Data, Variables extends AnyVariables>(
  document: DocumentInput<Data, Variables>,
  { inForm = false } = {},
): Action<Data, Variables> {
  const [{ fetching }, execute] = useMutation(document);
  const [problem, setProblem] = useState<Problem>();
  const { show } = useNotices();

  async function run(variables: Variables): Promise<{ data?: Data; problem?: Problem }> {
    setProblem(undefined);
    const { data, error } = await execute(variables);
    if (!error) return data ? { data } : {};
    const problem = problemOf(error);
    if (inForm && isForForm(problem)) {
      setProblem(problem);
      return { problem };
    }
    show(problem, () => run(variables));
    return {};
  }
  return { run, busy: fetching, problem };
}
