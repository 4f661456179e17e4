// When to draw: once after something changed, never while nothing does, coarsely while the camera moves.

const SETTLE_MILLISECONDS = 160;

export class Cadence {
  #scheduled = 0;
  #settle = 0;
  #isOnScreen = true;
  isMoving = false;

  constructor(draw) {
    this.draw = draw;
    this.sight = new IntersectionObserver((entries) => {
      this.#isOnScreen = entries.at(-1).isIntersecting;
      if (this.#isOnScreen) this.invalidate();
    });
  }

  start(element) {
    this.sight.observe(element);
  }

  invalidate() {
    if (this.#scheduled || !this.#isOnScreen) return;
    this.#scheduled = requestAnimationFrame(() => {
      this.#scheduled = 0;
      this.draw();
    });
  }

  /** The camera moved: draw coarsely now and in full once it rests. */
  moved() {
    this.isMoving = true;
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => {
      this.isMoving = false;
      this.invalidate();
    }, SETTLE_MILLISECONDS);
    this.invalidate();
  }

  rest() {
    this.isMoving = false;
    clearTimeout(this.#settle);
  }

  dispose() {
    this.rest();
    cancelAnimationFrame(this.#scheduled);
    this.sight.disconnect();
  }
}
