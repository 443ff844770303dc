// A file in place of a partition, for the simulator: the image that `lngate device image` wrote.
import { File } from "file";
import config from "mc/config";

const BLOCK = 4096;

export default () => {
  const file = new File(config.file.root + "lngate.bin", true);
  return {
    blockSize: BLOCK,
    byteLength: file.length,
    read(offset, length) {
      file.position = offset;
      return file.read(ArrayBuffer, length);
    },
    write(offset, length, data) {
      file.position = offset;
      file.write(data);
    },
    erase(block) {
      file.position = block * BLOCK;
      file.write(new Uint8Array(BLOCK).fill(255).buffer);
    },
  };
};
