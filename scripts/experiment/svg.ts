/** Pictures as text: SVG that is legible on a light page and on a dark one. */

/** What is drawn, by the name of its class in the style below. */
export type Ink = "link" | "chip" | "programs" | "path" | "unknown";

const LIGHT = {
  page: "#ffffff",
  edge: "#d5dae0",
  text: "#1c2430",
  faint: "#5b6673",
  axis: "#dfe3e8",
  link: "#2f74d0",
  chip: "#e0742c",
  programs: "#3f9d7c",
  path: "#a9b2bd",
  unknown: "#d3d8de",
  lines: ["#2f74d0", "#7a52c7", "#3f9d7c", "#0e8a9c", "#e0742c", "#c23b64"],
};
const DARK = {
  page: "#151a21",
  edge: "#2c343e",
  text: "#e7ecf2",
  faint: "#98a4b1",
  axis: "#2c343e",
  link: "#5c9cf0",
  chip: "#f08f4e",
  programs: "#57bd99",
  path: "#737f8c",
  unknown: "#48525e",
  lines: ["#5c9cf0", "#a98bec", "#57bd99", "#3fbccd", "#f08f4e", "#ee6d92"],
};

function colours(theme: typeof LIGHT): string {
  const { page, edge, text, faint, axis, lines } = theme;
  const fills = (["link", "chip", "programs", "path", "unknown"] as const).map(
    name => `.${name}{fill:${theme[name]}}`,
  );
  const strokes = lines.map((colour, i) => `.line${i}{stroke:${colour};fill:${colour}}`);
  return [
    `.page{fill:${page};stroke:${edge}}text{fill:${text}}text.faint{fill:${faint}}.axis{stroke:${axis}}.paper{stroke:${faint}}`,
    ...fills,
    ...strokes,
  ].join("");
}

const STYLE = `text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}text.strong{font-weight:600}text.title{font-size:16px;font-weight:600}.line{fill:none;stroke-width:2.2}.dashed{stroke-dasharray:5 4}.lead{stroke-width:.8;opacity:.6}${colours(LIGHT)}@media(prefers-color-scheme:dark){${colours(DARK)}}`;

const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
const at = (value: number) => String(Math.round(value * 10) / 10);

/** A picture that grows by what is drawn on it. */
export class Picture {
  private readonly width: number;
  private readonly height: number;
  private readonly about: string;
  private readonly parts: string[] = [];

  constructor(width: number, height: number, about: string) {
    this.width = width;
    this.height = height;
    this.about = about;
  }

  text(
    x: number,
    y: number,
    text: string,
    look = "text",
    anchor: "start" | "middle" | "end" = "start",
  ): void {
    this.parts.push(
      `<text x="${at(x)}" y="${at(y)}" class="${look}" text-anchor="${anchor}">${escaped(text)}</text>`,
    );
  }

  box(x: number, y: number, width: number, height: number, look: Ink): void {
    if (width <= 0) return;
    this.parts.push(
      `<rect x="${at(x)}" y="${at(y)}" width="${at(width)}" height="${at(height)}" class="${look}"/>`,
    );
  }

  line(x1: number, y1: number, x2: number, y2: number, look: string): void {
    this.parts.push(`<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" class="${look}"/>`);
  }

  toString(): string {
    const { width, height } = this;
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
      `<title>${escaped(this.about)}</title>`,
      `<style>${STYLE}</style>`,
      `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10" class="page"/>`,
      ...this.parts,
      "</svg>\n",
    ].join("\n");
  }
}
