// The partition "lngate" of the chip's flash (sdkconfig/partitions.csv).
import Flash from "flash";

export default () => new Flash("lngate");
