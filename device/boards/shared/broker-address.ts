const SCHEME = "mqtt://";

/**
 * `mqtt://host:port` (port 1883 unless given), or null for anything else. Without a regular expression: Espruino's know
 * no optional groups.
 */
export function brokerAddress(url: string): { host: string; port: number } | null {
  const end = url.charAt(url.length - 1) === "/" ? url.length - 1 : url.length;
  const parts = url.slice(SCHEME.length, end).split(":");
  const host = parts[0]!;
  const port = parts.length === 1 ? 1883 : Number(parts[1]);
  const isAddress =
    url.slice(0, SCHEME.length) === SCHEME &&
    parts.length <= 2 &&
    host !== "" &&
    host.indexOf("/") < 0 &&
    port > 0 &&
    port < 65536 &&
    Math.floor(port) === port;
  return isAddress ? { host, port } : null;
}
