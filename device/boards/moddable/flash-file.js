// A file in place of a partition, for the simulator: `flash` as given to mcconfig.
import { File } from "file";
import config from "mc/config";

const BLOCK = 4096;

export default () => {
  const path = config.flash ?? `${config.file.root}lngate.bin`;
  // Opening one that is not there would make it.
  if (!File.exists(path)) throw Object.assign(new Error(`there is no ${path}`), { code: "vault-empty" });
  const file = new File(path, true);
  return {
    blockSize: BLOCK,
    byteLength: file.length,
    read(offset, length) {
      file.position = offset;
      return file.read(ArrayBuffer, length);
    },
    write(offset, _length, data) {
      file.position = offset;
      file.write(data);
    },
    erase(block) {
      file.position = block * BLOCK;
      file.write(new Uint8Array(BLOCK).fill(255).buffer);
    },
  };
};
