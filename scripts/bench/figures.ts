/** What a bench comes to. */

/** Figures by name; the names say the unit. */
export type Figures = Record<string, number | Readonly<Record<string, number>>>;
