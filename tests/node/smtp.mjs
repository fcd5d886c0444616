// A mail server for tests. Reads commands as lines of JSON from standard input, and writes one line
// for each.
//   {"do":"start"}               returns the port
//   {"do":"refuse","times":2}    rejects the next e-mails temporarily
//   {"do":"emails"}              returns the accepted e-mails, parsed
import { createInterface } from 'node:readline';
import { simpleParser } from 'mailparser';
import { SMTPServer } from 'smtp-server';

const emails = [];
let refusals = 0;

const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  onAuth: ({ username, password }, _, done) =>
    username === 'tenantry' && password === 'a password' ? done(null, { user: username }) : done(new Error('unknown user')),
  onRcptTo: (_address, _session, done) => {
    if (refusals === 0) return done();
    refusals -= 1;
    done(Object.assign(new Error('busy'), { responseCode: 451 }));
  },
  onData: async (stream, session, done) => {
    const { from, to, subject, text, messageId } = await simpleParser(stream);
    const recipients = session.envelope.rcptTo.map(({ address }) => address);
    emails.push({ recipients, from: from.text, to: to.text, subject, text, messageId, user: session.user ?? null });
    done();
  },
});

const commands = {
  start: () =>
    new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.server.address().port))),
  refuse: ({ times }) => (refusals = times),
  emails: () => emails,
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
