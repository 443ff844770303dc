/** The tests that take their time: kills, power cuts by seed, whole lives of channels. */
import project from "./jest.config.mjs";

export default { ...project, testMatch: ["<rootDir>/test/**/*.slow.ts"] };
