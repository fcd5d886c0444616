// Translates error codes of the API into what the user sees. No other file reads codes.
import type { CombinedError } from 'urql';
import type { ErrorCode } from './gql/schema';

export type Problem =
  /** The session has ended. */
  | { kind: 'sign-in' }
  /** A larger plan allows it. `feature` is the key. */
  | { kind: 'upgrade'; text: string; feature: string; limit: number }
  /** The role does not allow it, so it should not have been offered. */
  | { kind: 'forbidden'; text: string }
  /** A larger plan allowed it, and the user has taken it. Only forms see this. */
  | { kind: 'upgraded'; text: string }
  /** The object does not exist, or not for this user. */
  | { kind: 'not-found'; text: string }
  /** Concerns one field of the form. */
  | { kind: 'field'; text: string; field: string }
  /** A repetition may succeed later. */
  | { kind: 'retry'; text: string }
  /** Only informs the user. */
  | { kind: 'message'; text: string };

type Extensions = { code?: ErrorCode; field?: string; feature?: string; limit?: number; outcome?: string };
type Reading = (text: string, extensions: Extensions) => Problem;

const message: Reading = (text) => ({ kind: 'message', text });
const ours: Reading = () => ({ kind: 'message', text: 'This page is out of date. Reload it.' });
const retry: Reading = () => ({ kind: 'retry', text: 'The server is busy. Nothing was changed.' });

const readings: Record<ErrorCode, Reading> = {
  UNAUTHENTICATED: () => ({ kind: 'sign-in' }),
  FORBIDDEN: () => ({ kind: 'forbidden', text: 'Your role doesn’t allow this.' }),
  NOT_FOUND: (text) => ({ kind: 'not-found', text }),
  CONFLICT: message,
  // The API returns a path: "input.slug" is the field "slug" of the form.
  BAD_USER_INPUT: (text, { field = '' }) => ({ kind: 'field', text, field: field.split('.').at(-1) ?? '' }),
  PLAN_LIMIT_EXCEEDED: (text, { feature, limit = 0 }) =>
    feature ? { kind: 'upgrade', text, feature, limit } : { kind: 'message', text },
  RATE_LIMITED: () => ({ kind: 'retry', text: 'Too many requests. Wait a moment, then try again.' }),
  TIMEOUT: retry,
  UNAVAILABLE: (text, extensions) =>
    extensions.outcome === 'UNKNOWN'
      ? { kind: 'message', text: 'The connection broke. Check whether your change was saved before you repeat it.' }
      : retry(text, extensions),
  INTERNAL: () => ({ kind: 'retry', text: 'Something went wrong on the server.' }),
  WRONG_ACCOUNT: message,
  ADDRESS_NOT_VERIFIED: message,
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

/** Whether a form shows the problem next to its fields. */
export const isForForm = ({ kind }: Problem) => ['field', 'message', 'not-found', 'retry'].includes(kind);

export function problemOf(error: CombinedError): Problem {
  const first = error.graphQLErrors[0];
  if (!first) return { kind: 'retry', text: 'The server can’t be reached.' };
  const extensions: Extensions = first.extensions;
  // The API may add codes, so a code can be unknown here.
  const reading = (extensions.code && readings[extensions.code]) ?? message;
  return reading(sentence(first.message.replace(`${extensions.field}: `, '')), extensions);
}

/** Formats a message as a sentence, with quotes instead of backticks. A first word that is not plain letters, such as an address, stays unchanged. */
function sentence(text: string): string {
  const begun = text.replaceAll(/`([^`]*)`/g, '“$1”').replace(/^[a-z]+(?=\s)/, (word) => word.charAt(0).toUpperCase() + word.slice(1));
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
