/**
 * Says the same in fewer characters, before the minifier gives short names:
 * - numbers and short texts that have a name in the source stand where they are used;
 * - `throw` becomes a call, which unlike a statement can stand inside an expression;
 * - globals and texts that are often used get a short name of their own;
 * - words that only the core itself sees are numbers.
 */
import babel from "@babel/core";
import { pass } from "./pass.mjs";

const { types: t } = babel;

/** Roughly what a name costs once it is short. */
const NAME = 2;

/** The constant's characters where it is short enough to stand for itself, else null. */
function shortLiteral(init) {
  if (t.isNumericLiteral(init)) return String(init.value);
  if (t.isUnaryExpression(init, { operator: "-" }) && t.isNumericLiteral(init.argument))
    return `-${init.argument.value}`;
  if (t.isStringLiteral(init)) return `"${init.value}"`;
  return null;
}

const inlineConstants = {
  visitor: {
    VariableDeclarator(path) {
      const { id, init } = path.node;
      if (!t.isIdentifier(id) || path.parentPath.parentPath.isExportNamedDeclaration()) return;
      const literal = shortLiteral(init);
      const binding = path.scope.getBinding(id.name);
      if (literal === null || !binding?.constant) return;
      const uses = binding.referencePaths;
      if (
        uses.some(
          use => use.parentPath.isExportSpecifier() || use.parentPath.isObjectProperty({ shorthand: true }),
        )
      )
        return;
      if (uses.length * (literal.length - NAME) > literal.length + NAME + 2) return;
      for (const use of uses) use.replaceWith(t.cloneNode(init));
      path.remove();
    },
  },
};

/** The helpers that throw; they are added once they are needed. */
const HELPERS = babel.template.statements(
  "function raise(error) { throw error; } function refuse(code) { throw lngateError(code); }",
);

const throwsAsCalls = {
  visitor: {
    Program: {
      exit(path) {
        const first = path.get("body").find(statement => !statement.isImportDeclaration());
        first.insertBefore(HELPERS());
        path.scope.crawl();
      },
    },
    ThrowStatement(path) {
      const { argument } = path.node;
      const within = path.findParent(parent => parent.isFunction())?.node.id?.name;
      if (within === "raise" || within === "refuse") return;
      const isError =
        t.isCallExpression(argument) && t.isIdentifier(argument.callee, { name: "lngateError" });
      const call = isError
        ? t.callExpression(t.identifier("refuse"), argument.arguments)
        : t.callExpression(t.identifier("raise"), [argument]);
      // Nothing behind it is reached; the return tells the minifier so where the function ends.
      path.replaceWith(t.expressionStatement(call));
    },
  },
};

const GLOBALS = ["Uint8Array", "Math.floor", "Math.max", "Math.min", "Math.ceil", "Promise", "DataView"];

/** @param {import("@babel/core").NodePath} program */
function aliasGlobals(program) {
  const found = new Map(GLOBALS.map(name => [name, []]));
  program.traverse({
    Identifier(path) {
      const uses = found.get(path.node.name);
      if (uses && path.isReferencedIdentifier() && !path.scope.hasBinding(path.node.name, true))
        uses.push(path);
    },
    MemberExpression(path) {
      const { object, property, computed } = path.node;
      if (computed || !t.isIdentifier(object) || path.scope.hasBinding(object.name, true)) return;
      found.get(`${object.name}.${property.name}`)?.push(path);
    },
  });
  const declarators = [];
  for (const [name, uses] of found) {
    const cost = name.length + NAME + 2;
    if (uses.length * (name.length - NAME) <= cost) continue;
    const alias = program.scope.generateUidIdentifier(name.replace(".", "_"));
    declarators.push(t.variableDeclarator(alias, babel.template.expression.ast(name)));
    for (const use of uses) use.replaceWith(t.cloneNode(alias));
  }
  if (declarators.length > 0) {
    const first = program.get("body").find(statement => !statement.isImportDeclaration());
    first.insertBefore(t.variableDeclaration("var", declarators));
  }
}

const shortGlobals = { visitor: { Program: { exit: aliasGlobals } } };

/**
 * Words by which parts of the core tell each other what they mean, and which nobody else ever sees: names of effects,
 * inputs, messages and outputs.
 */
const INTERNAL = [
  ...["persist", "erase", "send", "decided", "notice", "deliver", "lost", "rejected", "connected", "message"],
  ...["hello", "stepped", "settling", "step", "paid", "failed", "channel", "settle"],
  ...["to-local", "to-remote", "local-anchor", "remote-anchor", "htlc"],
];

const isValue = path =>
  !path.parentPath.isImportDeclaration() &&
  !(path.key === "key" && (path.parentPath.isObjectProperty() || path.parentPath.isObjectMethod()));

const shortWords = {
  visitor: {
    StringLiteral(path) {
      const index = INTERNAL.indexOf(path.node.value);
      if (index >= 0 && isValue(path)) path.node.value = index.toString(36);
    },
    MemberExpression(path) {
      if (path.matchesPattern("Number.POSITIVE_INFINITY"))
        path.replaceWith(babel.template.expression.ast("1 / 0"));
    },
  },
};

/** Texts that stand in several places get a name where that is shorter. */
const sharedTexts = {
  visitor: {
    Program: {
      exit(program) {
        const found = new Map();
        program.traverse({
          StringLiteral(path) {
            if (isValue(path)) found.set(path.node.value, [...(found.get(path.node.value) ?? []), path]);
          },
        });
        const declarators = [];
        for (const [text, uses] of found) {
          const length = text.length + 2;
          if (uses.length * (length - NAME) <= length + NAME + 2) continue;
          const name = program.scope.generateUidIdentifier("text");
          declarators.push(t.variableDeclarator(name, t.stringLiteral(text)));
          for (const use of uses) use.replaceWith(t.cloneNode(name));
        }
        const first = program.get("body").find(statement => !statement.isImportDeclaration());
        if (declarators.length > 0) first.insertBefore(t.variableDeclaration("var", declarators));
      },
    },
  },
};

/** @param {import("./pass.mjs").Script} script a bundle, its names as they were written */
export function shorten(script) {
  let out = pass(script, [shortWords]);
  out = pass(out, [inlineConstants]);
  out = pass(out, [throwsAsCalls]);
  out = pass(out, [shortGlobals]);
  return pass(out, [sharedTexts]);
}
