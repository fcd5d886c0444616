// The schema as client generators see it. Exits with an error that names the problem.
// Usage: node schema.mjs SCHEMA RELEASED FOLDER
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CriticalityLevel, diff, validate } from '@graphql-inspector/core';
import { Source, buildSchema, isScalarType, isSpecifiedScalarType, validateSchema } from 'graphql';

const [file, released, folder] = process.argv.slice(2);
const text = readFileSync(file, 'utf8');
const schema = buildSchema(text);
assert.deepEqual(validateSchema(schema), []);

// Clients generated from the last release keep working.
const changes = await diff(buildSchema(readFileSync(released, 'utf8')), schema);
const breaking = changes.filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking);
assert.deepEqual(breaking.map(({ message }) => message), [], 'breaking changes since the last release');
// The comparison finds a breaking change.
const renamed = buildSchema(text.replace('trialAvailable: Boolean!', 'otherwise: Boolean!'));
const found = (await diff(schema, renamed)).filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking);
assert.deepEqual(found.map(({ message }) => message), ["Field 'trialAvailable' was removed from object type 'Billing'"]);

// The examples of GraphiQL are valid.
const examples = new Source(readFileSync(join(file, '../web/src/examples.graphql'), 'utf8'), 'examples.graphql');
assert.deepEqual(validate(schema, [examples]), []);

// Custom scalars name their specification.
const scalars = Object.values(schema.getTypeMap()).filter((type) => isScalarType(type) && !isSpecifiedScalarType(type));
assert.deepEqual(scalars.filter(({ specifiedByURL }) => !specifiedByURL).map(({ name }) => name), []);

// graphql-eslint finds nothing with the rules of eslint.config.js.
copyFileSync(file, 'schema.graphql');
const lint = spawnSync(join(process.cwd(), 'node_modules/.bin/eslint'), ['schema.graphql'], { encoding: 'utf8' });
assert.equal(lint.stdout + lint.stderr, '');
assert.equal(lint.status, 0);

// Relay's compiler accepts the schema with its rules for nodes and connections.
rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, 'src'), { recursive: true });
writeFileSync(join(folder, 'schema.graphql'), text);
writeFileSync(
  join(folder, 'src/projects.js'),
  `import { graphql } from 'relay-runtime';
graphql\`
  query projectsQuery($count: Int!, $cursor: String) {
    organization { ...projects_organization @arguments(count: $count, cursor: $cursor) }
  }
\`;
graphql\`
  fragment projects_organization on Organization
  @refetchable(queryName: "projectsPagination")
  @argumentDefinitions(count: { type: "Int", defaultValue: 10 }, cursor: { type: "String" }) {
    projects(first: $count, after: $cursor) @connection(key: "projects_projects") {
      edges { node { id name createdBy { id name } } }
    }
  }
\`;
graphql\`
  fragment projects_project on Project @refetchable(queryName: "projectsRefetch") { name updatedAt }
\`;
graphql\`
  mutation projectsCreateMutation($input: CreateProjectInput!, $connections: [ID!]!) {
    createProject(input: $input) {
      project @prependNode(connections: $connections, edgeTypeName: "ProjectEdge") { id name }
    }
  }
\`;
`,
);
writeFileSync(
  join(folder, 'relay.config.json'),
  JSON.stringify({ src: 'src', language: 'javascript', schema: 'schema.graphql', artifactDirectory: 'out' }),
);
mkdirSync(join(folder, 'out'));
execFileSync(join(process.cwd(), 'node_modules/.bin/relay-compiler'), ['relay.config.json'], { cwd: folder, stdio: 'pipe' });
const refetch = readFileSync(join(folder, 'out/projectsRefetch.graphql.js'), 'utf8');
assert.ok(refetch.includes('node(') || refetch.includes('"node"'), 'projects are refetched through node');
