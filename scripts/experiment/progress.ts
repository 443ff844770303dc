/** How far it is: on a terminal a line that changes, elsewhere a line now and then; always on stderr. */

const LINES = 10;

export class Progress {
  private readonly live = process.stderr.isTTY === true;
  private readonly started = performance.now();
  private what = "";
  private count = 0;
  private total = 0;

  begin(what: string, total: number): void {
    this.end();
    this.what = what;
    this.count = 0;
    this.total = total;
    this.show();
  }

  step(): void {
    this.count++;
    const lines = (count: number) => Math.floor((count / this.total) * LINES);
    if (this.live || lines(this.count) > lines(this.count - 1)) this.show();
  }

  say(text: string): void {
    process.stderr.write(`${this.live ? "\r\x1b[K" : ""}${text}\n`);
  }

  /** What comes next begins on a line of its own. */
  end(): void {
    if (this.live && this.what !== "") process.stderr.write("\n");
    this.what = "";
  }

  private show(): void {
    const minutes = ((performance.now() - this.started) / 60_000).toFixed(1);
    const text = `${this.what}: ${this.count} of ${this.total}, ${minutes} min`;
    process.stderr.write(this.live ? `\r\x1b[K${text}` : `${text}\n`);
  }
}
