// The link of an invitation. The server returns it only once.
import { useState } from 'react';

export type Sent = { invitation: { id: string; email: string }; link?: string | null };

export function InvitationLink({ sent: { invitation, link } }: { sent: Sent }) {
  const [copied, setCopied] = useState<string>();
  if (!link) return <p className="callout" role="status">An e-mail with the invitation is on its way to {invitation.email}.</p>;

  // The server does not know the address of this app.
  const { pathname, search } = new URL(link);
  const here = `${location.origin}${pathname}${search}`;
  return (
    <div className="callout" role="status">
      <label htmlFor="invitation-link">Invitation link for {invitation.email}</label>
      <div className="inline">
        <input id="invitation-link" readOnly value={here} onFocus={(event) => event.target.select()} />
        <button onClick={() => navigator.clipboard.writeText(here).then(() => setCopied(here))}>
          {copied === here ? 'Copied' : 'Copy link'}
        </button>
      </div>
      <p className="quiet">Copy it now. It won’t be shown again.</p>
    </div>
  );
}
