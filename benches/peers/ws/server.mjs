// A minimal echo server on the npm package ws, to be measured beside ringback:
// `node server.mjs PORT [HOST]`, HOST being 127.0.0.1. Text comes back as text,
// binary as binary. SIGTERM and SIGINT close every connection with code 1001
// and end the process with status 0. `node server.mjs --version` prints its
// versions.
import {createRequire} from 'node:module';
import {WebSocketServer} from 'ws';

const CLOSE_MS = 2_000;

const [port, host = '127.0.0.1'] = process.argv.slice(2);
if (port === '--version') {
  const {version} = createRequire(import.meta.url)('ws/package.json');
  console.log(`ws ${version}, node ${process.versions.node}`);
  process.exit(0);
}
if (!/^\d+$/.test(port ?? '') || Number(port) > 65_535) {
  console.error('usage: node server.mjs PORT [HOST]');
  process.exit(2);
}

const server = new WebSocketServer({host, port: Number(port), perMessageDeflate: false});

server.on('listening', () => console.log(`listening ws://${host}:${server.address().port}`));
server.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
server.on('connection', (socket) => {
  socket.on('message', (data, binary) => socket.send(data, {binary}));
  socket.on('error', () => {}); // 'close' follows, and ends it
});

function close() {
  server.close(() => process.exit(0));
  for (const socket of server.clients) socket.close(1001);
  setTimeout(() => process.exit(0), CLOSE_MS).unref();
}
process.once('SIGTERM', close);
process.once('SIGINT', close);
