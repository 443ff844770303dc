/** Before the tests with real bridges: what can be built is built, and what is missing is said. */
import { ensureLdkNode, whyNoLdkNode } from "../../scripts/nodes/ldk-node-program.ts";
import { ensureLnd, hasLnd } from "../../scripts/nodes/lnd-program.ts";
import { skipped } from "./kinds.ts";

if (hasLnd()) await ensureLnd();
if (!whyNoLdkNode()) await ensureLdkNode();
for (const reason of skipped()) process.stderr.write(`${reason}\n`);
