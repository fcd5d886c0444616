// The introspection queries of common tools against a running server. Exits with an error on any
// mismatch. Usage: node introspection.mjs URL TOKEN SCHEMA FOLDER
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [url, token, file, folder] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const authorization = `Bearer ${token}`;

const ask = async (query) => {
  const headers = { 'content-type': 'application/json', authorization };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query }) });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined, `${JSON.stringify(errors)} for ${query}`);
  return data;
};

// graphql-js, with each option alone and with all of them.
const everything = {
  descriptions: true,
  specifiedByUrl: true,
  directiveIsRepeatable: true,
  schemaDescription: true,
  inputValueDeprecation: true,
  experimentalDirectiveDeprecation: true,
  oneOf: true,
};
for (const version of ['graphql', 'graphql17']) {
  const { buildClientSchema, buildSchema, getIntrospectionQuery, lexicographicSortSchema, printType, validateSchema } =
    require(version);
  const without = Object.fromEntries(Object.keys(everything).map((name) => [name, false]));
  const alone = Object.keys(everything).map((name) => ({ ...without, [name]: true }));
  for (const options of [undefined, without, ...alone, { ...everything, typeDepth: 14 }]) {
    buildClientSchema(await ask(getIntrospectionQuery(options)));
  }
  // The schema that it builds is the one in the file.
  const introspected = lexicographicSortSchema(buildClientSchema(await ask(getIntrospectionQuery(everything))));
  assert.deepEqual(validateSchema(introspected), []);
  const written = lexicographicSortSchema(buildSchema(readFileSync(file, 'utf8')));
  const types = (schema) => Object.values(schema.getTypeMap()).filter(({ name }) => !name.startsWith('__'));
  const print = (schema) => Object.fromEntries(types(schema).map((type) => [type.name, printType(type)]));
  const custom = (schema) => Object.fromEntries(Object.entries(print(schema)).filter(([name]) => !['Boolean', 'Float', 'ID', 'Int', 'String'].includes(name)));
  assert.deepEqual(custom(introspected), custom(written));
  const directives = (schema) => schema.getDirectives().map(({ name }) => name);
  assert.deepEqual(directives(written).filter((name) => !directives(introspected).includes(name)), []);
}

// Everything that the types of introspection list answers.
const meta = ['__Schema', '__Type', '__Field', '__InputValue', '__EnumValue', '__Directive'];
const fields = 'fields { name args { name defaultValue } type { kind ofType { kind ofType { kind ofType { kind } } } } }';
const listed = await ask(`{ ${meta.map((name) => `${name.slice(2)}: __type(name: "${name}") { ${fields} }`).join(' ')} }`);
const selection = (name) =>
  listed[name].fields
    .flatMap(({ name: field, args, type }) => {
      const nested = {
        types: 'name', queryType: 'name', mutationType: 'name', subscriptionType: 'name', directives: 'name',
        fields: 'name', interfaces: 'name', possibleTypes: 'name', enumValues: 'name', inputFields: 'name',
        ofType: 'name', args: 'name', type: 'name',
      }[field];
      assert.ok(type.kind);
      const call = args.length ? `${field}(${args.map((arg) => `${arg.name}: true`).join(' ')})` : field;
      return nested ? `${call} { ${nested} }` : call;
    })
    .join(' ');
const answered = await ask(`{
  __schema { ${selection('Schema')} }
  directives: __schema { directives { ${selection('Directive')} each: args { ${selection('InputValue')} } } }
  input: __type(name: "CreateProjectInput") { ${selection('Type')} each: inputFields { ${selection('InputValue')} } }
  scalar: __type(name: "DateTime") { ${selection('Type')} }
  enum: __type(name: "Permission") { ${selection('Type')} each: enumValues { ${selection('EnumValue')} } }
  object: __type(name: "Organization") { ${selection('Type')} each: fields { ${selection('Field')} } }
}`);
assert.equal(answered.input.isOneOf, false);
assert.equal(answered.object.isOneOf, null);
assert.equal(answered.scalar.specifiedByURL, 'https://datatracker.ietf.org/doc/html/rfc3339');

// What tools ask about introspection itself before they send their query, as gql.tada, Apollo
// Kotlin and Strawberry Shake do.
const support = await ask(`query IntrospectSupportQuery {
  directive: __type(name: "__Directive") { fields { name } }
  field: __type(name: "__Field") { fields { name args { name } } }
  type: __type(name: "__Type") { fields { name } }
  inputValue: __type(name: "__InputValue") { fields { name } }
}`);
assert.ok(support.type.fields.some(({ name }) => name === 'isOneOf'));
assert.ok(support.directive.fields.some(({ name }) => name === 'isRepeatable'));
const preIntrospection = await ask(`query PreIntrospectionQuery {
  schema: __type(name: "__Schema") { ...Listed }
  type: __type(name: "__Type") { ...Listed }
  directive: __type(name: "__Directive") { ...Listed }
  field: __type(name: "__Field") { ...Listed }
  inputValue: __type(name: "__InputValue") { ...Listed }
}
fragment Listed on __Type { fields { name args { name } } }`);
assert.ok(preIntrospection.field.fields.find(({ name }) => name === 'args').args.some(({ name }) => name === 'includeDeprecated'));

// Servers of the Model Context Protocol and explorers ask for one type after another.
for (const name of ['Query', 'Mutation', 'Project', 'CreateProjectInput', 'Node', 'Role', 'DateTime', 'Nothing']) {
  await ask(`{ __type(name: "${name}") { kind name description fields(includeDeprecated: true) { name description
    args { name description defaultValue type { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }
    type { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }
    inputFields { name defaultValue type { kind name ofType { kind name } } } enumValues { name description }
    interfaces { name } possibleTypes { name } } }`);
}

// gql.tada writes the schema for its types.
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const plugins = [{ name: 'gql.tada/ts-plugin', schema: './schema.graphql', tadaOutputLocation: './graphql-env.d.ts' }];
writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { plugins } }));
writeFileSync(join(folder, 'package.json'), '{}');
const tada = (...args) =>
  execFileSync(join(process.cwd(), 'node_modules/.bin/gql.tada'), args, { cwd: folder, stdio: 'pipe', encoding: 'utf8' });
tada('generate-schema', url, '--header', `authorization: ${authorization}`, '--output', 'schema.graphql');
assert.ok(readFileSync(join(folder, 'schema.graphql'), 'utf8').includes('type Organization implements Node'));
tada('generate-output');
assert.ok(readFileSync(join(folder, 'graphql-env.d.ts'), 'utf8').includes("'Organization'"));
