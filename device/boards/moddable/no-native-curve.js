// In place of native-curve.js: the board's own JavaScript does it.
export default null;
