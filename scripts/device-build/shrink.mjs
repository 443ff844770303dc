/** Takes the sentences out of a bundle, and with them the parameters that only carried them. */
import babel from "@babel/core";
import { pass } from "./pass.mjs";

const { types: t } = babel;

/** Functions whose last argument is a sentence for people, by the number of arguments before it. */
const SENTENCE_AFTER = { lngateError: 1, enforce: 2, ensure: 1 };

/** Whether an argument is a sentence, as far as can be told: anything else is no reason to take it away. */
function isSentence(node) {
  if (t.isConditionalExpression(node)) return isSentence(node.consequent) && isSentence(node.alternate);
  if (t.isBinaryExpression(node, { operator: "+" })) return isSentence(node.left) || isSentence(node.right);
  const name = t.isMemberExpression(node) ? node.property.name : node.name;
  return (
    t.isStringLiteral(node) ||
    t.isTemplateLiteral(node) ||
    ["sentence", "_sentence", "message"].includes(name)
  );
}

/** Evaluating it does nothing but make a value. */
function isPure(node) {
  return (
    node === null ||
    (t.isLiteral(node) && (!t.isTemplateLiteral(node) || node.expressions.every(isPure))) ||
    t.isIdentifier(node) ||
    t.isFunctionExpression(node) ||
    t.isArrowFunctionExpression(node) ||
    (t.isMemberExpression(node) && isPure(node.object) && (!node.computed || isPure(node.property))) ||
    (t.isUnaryExpression(node) && isPure(node.argument)) ||
    (t.isBinaryExpression(node) && isPure(node.left) && isPure(node.right)) ||
    (t.isLogicalExpression(node) && isPure(node.left) && isPure(node.right)) ||
    (t.isConditionalExpression(node) &&
      isPure(node.test) &&
      isPure(node.consequent) &&
      isPure(node.alternate)) ||
    (t.isArrayExpression(node) && node.elements.every(isPure)) ||
    (t.isNewExpression(node) &&
      t.isIdentifier(node.callee, { name: "Uint8Array" }) &&
      node.arguments.every(isPure))
  );
}

const sentences = {
  visitor: {
    CallExpression(path) {
      const { node } = path;
      // inside(place, step) of src/bytes/schema.ts runs the step and puts the place before an error's sentence.
      if (t.isIdentifier(node.callee, { name: "inside" })) {
        const step = node.arguments[1];
        path.replaceWith(
          t.isArrowFunctionExpression(step) && t.isExpression(step.body)
            ? step.body
            : t.callExpression(step, []),
        );
        return;
      }
      const after = t.isIdentifier(node.callee) && SENTENCE_AFTER[node.callee.name];
      if (!after || node.arguments.length !== after + 1) return;
      if (!isSentence(node.arguments[after])) {
        throw path.buildCodeFrameError(`what ${node.callee.name} is told last is no sentence`);
      }
      node.arguments.length = after;
    },
  },
};

/** Removes a last parameter that a function never looks at, where all its callers are known and pass a pure value. */
function unusedParameters(found) {
  const inspect = (path, binding) => {
    if (!binding?.constant) return;
    const { params } = path.node;
    for (let i = 0; i < params.length; i++) {
      const param = params[i];
      if (!t.isIdentifier(param)) continue;
      const own = path.scope.getOwnBinding(param.name);
      if (!own || own.referenced || !own.constant) continue;
      const calls = binding.referencePaths.map(reference => reference.parentPath);
      const known = binding.referencePaths.every(
        (reference, k) =>
          calls[k].isCallExpression() &&
          calls[k].node.callee === reference.node &&
          calls[k].node.arguments.slice(0, i + 1).every(argument => !t.isSpreadElement(argument)) &&
          (calls[k].node.arguments.length <= i || isPure(calls[k].node.arguments[i])),
      );
      if (!known) continue;
      params.splice(i, 1);
      for (const call of calls) call.node.arguments.splice(i, 1);
      found.count++;
      i--;
    }
  };
  return {
    visitor: {
      FunctionDeclaration(path) {
        const binding = path.parentPath.scope.getBinding(path.node.id.name);
        if (binding && !binding.referenced) {
          path.remove();
          found.count++;
          return;
        }
        inspect(path, path.parentPath.scope.getBinding(path.node.id.name));
      },
      ArrowFunctionExpression(path) {
        if (!path.parentPath.isVariableDeclarator() || !t.isIdentifier(path.parent.id)) return;
        inspect(path, path.scope.parent.getBinding(path.parent.id.name));
      },
    },
  };
}

/** A variable whose value nobody uses. */
function unusedVariables(found) {
  return {
    visitor: {
      VariableDeclarator(path) {
        const { id, init } = path.node;
        if (!t.isIdentifier(id) || !isPure(init)) return;
        const binding = path.scope.getBinding(id.name);
        if (!binding || binding.referenced || !binding.constant) return;
        if (path.parentPath.parentPath.isExportNamedDeclaration()) return;
        path.remove();
        found.count++;
      },
    },
  };
}

/**
 * Properties that nobody reads. Kept are those that messages are described by or that a description names (arrays that
 * begin with a number: they are looked up by the names of the description), and what is in `kept`.
 */
function unusedProperties(kept, found) {
  return {
    visitor: {
      Program(program) {
        const read = new Set(kept);
        const nameOf = ({ key, computed }) => (computed ? null : (key.name ?? key.value));
        program.traverse({
          MemberExpression({ node }) {
            if (!node.computed) read.add(node.property.name);
          },
          OptionalMemberExpression({ node }) {
            if (!node.computed) read.add(node.property.name);
          },
          ObjectPattern({ node }) {
            for (const property of node.properties) if (property.key) read.add(nameOf(property));
          },
          ObjectProperty({ node }) {
            const first = t.isArrayExpression(node.value) ? node.value.elements[0] : null;
            const argument = t.isCallExpression(node.value) ? node.value.arguments[0] : null;
            const described = t.isArrayExpression(argument) ? argument.elements[0] : null;
            if (t.isNumericLiteral(first) || t.isNumericLiteral(described)) read.add(nameOf(node));
          },
        });
        program.traverse({
          ObjectExpression(path) {
            for (const property of path.get("properties")) {
              if (property.isSpreadElement() || read.has(nameOf(property.node)) || property.node.computed)
                continue;
              if (/^[A-Za-z]$/.test(nameOf(property.node))) continue;
              if (property.isObjectProperty() && !isPure(property.node.value)) continue;
              property.remove();
              found.count++;
            }
          },
        });
      },
    },
  };
}

/**
 * @param {import("./pass.mjs").Script} script a bundle, its names as they were written
 * @param {string[]} kept names of properties that others than the bundle read
 */
export function shrink(script, kept) {
  let out = pass(script, [sentences]);
  for (;;) {
    const found = { count: 0 };
    out = pass(out, [unusedProperties(kept, found)]);
    out = pass(out, [unusedParameters(found)]);
    out = pass(out, [unusedVariables(found)]);
    if (found.count === 0) return out;
  }
}
