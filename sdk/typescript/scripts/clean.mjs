// Removes what was built, so that no file of an older build is packed or tested.

import { rmSync } from "node:fs";

for (const folder of ["dist", "build", "test/examples"]) {
  rmSync(new URL(`../${folder}`, import.meta.url), { recursive: true, force: true });
}
