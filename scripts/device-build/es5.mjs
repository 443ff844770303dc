/**
 * ECMAScript 5 for Espruino: Babel, tuned to what its engine has, and function declarations moved to the top of their
 * block, because that engine does not hoist them. What slips through stops esbuild, which is asked for ES5 afterwards.
 */
import babel from "@babel/core";
import { pass } from "./pass.mjs";

const { types: t } = babel;

/** Puts the function declarations of every body first. */
const hoistFunctions = {
  visitor: {
    "Program|BlockStatement": {
      exit({ node }) {
        const functions = node.body.filter(statement => t.isFunctionDeclaration(statement));
        if (functions.length === 0) return;
        node.body = [...functions, ...node.body.filter(statement => !t.isFunctionDeclaration(statement))];
      },
    },
  },
};

/**
 * @param {import("./pass.mjs").Script} script
 * @param {boolean} loops whether `for … of`, which Espruino has for arrays, is compiled away too
 */
export function toEs5(script, loops) {
  const es5 = pass(script, loops ? [["@babel/plugin-transform-for-of", { assumeArray: true }]] : [], {
    presets: [
      [
        "@babel/preset-env",
        { targets: { ie: "11" }, loose: true, modules: false, exclude: ["transform-for-of"] },
      ],
    ],
    assumptions: {
      iterableIsArray: true,
      noClassCalls: true,
      superIsCallableConstructor: true,
      constantSuper: true,
      setClassMethods: true,
      noDocumentAll: true,
      pureGetters: true,
      setSpreadProperties: true,
      objectRestNoSymbols: true,
    },
  });
  return pass(es5, [hoistFunctions]);
}
