// What checks.mjs needs of node:assert/strict, for browsers.
const shown = (value) => (value instanceof Error ? String(value) : JSON.stringify(value) ?? String(value));

function fail(message) {
    throw new Error(message);
}

function same(a, b) {
    if (Object.is(a, b)) return true;
    if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
    if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
    if (a instanceof Date) return a.getTime() === b.getTime();
    const names = Object.keys(a);
    return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && same(a[name], b[name]));
}

const ok = (value, message) => value || fail(message ?? `${shown(value)} is not true`);
const equal = (a, b) => Object.is(a, b) || fail(`${shown(a)} is not ${shown(b)}`);
const deepEqual = (a, b) => same(a, b) || fail(`${shown(a)} is not ${shown(b)}`);
const match = (text, pattern) => pattern.test(text) || fail(`${shown(text)} does not match ${pattern}`);
const rejects = (promise, holds) => promise.then(
    (value) => fail(`no error, but ${shown(value)}`),
    (error) => ok(holds(error), `another error: ${error}`),
);

export default { deepEqual, equal, fail, match, ok, rejects };
