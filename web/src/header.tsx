// The slim header: where requests go, and as whom.
import { useState } from 'react';
import { Identity } from './identity';
import { endpoint, type Person, type Place } from './place';

interface Props {
  people: Person[];
  place: Place;
  onPlace: (place: Place) => void;
  token: string;
  ownToken: string;
  onOwnToken: (token: string) => void;
}

export function Header({ people, place, onPlace, token, ownToken, onOwnToken }: Props) {
  const { slug, subject } = place;
  const names = new Map(people.map(({ organization, organizationName }) => [organization, organizationName]));
  if (slug !== null && !names.has(slug)) names.set(slug, slug);
  const choosePerson = (subject: string) => {
    const person = people.find((person) => person.subject === subject);
    onPlace(person ? { slug: person.organization, subject } : { slug, subject: null });
  };
  return (
    <header>
      <h1>tenantry</h1>
      {people.length > 0 ? (
        <>
          <label>
            Person
            <select value={subject ?? ''} onChange={(event) => choosePerson(event.target.value)}>
              {[...names].map(([organization, name]) => (
                <optgroup key={organization} label={name}>
                  {people
                    .filter((person) => person.organization === organization)
                    .map(({ subject, name, role }) => (
                      <option key={subject} value={subject}>
                        {name}, {role}
                      </option>
                    ))}
                </optgroup>
              ))}
              <option value="">A token of your own</option>
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
      {subject === null && <TokenField token={ownToken} onToken={onOwnToken} />}
      <code title="Requests go here">{endpoint(slug)}</code>
      <Identity endpoint={endpoint(slug)} token={token} />
    </header>
  );
}

/** A half-typed token is not tried: it counts when Enter is pressed, or the field is left. */
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
