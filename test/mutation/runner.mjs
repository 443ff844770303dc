/**
 * A test runner for Stryker that loads the tests once, as one bundle, and calls them for one mutant after the other: some
 * hundredths of a second for a mutant instead of seconds. It can what the tests of the groups need (globals.mjs) and no more.
 */
import { pathToFileURL } from "node:url";
import { declareClassPlugin, PluginKind } from "@stryker-mutator/api/plugin";
import {
  DryRunStatus,
  determineHitLimitReached,
  TestStatus,
  toMutantRunResult,
} from "@stryker-mutator/api/test-runner";
import { build } from "esbuild";
import { GROUPS } from "./groups.mjs";

const { tests: files } = GROUPS[process.env["MUTANTS"]];

/** Stryker's instrumented code finds the active mutant in here, and counts in here. */
const stryker = {};
globalThis.__stryker__ = stryker;
// The tests that read the sources leave mutants alone.
globalThis.mutants = true;

/** Everybody demands through a function that a test can replace; only that test gets the real one. */
const enforce = {
  name: "enforce",
  setup({ onResolve, onLoad, resolve }) {
    onResolve({ filter: /\/enforce\.ts$/ }, async ({ path, importer, resolveDir, kind, pluginData }) => {
      if (pluginData?.real || importer.endsWith("liar.test.ts")) return undefined;
      const { path: real } = await resolve(path, { kind, resolveDir, pluginData: { real: true } });
      return { path: real, namespace: "enforce" };
    });
    onLoad({ filter: /./, namespace: "enforce" }, ({ path }) => ({
      resolveDir: process.cwd(),
      contents: `
        import { mocked } from "@jest/globals";
        import { enforce as real } from ${JSON.stringify(`${path}?real`)};
        export const enforce = (...args) => (mocked.enforce ?? real)(...args);
      `,
    }));
    onResolve({ filter: /\?real$/ }, ({ path }) => ({ path: path.slice(0, -"?real".length) }));
  },
};

class Runner {
  loads = 0;
  /** A mutant of what runs while modules are loaded is in the modules that are loaded now. */
  isTainted = false;

  capabilities() {
    return { reloadEnvironment: true };
  }

  async init() {
    this.path = `${process.cwd()}/mutants.mjs`;
    await build({
      stdin: {
        contents: `
          import { beginFile } from "@jest/globals";
          ${files.map(file => `beginFile(); await import("./${file}");`).join("\n")}
          export * from "@jest/globals";
        `,
        resolveDir: process.cwd(),
      },
      bundle: true,
      platform: "node",
      target: "node20",
      format: "esm",
      packages: "external",
      alias: { "@jest/globals": `${process.cwd()}/test/mutation/globals.mjs` },
      plugins: [enforce],
      outfile: this.path,
      logLevel: "error",
    });
  }

  async load() {
    this.bundle = await import(`${pathToFileURL(this.path)}?${this.loads++}`);
    this.isTainted = false;
  }

  async run({ testFilter, firstOnly }) {
    const chosen = testFilter && new Set(testFilter);
    const results = [];
    const prepared = new Set();
    for (const { id, run, file } of this.bundle.tests) {
      if (chosen && !chosen.has(id)) continue;
      const begun = performance.now();
      const result = { id, name: id, status: TestStatus.Success };
      try {
        stryker.currentTestId = file.name;
        if (!prepared.has(file)) for (const prepare of file.before) await prepare();
        prepared.add(file);
        stryker.currentTestId = id;
        await run();
      } catch (error) {
        result.status = TestStatus.Failed;
        result.failureMessage = `${error?.message ?? error}`;
      }
      for (const cleanUp of file.after) cleanUp();
      stryker.currentTestId = undefined;
      results.push({ ...result, timeSpentMs: performance.now() - begun });
      if (firstOnly && result.status === TestStatus.Failed) break;
    }
    return { status: DryRunStatus.Complete, tests: results };
  }

  async dryRun() {
    await this.load();
    const result = await this.run({});
    // What is made for all tests of a file is noticed by any of them.
    const { perTest } = stryker.mutantCoverage;
    for (const { id, file } of this.bundle.tests) perTest[id] = { ...perTest[file.name], ...perTest[id] };
    for (const { file } of this.bundle.tests) delete perTest[file.name];
    return { ...result, mutantCoverage: stryker.mutantCoverage };
  }

  async mutantRun({ activeMutant, testFilter, hitLimit, disableBail, reloadEnvironment }) {
    if (!this.bundle || (this.isTainted && !reloadEnvironment)) await this.load();
    Object.assign(stryker, { activeMutant: activeMutant.id, hitLimit, hitCount: hitLimit ? 0 : undefined });
    try {
      if (reloadEnvironment) {
        await this.load();
        this.isTainted = true;
      }
      const result = await this.run({ testFilter, firstOnly: !disableBail });
      const timeout = determineHitLimitReached(stryker.hitCount, stryker.hitLimit);
      return timeout ?? toMutantRunResult(result, disableBail);
    } catch (error) {
      // Modules that cannot even be loaded are noticed.
      if (!reloadEnvironment) throw error;
      const failed = {
        id: "loading",
        name: "loading",
        status: TestStatus.Failed,
        failureMessage: `${error}`,
      };
      return toMutantRunResult({ status: DryRunStatus.Complete, tests: [{ ...failed, timeSpentMs: 0 }] });
    } finally {
      Object.assign(stryker, { activeMutant: undefined, hitLimit: undefined, hitCount: undefined });
    }
  }
}

export const strykerPlugins = [declareClassPlugin(PluginKind.TestRunner, "repeated", Runner)];
