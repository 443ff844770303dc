/** What `require("lngate")` gives an application on Espruino. */
import { openBoard } from "./board.ts";

declare const exports: { openBoard: typeof openBoard };

exports.openBoard = openBoard;
