// The projects of the organization. Changes appear at once and are reverted if the server refuses
// them.
import { useState } from 'react';
import { useQuery } from 'urql';
import { graphql } from '../gql';
import { useHere } from '../here';
import { useLive } from '../ui/live';
import { Loaded, LoadMore } from '../ui/loaded';
import { NewProject } from './new-project';
import { ProjectRow } from './project-row';
import { Used } from './used';

const ProjectsPage = graphql(`
  query Projects($after: String) {
    organization {
      id
      projects(first: 10, after: $after) {
        nodes { ...Project }
        pageInfo { hasNextPage endCursor }
      }
    }
  }

  fragment Project on Project { id name description createdAt updatedAt createdBy { id name } }
`);

export const ProjectChanged = graphql(`
  subscription ProjectChanged { projectChanged { id project { ...Project } } }
`);

export const DeleteProject = graphql(`
  mutation DeleteProject($input: DeleteProjectInput!) { deleteProject(input: $input) { project { id } } }
`);

export function Projects() {
  const { can } = useHere();
  const [after, setAfter] = useState<string | null>(null);
  const query = useQuery({ query: ProjectsPage, variables: { after } });
  useLive(ProjectChanged, { query: ProjectsPage, variables: { after: null } });
  return (
    <>
      <div className="bar">
        <Used feature="projects" />
        {can('PROJECT_CREATE') && <NewProject />}
      </div>
      <Loaded query={query}>
        {({ organization }) => {
          const { nodes = [], pageInfo } = organization?.projects ?? {};
          if (nodes.length === 0) return <p className="empty">No projects yet. {can('PROJECT_CREATE') && 'Create the first one.'}</p>;
          return (
            <>
              <ul className="rows" aria-label="Projects">
                {nodes.map((project) => <ProjectRow key={project.id} project={project} />)}
              </ul>
              {pageInfo && <LoadMore page={pageInfo} busy={query[0].fetching} onMore={setAfter} />}
            </>
          );
        }}
      </Loaded>
    </>
  );
}
