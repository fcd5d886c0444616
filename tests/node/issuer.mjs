// An identity provider for tests. Reads commands as lines of JSON from standard input, and writes
// one line for each.
//   {"do":"start","port":0}                 returns the URL of the key set
//   {"do":"key","alg":"RS256"}              creates a key and returns its id
//   {"do":"forget","kid":"…"}               removes a key from the set
//   {"do":"token","kid":"…","claims":{…}}   signs a token
//   {"do":"slow","milliseconds":400}        delays every response
//   {"do":"nameless"}                       lists keys without their ids
//   {"do":"stop"}                           stops the issuer
//   {"do":"requests"}                       returns how often the key set was fetched
import { ServerResponse } from 'node:http';
import { createInterface } from 'node:readline';
import { OAuth2Server } from 'oauth2-mock-server';

const server = new OAuth2Server();
let port = 0;
let requests = 0;
let milliseconds = 0;
let nameless = false;
const forgotten = new Set();

const listen = async () => {
  await server.start(port, '127.0.0.1');
  port = server.address().port;
  return `http://127.0.0.1:${port}/jwks`;
};

const store = server.issuer.keys;
const toJSON = store.toJSON.bind(store);
store.toJSON = (includePrivate) => {
  if (!includePrivate) requests += 1;
  if (includePrivate) return toJSON(true);
  const keys = toJSON(false).filter((key) => !forgotten.has(key.kid));
  return nameless ? keys.map(({ kid, ...key }) => key) : keys;
};

const { end } = ServerResponse.prototype;
ServerResponse.prototype.end = function (...parts) {
  setTimeout(() => end.apply(this, parts), milliseconds);
  return this;
};

const commands = {
  start: listen,
  stop: async () => {
    const { url } = server.issuer;
    await server.stop();
    server.issuer.url = url;
    return true;
  },
  key: async ({ alg }) => (await store.generate(alg)).kid,
  forget: ({ kid }) => (forgotten.add(kid), true),
  requests: () => requests,
  slow: (command) => (milliseconds = command.milliseconds),
  nameless: () => (nameless = true),
  token: ({ kid, claims }) =>
    server.issuer.buildToken({
      kid,
      scopesOrTransform: (header, payload) => {
        for (const name of Object.keys(payload)) delete payload[name];
        Object.assign(payload, claims);
        if (claims.__kid) header.kid = claims.__kid;
        if (claims.__kid === null) delete header.kid;
        delete payload.__kid;
      },
    }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    console.log(JSON.stringify({ ok: await commands[command.do](command) }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
process.exit(0);
