// Microsoft's JavaScript SignalR client against a server under test, one PASS or FAIL line a check.
// usage: node checks.mjs URL json|msgpack [ws|sse|lp] [--only TEXT]
// URL is that of the lab hub; "serialhub" beside it runs one call at a time, "securehub" wants a token.
// LAB_KEEPALIVE and LAB_TIMEOUT (seconds) are what the server was started with; a check may take CHECK_LIMIT seconds.
import assert from "node:assert/strict";
import {
    HttpTransportType, HubConnectionBuilder, HubConnectionState, JsonHubProtocol, LogLevel, Subject,
} from "@microsoft/signalr";
import { MessagePackHubProtocol } from "@microsoft/signalr-protocol-msgpack";

const [url, encoding, ...options] = process.argv.slice(2);
const protocols = { json: JsonHubProtocol, msgpack: MessagePackHubProtocol };
const transports = {
    ws: HttpTransportType.WebSockets, sse: HttpTransportType.ServerSentEvents, lp: HttpTransportType.LongPolling,
};
const transport = transports[options[0] in transports ? options.shift() : "ws"];
if (!url || !(encoding in protocols) || (options.length > 0 && options[0] !== "--only")) {
    console.error("usage: node checks.mjs URL json|msgpack [ws|sse|lp] [--only TEXT]");
    process.exit(2);
}
const json = encoding === "json";
const only = options[1] ?? "";
const serialUrl = url.replace(/[^/]+$/, "serialhub");
const keepAlive = 1000 * Number(process.env.LAB_KEEPALIVE ?? 15);
const timeout = 1000 * Number(process.env.LAB_TIMEOUT ?? 30);
const limit = Number(process.env.CHECK_LIMIT ?? 8);
const secureUrl = url.replace(/[^/]+$/, "securehub");
const chosen = { transport };

const MASKED = (target) => `An unexpected error occurred invoking '${target}' on the server.`;
const FAILED = (target) => `Failed to invoke '${target}' due to an error on the server.`;
const STREAM_FAILED = "An error occurred on the server while streaming results.";

// ---------------------------------------------------------------------------------------------- tools

const checks = [];
const check = (name, body, seconds = limit) => checks.push({ name, body, seconds });
const point = (x, y, label) => (json ? { x, y, label } : { X: x, Y: y, Label: label }); // as .NET names members
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function build(to = url, how = chosen) {
    const connection = new HubConnectionBuilder()
        .withUrl(to, how)
        .withHubProtocol(new protocols[encoding]())
        .configureLogging(process.env.DEBUG ? LogLevel.Trace : LogLevel.None)
        .withKeepAliveInterval(timeout / 4)
        .withServerTimeout(Math.max(2.5 * keepAlive, 2000))
        .build();
    connection.closing = new Promise((resolve) => connection.onclose((error) => resolve(error)));
    return connection;
}

/** Run `body` with a connection of its own, which is stopped afterwards. */
async function using(body, to = url, how = chosen) {
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

/** Gives a function that returns the arguments of all calls of a client method since now. */
function heard(connection, name) {
    const calls = [];
    const handler = (...args) => calls.push(args);
    connection.on(name, handler);
    return () => {
        connection.off(name, handler);
        return calls;
    };
}

/** Run `body` while the connection answers AskMe so. */
async function answering(connection, answer, body) {
    connection.on("AskMe", answer);
    try {
        await body();
    } finally {
        connection.off("AskMe");
    }
}

/** Run `body` with a connection of this user. */
const as = (user, body) => using(body, secureUrl, { ...chosen, accessTokenFactory: () => `token-${user}` });

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

// What MakeZoo gives, as each encoding shows it to JavaScript.
const zoo = json ? {
    flag: true, small: 200, short: -300, int: 70000, long: 2 ** 53, uLong: 2 ** 64, float: 1.5, double: 0.1,
    decimal: 79.99, char: "ж", text: "naïve ☃ 😀", bytes: "AAH+/w==", guid: "0f8fad5b-d9cb-469f-a165-70867728950e",
    utc: "2024-02-29T12:34:56.789Z", unspecified: "2024-02-29T12:34:56", offset: "2024-02-29T12:34:56+05:30",
    span: "1.02:03:04.5000000", day: "2024-02-29", clock: "12:34:56.7890000", color: 6, nothing: null,
    numbers: [1, 2, 3], names: ["a", "b"], counts: { One: 1, two: 2 }, byNumber: { 7: "seven" },
    link: "https://example.org/a?b=c", inner: point(1, -2, "p"), anything: { k: 1 },
} : {
    Flag: true, Small: 200, Short: -300, Int: 70000, Long: 2 ** 53, ULong: 2 ** 64, Float: 1.5, Double: 0.1,
    Decimal: "79.9900", Char: 1078, Text: "naïve ☃ 😀", Bytes: Uint8Array.of(0, 1, 254, 255),
    Guid: "0f8fad5b-d9cb-469f-a165-70867728950e", Utc: new Date("2024-02-29T12:34:56.789Z"),
    Unspecified: new Date("2024-02-29T12:34:56Z"), Offset: [new Date("2024-02-29T12:34:56Z"), 330],
    Span: 937845000000, Day: 738944, Clock: 452967890000, Color: "Blue", Nothing: null,
    Numbers: [1, 2, 3], Names: ["a", "b"], Counts: { One: 1, two: 2 }, ByNumber: { 7: "seven" },
    Link: "https://example.org/a?b=c", Inner: point(1, -2, "p"), Anything: { k: 1 },
};

// ---------------------------------------------------------------------------------------------- calls

for (const [what, value] of Object.entries({
    "a string": "plain",
    "an empty string": "",
    "text outside the BMP": "naïve ☃ 😀 𝄞 \u2028 \u0000 \"\\",
    "an object": { Name: "n", inner: { list: [1, -2.5, true, false, null, "😀"], empty: {} } },
    "a list": [[], [1, [2]], {}],
    "null": null,
    "a large integer": 2 ** 40,
    "a fraction": 0.1,
    ...(json ? {} : { "bytes": Uint8Array.of(0, 255, 128), "a date": new Date(1_700_000_000_123) }),
})) {
    check(`echo of ${what}`, async (c) => assert.deepEqual(await c.invoke("Echo", value), value));
}
check("typed object", async (c) =>
    assert.deepEqual(await c.invoke("MovePoint", point(1, 2.5, "p"), 10, -1), point(11, 1.5, "p")));
if (json) {
    check("typed object, names in another case", async (c) =>
        assert.deepEqual(await c.invoke("MovePoint", { X: 1, Y: 2, Label: "p" }, 1, 1), { x: 2, y: 3, label: "p" }));
}
check("method name in another case", async (c) => assert.equal(await c.invoke("aDD", 2, 3), 5));
check("void result", async (c) => assert.equal(await c.invoke("Nothing"), null));
check("bytes", async (c) =>
    assert.deepEqual(await c.invoke("Bytes", 5), json ? "AAECAwQ=" : Uint8Array.of(0, 1, 2, 3, 4)));
check("date with its offset", async (c) => {
    const now = await c.invoke("Now");
    if (!json) {
        assert.ok(Math.abs(now[0] - Date.now()) < 60_000, now);
        assert.equal(now[1], 0);
        return now[0].toISOString();
    }
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

check("a value of every type", async (c) => assert.deepEqual(await c.invoke("MakeZoo"), zoo));
check("a value of every type, there and back", async (c) => {
    // JavaScript's numbers are too small for the two long ones, and its objects have no keys but strings.
    const sent = { ...zoo, ...(json ? { long: 7, uLong: 8 } : { Long: 7, ULong: 8, ByNumber: {} }) };
    assert.deepEqual(await c.invoke("EchoZoo", sent), sent);
});
check("a stream of values of every type", async (c) => {
    const items = [0, 1, 2].map((int) => ({ ...zoo, [json ? "int" : "Int"]: int }));
    assert.deepEqual(await collect(c.stream("ZooStream", 3)), { items });
});

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
check("stream of a channel", async (c) =>
    assert.deepEqual(await collect(c.stream("CounterChannel", 100)), { items: range(0, 100) }));
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
}, Math.max(limit, 30)); // the client posts one item after the other where it has no WebSocket
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
    assert.deepEqual(await called, ["called back", 42, point(1, 2, "p")]);
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
check("a group, until one leaves it", (c) => using(async (d) => {
    const [mine, theirs] = [heard(c, "groupMessage"), heard(d, "groupMessage")];
    for (const member of [c, d]) await member.invoke("JoinGroup", "g");
    await c.invoke("SendGroup", "g", "1");
    await c.invoke("SendOthersInGroup", "g", "2");
    await c.invoke("SendGroup", "G", "names are not the same in another case");
    await d.invoke("LeaveGroup", "g");
    await c.invoke("SendGroup", "g", "3");
    await c.invoke("AddToGroup", d.connectionId, "g");
    await c.invoke("SendGroup", "g", "4");
    await Promise.all([alive(c), alive(d)]);
    assert.deepEqual(mine(), [["g", "1"], ["g", "3"], ["g", "4"]]);
    assert.deepEqual(theirs(), [["g", "1"], ["g", "2"], ["g", "4"]]);
    await c.invoke("LeaveGroup", "g");
}));
check("others, and one client", (c) => using(async (d) => {
    const [mine, theirs] = [heard(c, "message"), heard(d, "message")];
    await c.invoke("SendOthers", "1");
    await c.invoke("SendClient", d.connectionId, "2");
    await d.invoke("SendClient", c.connectionId, "3");
    await c.invoke("SendClient", "nobody", "4");
    await Promise.all([alive(c), alive(d)]);
    assert.deepEqual([mine(), theirs()], [[["3"]], [["1"], ["2"]]]);
}));
check("a user's connections", () => as("ann", (a) => as("ann", (b) => as("bob", async (d) => {
    const [first, second, other] = [a, b, d].map((connection) => heard(connection, "message"));
    await d.invoke("SendUser", "ann", "hi");
    await Promise.all([a, b, d].map(alive));
    assert.deepEqual([first(), second(), other()], [[["hi"]], [["hi"]], []]);
}))));

// ---------------------------------------------------------------------------------------------- client results

check("client result", (c) => answering(c, (question) => `${question}!`, async () =>
    assert.equal(await c.invoke("AskClient", "q 😀"), "q 😀!")));
check("client result, later, while other calls are answered", (c) => answering(c, async (question) => {
    await alive(c);
    await pause(20);
    return `${question}!`;
}, async () => {
    const answers = ["a", "b", "c"].map((question) => c.invoke("AskClient", question));
    await alive(c);
    assert.deepEqual(await Promise.all(answers), ["a!", "b!", "c!"]);
}));
check("client result that is an error", (c) => answering(c, () => {
    throw new Error("I do not know");
}, async () => {
    // The client says `${error}`.
    const text = `${MASKED("AskClient")} HubException: Error: I do not know`;
    assert.equal(await rejection(c.invoke("AskClient", "q")), text);
    await alive(c);
}));
check("client result that nobody gives", async (c) => {
    const text = `${MASKED("AskClient")} HubException: Client didn't provide a result.`;
    assert.equal(await rejection(c.invoke("AskClient", "q")), text);
});
check("client result of a wrong type", (c) => answering(c, () => 5, async () => {
    const error = await rejection(c.invoke("AskClient", "q"));
    assert.ok(error.startsWith(`${MASKED("AskClient")} HubException: Error trying to deserialize result to String. `), error);
    await alive(c);
}));
check("client result of another client", (c) => using((d) => answering(d, (question) => `${question} from d`, async () =>
    assert.equal(await c.invoke("AskOther", d.connectionId, "q"), "q from d"))));
check("client result of a client that is not there", async (c) =>
    assert.equal(await rejection(c.invoke("AskOther", "nobody", "q")), MASKED("AskOther")));
check("client result of a client that leaves", (c) => using(async (d) => {
    const asked = new Promise((resolve) => d.on("AskMe", () => {
        resolve();
        return new Promise(() => {});
    }));
    const error = rejection(c.invoke("AskOther", d.connectionId, "q"));
    await asked;
    await d.stop();
    assert.equal(await error, MASKED("AskOther"));
}));
check("client result where one call runs at a time", () => using((d) => answering(d, async (question) => {
    await alive(d);
    return `${question}!`;
}, async () => assert.equal(await d.invoke("AskClient", "q"), "q!")), serialUrl));

// ---------------------------------------------------------------------------------------------- who is calling

check("the token's user", () => as("ann", async (d) => {
    const who = await d.invoke("WhoAmI");
    // An EventSource sets no headers.
    const token = who.authQuery === null ? who.auth : `Bearer ${who.authQuery}`;
    assert.deepEqual([who.user, who.name, token], ["ann", "ann", "Bearer token-ann"]);
}));
check("no user", async (c) => assert.equal((await c.invoke("WhoAmI")).user, null));
check("a method for some, called by others", async (c) => {
    const text = "Failed to invoke 'AdminOnly' because user is unauthorized";
    assert.equal(await rejection(c.invoke("AdminOnly")), text);
    await as("ann", async (d) => assert.equal(await rejection(d.invoke("adminonly")), text));
    await as("admin", async (d) => assert.equal(await d.invoke("AdminOnly"), "secret of admin"));
});
check("a hub for some, without a token", () =>
    assert.rejects(build(secureUrl).start(), (error) => error.message.includes("Status code '401'")));

// ---------------------------------------------------------------------------------------------- sizes

check("big message down", async (c) => assert.equal(await c.invoke("Big", 500_000), "x".repeat(500_000)));
check("31k message up", async (c) => assert.equal(await c.invoke("Length", "y".repeat(31_000)), 31_000));
check("40k message up closes the connection with an error", () => using(async (d) => {
    const text = "Server returned an error on close: Connection closed with an error.";
    assert.equal(await rejection(d.invoke("Length", "y".repeat(40_000))), text);
    assert.equal((await d.closing)?.message, text);
}));

// ---------------------------------------------------------------------------------------------- the connection's life

check("negotiation and the transport", () => using(async (d) => {
    const who = await d.invoke("WhoAmI");
    assert.ok(d.connectionId);
    assert.deepEqual([who.connectionId, who.transport], [d.connectionId, HttpTransportType[transport]]);
}));
check("the client's own choice of a transport", () => using(alive, url, {}));
if (transport === HttpTransportType.WebSockets) check("no negotiation", () => using(async (d) => {
    assert.equal(d.connectionId, null);
    await alive(d);
}, url, { ...chosen, skipNegotiation: true }));
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
for (const { name, body, seconds } of checks.filter((entry) => entry.name.includes(only))) {
    all += 1;
    try {
        const run = async () => {
            if (shared.state === HubConnectionState.Disconnected) await shared.start();
            return body(shared);
        };
        const detail = await withTimeout(run(), seconds);
        passed += 1;
        console.log(`PASS ${name}  ${detail ?? ""}`);
    } catch (error) {
        console.log(`FAIL ${name}  ${oneLine(error)}`);
    }
}
await withTimeout(shared.stop(), 8).catch(() => {});
console.log(`TOTAL ${passed}/${all}`);
process.exit(passed === all ? 0 : 1);
