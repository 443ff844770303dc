/** What an error says to a person may be anything; its code is what tests hold on to. Such sentences are left alone. */
import { declareValuePlugin, PluginKind } from "@stryker-mutator/api/plugin";

const SPEAKERS = new Set(["damaged", "enforce", "ensure", "lngateError"]);

const sentences = {
  shouldIgnore(path) {
    const { node, parent } = path;
    if (node.type !== "StringLiteral" && node.type !== "TemplateLiteral") return undefined;
    if (parent.type !== "CallExpression" || !SPEAKERS.has(parent.callee.name)) return undefined;
    return parent.arguments.indexOf(node) === parent.arguments.length - 1 ? "a sentence" : undefined;
  },
};

export const strykerPlugins = [declareValuePlugin(PluginKind.Ignore, "sentences", sentences)];
