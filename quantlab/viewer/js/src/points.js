// One cloud as a three.js object: shaders, filters and level of detail. It knows no camera and no layout.
import {
  BufferAttribute,
  BufferGeometry,
  DataTexture,
  FloatType,
  GLSL3,
  NearestFilter,
  Points,
  RawShaderMaterial,
  RedFormat,
  RGBAFormat,
  UnsignedByteType,
  Vector2,
  Vector3,
  Vector4,
} from "three";
import { isUsable, toWorld } from "./frame.js";

export const HIDDEN = -32768;
export const DRAG_POINTS = 60000;

const VERTEX = `
precision highp float;
precision highp sampler2D;
uniform mat4 modelViewMatrix;
uniform mat4 projectionMatrix;
uniform float size;       // pixels that a length of 1 covers at depth 1 (1.2 lets round points close a grid)
uniform float gap;        // distance between neighbouring points where the source camera is not known
uniform vec3 codeScale;
uniform vec3 codeOffset;
uniform float threshold;  // confidence codes below are hidden
uniform float heat;       // 1: colour by error
uniform vec2 range;       // error codes outside are hidden
uniform vec4 tint;        // of the marked region: its colour and how much of it
uniform sampler2D frames; // one texel a frame: shown or not
uniform sampler2D palette;
uniform sampler2D sources; // one texel a frame: where its camera stood, and the gap per distance (0: not known)
in vec3 position;
in vec3 color;
in float confidence;
in float frame;
in float error;
in float mark;
out vec3 shade;
out float width;
void main() {
  ivec2 cell = ivec2(int(frame) & 255, int(frame) >> 8);
  bool shown = position.x > ${HIDDEN}.0 && confidence >= threshold && error >= range.x && error <= range.y
    && texelFetch(frames, cell, 0).r > 0.5;
  vec4 seen = modelViewMatrix * vec4(position, 1.0);
  gl_Position = shown ? projectionMatrix * seen : vec4(2.0, 2.0, 2.0, 1.0);
  vec4 source = texelFetch(sources, cell, 0);
  float own = source.a > 0.0 ? source.a * distance(position * codeScale + codeOffset, source.xyz) : gap;
  width = clamp(1.2 * size * own / max(-seen.z, 1e-6), 1.0, 24.0);
  gl_PointSize = width;
  shade = heat > 0.5 ? texelFetch(palette, ivec2(int(error + 0.5), 0), 0).rgb : color;
  shade = mix(shade, tint.rgb, tint.a * mark);
}`;

const FRAGMENT = `
precision mediump float;
in vec3 shade;
in float width;
out vec4 result;
void main() {
  vec2 off = gl_PointCoord - 0.5;
  if (width > 3.5 && dot(off, off) > 0.25) discard;
  result = vec4(shade, 1.0);
}`;

/** A 256 x 256 table of which frames are shown, shared by both clouds. */
export class FrameTable {
  constructor() {
    this.texture = new DataTexture(new Uint8Array(65536).fill(255), 256, 256, RedFormat, UnsignedByteType);
    this.texture.minFilter = this.texture.magFilter = NearestFilter;
    this.texture.needsUpdate = true;
  }

  /** frames: the indices shown, or null for all. */
  set(frames) {
    const table = this.texture.image.data;
    table.fill(frames ? 0 : 255);
    for (const index of frames ?? []) table[index] = 255;
    this.texture.needsUpdate = true;
  }

  has(index) {
    return this.texture.image.data[index] > 0;
  }
}

export class PaletteTexture {
  constructor() {
    this.texture = new DataTexture(new Uint8Array(256 * 4), 256, 1, RGBAFormat, UnsignedByteType);
    this.texture.minFilter = this.texture.magFilter = NearestFilter;
  }

  set(colours) {
    this.texture.image.data.set(colours);
    this.texture.needsUpdate = true;
  }
}

/** GPU attributes by the array they hold, so that what two clouds share is uploaded once. */
class Attributes {
  #known = new Map();

  of(array, width, normalized) {
    if (!this.#known.has(array)) this.#known.set(array, new BufferAttribute(array, width, normalized));
    return this.#known.get(array);
  }
}

/** Where each frame's camera stood: far surfaces were sampled more coarsely, so their points are drawn larger. */
function sourceTexture({ count, cameras }, { frames }) {
  const rows = Math.max(1, Math.ceil(frames / 256));
  const texels = new Float32Array(256 * rows * 4);
  cameras.forEach((camera, index) => {
    if (!isUsable(camera)) return;
    const [, , top, bottom] = camera.window;
    texels.set([...toWorld(camera.pose, [0, 0, 0]), (bottom - top) / Math.sqrt(count / frames)], 4 * index);
  });
  const texture = new DataTexture(texels, 256, rows, RGBAFormat, FloatType);
  texture.minFilter = texture.magFilter = NearestFilter;
  texture.needsUpdate = true;
  return texture;
}

function constant(count, value) {
  return new Uint8Array(count).fill(value);
}

function makeCloud(data, { meta, marks }, attributes, textures) {
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", attributes.of(data.position, 3, false));
  geometry.setAttribute("color", attributes.of(data.color, 3, true));
  geometry.setAttribute("confidence", attributes.of(data.confidence ?? constant(data.count, 255), 1, false));
  geometry.setAttribute("frame", attributes.of(data.frame ?? constant(data.count, 0), 1, false));
  geometry.setAttribute("error", attributes.of(data.error ?? constant(data.count, 0), 1, false));
  geometry.setAttribute("mark", attributes.of(marks ?? constant(data.count, 0), 1, false));
  const material = new RawShaderMaterial({
    glslVersion: GLSL3,
    vertexShader: VERTEX,
    fragmentShader: FRAGMENT,
    uniforms: {
      size: { value: 1 },
      gap: { value: 1 },
      codeScale: { value: new Vector3(...meta.scale) },
      codeOffset: { value: new Vector3(...meta.offset) },
      sources: { value: sourceTexture(data, meta) },
      threshold: { value: 0 },
      heat: { value: 0 },
      range: { value: new Vector2(0, 255) },
      tint: { value: new Vector4() },
      frames: { value: textures.frames.texture },
      palette: { value: textures.palette.texture },
    },
  });
  const points = new Points(geometry, material);
  points.frustumCulled = false;
  points.position.fromArray(meta.offset);
  points.scale.fromArray(meta.scale);
  return points;
}

/** Both clouds of a comparison; `right` is null where there is none. */
export function makeClouds(clouds, textures) {
  const attributes = new Attributes();
  return [clouds.left, clouds.right].map((data) => data && makeCloud(data, clouds, attributes, textures));
}

export function disposeCloud(points) {
  points?.geometry.dispose();
  points?.material.uniforms.sources.value.dispose();
  points?.material.dispose();
}
