// What a person can do, by name: buttons, menu and keys all call these, so that each way does the same.
import { toggledFrames } from "./options.js";
import { saveScreenshot } from "./screenshot.js";
import { BACKGROUNDS } from "./theme.js";
import { clamp } from "./view.js";
import { viewpointsOf, withoutViewpoint, withViewpoint } from "./viewpoints.js";

export function makeActions(viewer) {
  const { state } = viewer;
  const act = (change) => viewer.act(change);
  const scene = () => viewer.data?.meta.scene;
  const moved = () => viewer.emit("camera", { camera: viewer.getCamera() });
  return {
    mode: (mode) => act({ mode }),
    flip: (side) => act({ mode: "flip", shown: side ?? 1 - state.shown }),
    divider: (divider) => act({ divider: clamp(divider, 0.02, 0.98) }),
    frame: (index, alone) => act({ frames: toggledFrames(state.frames, viewer.data?.meta.frames ?? 0, index, alone) }),
    confidence: (confidence) => act({ confidence: clamp(confidence, 0, 95) }),
    size: (pointSize) => act({ pointSize: clamp(Number(pointSize.toFixed(2)), 0.4, 3) }),
    background: (background) => act({ background }),
    nextBackground: () => act({ background: BACKGROUNDS[(BACKGROUNDS.indexOf(state.background) + 1) % BACKGROUNDS.length] }),
    cameras: () => act({ cameras: !state.cameras }),
    pictures: () => viewer.data?.grid && act({ pictures: !viewer.picturesShown }),
    errors: (errorRange) => act({ errorRange }),
    lasso: () => viewer.lasso.toggle(),
    clearRegion: () => viewer.marked([], "replace"),
    reset() {
      viewer.resetCamera();
      if (viewer.data) moved();
    },
    saveViewpoint() {
      const camera = viewer.getCamera();
      if (camera) act({ viewpoints: withViewpoint(state.viewpoints, scene(), camera) });
    },
    viewpoint(index) {
      const saved = viewpointsOf(state.viewpoints, scene())[index];
      if (!saved) return;
      viewer.setCamera(saved);
      moved();
    },
    forgetViewpoint: (index) => act({ viewpoints: withoutViewpoint(state.viewpoints, scene(), index) }),
    screenshot: () => viewer.data && saveScreenshot(viewer),
    menu: () => viewer.toolbar.menu.toggle(),
    help: () => viewer.help.toggle(),
    /** Takes back one thing, the innermost first. */
    escape() {
      if (viewer.help.isOpen) viewer.help.toggle();
      else if (viewer.toolbar.menu.isOpen) viewer.toolbar.menu.toggle();
      else if (viewer.lasso.isActive) viewer.lasso.stop();
      else if (viewer.strip.isMarking) viewer.strip.cancel();
      else if (viewer.prober.isSet) viewer.clearProbe();
      else if (!viewer.region.isEmpty) this.clearRegion();
      else if (state.errorRange) act({ errorRange: null });
    },
  };
}

