// Shows the signed-in user, as the API reports it.
import { useEffect, useState } from 'react';
import { ask } from './fetcher';

interface Answer {
  viewer: { name: string | null };
  organization: { name: string; viewerRole: string; viewerPermissions: string[] } | null;
}

interface Sign {
  text: string;
  refused?: boolean;
  /** Null while unknown, or without an organization. */
  permissions?: string[] | null;
}

const REFUSALS: Record<string, string> = {
  UNAUTHENTICATED: 'The token is invalid or expired (401)',
  NOT_FOUND: 'The organization does not exist, or you are not a member (404)',
  ORGANIZATION_MISMATCH: 'The token names another organization (403)',
};

async function identify(endpoint: string, token: string, signal: AbortSignal): Promise<Sign> {
  if (token === '') return { text: 'Not signed in. Enter a token.', refused: true };
  try {
    const query = '{ viewer { name } organization { name viewerRole viewerPermissions } }';
    const { data, errors } = await ask<Answer>(endpoint, token, query, signal);
    if (!data) {
      const code = String(errors?.[0]?.extensions?.code);
      return { text: REFUSALS[code] ?? errors?.[0]?.message ?? 'Refused', refused: true };
    }
    const name = data.viewer.name ?? 'Signed in';
    const { organization } = data;
    const text = organization ? `${name}, ${organization.viewerRole} of ${organization.name}` : `${name}, no organization`;
    return { text, permissions: organization?.viewerPermissions ?? null };
  } catch (error) {
    return { text: (error as Error).message, refused: true };
  }
}

interface Props {
  endpoint: string;
  token: string;
  onPermissions: (permissions: string[] | null) => void;
}

export function Identity({ endpoint, token, onPermissions }: Props) {
  const [sign, setSign] = useState<Sign>({ text: '' });
  useEffect(() => {
    const abort = new AbortController();
    void identify(endpoint, token, abort.signal).then((sign) => {
      if (abort.signal.aborted) return;
      setSign(sign);
      onPermissions(sign.permissions ?? null);
    });
    return () => abort.abort();
  }, [endpoint, token]);
  return (
    <p role="status" className={sign.refused ? 'identity refused' : 'identity'} title={sign.text}>
      {sign.text}
    </p>
  );
}
