// The order in which pixels are packed: the same arithmetic as quantlab/viewer/shuffle.py, so that it need not be sent.

const ROUNDS = [
  [0x9e3779b1, 0x7f4a7c15],
  [0x85ebca77, 0x165667b1],
  [0xc2b2ae3d, 0x27d4eb2f],
];

/** The first `limit` of the numbers 0 .. count - 1 in the fixed order, as Uint32Array. */
export function shuffled(count, limit = count) {
  const bits = Math.max(1, 32 - Math.clz32(Math.max(0, count - 1)));
  const mask = 2 ** bits - 1;
  const shift = (bits + 1) >> 1;
  const order = new Uint32Array(Math.min(limit, count));
  for (let i = 0; i < order.length; i++) {
    let x = i;
    do {
      for (const [factor, summand] of ROUNDS) {
        x = (Math.imul(x, factor) + summand) & mask;
        x ^= x >>> shift;
      }
    } while (x >= count);
    order[i] = x;
  }
  return order;
}
