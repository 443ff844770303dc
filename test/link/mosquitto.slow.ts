/** A stock mosquitto between device and gateway, as on an access point. */
import { type ChildProcess, spawn } from "node:child_process";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { MqttConnection } from "../../device/board.ts";
import { nodeMqtt } from "../../device/boards/node/mqtt.ts";
import { GatewayLinks } from "../../gateway/link/links.ts";
import { debianProgram, type Program } from "../../scripts/debian.ts";
import { reservePort } from "../../scripts/ports.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { type LinkEffect, linkClient } from "../../src/link/session.ts";
import { linkTopic } from "../../src/link/topics.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { until } from "./until.ts";

const DEVICE = "abcdefgh";
const linkKey = sha256(new Uint8Array(1));

let program: Program | string;
try {
  program = await debianProgram("mosquitto", ["mosquitto"], ["--version"]);
} catch (error) {
  program = (error as Error).message;
}

if (typeof program === "string") {
  test.skip(`mosquitto: ${program}`, () => {});
} else {
  const { command, args } = program;
  describe("mosquitto", () => {
    let broker: ChildProcess;
    let links: GatewayLinks;
    let device: MqttConnection;
    let isUsable = false;
    const port = reservePort();

    beforeAll(async () => {
      broker = spawn(command, [...args, "-p", String(await port)], { stdio: "ignore" });
      const url = `mqtt://127.0.0.1:${await port}`;
      await listening(await port);
      links = await GatewayLinks.open({
        mqtt: { kind: "external", url, maxMessageBytes: 4096 },
        account: () => ({ passwordHash: new Uint8Array(32), linkKey, maxMessageBytes: 4096 }),
        identities: () => [DEVICE],
        onMessage: () => {},
        onSession: () => {},
        onRefused: () => {},
        onTrouble: trouble => {
          isUsable = trouble === null;
        },
      });
      await until(() => isUsable);
    });

    afterAll(async () => {
      device?.close();
      await links?.close();
      broker?.kill();
    });

    test("takes login, subscription and hello in one flight: one hello is enough for a session", async () => {
      const session = linkClient({ crypto: nodeLinkCrypto, linkKey, maxMessageBytes: 4096 });
      const sent: number[] = [];
      const publish = (effects: readonly LinkEffect[]) => {
        for (const effect of effects) {
          if (effect.kind !== "send") continue;
          sent.push(effect.bytes[0]!);
          device.publish(effect.bytes);
        }
      };
      device = nodeMqtt({
        url: `mqtt://127.0.0.1:${await port}`,
        username: DEVICE,
        password: "",
        publishTopic: linkTopic(DEVICE, "up"),
        subscribeTopic: linkTopic(DEVICE, "down"),
        onOpen: () => publish(session.connected(0)),
        onMessage: payload => publish(session.receive(payload, 0)),
        onClose: () => {},
      });
      await until(() => links.isUp(DEVICE));
      expect(session.isUp()).toBe(true);
      expect(sent).toEqual([0x11, 0x13]);
    });
  });
}

async function listening(port: number): Promise<void> {
  for (;;) {
    const isThere = await new Promise<boolean>(resolve => {
      const socket = connect(port, "127.0.0.1", () => resolve(true));
      socket.on("error", () => resolve(false));
      socket.on("close", () => {});
      socket.unref();
      void setTimeout(() => socket.destroy(), 50);
    });
    if (isThere) return;
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
