// Validates the examples against the server's schema, with the permissions that they name.
import { readFileSync } from 'node:fs';
import { TypeInfo, buildSchema, getDirectiveValues, parse, validate, visit, visitWithTypeInfo } from 'graphql';

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const schema = buildSchema(read('../schema.graphql'));
const text = read('src/examples.graphql');
const errors = validate(schema, parse(text)).map(String);

const requires = schema.getDirective('requiresPermission');
const blocks = text.trim().split('\n\n').slice(1);
for (const block of blocks) {
  const found = new Set();
  const types = new TypeInfo(schema);
  visit(parse(block), visitWithTypeInfo(types, {
    Field() {
      const node = types.getFieldDef()?.astNode;
      const permission = node && getDirectiveValues(requires, node)?.permission;
      if (permission) found.add(permission);
    },
  }));
  const [title] = block.split('\n');
  const named = /^# Needs: (.*)$/m.exec(block)?.[1] ?? '';
  if ([...found].join(', ') !== named) errors.push(`${title}: needs "${[...found].join(', ')}", not "${named}"`);
}

for (const error of errors) console.error(`${error}\n`);
if (errors.length > 0) process.exit(1);
console.log(`${blocks.length} examples are valid`);
