// Labelled inputs with their errors, and the error of a whole form.
import { useId, type ComponentProps, type ReactNode } from 'react';
import type { Problem } from '../errors';

type FieldProps = ComponentProps<'input'> & { label: string; name: string; problem?: Problem | undefined; hint?: string };

export function Field({ label, problem, hint, ...input }: FieldProps) {
  const id = useId();
  const wrong = problem?.kind === 'field' && problem.field === input.name ? problem.text : undefined;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input id={id} autoComplete="off" aria-invalid={!!wrong} aria-describedby={`${id}-note`} {...input} />
      <p id={`${id}-note`} className={wrong ? 'wrong' : 'quiet'} role={wrong && 'alert'}>
        {wrong ?? hint}
      </p>
    </div>
  );
}

type TextProps = ComponentProps<'textarea'> & { label: string; name: string; problem?: Problem | undefined };

/** A text of several lines. */
export function TextField({ label, problem, ...text }: TextProps) {
  const id = useId();
  const wrong = problem?.kind === 'field' && problem.field === text.name ? problem.text : undefined;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <textarea id={id} rows={4} aria-invalid={!!wrong} aria-describedby={`${id}-note`} {...text} />
      <p id={`${id}-note`} className="wrong" role={wrong && 'alert'}>{wrong}</p>
    </div>
  );
}

export function SelectField({ label, children, ...select }: ComponentProps<'select'> & { label: string; children: ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select id={id} {...select}>
        {children}
      </select>
    </div>
  );
}

/** Shows a problem that belongs to none of the fields. */
export function FormProblem({ problem, fields }: { problem: Problem | undefined; fields: string[] }) {
  if (!problem || problem.kind === 'sign-in' || (problem.kind === 'field' && fields.includes(problem.field))) return null;
  return <p className="wrong" role="alert">{problem.text}</p>;
}
