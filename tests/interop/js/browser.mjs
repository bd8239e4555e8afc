// checks.mjs in a real browser: headless Chromium shows a page of its own origin, which calls the hub of another.
// usage: node browser.mjs CHROMIUM PORT URL json|msgpack [ws|sse|lp] [--only TEXT]
// PORT is where the page comes from (http://localhost:PORT); the rest is what checks.mjs takes.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const [program, port, ...args] = process.argv.slice(2);
const script = "text/javascript";
const served = {
    "/": ["page/page.html", "text/html"],
    "/assert.mjs": ["page/assert.mjs", script],
    "/signalr.mjs": ["page/signalr.mjs", script],
    "/msgpack.mjs": ["page/msgpack.mjs", script],
    "/checks.mjs": ["checks.mjs", script],
    "/signalr.js": ["node_modules/@microsoft/signalr/dist/browser/signalr.js", script],
    "/msgpack.js": ["node_modules/@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.js", script],
};
const flags = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
];

const server = createServer(async (request, response) => {
    const found = served[new URL(request.url, "http://page").pathname];
    if (found === undefined) {
        response.writeHead(404).end();
        return;
    }
    const body = await readFile(new URL(found[0], import.meta.url));
    response.writeHead(200, { "content-type": `${found[1]}; charset=utf-8` }).end(body);
});
await new Promise((resolve, reject) => server.on("error", reject).listen(Number(port), "localhost", resolve));

console.error("the browser is to start");
const browser = await chromium.launch({ executablePath: program, args: flags });
console.error(`it is ${browser.version()}`);
const page = await browser.newPage();
page.on("console", (message) => {
    if (message.type() === "log") console.log(message.text());
    else if (process.env.DEBUG) console.error(message.text());
});
const ended = new Promise((resolve) => {
    const fail = (error) => {
        console.error(error);
        resolve(2);
    };
    page.exposeFunction("exit", resolve);
    page.on("pageerror", fail);
    page.on("crash", () => fail("the page crashed"));
    browser.on("disconnected", () => fail("the browser ended"));
    page.on("requestfailed", (request) => {
        if (new URL(request.url()).port === port) fail(`${request.url()}: ${request.failure().errorText}`);
    });
});
const { LAB_KEEPALIVE, LAB_TIMEOUT, DEBUG } = process.env;
const CHECK_LIMIT = 60; // an upload is a request for each item, and each takes a browser milliseconds
await page.addInitScript((process) => {
    globalThis.process = { ...process, on() {}, exit: (code) => globalThis.exit(code) };
}, { argv: ["browser", "checks.mjs", ...args], env: { LAB_KEEPALIVE, LAB_TIMEOUT, DEBUG, CHECK_LIMIT } });
await page.goto(`http://localhost:${port}/`);
console.error("the page is loaded");
process.exitCode = await ended;
await browser.close();
server.close();
