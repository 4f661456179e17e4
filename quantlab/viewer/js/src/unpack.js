// Reads the payload that quantlab/viewer/pack.py writes; it checks what it reads and draws nothing.
import { PixelGrid } from "./grid.js";

const TYPES = { int16: Int16Array, uint8: Uint8Array, uint16: Uint16Array };

/** ArrayBuffer, typed array, DataView, data URL or base64 text -> Uint8Array that starts on 4 bytes. */
export function toBytes(payload) {
  if (typeof payload === "string") return fromBase64(payload.slice(payload.indexOf(",") + 1));
  if (payload instanceof ArrayBuffer) return new Uint8Array(payload);
  const view = new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength);
  return view.byteOffset % 4 ? view.slice() : view;
}

function fromBase64(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** The payload -> { left, right, meta, grid, marks, pictures } as setClouds takes it. Throws an Error that names what is wrong. */
export function unpack(payload) {
  const bytes = toBytes(payload);
  if (bytes.length < 12 || String.fromCharCode(...bytes.subarray(0, 4)) !== "QLPC") {
    throw new Error("this is not a point cloud payload");
  }
  const [version, length] = new Uint32Array(bytes.buffer, bytes.byteOffset + 4, 2);
  if (version !== 1) throw new Error(`the payload has version ${version}, this viewer reads 1`);
  if (12 + length > bytes.length) throw new Error("the payload is cut short");
  const meta = JSON.parse(new TextDecoder().decode(bytes.subarray(12, 12 + length)));
  const start = bytes.byteOffset + 12 + length;
  const array = (place) => {
    if (!place) return null;
    if (12 + length + place.at + place.size * TYPES[place.type].BYTES_PER_ELEMENT > bytes.length) {
      throw new Error("the payload is cut short");
    }
    return new TYPES[place.type](bytes.buffer, start + place.at, place.size);
  };
  const left = side(meta.left, array);
  const right = meta.right && side(meta.right, array);
  if (right && meta.paired) shareFrom(left, right);
  if (right) right.error = array(meta.error);
  if (right && meta.paired) left.error = right.error; // both sides show and hide the same pixels
  const grid = meta.grid ? new PixelGrid(meta.grid, left.count) : null;
  const marks = grid && new Uint8Array(left.count);
  if (grid) {
    left.frame = grid.frameArray();
    if (right) right.frame = left.frame;
  }
  return { left, right, meta, grid, marks, pictures: (meta.images ?? []).map(array) };
}

function side(header, array) {
  return {
    count: header.count,
    outside: header.outside,
    cameras: header.cameras,
    position: array(header.position),
    color: array(header.color),
    confidence: array(header.confidence),
    frame: array(header.frame),
    error: null,
  };
}

/** What the right cloud of a pair leaves out is the same as on the left: the very same array, uploaded once. */
function shareFrom(left, right) {
  for (const name of ["color", "confidence", "frame"]) right[name] ??= left[name];
}
