// The curve in C, over libsecp256k1 (native-curve.c). manifest.json brings it, or no-native-curve.js in its place.
export default function curve(operation, a, b, c, d) @ "xs_lngate_curve";
