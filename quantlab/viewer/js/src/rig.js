// How the camera is moved: orbit by pointer and key around a target, in the display frame (up is +y).
import { Spherical, Vector3 } from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { rotate, rotateBack } from "./frame.js";

const EMIT_MILLISECONDS = 100;

export class Rig {
  #last = 0;
  #timer = 0;

  /** moved: the camera changed; emit: tell others, at most ten times a second and always at the end. */
  constructor(camera, canvas, { moved, emit }) {
    this.camera = camera;
    this.controls = new OrbitControls(camera, canvas);
    this.controls.rotateSpeed = 0.7;
    this.controls.zoomSpeed = 1.2;
    this.quiet = false;
    this.controls.addEventListener("change", () => {
      if (this.quiet) return;
      moved();
      this.#tell(emit);
    });
  }

  #tell(emit) {
    clearTimeout(this.#timer);
    const wait = this.#last + EMIT_MILLISECONDS - performance.now();
    const now = () => {
      this.#last = performance.now();
      emit();
    };
    if (wait <= 0) now();
    else this.#timer = setTimeout(now, wait);
  }

  get(rotation) {
    const back = (vector) => rotateBack(rotation, vector.toArray());
    return { position: back(this.camera.position), target: back(this.controls.target), up: rotation.slice(3, 6) };
  }

  /** Moves without telling anyone: what a program sets is not an event. */
  set({ position, target }, { rotation, radius }) {
    this.quiet = true;
    this.camera.position.fromArray(rotate(rotation, position));
    this.controls.target.fromArray(rotate(rotation, target));
    this.controls.minDistance = radius * 0.01;
    this.controls.maxDistance = radius * 30;
    this.controls.update();
    this.quiet = false;
  }

  /** Turns by radians around the target. */
  turn(right, up) {
    const arm = this.camera.position.clone().sub(this.controls.target);
    const sphere = new Spherical().setFromVector3(arm);
    sphere.theta -= right;
    sphere.phi = Math.min(Math.PI - 0.02, Math.max(0.02, sphere.phi + up));
    this.camera.position.copy(this.controls.target).add(arm.setFromSpherical(sphere));
    this.controls.update();
  }

  /** Moves sideways and up by a fraction of the distance to the target. */
  pan(right, up) {
    const distance = this.camera.position.distanceTo(this.controls.target);
    const [x, y] = [0, 1].map((column) => new Vector3().setFromMatrixColumn(this.camera.matrix, column));
    const step = x.multiplyScalar(right * distance).add(y.multiplyScalar(up * distance));
    this.camera.position.add(step);
    this.controls.target.add(step);
    this.controls.update();
  }

  zoom(factor) {
    const arm = this.camera.position.clone().sub(this.controls.target).multiplyScalar(factor);
    this.camera.position.copy(this.controls.target).add(arm);
    this.controls.update();
  }

  dispose() {
    clearTimeout(this.#timer);
    this.controls.dispose();
  }
}
