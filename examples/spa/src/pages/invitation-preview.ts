// What the holder of an invitation link may see before accepting.
import { graphql } from '../gql';
import type { InvitationObstacle } from '../gql/schema';

export const Preview = graphql(`
  query InvitationPreview($token: String!) {
    invitation(token: $token) { organizationName inviterName role emailHint expiresAt obstacle }
  }
`);

export const obstacles: Record<InvitationObstacle, string> = {
  WRONG_ACCOUNT: 'The invitation was sent to an address other than yours. Sign in with it, or ask for a new invitation.',
  ADDRESS_NOT_VERIFIED: 'Your address isn’t verified yet. Verify it, then sign in again.',
  ALREADY_MEMBER: 'You are already a member.',
};
