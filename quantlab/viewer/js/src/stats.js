// What tests and benchmarks may know of a viewer; nothing of the lab depends on it.
import { Stage } from "./stage.js";

/** points: in the clouds; drawn: in the last picture; milliseconds: of the calls of the last picture, not of the device. */
export function readStats({ data, stage, state }) {
  return {
    points: [data?.left.count ?? 0, data?.right?.count ?? 0],
    drawn: stage?.drawn ?? [0, 0],
    renders: stage?.renders ?? 0,
    milliseconds: stage?.lastMilliseconds ?? 0,
    camera: stage ? [...stage.camera.matrixWorld.elements] : [],
    contexts: Stage.contexts,
    mode: state.mode,
    shown: state.shown,
  };
}
