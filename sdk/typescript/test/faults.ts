// An HTTP proxy between client and server that does to each request what a test says.

import { type IncomingMessage, type ServerResponse, createServer, request } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export type Fault =
  // Passes request and answer on.
  | { readonly kind: "pass" }
  // Resets the connection before anything is passed on.
  | { readonly kind: "reset" }
  // Passes the request on, and resets the connection when the answer is there.
  | { readonly kind: "lose-answer" }
  // The same, with a part of the answer.
  | { readonly kind: "cut-answer" }
  // Passes the request on and the answer never.
  | { readonly kind: "swallow-answer" }
  // Passes the answer on so many milliseconds later.
  | { readonly kind: "slow"; readonly millis: number }
  // Passes the request on so many milliseconds later, also if the client has gone meanwhile.
  | { readonly kind: "late"; readonly millis: number }
  // Answers by itself; the request goes nowhere.
  | { readonly kind: "answer"; readonly status: number; readonly headers?: Record<string, string>; readonly body?: string };

export interface Seen {
  readonly path: string;
  readonly body: Record<string, unknown>;
  readonly headers: IncomingMessage["headers"];
  readonly at: number;
}

export interface FaultProxy {
  readonly url: string;
  // Requests as they came.
  readonly seen: Seen[];
  // What happens to the requests from now on: one after the other, then all pass.
  plan(...faults: Fault[]): void;
  // What happens to each request from now on.
  always(decide: (seen: Seen) => Fault): void;
  stop(): Promise<void>;
}

export const PASS: Fault = { kind: "pass" };

export async function faultProxy(upstream: string): Promise<FaultProxy> {
  const seen: Seen[] = [];
  let decide: (one: Seen) => Fault = () => PASS;
  const server = createServer((incoming, outgoing) => {
    void read(incoming).then((text) => {
      const body = JSON.parse(text === "" ? "{}" : text) as Record<string, unknown>;
      const one = { path: incoming.url ?? "", body, headers: incoming.headers, at: performance.now() };
      seen.push(one);
      act(decide(one), upstream, incoming, text, outgoing);
    }, () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    plan: (...faults) => {
      const left = [...faults];
      decide = () => left.shift() ?? PASS;
    },
    always: (next) => {
      decide = next;
    },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function act(fault: Fault, upstream: string, incoming: IncomingMessage, text: string, outgoing: ServerResponse): void {
  switch (fault.kind) {
    case "reset":
      reset(incoming.socket);
      return;
    case "answer":
      outgoing.writeHead(fault.status, fault.headers).end(fault.body ?? "");
      return;
    case "late":
      setTimeout(() => {
        pass(fault, upstream, incoming, text, outgoing, false);
      }, fault.millis);
      return;
    default:
      pass(fault, upstream, incoming, text, outgoing, fault.kind === "pass" || fault.kind === "slow");
  }
}

// Passes a request on. A client's end is passed on, too, unless the fault is that it gets lost.
function pass(
  fault: Fault,
  upstream: string,
  incoming: IncomingMessage,
  text: string,
  outgoing: ServerResponse,
  tellsEnd: boolean,
): void {
  const { "content-length": _, ...headers } = incoming.headers;
  const url = upstream + (incoming.url ?? "");
  const onward = request(url, { method: incoming.method ?? "GET", headers }, (answer) => {
    void read(answer).then((body) => {
      deliver(fault, answer, body, incoming, outgoing);
    }, () => {});
  });
  onward.on("error", () => incoming.socket.destroy());
  if (tellsEnd) {
    outgoing.on("close", () => onward.destroy());
  }
  onward.end(text);
}

function deliver(
  fault: Fault,
  answer: IncomingMessage,
  body: string,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): void {
  const send = (): void => {
    outgoing.writeHead(answer.statusCode ?? 500, answer.headers).end(body);
  };
  switch (fault.kind) {
    case "swallow-answer":
      return;
    case "lose-answer":
      reset(incoming.socket);
      return;
    case "cut-answer":
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      outgoing.write(body.slice(0, body.length / 2), () => reset(incoming.socket));
      return;
    case "slow":
      setTimeout(send, fault.millis);
      return;
    default:
      send();
  }
}

// A socket whose client has gone, or that has begun to end, must not be reset: Node 20 then closes
// its handle never, and the process spins at its end.
function reset(socket: Socket): void {
  if (socket.readyState === "open" && !socket.destroyed) {
    socket.resetAndDestroy();
  } else {
    socket.destroy();
  }
}

async function read(stream: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}
