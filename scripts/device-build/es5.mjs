/**
 * ECMAScript 5 for Espruino: Babel, tuned to what its engine has, and function declarations moved to the top of their
 * block, because that engine does not hoist them. What slips through stops esbuild, which is asked for ES5 afterwards.
 */
import babel from "@babel/core";

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

const common = { configFile: false, babelrc: false, compact: false, sourceType: "script" };

/** @param {string} code */
export function toEs5(code) {
  const es5 = babel.transformSync(code, {
    ...common,
    presets: [
      [
        "@babel/preset-env",
        { targets: { ie: "11" }, loose: true, modules: false, exclude: ["transform-for-of"] },
      ],
    ],
    plugins: [["@babel/plugin-transform-for-of", { assumeArray: true }]],
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
  }).code;
  return babel.transformSync(es5, { ...common, plugins: [hoistFunctions] }).code;
}
