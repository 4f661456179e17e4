// When to draw: once after something changed, never while nothing does, coarsely while the camera moves.

const SETTLE = [160, 900]; // milliseconds without a move until the full picture: the shortest and the longest wait
const PATIENCE = 2.5; // frames: on a slow device moves come no faster than its frames, and are still one movement
const [SMOOTH, SLOW] = [70, 160]; // milliseconds a frame
const LEAST_DETAIL = 0.2;

export class Cadence {
  #scheduled = 0;
  #settle = 0;
  #isOnScreen = true;
  #last = -Infinity; // when a coarse picture was begun
  #ended = -Infinity; // and when its drawing was over, as far as this thread knows
  #interval = 0; // milliseconds between the last two of one movement
  isMoving = false;
  detail = 1; // the part of what a moving camera shows that this device keeps up with

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
    const asked = performance.now();
    this.#scheduled = requestAnimationFrame(() => {
      this.#scheduled = 0;
      if (this.isMoving) this.#adapt(asked);
      this.draw();
      this.#ended = performance.now();
    });
  }

  /** Fewer points where frames come late. A frame asked for long after the last one was late for want of moves only. */
  #adapt(asked) {
    const now = performance.now();
    const isSteady = asked - this.#ended < SETTLE[0];
    this.#interval = isSteady ? now - this.#last : 0;
    this.#last = now;
    if (this.#interval > SLOW) this.detail = Math.max(LEAST_DETAIL, 0.7 * this.detail);
    else if (isSteady && this.#interval < SMOOTH) this.detail = Math.min(1, 1.15 * this.detail);
  }

  /** The camera moved: draw coarsely now and in full once it rests. */
  moved() {
    this.isMoving = true;
    this.#await();
    this.invalidate();
  }

  #await() {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => {
      if (this.#scheduled) return this.#await(); // not even the coarse picture is there yet
      this.isMoving = false;
      this.invalidate();
    }, Math.min(SETTLE[1], Math.max(SETTLE[0], PATIENCE * this.#interval)));
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
