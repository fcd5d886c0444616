// What each error code of the API means to the person in front of the screen. The only place that knows codes.
import type { CombinedError } from 'urql';
import type { ErrorCode, Feature } from './gql/schema';

export type Problem =
  /** The session is over. */
  | { kind: 'sign-in' }
  /** A larger plan would allow it. */
  | { kind: 'upgrade'; text: string; feature: Feature; limit: number }
  /** The role does not allow it, so it should not have been offered. */
  | { kind: 'forbidden'; text: string }
  /** Belongs to one input of the form. */
  | { kind: 'field'; text: string; field: string }
  /** The same again may work later. */
  | { kind: 'retry'; text: string }
  /** Nothing to do but to know. */
  | { kind: 'message'; text: string };

type Extensions = { code?: ErrorCode; field?: string; feature?: Feature; limit?: number; outcome?: string };
type Reading = (text: string, extensions: Extensions) => Problem;

const message: Reading = (text) => ({ kind: 'message', text });
const ours: Reading = () => ({ kind: 'message', text: 'This app and the server do not fit together. Reload the page.' });
const retry: Reading = () => ({ kind: 'retry', text: 'The server is busy. Nothing was changed.' });

const readings: Record<ErrorCode, Reading> = {
  UNAUTHENTICATED: () => ({ kind: 'sign-in' }),
  FORBIDDEN: () => ({ kind: 'forbidden', text: 'Your role here does not allow this.' }),
  NOT_FOUND: message,
  CONFLICT: message,
  // The address of the field is for programs: "input.slug" is the form's "slug".
  BAD_USER_INPUT: (text, { field = '' }) => ({ kind: 'field', text, field: field.split('.').at(-1) ?? '' }),
  PLAN_LIMIT_EXCEEDED: (text, { feature, limit = 0 }) =>
    feature ? { kind: 'upgrade', text, feature, limit } : { kind: 'message', text },
  RATE_LIMITED: () => ({ kind: 'retry', text: 'That was too much at once. Wait a moment.' }),
  TIMEOUT: retry,
  UNAVAILABLE: (text, extensions) =>
    extensions.outcome === 'UNKNOWN'
      ? { kind: 'message', text: 'The connection broke. Look whether your change is there before you repeat it.' }
      : retry(text, extensions),
  INTERNAL: () => ({ kind: 'retry', text: 'Something went wrong on the server.' }),
  ORGANIZATION_SUSPENDED: message,
  USER_SUSPENDED: message,
  ORGANIZATION_MISMATCH: ours,
  ORGANIZATION_REQUIRED: ours,
  IDEMPOTENCY_CONFLICT: ours,
  GRAPHQL_PARSE_FAILED: ours,
  GRAPHQL_VALIDATION_FAILED: ours,
  QUERY_TOO_COMPLEX: ours,
  PERSISTED_QUERY_NOT_FOUND: ours,
  UNSUPPORTED_REQUEST: ours,
};

/** Whether a form shows it next to its fields: the rest is about more than the form. */
export const isForForm = ({ kind }: Problem) => kind === 'field' || kind === 'message' || kind === 'retry';

export function problemOf(error: CombinedError): Problem {
  const first = error.graphQLErrors[0];
  if (!first) return { kind: 'retry', text: 'The server cannot be reached.' };
  const extensions: Extensions = first.extensions;
  // New codes may be added to the API, so one can be unknown here.
  const reading = (extensions.code && readings[extensions.code]) ?? message;
  return reading(sentence(first.message.replace(`${extensions.field}: `, '')), extensions);
}

/** The API's messages as sentences. What is no word, as an address at the start, stays as it is. */
function sentence(text: string): string {
  const begun = text.replace(/^[a-z]+(?=\s)/, (word) => word.charAt(0).toUpperCase() + word.slice(1));
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
