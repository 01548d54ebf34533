// Makes programs of the examples in README.md, for the tests to run: one of each ```ts block, with
// the address of the test's proxy in place of the one that is written there.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const folder = new URL("../test/examples/", import.meta.url);
mkdirSync(folder, { recursive: true });

const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);
if (blocks.length === 0) {
  throw new Error("README.md has no examples");
}
blocks.forEach((code, index) => {
  const program = code.replaceAll('"http://127.0.0.1:8080"', 'process.env["EXAMPLES_ENDPOINT"]!');
  // An example without an import is a module all the same.
  writeFileSync(new URL(`example-${index + 1}.ts`, folder), `${program}\nexport {};\n`);
});
