/** `mqtt://host:port` (port 1883 unless given), or null for anything else. */
export function brokerAddress(url: string): { host: string; port: number } | null {
  const match = /^mqtt:\/\/([\w.-]+)(:(\d{1,5}))?\/?$/.exec(url);
  if (match === null) return null;
  return { host: match[1]!, port: match[3] ? Number(match[3]) : 1883 };
}
