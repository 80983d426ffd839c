// The same as client.py, with gRPC's Node implementation.
const http = require('http');
const grpc = require('@grpc/grpc-js');
const xds = require('@grpc/grpc-js-xds');

xds.register();
const clients = new Map();

function client(target, secure) {
  const key = `${target} ${secure}`;
  if (!clients.has(key)) {
    const plain = grpc.credentials.createInsecure();
    clients.set(key, new grpc.Client(target, secure ? new xds.XdsChannelCredentials(plain) : plain));
  }
  return clients.get(key);
}

function once(client, method, said, waitForReady) {
  const metadata = new grpc.Metadata({ waitForReady });
  for (const [name, value] of said) if (value) metadata.set(name, value);
  const same = (bytes) => bytes;
  return new Promise((done) => {
    client.makeUnaryRequest(`/shop.Greeter/${method}`, same, same, Buffer.alloc(0), metadata,
      { deadline: Date.now() + 20000 },
      (error, answer) => done(error ? `${grpc.status[error.code]}: ${error.details}` : answer.toString()));
  });
}

http.createServer(async (request, response) => {
  const told = new URL(request.url, 'http://localhost').searchParams;
  const to = client(told.get('target'), (told.get('secure') ?? '1') === '1');
  const said = [['x-user', told.get('user')], ['baggage', told.get('baggage')], ['x-tulle-lane', told.get('lane')]];
  const answers = {};
  for (let i = 0; i < Number(told.get('calls') ?? 1); i++) {
    const answer = await once(to, told.get('method') ?? 'Greet', said, told.get('wait') === '1');
    answers[answer] = (answers[answer] ?? 0) + 1;
  }
  response.end(JSON.stringify(answers));
}).listen(7000);
