// Both clouds in the viewer, and which prediction stands on which side.
import { Choice, make, setText } from "./dom.js";

export function mountCompare(host, { send }) {
  const left = new Choice("Left side", (value) => send({ do: "left", value }));
  const right = new Choice("Right side", (value) => send({ do: "right", value }));
  const note = make("p", { class: "ql-quiet ql-scene-note", "data-testid": "scene-note" });
  const stage = make("div", { class: "ql-stage" }, make("div", { class: "quantlab-viewer" }));
  const sides = make("div", { class: "ql-sides", hidden: true }, side("left", left), side("right", right));
  host.append(make("header", {}, make("h2", {}, "Compare"), sides), note, stage);
  const viewer = attach(stage);
  return (value) => {
    sides.hidden = value.sides.length === 0;
    left.show(value.sides, value.left);
    right.show(value.sides, value.right);
    setText(note, value.stale && value.payload ? "The clouds are from before the changes that wait." : value.notes.join("; "));
    note.hidden = note.textContent === "";
    viewer.show({ payload: value.payload, message: value.message ?? "" });
  };
}

function side(name, choice) {
  return make("label", { class: "ql-field" }, make("span", {}, name), choice.element);
}

/** The viewer's own Gradio adapter, fed by us: it fetches the clouds and follows the theme. */
function attach(stage) {
  const props = { value: {} };
  let told = () => {};
  const ready = import("/quantlab/viewer/viewer.js").then(({ attachGradio }) =>
    attachGradio(stage, { props, watch: (_name, callback) => (told = callback), trigger: () => {} }),
  );
  return {
    async show(value) {
      props.value = value; // no payload takes the former clouds away
      await ready;
      await told();
      stage.dataset.cloud = value.payload; // for tests: which clouds are on the screen
    },
  };
}
