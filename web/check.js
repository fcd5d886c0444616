// Validates the examples against the server's schema.
import { readFileSync } from 'node:fs';
import { buildSchema, parse, validate } from 'graphql';

const schema = buildSchema(readFileSync(new URL('../schema.graphql', import.meta.url), 'utf8'));
const examples = parse(readFileSync(new URL('src/examples.graphql', import.meta.url), 'utf8'));
const errors = validate(schema, examples);
for (const error of errors) console.error(`${error}\n`);
if (errors.length > 0) process.exit(1);
console.log(`${examples.definitions.length} examples are valid`);
