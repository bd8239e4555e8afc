// Microsoft's JavaScript SignalR client against a server under test, one PASS or FAIL line a check.
// usage: node checks.mjs URL [--only TEXT]     URL of the lab hub; "serialhub" beside it runs one call at a time
// LAB_KEEPALIVE and LAB_TIMEOUT (seconds) are what the server was started with.
import assert from "node:assert/strict";
import { HttpTransportType, HubConnectionBuilder, HubConnectionState, LogLevel, Subject } from "@microsoft/signalr";

const [url, ...options] = process.argv.slice(2);
if (!url || (options.length > 0 && options[0] !== "--only")) {
    console.error("usage: node checks.mjs URL [--only TEXT]");
    process.exit(2);
}
const only = options[1] ?? "";
const serialUrl = url.replace(/[^/]+$/, "serialhub");
const keepAlive = 1000 * Number(process.env.LAB_KEEPALIVE ?? 15);
const timeout = 1000 * Number(process.env.LAB_TIMEOUT ?? 30);
const webSockets = { transport: HttpTransportType.WebSockets };

const MASKED = (target) => `An unexpected error occurred invoking '${target}' on the server.`;
const FAILED = (target) => `Failed to invoke '${target}' due to an error on the server.`;
const STREAM_FAILED = "An error occurred on the server while streaming results.";

// ---------------------------------------------------------------------------------------------- tools

const checks = [];
const check = (name, body) => checks.push({ name, body });
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function build(to = url, how = webSockets) {
    const connection = new HubConnectionBuilder()
        .withUrl(to, how)
        .configureLogging(process.env.DEBUG ? LogLevel.Trace : LogLevel.None)
        .withKeepAliveInterval(timeout / 4)
        .withServerTimeout(Math.max(2.5 * keepAlive, 2000))
        .build();
    connection.closing = new Promise((resolve) => connection.onclose((error) => resolve(error)));
    return connection;
}

/** Run `body` with a connection of its own, which is stopped afterwards. */
async function using(body, to = url, how = webSockets) {
    const connection = build(to, how);
    await connection.start();
    try {
        return await body(connection);
    } finally {
        await connection.stop();
    }
}

async function rejection(promise) {
    let value;
    try {
        value = await promise;
    } catch (error) {
        return error.message;
    }
    assert.fail(`no error, but ${JSON.stringify(value)}`);
}

/** All items of a stream; `error` when it ended with one. */
function collect(stream) {
    const items = [];
    return new Promise((resolve) =>
        stream.subscribe({
            next: (item) => items.push(item),
            error: (error) => resolve({ items, error: error.message }),
            complete: () => resolve({ items }),
        }));
}

/** Subscribe, dispose after some items; resolves to the items seen by then and the moment of the disposal. */
function takeThenDispose(stream, count) {
    const items = [];
    return new Promise((resolve, reject) => {
        const subscription = stream.subscribe({
            next: (item) => {
                items.push(item);
                if (items.length === count) {
                    subscription.dispose();
                    resolve({ items, at: performance.now() });
                }
            },
            error: reject,
            complete: () => reject(new Error("the stream completed")),
        });
    });
}

/** Ask until the server has seen one more stream cancelled; resolves to the moment. */
async function cancellation(connection, before) {
    const start = performance.now();
    while ((await connection.invoke("Stats")).cancelled === before) {
        assert.ok(performance.now() - start < 3000, "the stream goes on on the server");
    }
    return performance.now();
}

/** The arguments of the next call of a client method. */
function next(connection, name) {
    return new Promise((resolve) => {
        const handler = (...args) => {
            connection.off(name, handler);
            resolve(args);
        };
        connection.on(name, handler);
    });
}

function upload(items, end = (subject) => subject.complete()) {
    const subject = new Subject();
    const feed = () => {
        items.forEach((item) => subject.next(item));
        end(subject);
    };
    return { subject, feed };
}

const alive = async (connection) => assert.equal(await connection.invoke("Add", 4, 5), 9);

async function withTimeout(promise, seconds) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not within ${seconds} s`)), 1000 * seconds);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

// ---------------------------------------------------------------------------------------------- calls

for (const [what, value] of Object.entries({
    "a string": "plain",
    "an empty string": "",
    "text outside the BMP": "naïve ☃ 😀 𝄞 \u2028 \u0000 \"\\",
    "an object": { Name: "n", inner: { list: [1, -2.5, true, false, null, "😀"], empty: {} } },
    "a list": [[], [1, [2]], {}],
    "null": null,
    "a large integer": Number.MAX_SAFE_INTEGER,
    "a fraction": 0.1,
})) {
    check(`echo of ${what}`, async (c) => assert.deepEqual(await c.invoke("Echo", value), value));
}
check("typed object", async (c) =>
    assert.deepEqual(await c.invoke("MovePoint", { x: 1, y: 2.5, label: "p" }, 10, -1), { x: 11, y: 1.5, label: "p" }));
check("typed object, names in another case", async (c) =>
    assert.deepEqual(await c.invoke("MovePoint", { X: 1, Y: 2, Label: "p" }, 1, 1), { x: 2, y: 3, label: "p" }));
check("method name in another case", async (c) => assert.equal(await c.invoke("aDD", 2, 3), 5));
check("void result", async (c) => assert.equal(await c.invoke("Nothing"), null));
check("bytes", async (c) => assert.equal(await c.invoke("Bytes", 5), "AAECAwQ="));
check("date with its offset", async (c) => {
    const now = await c.invoke("Now");
    assert.match(now, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$/);
    assert.ok(Math.abs(Date.parse(now) - Date.now()) < 60_000, now);
    return now;
});
check("100 invocations in flight", async (c) => {
    const sums = await Promise.all(range(0, 100).map((i) => c.invoke("Add", i, 1)));
    assert.deepEqual(sums, range(1, 101));
});
check("out of order where the limit allows", async (c) => {
    const order = [];
    const slow = c.invoke("Slow", 300).then((result) => order.push(result));
    const fast = c.invoke("Add", 1, 1).then((result) => order.push(result));
    await Promise.all([slow, fast]);
    assert.deepEqual(order, [2, "slept 300"]);
});
check("in order where one call runs at a time", () => using(async (d) => {
    const order = [];
    const slow = d.invoke("Slow", 300).then((result) => order.push(result));
    const fast = d.invoke("Add", 1, 1).then((result) => order.push(result));
    await Promise.all([slow, fast]);
    assert.deepEqual(order, ["slept 300", 2]);
}, serialUrl));

// ---------------------------------------------------------------------------------------------- errors

for (const [what, call, text] of [
    ["ordinary exception is masked", (c) => c.invoke("Throw"), MASKED("Throw")],
    ["hub error is passed on", (c) => c.invoke("ThrowHubException"),
        `${MASKED("ThrowHubException")} HubException: told to the client`],
    ["unknown method", (c) => c.invoke("NoSuch", 1), `${FAILED("NoSuch")} HubException: Method does not exist.`],
    ["too few arguments", (c) => c.invoke("Add", 1), FAILED("Add")],
    ["too many arguments", (c) => c.invoke("Add", 1, 2, 3), FAILED("Add")],
    ["wrong type", (c) => c.invoke("Add", "x", 1), FAILED("Add")],
    ["wrong type, method in another case", (c) => c.invoke("aDd", "x", 1), FAILED("Add")],
    ["streaming method called plainly", (c) => c.invoke("Counter", 2, 0),
        "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation."],
]) {
    check(what, async (c) => {
        assert.equal(await rejection(call(c)), text);
        await alive(c);
    });
}
for (const [what, stream, text] of [
    ["plain method called as a stream", (c) => c.stream("Add", 1, 2),
        "The client attempted to invoke the non-streaming 'Add' method with a streaming invocation."],
    ["unknown streaming method", (c) => c.stream("NoSuch"), `${FAILED("NoSuch")} HubException: Method does not exist.`],
    ["stream with a wrong argument", (c) => c.stream("Counter", "x", 0), FAILED("Counter")],
    ["stream that fails at once", (c) => c.stream("FailingStream", 0), `${STREAM_FAILED} HubException: stream broke`],
]) {
    check(what, async (c) => {
        assert.deepEqual(await collect(stream(c)), { items: [], error: text });
        await alive(c);
    });
}

// ---------------------------------------------------------------------------------------------- streams down

check("stream of 5", async (c) => assert.deepEqual(await collect(c.stream("Counter", 5, 1)), { items: range(0, 5) }));
check("stream of 10,000", async (c) => {
    const start = performance.now();
    assert.deepEqual(await collect(c.stream("Counter", 10_000, 0)), { items: range(0, 10_000) });
    return `${Math.round(performance.now() - start)} ms`;
});
check("empty stream", async (c) => assert.deepEqual(await collect(c.stream("Counter", 0, 0)), { items: [] }));
check("three streams at once", async (c) => {
    const all = await Promise.all([20, 40, 60].map((n) => collect(c.stream("Counter", n, 1))));
    assert.deepEqual(all.map(({ items }) => items), [range(0, 20), range(0, 40), range(0, 60)]);
});
check("disposed stream stops on the server within 100 ms", async (c) => {
    let best = Infinity;
    for (let attempt = 0; attempt < 3 && best > 100; attempt++) { // a busy machine may be late once
        const { cancelled } = await c.invoke("Stats");
        const { items, at } = await takeThenDispose(c.stream("Counter", 1_000_000, 2), 3);
        assert.deepEqual(items, [0, 1, 2]);
        best = Math.min(best, await cancellation(c, cancelled) - at);
    }
    assert.ok(best <= 100, `took ${best} ms`);
    return `${best.toFixed(1)} ms`;
});
check("failing stream delivers its items first", async (c) => assert.deepEqual(
    await collect(c.stream("FailingStream", 3)),
    { items: [0, 1, 2], error: `${STREAM_FAILED} HubException: stream broke` }));

// ---------------------------------------------------------------------------------------------- streams up

check("upload", async (c) => {
    const { subject, feed } = upload(["a", "é", "😀"]);
    const result = c.invoke("Upload", subject);
    feed();
    assert.equal(await result, "3:aé😀");
});
check("upload of nothing", async (c) => {
    const { subject, feed } = upload([]);
    const result = c.invoke("Upload", subject);
    feed();
    assert.equal(await result, "0:");
});
check("upload of 2000", async (c) => {
    const { subject, feed } = upload(range(0, 2000).map(() => "x"));
    const result = c.invoke("Upload", subject);
    feed();
    assert.equal(await result, `2000:${"x".repeat(2000)}`);
});
check("two uploads around an argument", async (c) => {
    const [a, b] = [upload([1, 2]), upload([10, 20, 30])];
    const result = c.invoke("UploadTwo", a.subject, "L", b.subject);
    b.feed();
    a.feed();
    assert.equal(await result, "L:3:60");
});
check("two uploads around an argument, one of them empty", async (c) => {
    const [a, b] = [upload([]), upload([5])];
    const result = c.invoke("UploadTwo", a.subject, "", b.subject);
    a.feed();
    b.feed();
    assert.equal(await result, ":0:5");
});
check("upload that fails", async (c) => {
    const { subject, feed } = upload(["a"], (s) => s.error(new Error("client broke")));
    const result = c.invoke("UploadError", subject);
    feed();
    assert.equal(await result, "error:client broke");
});
check("upload that fails, uncaught by the method", async (c) => {
    const { subject, feed } = upload(["a"], (s) => s.error(new Error("client broke")));
    const result = rejection(c.invoke("Upload", subject));
    feed();
    assert.equal(await result, `${MASKED("Upload")} HubException: client broke`);
    await alive(c);
});
check("upload with an item of a wrong type", async (c) => {
    const { subject, feed } = upload([1]);
    const result = c.invoke("UploadError", subject);
    feed();
    assert.equal(await result, "error:Failed to bind Stream message.");
    await alive(c);
});
check("upload sent without waiting for a result", async (c) => {
    const { subject, feed } = upload(["a"]);
    await c.send("Upload", subject);
    feed();
    await alive(c);
});

// ---------------------------------------------------------------------------------------------- both ways

check("both ways at once", async (c) => {
    const items = [...range(0, 200), "😀", null, { a: [1] }];
    const { subject, feed } = upload(items);
    const echoed = collect(c.stream("StreamEcho", subject));
    feed();
    assert.deepEqual(await echoed, { items });
});
check("both ways, one item in answer to another", async (c) => {
    const subject = new Subject();
    const items = [];
    await new Promise((complete, error) => {
        c.stream("StreamEcho", subject).subscribe({
            next: (item) => {
                items.push(item);
                if (item < 20) subject.next(item + 1);
                else subject.complete();
            },
            complete,
            error,
        });
        subject.next(0);
    });
    assert.deepEqual(items, range(0, 21));
});
check("both ways, the upload fails", async (c) => {
    const { subject, feed } = upload([1], (s) => s.error(new Error("up broke")));
    const echoed = collect(c.stream("StreamEcho", subject));
    feed();
    assert.deepEqual(await echoed, { items: [1], error: `${STREAM_FAILED} HubException: up broke` });
});
check("both ways, cancelled", async (c) => {
    const subject = new Subject();
    const taken = takeThenDispose(c.stream("StreamEcho", subject), 3);
    range(0, 10).forEach((i) => subject.next(i));
    assert.deepEqual((await taken).items, [0, 1, 2]);
    await alive(c); // Microsoft's server may end the connection over an item that meets the stream's very end
    range(0, 100).forEach((i) => subject.next(i)); // more than a server would hold
    subject.complete();
    await alive(c);
});

// ---------------------------------------------------------------------------------------------- the server calls

check("three arguments to a client method", async (c) => {
    const called = next(c, "pong");
    await c.invoke("CallMeBack", "pong");
    assert.deepEqual(await called, ["called back", 42, { x: 1, y: 2, label: "p" }]);
});
check("client method that nobody handles", async (c) => {
    await c.invoke("CallMeBack", "nobody-listens");
    await alive(c);
});
check("2000 calls in order, before the completion", async (c) => {
    const got = [];
    const handler = (i) => got.push(i);
    c.on("flood", handler);
    await c.invoke("Flood", 2000);
    c.off("flood", handler);
    assert.deepEqual(got, range(0, 2000));
});
check("broadcast reaches every connection", (c) => using(async (d) => {
    const [mine, theirs] = [next(c, "message"), next(d, "message")];
    await c.send("Broadcast", "to all 😀");
    assert.deepEqual([await mine, await theirs], [["to all 😀"], ["to all 😀"]]);
}));

// ---------------------------------------------------------------------------------------------- sizes

check("big message down", async (c) => assert.equal(await c.invoke("Big", 500_000), "x".repeat(500_000)));
check("31k message up", async (c) => assert.equal(await c.invoke("Length", "y".repeat(31_000)), 31_000));
check("40k message up closes the connection with an error", () => using(async (d) => {
    const text = "Server returned an error on close: Connection closed with an error.";
    assert.equal(await rejection(d.invoke("Length", "y".repeat(40_000))), text);
    assert.equal((await d.closing)?.message, text);
}));

// ---------------------------------------------------------------------------------------------- the connection's life

check("negotiation and WebSockets", () => using(async (d) => {
    const who = await d.invoke("WhoAmI");
    assert.ok(d.connectionId);
    assert.deepEqual([who.connectionId, who.transport], [d.connectionId, "WebSockets"]);
}));
check("the client's own choice of a transport", () => using(alive, url, {}));
check("no negotiation", () => using(async (d) => {
    assert.equal(d.connectionId, null);
    await alive(d);
}, url, { ...webSockets, skipNegotiation: true }));
check("server aborts the connection", () => using(async (d) => {
    await d.send("AbortMe");
    assert.equal(await d.closing, undefined);
    assert.equal(d.state, HubConnectionState.Disconnected);
}));
check("a call that is running when the server aborts fails", () => using(async (d) => {
    const slow = rejection(d.invoke("Slow", 60_000));
    await d.send("AbortMe");
    return slow;
}));
check("stop is clean", async () => {
    const d = build();
    await d.start();
    await alive(d);
    await d.stop();
    assert.equal(await d.closing, undefined);
});
check("stop with a stream running is clean, and ends it on the server", async (c) => {
    const d = build();
    await d.start();
    const { cancelled } = await c.invoke("Stats");
    const first = await new Promise((resolve) =>
        d.stream("Counter", 1_000_000, 2).subscribe({ next: resolve, complete() {}, error() {} }));
    assert.equal(first, 0);
    await d.stop();
    assert.equal(await d.closing, undefined);
    await cancellation(c, cancelled);
});
check("stop and start again", async () => {
    const d = build();
    const ids = new Set();
    for (let i = 0; i < 3; i++) {
        await d.start();
        ids.add(d.connectionId);
        assert.equal(await d.invoke("Add", i, 1), i + 1);
        await d.stop();
        assert.equal(d.state, HubConnectionState.Disconnected);
    }
    assert.equal(ids.size, 3);
});
check("a silent connection stays, by pings", () => using(async (d) => {
    // Nothing but pings for longer than either side waits for the other, where the server's times are short enough.
    const silence = Math.min(2 * Math.max(timeout, 2.5 * keepAlive), 6000);
    await pause(silence);
    assert.equal(d.state, HubConnectionState.Connected);
    await alive(d);
    return `${silence} ms`;
}));

// ---------------------------------------------------------------------------------------------- run

process.on("unhandledRejection", () => {}); // of a check that has failed already
const shared = build();
let [passed, all] = [0, 0];
const oneLine = (error) => `${error?.name}: ${error?.message}`.replaceAll(/\s+/g, " ").slice(0, 600);
for (const { name, body } of checks.filter((entry) => entry.name.includes(only))) {
    all += 1;
    try {
        const run = async () => {
            if (shared.state === HubConnectionState.Disconnected) await shared.start();
            return body(shared);
        };
        const detail = await withTimeout(run(), 8);
        passed += 1;
        console.log(`PASS ${name}  ${detail ?? ""}`);
    } catch (error) {
        console.log(`FAIL ${name}  ${oneLine(error)}`);
    }
}
await withTimeout(shared.stop(), 8).catch(() => {});
console.log(`TOTAL ${passed}/${all}`);
process.exit(passed === all ? 0 : 1);
