// Writes src/schema.ts, the types of the wire, from docs/openapi.json; with --check it only tells
// whether that was forgotten.

import { readFileSync, writeFileSync } from "node:fs";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";

const document = new URL("../../../docs/openapi.json", import.meta.url);
const target = new URL("../src/schema.ts", import.meta.url);

const types = astToString(await openapiTS(document, { alphabetize: true, defaultNonNullable: false }));
const text = `// Generated from docs/openapi.json by \`npm run generate\`. Don't edit.\n\n${types}`;

if (!process.argv.includes("--check")) {
  writeFileSync(target, text);
} else if (readFileSync(target, "utf8") !== text) {
  const path = relative(process.cwd(), fileURLToPath(target));
  console.error(`${path} is out of date with docs/openapi.json: npm run generate`);
  process.exit(1);
}
