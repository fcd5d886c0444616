// A mutation hook that reports errors in the same way on all pages.
import { useState } from 'react';
import { useMutation, type AnyVariables, type DocumentInput } from 'urql';
import { isForForm, problemOf, type Problem } from '../errors';
import { useNotices } from './notices';

type Action<Data, Variables> = {
  /** Resolves to the data, or to the problem after it was shown outside of the form. */
  run: (variables: Variables) => Promise<{ data?: Data; problem?: Problem }>;
  busy: boolean;
  problem: Problem | undefined;
};

/** With `inForm`, the form shows problems with its fields. Otherwise a notice shows them. */
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
    const upgraded = await show(problem, () => run(variables));
    return { problem: upgraded ? { kind: 'upgraded', text: '' } : problem };
  }
  return { run, busy: fetching, problem };
}
