// Masks as text: eight pixels a byte, least significant bit first (numpy's packbits with bitorder="little"), in base64.

/** 0/1 bytes -> base64; "" for a mask of nothing. */
export function toText(mask) {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  for (let i = 0; i < mask.length; i++) if (mask[i]) bytes[i >> 3] |= 1 << (i & 7);
  if (!bytes.some(Boolean)) return "";
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** base64 -> 0/1 bytes of this length. Throws where the text is of another length. */
export function fromText(text, length) {
  const mask = new Uint8Array(length);
  if (!text) return mask;
  const raw = atob(text);
  if (raw.length !== Math.ceil(length / 8)) throw new RangeError("the region is of pictures of another size");
  for (let i = 0; i < length; i++) mask[i] = (raw.charCodeAt(i >> 3) >> (i & 7)) & 1;
  return mask;
}
