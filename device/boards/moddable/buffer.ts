/** The SDK's modules take whole buffers. */
export function bufferOf(bytes: Uint8Array): ArrayBuffer {
  const { buffer, byteOffset, length } = bytes;
  return (
    length === buffer.byteLength ? buffer : buffer.slice(byteOffset, byteOffset + length)
  ) as ArrayBuffer;
}
