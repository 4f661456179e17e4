// The one WebGL context: renderer, camera, both clouds and their frusta. It draws when told to and decides nothing.
import {
  Color,
  ColorManagement,
  Group,
  LinearSRGBColorSpace,
  Matrix4,
  PerspectiveCamera,
  Scene,
  Vector3,
  WebGLRenderer,
} from "three";
import { makeFrusta } from "./frusta.js";
import { disposeCloud, FrameTable, makeClouds, PaletteTexture } from "./points.js";
import { lens, pointSpacing } from "./view.js";

// three takes uint8 vertex colours for linear light and washes them out; pictures are shown as they are.
ColorManagement.enabled = false;

const TINT = 0.6; // of the region's colour over the pictures' own
const TINT_OVER_ERRORS = 0.35; // the error scale stays readable

let liveContexts = 0;

export class Stage {
  constructor(canvas) {
    // Round points hardly gain from multisampling, and a software renderer pays half its frame rate for it.
    this.renderer = new WebGLRenderer({ canvas, antialias: false, powerPreference: "high-performance" });
    liveContexts += 1;
    this.renderer.outputColorSpace = LinearSRGBColorSpace;
    this.renderer.autoClear = false;
    this.camera = new PerspectiveCamera(50, 1, 0.01, 100);
    this.frames = new FrameTable();
    this.palette = new PaletteTexture();
    this.sides = [0, 1].map(() => {
      const scene = new Scene();
      const world = new Group();
      world.matrixAutoUpdate = false;
      scene.add(world);
      return { scene, world, cloud: null, count: 0, frusta: new Group(), pass: 0 };
    });
    for (const side of this.sides) side.world.add(side.frusta);
    this.data = null;
    this.renders = 0;
    this.lastMilliseconds = 0;
    this.drawn = [0, 0];
  }

  static get contexts() {
    return liveContexts;
  }

  /** data: as unpack gives it, or null for none. */
  setClouds(data) {
    const textures = { frames: this.frames, palette: this.palette };
    const clouds = data ? makeClouds(data, textures) : [null, null];
    this.sides.forEach((side, index) => {
      if (side.cloud) side.world.remove(side.cloud);
      disposeCloud(side.cloud);
      side.cloud = clouds[index];
      side.count = side.cloud ? side.cloud.geometry.getAttribute("position").count : 0;
      if (side.cloud) side.world.add(side.cloud);
    });
    this.data = data;
  }

  setSurvey(survey) {
    this.survey = survey;
    const r = survey.rotation;
    const matrix = new Matrix4().set(r[0], r[1], r[2], 0, r[3], r[4], r[5], 0, r[6], r[7], r[8], 0, 0, 0, 0, 1);
    for (const { world } of this.sides) {
      world.matrix.copy(matrix);
      world.matrixWorldNeedsUpdate = true;
    }
  }

  /** colours: [left, right]. The right side shows the left cameras as ghosts, so that a moved camera is seen. */
  setFrusta(colours, visible) {
    const depth = this.survey ? 0.06 * Math.min(this.survey.depth, 2 * this.survey.radius) : 0.06;
    this.sides.forEach((side, index) => {
      for (const child of [...side.frusta.children]) {
        side.frusta.remove(child);
        child.geometry.dispose();
        child.material.dispose();
      }
      if (!visible || !this.data) return;
      const own = index === 0 ? this.data.left : this.data.right;
      if (!own) return;
      if (index === 1) side.frusta.add(makeFrusta(this.data.left.cameras, depth, colours[0], 0.45));
      side.frusta.add(makeFrusta(own.cameras, depth, colours[index]));
    });
  }

  /** colours: of theme.js's stageColours. */
  setColours({ canvas, region }) {
    this.background = new Color(canvas);
    this.tint = new Color(region);
  }

  /** The marks of the region were written into data.marks. */
  marksChanged() {
    for (const { cloud } of this.sides) if (cloud) cloud.geometry.getAttribute("mark").needsUpdate = true;
  }

  /** Whether the size changed; the canvas is empty then. */
  resize(width, height, ratio) {
    if (String([width, height, ratio]) === this.size) return false;
    this.size = String([width, height, ratio]);
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.ratio = ratio;
    return true;
  }

  /** list: the panes of layout.js; how: threshold, range (error codes), pointSize (1 closes gaps), most (points drawn). */
  render(list, how) {
    const started = performance.now();
    this.drawn = [0, 0];
    this.renderer.setScissorTest(true);
    this.renderer.setClearColor(this.background, 1);
    for (const { side: index, heat, view, clip } of list) {
      if (clip.width <= 0) continue;
      this.renderer.setViewport(view.x, view.y, view.width, view.height);
      this.renderer.setScissor(clip.x, clip.y, clip.width, clip.height);
      this.renderer.clear();
      this.aim(view);
      const side = this.sides[index];
      if (side.cloud) this.#prepare(side, index, view, { ...how, heat });
      this.renderer.render(side.scene, this.camera);
    }
    this.renders += 1;
    this.lastMilliseconds = performance.now() - started;
  }

  #prepare(side, index, view, { heat, threshold, range, pointSize, most }) {
    const drawn = Math.min(side.count, most);
    side.cloud.geometry.setDrawRange(0, drawn);
    this.drawn[index] = drawn;
    const { uniforms } = side.cloud.material;
    const fill = pointSize * Math.min(1.6, Math.sqrt(side.count / drawn));
    const pixels = (view.height * this.ratio) / 2 / Math.tan((this.camera.fov * Math.PI) / 360);
    uniforms.size.value = fill * pixels;
    uniforms.gap.value = pointSpacing(this.data, this.survey);
    uniforms.threshold.value = threshold;
    uniforms.heat.value = heat ? 1 : 0;
    uniforms.range.value.set(...(range ?? [0, 255]));
    uniforms.tint.value.set(...this.tint.toArray(), heat ? TINT_OVER_ERRORS : TINT);
  }

  /** Sets the lens for a pane. */
  aim({ width, height }) {
    const aspect = width / Math.max(1, height);
    const [, slope] = lens(this.fov ?? 50, aspect, this.survey?.window ?? [-1, 1, -1, 1]);
    this.camera.fov = (Math.atan(slope) * 360) / Math.PI;
    this.camera.aspect = aspect;
    this.#clipPlanes();
    this.camera.updateProjectionMatrix();
    this.camera.updateMatrixWorld();
  }

  #clipPlanes() {
    if (!this.data) return;
    const { offset, scale } = this.data.meta;
    const radius = 32767 * Math.hypot(...scale);
    const center = new Vector3(...offset).applyMatrix4(this.sides[0].world.matrix);
    const distance = this.camera.position.distanceTo(center);
    this.camera.far = distance + radius;
    this.camera.near = Math.max(distance - radius, this.camera.far * 2e-4);
  }

  /** A world point -> CSS pixels from the top left of the canvas, or null behind the camera. */
  project(point, view, canvasHeight) {
    this.aim(view);
    const seen = new Vector3(...point).applyMatrix4(this.sides[0].world.matrix).applyMatrix4(
      this.camera.matrixWorldInverse,
    );
    if (seen.z >= 0) return null;
    seen.applyMatrix4(this.camera.projectionMatrix);
    return [
      view.x + ((seen.x + 1) / 2) * view.width,
      canvasHeight - view.y - ((seen.y + 1) / 2) * view.height,
    ];
  }

  /** clip_from_code of a pane: 16 numbers, column by column, for picking without the GPU. */
  pickMatrix(view) {
    this.aim(view);
    const matrix = new Matrix4().multiplyMatrices(this.camera.projectionMatrix, this.camera.matrixWorldInverse);
    const { offset, scale } = this.data.meta;
    const decode = new Matrix4().makeScale(...scale).setPosition(...offset);
    return matrix.multiply(this.sides[0].world.matrix).multiply(decode).elements;
  }

  dispose() {
    for (const { cloud } of this.sides) disposeCloud(cloud);
    this.setFrusta([], false);
    this.frames.texture.dispose();
    this.palette.texture.dispose();
    this.renderer.dispose();
    this.renderer.forceContextLoss();
    liveContexts -= 1;
  }
}
