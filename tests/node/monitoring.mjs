// The dashboard and the alert rules against the metrics of a running server: every expression
// parses, and names metrics, labels and values that exist.
// Usage: node monitoring.mjs FOLDER METRICS
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';
import { parse } from 'yaml';

const [folder, metrics] = process.argv.slice(2);
const read = (name) => readFileSync(join(folder, name), 'utf8');

// Labels and their values, by the name of the metric. Prometheus adds `up`, `job` and `instance`.
const samples = new Map([['up', new Map()]]);
const value = (labels, label) => labels.get(label) ?? labels.set(label, new Set()).get(label);
for (const line of readFileSync(metrics, 'utf8').split('\n')) {
  const [, name, labels = ''] = /^([a-z_]+)(?:\{(.*)\})? /.exec(line) ?? [];
  if (!name) continue;
  const known = samples.get(name) ?? samples.set(name, new Map()).get(name);
  for (const [, label, text] of labels.matchAll(/([a-z_]+)="([^"]*)"/g)) value(known, label).add(text);
}

const added = ['job', 'instance'];

/** Checks an expression, and returns the metrics that it reads. */
function check(expression) {
  const tree = parser.parse(expression);
  const text = ({ from, to }) => expression.slice(from, to);
  const [names, labels, values] = [[], [], []];
  tree.iterate({
    enter(node) {
      assert.ok(!node.type.isError, `not PromQL near "${expression.slice(Math.max(0, node.from - 20), node.to + 20)}"`);
      if (node.name === 'VectorSelector') names.push(text(node.node.getChild('Identifier')));
      if (node.name === 'LabelName') labels.push(text(node));
      if (node.name === 'UnquotedLabelMatcher') {
        const texts = text(node.node.getChild('StringLiteral')).slice(1, -1).split('|');
        values.push([text(node.node.getChild('LabelName')), texts]);
      }
    },
  });
  assert.ok(names.length > 0, `no metric in ${expression}`);
  for (const name of names) assert.ok(samples.has(name), `${name} is not served at /metrics: ${expression}`);
  const known = new Map(names.flatMap((name) => [...samples.get(name)]));
  for (const label of labels) assert.ok(added.includes(label) || known.has(label), `no label ${label}: ${expression}`);
  for (const [label, texts] of values.filter(([label]) => !added.includes(label))) {
    for (const text of texts) assert.ok(known.get(label).has(text), `no ${label}="${text}": ${expression}`);
  }
  return names;
}

// The check finds a wrong name, a wrong label, a wrong value and a wrong syntax.
assert.throws(() => check('rate(tenantry_nothing_total[5m])'), /not served/);
assert.throws(() => check('sum by (colour) (tenantry_memory_bytes)'), /no label colour/);
assert.throws(() => check('tenantry_pool_connections{state="asleep"}'), /no state="asleep"/);
assert.throws(() => check('sum(tenantry_memory_bytes'), /not PromQL/);

const rules = parse(read('alerts.yaml')).groups.flatMap((group) => group.rules);
const alerts = rules.flatMap(({ alert, expr, annotations }) => {
  assert.ok(alert && annotations.summary, 'an alert has a name and a summary');
  return check(expr);
});

const { panels, templating } = JSON.parse(read('dashboard.json'));
const shown = panels.flatMap(({ targets = [] }) =>
  targets.flatMap(({ expr }) => check(expr.replaceAll('$__rate_interval', '5m').replaceAll('$job', 'tenantry'))),
);
for (const { query, type } of templating.list) {
  if (type === 'query') check(/label_values\((.*), job\)/.exec(query)[1]);
}
assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length, 'the ids of panels are unique');

// The dashboard shows every metric.
const covered = new Set([...shown, ...alerts].map((name) => name.replace(/_(bucket|sum|count)$/, '')));
const missing = [...samples.keys()]
  .map((name) => name.replace(/_(bucket|sum|count)$/, ''))
  .filter((name) => !covered.has(name));
assert.deepEqual(missing, [], 'metrics that neither the dashboard nor an alert uses');
console.log(`${rules.length} alerts and ${panels.length} panels use metrics that exist`);
