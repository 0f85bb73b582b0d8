// A webhook receiver with Node and nothing but its http module.
//
// npm install standardwebhooks        (and "type": "module" in package.json)
// export CERTFLEET_WEBHOOK_SECRET=whsec_…
// PORT=9000 node node_receiver.js

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.CERTFLEET_WEBHOOK_SECRET);
const handled = new Set(); // in earnest: a table with a unique column, written in the transaction of the work

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks); // raw: do not let a middleware parse it first
  let event;
  try {
    event = webhook.verify(body, request.headers);
  } catch {
    response.writeHead(400).end("not signed by Certfleet");
    return;
  }
  if (!handled.has(request.headers["webhook-id"])) {
    handle(event);
    handled.add(request.headers["webhook-id"]);
  }
  response.writeHead(204).end();
});

// Your part. What takes longer than a second goes to a queue of yours.
function handle(event) {
  console.log(event.type, event.sequence);
}

server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
