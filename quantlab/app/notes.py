"""The text of the Notes tab: what the lab shows and what it does not. Text only."""

from __future__ import annotations

NOTES = """
### What you see

* **Map.** One cell a layer: blocks across, layer kinds down. The colour is the number chosen above it, on a
  logarithmic scale. TRE is the relative error of the largest one per cent of a layer's outputs, with this layer
  quantized alone; kurtosis is how heavy the tails of its input are, 3 for a normal distribution.
* **Layer.** The layer's input on a symmetric logarithmic axis: raw, after each transform, and rounded. Thin lines
  are the values the quantizer can produce; dashed lines are where it clips. The pale curve is the state before your
  last change.
* **Comparison.** The full-precision cloud and the quantized one, in one frame after a similarity alignment, under one
  camera. Draw around damage with the lasso, and the map ranks the layers that did it (blame).
* **Numbers.** Point error is the mean distance of paired points, as a share of the scene's size. AUC@30 is how many
  camera rotations and directions are right within 30 degrees, averaged over all thresholds up to it, 1 at best; AbsRel
  is the mean relative error of depth, 0 at best. Both are against the truth where the scene has one, else against full
  precision.
* **Forward.** Measure packs the layers and times a whole pass on this machine, in turns with full precision; details
  says where the time goes.
* **Decide.** Every layer runs at 2 to 8 bits on the calibration scenes, and the best bits for every size are found by
  an exact search over what was measured. Rings are predicted: the squared distances that single layers cause add up
  at every point. Filled points were really run. Sizes are of the whole network; the share is of the layers that are
  quantized. Only weights take other bits, inputs stay as the recipe has them; a layer of 16 bits is not rounded at all,
  its input neither, which is why it can repair more than its bytes say.
* **Calibration.** The scenes that a recipe may learn from, as a map: what the chosen method holds for alike is near
  each other, a ring is a pick, a cross was left out. A tenth of the built-in pool is defective on purpose (black or
  blown-out pictures, hardly any baseline, a camera in a wall). Rooms that scores are measured on are never in it.

### What to know

* W4 A4 means four bits a weight and four bits an activation, which is what comes into a layer; 16 means not rounded. A
  recipe says that and the rest for every layer; the one in force is what clouds and numbers are of.
* Clouds and errors are **simulated**: numbers are rounded as integers would be, and computed in floating point. Times
  and memory below “forward” are **executed**: integer kernels, on this machine.
* `mini` is a small VGGT trained on generated rooms and **knows only those rooms**. It runs on your photographs all the
  same, but a good reconstruction of them wants `vggt-1b`.
* `mini-outliers` is the same function with outlier channels **planted** by a rescaling; smoothing inverts that
  rescaling by construction.
* With a model whose forward takes longer than about two seconds, changes wait until you press Run.

### Keys

In the 3D view: drag turns, Shift-drag moves, the wheel zooms; 1 side by side, 2 swipe, 3 flip, 4 error; A and B show
the left and the right cloud, C cameras, I pictures, L draws a region, R first view, ? all keys. On the map: arrows
walk, Enter opens. Everywhere: Ctrl+Z undoes, Ctrl+Shift+Z redoes.
"""
