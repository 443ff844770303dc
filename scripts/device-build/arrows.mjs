/**
 * Functions as arrows: `function f(a) { return g(a); }` becomes `f = a => g(a)`, at the top of its block, where a function
 * declaration is defined, too. Shorter, and an engine keeps no prototype for it.
 */
import babel from "@babel/core";
import { pass } from "./pass.mjs";

const { types: t } = babel;

/** Whether a function means something of its own by `this` or `arguments`. */
function hasOwnThis(path) {
  let found = false;
  path.traverse({
    ThisExpression: inner => {
      found = true;
      inner.stop();
    },
    Identifier: inner => {
      if (inner.node.name !== "arguments") return;
      found = true;
      inner.stop();
    },
  });
  return found;
}

/** Called with `new` it has to stay a function. */
function isConstructed(binding) {
  return binding.referencePaths.some(
    path => path.parentPath.isNewExpression() && path.parent.callee === path.node,
  );
}

const arrows = {
  visitor: {
    "Program|BlockStatement": {
      exit(path) {
        const { node } = path;
        const moved = [];
        for (const statement of path.get("body")) {
          if (!statement.isFunctionDeclaration()) continue;
          const { id, params, body, generator, async } = statement.node;
          const binding = path.scope.getBinding(id.name);
          if (generator || async || !binding || !binding.constant) continue;
          if (hasOwnThis(statement) || isConstructed(binding)) continue;
          moved.push({ statement: statement.node, arrow: t.arrowFunctionExpression(params, body), id });
        }
        if (moved.length === 0) return;
        const gone = new Set(moved.map(({ statement }) => statement));
        const directives = node.body.filter(statement => t.isImportDeclaration(statement));
        node.body = [
          ...directives,
          t.variableDeclaration(
            "var",
            moved.map(({ id, arrow }) => t.variableDeclarator(id, arrow)),
          ),
          ...node.body.filter(statement => !gone.has(statement) && !t.isImportDeclaration(statement)),
        ];
      },
    },
    FunctionExpression: {
      exit(path) {
        const { node } = path;
        if (node.id || node.generator || node.async || hasOwnThis(path)) return;
        path.replaceWith(t.arrowFunctionExpression(node.params, node.body));
      },
    },
    ObjectMethod: {
      exit(path) {
        const { node } = path;
        if (node.kind !== "method" || node.generator || node.async || hasOwnThis(path)) return;
        path.replaceWith(
          t.objectProperty(node.key, t.arrowFunctionExpression(node.params, node.body), node.computed),
        );
      },
    },
  },
};

/** @param {import("./pass.mjs").Script} script */
export function toArrows(script) {
  return pass(script, [arrows]);
}
