/** What `require("lngate")` gives an application on Espruino. */
import "./engine.ts";
import { openBoard } from "./board.ts";

declare const exports: { openBoard: typeof openBoard };

exports.openBoard = openBoard;
