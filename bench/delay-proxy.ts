/**
 * A TCP proxy that adds a round trip time, as a program of its own: `node --import tsx bench/delay-proxy.ts TARGET_PORT MILLISECONDS`. It prints the
 * port it listens at. Order is kept; bandwidth is not limited.
 */
import type { AddressInfo, Socket } from "node:net";
import { connect, createServer } from "node:net";

const [targetPort = "", roundTrip = ""] = process.argv.slice(2);
const oneWay = Number(roundTrip) / 2;

function later(action: () => void): void {
  if (oneWay === 0) action();
  else setTimeout(action, oneWay);
}

/** Hand on what comes, each piece so much later. */
function forward(from: Socket, to: Socket): void {
  from.on("data", (bytes) =>
    later(() => {
      // A full socket must hold up the sender, or memory would hide what flow control does.
      if (!to.write(bytes)) from.pause();
    }),
  );
  to.on("drain", () => from.resume());
  from.on("end", () => later(() => to.end()));
  from.on("close", () => later(() => to.destroy()));
  from.on("error", () => to.destroy());
}

const server = createServer({ noDelay: true }, (client) => {
  const upstream = connect({ port: Number(targetPort), host: "127.0.0.1", noDelay: true });
  forward(client, upstream);
  forward(upstream, client);
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
