// The header: selects the organization and the user of requests.
import { useState } from 'react';
import { Identity } from './identity';
import { endpoint, type User, type Place } from './place';

interface Props {
  users: User[];
  place: Place;
  onPlace: (place: Place) => void;
  token: string;
  ownToken: string;
  onOwnToken: (token: string) => void;
  onPermissions: (permissions: string[] | null) => void;
}

export function Header({ users, place, onPlace, token, ownToken, onOwnToken, onPermissions }: Props) {
  const { slug, subject } = place;
  const names = new Map(users.map(({ organization, organizationName }) => [organization, organizationName]));
  if (slug !== null && !names.has(slug)) names.set(slug, slug);
  const chooseUser = (subject: string) => {
    const user = users.find((user) => user.subject === subject);
    onPlace(user ? { slug: user.organization, subject } : { slug, subject: null });
  };
  return (
    <header>
      <h1>tenantry</h1>
      {users.length > 0 ? (
        <>
          <label>
            User
            <select value={subject ?? ''} onChange={(event) => chooseUser(event.target.value)}>
              {[...names].map(([organization, name]) => (
                <optgroup key={organization} label={name}>
                  {users
                    .filter((user) => user.organization === organization)
                    .map(({ subject, name, role }) => (
                      <option key={subject} value={subject}>
                        {name}, {role}
                      </option>
                    ))}
                </optgroup>
              ))}
              <option value="">Your own token</option>
            </select>
          </label>
          <label>
            Organization
            <select value={slug ?? ''} onChange={(event) => onPlace({ slug: event.target.value || null, subject })}>
              {[...names].map(([slug, name]) => (
                <option key={slug} value={slug}>
                  {name}
                </option>
              ))}
              <option value="">No organization</option>
            </select>
          </label>
        </>
      ) : (
        <span>{slug ?? 'No organization'}</span>
      )}
      {subject === null ? <TokenField token={ownToken} onToken={onOwnToken} /> : <CopyToken token={token} />}
      <code title="The address of requests">{endpoint(slug)}</code>
      <Identity endpoint={endpoint(slug)} token={token} onPermissions={onPermissions} />
    </header>
  );
}

/** The token of the chosen user, for curl and other clients. */
function CopyToken({ token }: { token: string }) {
  const [copied, setCopied] = useState<string>();
  return (
    <button type="button" onClick={() => void navigator.clipboard.writeText(token).then(() => setCopied(token))}>
      {copied === token ? 'Copied' : 'Copy token'}
    </button>
  );
}

/** Submits the token on Enter or when the field loses focus, not while the visitor types. */
function TokenField({ token, onToken }: { token: string; onToken: (token: string) => void }) {
  const [text, setText] = useState(token);
  const submit = () => onToken(text.trim().replace(/^Bearer\s+/i, ''));
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <label>
        Token
        <input
          type="password"
          autoComplete="off"
          spellCheck={false}
          placeholder="Bearer token, then Enter"
          value={text}
          onChange={(event) => setText(event.target.value)}
          onBlur={submit}
        />
      </label>
    </form>
  );
}
