// What the holder of an invitation link may see before accepting. Not every version of the server
// has this query, so its types are written here instead of generated.
import { gql, type TypedDocumentNode } from 'urql';
import type { Role } from '../gql/graphql';

type Obstacle = 'WRONG_ACCOUNT' | 'ADDRESS_NOT_VERIFIED' | 'ALREADY_MEMBER';

type Data = {
  invitation: {
    organizationName: string;
    inviterName: string | null;
    role: Role;
    emailHint: string;
    expiresAt: string;
    obstacle: Obstacle | null;
  } | null;
};

export const Preview: TypedDocumentNode<Data, { token: string }> = gql`
  query InvitationPreview($token: String!) {
    invitation(token: $token) { organizationName inviterName role emailHint expiresAt obstacle }
  }
`;

export const obstacles: Record<Obstacle, string> = {
  WRONG_ACCOUNT: 'The invitation was sent to another address than yours. Sign in with that one, or ask for a new invitation.',
  ADDRESS_NOT_VERIFIED: 'Your address isn’t verified yet. Verify it, then sign in again.',
  ALREADY_MEMBER: 'You are already a member.',
};
