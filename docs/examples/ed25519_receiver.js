// A webhook receiver with Node alone, for an endpoint whose signature_scheme is ed25519: it holds no secret at all.
//
// export CERTFLEET_WEBHOOK_KEY=whpk_…       (public_key of GET /v1/webhooks/{id}; after a rotation: the new one)
// PORT=9000 node ed25519_receiver.js

import { createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";

const SPKI = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410: what comes before the 32 bytes of a key
const TOLERANCE = 5 * 60; // seconds
const key = createPublicKey({
  key: Buffer.concat([SPKI, Buffer.from(process.env.CERTFLEET_WEBHOOK_KEY.replace(/^whpk_/, ""), "base64")]),
  format: "der",
  type: "spki",
});
const handled = new Set(); // in earnest: a table with a unique column, written in the transaction of the work

function isSigned(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  if (!id || !signatures || !/^\d{1,12}$/.test(timestamp ?? "")) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE) return false;
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  return signatures
    .split(" ")
    .filter((one) => one.startsWith("v1a,"))
    .some((one) => verify(null, signed, key, Buffer.from(one.slice(4), "base64")));
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks); // raw: do not let a middleware parse it first
  if (!isSigned(request.headers, body)) {
    response.writeHead(400).end("not signed by Certfleet");
    return;
  }
  if (!handled.has(request.headers["webhook-id"])) {
    handle(JSON.parse(body.toString("utf8")));
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
