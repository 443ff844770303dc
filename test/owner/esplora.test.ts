/** Perseverance with a public server: it is busy, it goes away for a moment, or its address is wrong. */
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "@jest/globals";
import { bitcoindChain } from "../../owner/chain/bitcoind.ts";
import { esploraChain } from "../../owner/chain/esplora.ts";
import type { PatienceOptions } from "../../owner/chain/patience.ts";
import { codeOf } from "../../src/errors.ts";

const REGTEST = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** Listens; what its callers had to wait, and what they were told. */
async function serve(answer: RequestListener) {
  server = createServer(answer);
  await new Promise<void>(resolve => server!.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const waits: number[] = [];
  const said: string[] = [];
  const patience: PatienceOptions = {
    onWait: sentence => said.push(sentence),
    wait: async ms => void waits.push(ms),
  };
  return { url, waits, said, patience };
}

describe("an Esplora server", () => {
  test("that has too much to do is asked again, as late as it wants and later each time, and that is said", async () => {
    let asked = 0;
    const { url, waits, said, patience } = await serve((_, response) => {
      asked++;
      if (asked === 1) response.writeHead(429, { "retry-after": "7" }).end("slow down");
      else if (asked === 2) response.writeHead(503).end();
      else if (asked === 3)
        response.writeHead(429, { "retry-after": new Date(Date.now() + 90_000).toUTCString() }).end();
      else response.writeHead(200).end("812");
    });
    expect(await esploraChain(url, patience).height()).toBe(812);
    expect(waits.slice(0, 2)).toEqual([7_000, 2_000]);
    expect(waits[2]).toBeGreaterThan(60_000);
    expect(said[0]).toMatch(/too many questions .*status 429.*; again in 7 s \(1 of 10\)/);
  });

  test("that is found to be busy is asked one question at a time", async () => {
    let together = 0;
    let most = 0;
    let asked = 0;
    const { url, patience } = await serve((_, response) => {
      most = Math.max(most, ++together);
      setTimeout(() => {
        together--;
        if (++asked <= 4) response.writeHead(429).end();
        else response.writeHead(200).end("[]");
        if (asked === 8) most = 0;
      }, 5);
    });
    const scripts = Array.from({ length: 12 }, (_, i) => new Uint8Array([i]));
    expect(await esploraChain(url, patience).unspent(scripts)).toEqual([]);
    expect([asked, most]).toEqual([16, 1]);
  });

  test("that answered a moment ago and is gone is waited for; one that never answered is not", async () => {
    let asked = 0;
    const { url, waits, patience } = await serve((request, response) => {
      asked++;
      if (asked === 2) request.socket.destroy();
      else if (asked === 3) response.writeHead(502).end();
      else response.writeHead(200).end(asked === 1 ? REGTEST : "5");
    });
    const chain = esploraChain(url, patience);
    await chain.check("regtest");
    expect(await chain.height()).toBe(5);
    expect(waits).toEqual([1_000, 2_000]);
    // Nobody listens there any more.
    await new Promise(resolve => server!.close(resolve).closeAllConnections());
    const nobody = esploraChain(url, patience);
    await expect(nobody.height()).rejects.toMatchObject({
      code: "chain-unreachable",
      message: expect.not.stringContaining("fetch failed"),
    });
    expect(waits).toHaveLength(2);
  });

  test("that stays busy, or wants to be left alone for long, is given up with a sentence that says so", async () => {
    let retryAfter = "1";
    const { url, waits, patience } = await serve((_, response) => {
      response.writeHead(429, { "retry-after": retryAfter }).end();
    });
    const failure = () =>
      esploraChain(url, patience)
        .height()
        .then(
          () => "answered",
          error => `${codeOf(error)}: ${(error as Error).message}`,
        );
    expect(await failure()).toMatch(/^chain-busy: .*too many questions/);
    expect(waits).toHaveLength(10);
    expect(Math.max(...waits)).toBe(60_000);
    retryAfter = "7200";
    expect(await failure()).toMatch(/^chain-busy: .*left alone for 120 minutes/);
    expect(waits).toHaveLength(10);
  });

  test("tells which network it is on", async () => {
    let genesis = REGTEST;
    const { url, patience } = await serve((_, response) => response.writeHead(200).end(genesis));
    const chain = esploraChain(url, patience);
    expect(await chain.network()).toBe("regtest");
    await expect(chain.check("mainnet")).rejects.toMatchObject({
      code: "wrong-network",
      message: expect.stringContaining("on regtest, not on mainnet"),
    });
    genesis = "00".repeat(32);
    await expect(chain.network()).rejects.toMatchObject({ code: "wrong-network" });
  });
});

describe("a bitcoind", () => {
  test("that is starting or has too much to do is waited for", async () => {
    let asked = 0;
    const { url, waits, said, patience } = await serve((_, response) => {
      asked++;
      if (asked === 1) response.writeHead(503).end("Work queue depth exceeded");
      else if (asked === 2)
        response
          .writeHead(500)
          .end(JSON.stringify({ result: null, error: { code: -28, message: "Loading block index…" } }));
      else response.writeHead(200).end(JSON.stringify({ result: 77, error: null }));
    });
    const chain = bitcoindChain({ url, user: "a", password: "b" }, patience);
    expect(await chain.height()).toBe(77);
    expect(waits).toEqual([1_000, 2_000]);
    expect(said[1]).toMatch(/still starting: Loading block index…; again in 2 s/);
    chain.close();
  });
});
