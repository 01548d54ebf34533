/** UUIDv7 (RFC 9562): the names by which locks are held. */

const MAX_MILLIS = 2 ** 48 - 1;

/**
 * A fresh UUIDv7. Its 74 random bits alone make it unique, so a clock that is wrong does no harm.
 *
 * @param millis - The time that it begins with, in milliseconds since 1970.
 */
export function uuidv7(millis: number = Date.now()): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const view = new DataView(bytes.buffer);
  const time = Math.min(Math.max(Math.trunc(millis) || 0, 0), MAX_MILLIS);
  view.setUint16(0, Math.floor(time / 2 ** 32));
  view.setUint32(2, time % 2 ** 32);
  view.setUint8(6, 0x70 | (view.getUint8(6) & 0x0f));
  view.setUint8(8, 0x80 | (view.getUint8(8) & 0x3f));
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const groups = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return groups.join("-");
}
