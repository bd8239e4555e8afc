// Microsoft's JavaScript SignalR client, with stateful reconnect, over connections that break again and again.
// usage: node cuts.mjs URL json|msgpack CUTS
// URL is that of the lab hub. Prints a PASS or FAIL line for each of the connections, which are cut CUTS times together.
import assert from "node:assert/strict";
import net from "node:net";
import { HttpTransportType, HubConnectionBuilder, JsonHubProtocol, LogLevel, Subject } from "@microsoft/signalr";
import { MessagePackHubProtocol } from "@microsoft/signalr-protocol-msgpack";

const [url, encoding, cuts] = process.argv.slice(2);
const protocols = { json: JsonHubProtocol, msgpack: MessagePackHubProtocol };
if (!url || !(encoding in protocols) || !(Number(cuts) > 0)) {
    console.error("usage: node cuts.mjs URL json|msgpack CUTS");
    process.exit(2);
}
const CONNECTIONS = 8; // side by side, as this client is slow to come back
const LIMIT = 120; // seconds for all
const CALLS = 20, ITEMS = 120; // of one round
const CALM = 20, STORMY = 60; // milliseconds that a WebSocket lives: at least, and at random on top of that

/** A TCP proxy that breaks WebSockets, as often as `left` says. */
class Proxy {
    constructor(target) {
        this.target = new URL(target);
        this.left = 0;
        this.kinds = { reset: 0, closed: 0, halfOpen: 0 };
        this.server = net.createServer((client) => this.carry(client));
    }

    async listen() {
        await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
        return `http://127.0.0.1:${this.server.address().port}${this.target.pathname}`;
    }

    carry(client) {
        const server = net.connect(Number(this.target.port), this.target.hostname);
        const ends = [client, server];
        const broken = () => ends.forEach((socket) => socket.destroy());
        let doomed = false, dead = false, upgraded = false;
        for (const [from, to] of [[client, server], [server, client]]) {
            from.setNoDelay(true);
            from.on("error", () => {});
            from.on("end", broken).on("close", () => from !== server && server.end());
            from.on("data", (data) => {
                if (dead) {
                    return; // behind what has been lost nothing may arrive
                }
                if (doomed) { // the cut comes in the middle of something
                    dead = true;
                    to.write(data.subarray(0, Math.floor(Math.random() * data.length)), () => this.cut(client, server));
                } else {
                    to.write(data);
                }
                // Its first message behind the opening shows that the client has come back as a whole: one that is cut
                // before does not try again.
                if (upgraded && from === client && this.left > 0) {
                    upgraded = false;
                    setTimeout(() => {
                        doomed = this.left > 0 && !client.destroyed;
                    }, CALM + STORMY * Math.random());
                }
                upgraded ||= from === server && data.subarray(0, 12).toString("latin1") === "HTTP/1.1 101";
            });
        }
    }

    cut(client, server) {
        if (this.left === 0 || client.destroyed) {
            return;
        }
        this.left -= 1;
        const kind = Object.keys(this.kinds)[Math.floor(Math.random() * 3)];
        this.kinds[kind] += 1;
        if (kind === "reset") {
            client.resetAndDestroy();
            server.resetAndDestroy();
        } else if (kind === "closed") {
            client.destroy();
            server.destroy();
        } else { // the server is not told: it hears of it by the next WebSocket
            client.removeAllListeners("close");
            client.resetAndDestroy();
        }
    }
}

/** One round of calls, a download and an upload, side by side. */
async function round(connection, number) {
    const calls = async () => {
        for (let i = 0; i < CALLS; i += 1) {
            assert.equal(await connection.invoke("Add", number, i), number + i);
        }
    };
    const download = new Promise((resolve, reject) => {
        const items = [];
        connection.stream("Counter", ITEMS, 1).subscribe({
            next: (item) => items.push(item), error: reject, complete: () => resolve(items),
        });
    }).then((items) => assert.deepEqual(items, Array.from({ length: ITEMS }, (_, i) => i)));
    const upload = async () => {
        const subject = new Subject();
        const result = connection.invoke("Upload", subject);
        const items = Array.from({ length: ITEMS }, (_, i) => `${number}.${i};`);
        for (const item of items) {
            subject.next(item);
            await new Promise((resolve) => setTimeout(resolve, 1));
        }
        subject.complete();
        assert.equal(await result, `${ITEMS}:${items.join("")}`);
    };
    await Promise.all([calls(), download, upload()]);
}

async function check(cuts) {
    const proxy = new Proxy(url);
    const connection = new HubConnectionBuilder()
        .withUrl(await proxy.listen(), { transport: HttpTransportType.WebSockets })
        .withHubProtocol(new protocols[encoding]())
        .withStatefulReconnect()
        .configureLogging(process.env.DEBUG ? LogLevel.Trace : LogLevel.None)
        .build();
    const closed = new Promise((_, reject) => connection.onclose((error) => reject(error ?? new Error("closed"))));
    closed.catch(() => {});
    await connection.start();
    proxy.left = cuts; // not before, for who is cut in the handshake has nothing to resume
    const id = connection.connectionId;
    let rounds = 0;
    while (proxy.left > 0) {
        await Promise.race([round(connection, rounds), closed]);
        rounds += 1;
    }
    assert.equal(connection.connectionId, id);
    await connection.stop();
    proxy.server.close();
    const { reset, closed: ended, halfOpen } = proxy.kinds;
    return `${cuts} cuts (${reset} reset, ${ended} closed, ${halfOpen} half open), ${rounds} rounds`;
}

const late = setTimeout(() => {
    console.log(`FAIL all in time  not within ${LIMIT} s\nTOTAL 0/${CONNECTIONS}`);
    process.exit(1);
}, 1000 * LIMIT);
const each = Math.ceil(Number(cuts) / CONNECTIONS);
const results = await Promise.allSettled(Array.from({ length: CONNECTIONS }, () => check(each)));
clearTimeout(late);
results.forEach(({ status, value, reason }, i) => {
    console.log(status === "fulfilled" ? `PASS connection ${i}  ${value}` : `FAIL connection ${i}  ${reason}`);
});
const passed = results.filter(({ status }) => status === "fulfilled").length;
console.log(`TOTAL ${passed}/${CONNECTIONS}`);
process.exit(passed === CONNECTIONS ? 0 : 1);
