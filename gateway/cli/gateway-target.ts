/** Which gateway a command means, its store, and where devices reach it. */
import { networkInterfaces } from "node:os";
import { lngateError } from "../../src/errors.ts";
import type { Given } from "../../src/node/command.ts";
import { defaultConfigFile, type GatewayConfig, splitHostPort } from "../config.ts";
import { gatewayRuns } from "../store/folder-lock.ts";
import { openRegistry, openStore, type Registry } from "../store/registry.ts";
import { ensureReadableStore } from "../store/store-file.ts";

export const CONFIG = {
  config: { value: "FILE", help: "configuration file (default: ~/.lngate/gateway.conf, or $LNGATE_CONFIG)" },
};
/** The configuration file that is meant. */
export function configFile(given: Given): string {
  return given.text("config") ?? defaultConfigFile();
}

/** Opens the registry beside a gateway that may be running (and has looked at the store), and closes it again. */
export async function withStore<T>(
  config: GatewayConfig,
  work: (registry: Registry, store: ReturnType<typeof openStore>) => T,
): Promise<T> {
  if (!gatewayRuns(config.dataDir)) await ensureReadableStore(config.dataDir);
  const store = openStore(config.dataDir);
  try {
    return work(openRegistry(store), store);
  } finally {
    await store.close();
  }
}

/** Where devices reach the broker. Throws `config-invalid` if it can't be told. */
export function brokerAddress({ mqtt, file }: GatewayConfig): { host: string; port: number } {
  if (mqtt.kind === "external") {
    const url = new URL(mqtt.url);
    return { host: url.hostname, port: Number(url.port || 1883) };
  }
  if (mqtt.publicAddress !== undefined) return splitHostPort(mqtt.publicAddress)!;
  if (mqtt.host.includes(":") && mqtt.host !== "::")
    throw lngateError(
      "config-invalid",
      `${file}: with an IPv6 address in "mqtt.host", "mqtt.publicAddress" is needed`,
    );
  if (mqtt.host !== "0.0.0.0" && mqtt.host !== "::") return { host: mqtt.host, port: mqtt.port };
  const own = Object.values(networkInterfaces())
    .flatMap(addresses => addresses ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal);
  return { host: own?.address ?? "127.0.0.1", port: mqtt.port };
}
