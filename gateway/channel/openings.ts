/**
 * How many channels may be on their way to their first confirmation at a time. A bridge keeps only so many of them for peers
 * that it does not know (LDK 50, LND 100 places in all), and refuses further ones. Who has no place gets the next that is free.
 */
export interface Openings {
  /** True: there is a place, and it is this device's until it leaves. Otherwise `again` is called once there may be one. */
  enter(deviceId: string, again: () => void): boolean;
  leave(deviceId: string): void;
}

const MAX_OPENINGS = 40;

/** The places of one gateway. */
export function createOpenings(places = MAX_OPENINGS): Openings {
  const inside = new Set<string>();
  const waiting = new Map<string, () => void>();
  return {
    enter(deviceId, again) {
      if (!inside.has(deviceId) && inside.size >= places) {
        waiting.set(deviceId, again);
        return false;
      }
      waiting.delete(deviceId);
      inside.add(deviceId);
      return true;
    },
    leave(deviceId) {
      waiting.delete(deviceId);
      if (!inside.delete(deviceId)) return;
      const [next] = waiting;
      if (!next) return;
      waiting.delete(next[0]);
      next[1]();
    },
  };
}
