// A member in the list, with the actions that the viewer may take.
import { useLocation } from 'wouter';
import { graphql } from '../gql';
import type { MemberFragment, Role } from '../gql/graphql';
import { useHere } from '../here';
import { useAction } from '../ui/action';
import { ConfirmButton } from '../ui/dialog';
import { Ago, Avatar, words } from '../ui/text';

const UpdateRole = graphql(`
  mutation UpdateMemberRole($input: UpdateMemberRoleInput!) { updateMemberRole(input: $input) { member { id role } } }
`);
const Remove = graphql(`
  mutation RemoveMember($input: RemoveMemberInput!) { removeMember(input: $input) { member { id } } }
`);
const Leave = graphql(`
  mutation LeaveOrganization($input: LeaveOrganizationInput!) { leaveOrganization(input: $input) { member { id } } }
`);
/** The roles that the viewer may assign and change. */
export function useGrantable(): Role[] {
  return useHere().can('MEMBER_MANAGE_ADMINS') ? ['VIEWER', 'MEMBER', 'ADMIN', 'OWNER'] : ['VIEWER', 'MEMBER'];
}

export function MemberRow({ member: { id, role, user, joinedAt } }: { member: MemberFragment }) {
  const { viewer, organization, can } = useHere();
  const [, navigate] = useLocation();
  const updateRole = useAction(UpdateRole);
  const remove = useAction(Remove);
  const leave = useAction(Leave);
  const grantable = useGrantable();
  const name = user?.name ?? user?.email ?? 'Unnamed user';
  const isViewer = user?.id === viewer.id;
  const mayAct = !isViewer && grantable.includes(role);

  async function giveUp() {
    const { data } = await leave.run({ input: { organizationId: organization.id } });
    if (data) navigate('/');
  }

  return (
    <li className="row">
      <Avatar name={name} />
      <div className="grow">
        <h2>{name} {isViewer && <span className="badge">You</span>}</h2>
        <p className="quiet">{user?.email} · joined <Ago time={joinedAt} /></p>
      </div>
      {mayAct && can('MEMBER_UPDATE_ROLE') ? (
        <select
          aria-label={`Role of ${name}`}
          value={role}
          onChange={(event) => updateRole.run({ input: { id, role: event.target.value as Role } })}
        >
          {grantable.map((one) => <option key={one} value={one}>{words(one)}</option>)}
        </select>
      ) : (
        <span className="badge">{words(role)}</span>
      )}
      {mayAct && can('MEMBER_REMOVE') && (
        <ConfirmButton label="Remove" subject={name} title={`Remove ${name}?`} onConfirm={() => remove.run({ input: { id } })}>
          {name} loses access immediately. To return, they need a new invitation.
        </ConfirmButton>
      )}
      {isViewer && (
        <ConfirmButton label="Leave" title={`Leave ${organization.name}?`} onConfirm={giveUp}>
          You lose access immediately. To return, you need an invitation.
        </ConfirmButton>
      )}
    </li>
  );
}
