// An address that leads to no page, or to one that the viewer's role does not include.
import { Link } from 'wouter';
import { useHere } from '../here';

export function NotFound({ what = 'page' }: { what?: string }) {
  const { organization } = useHere();
  return (
    <>
      <title>{`Not found · ${organization.name}`}</title>
      <h1>Not found</h1>
      <p>There is no such {what} in {organization.name}, or your role doesn’t include it.</p>
      <p className="after"><Link href={`/${organization.slug}/projects`}>Go to the projects</Link></p>
    </>
  );
}
