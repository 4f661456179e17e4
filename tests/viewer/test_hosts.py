"""The 3D comparison in each of its hosts, and when something is missing, damaged or lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.browser


def test_before_any_cloud_a_sentence_says_what_will_be_here(page: Any) -> None:
    assert page.get_by_text("The two point clouds appear here").is_visible()
    assert page.evaluate("viewer.getCamera()") is None


def test_one_cloud_alone_says_what_is_missing(page: Any, screen: Any) -> None:
    screen.show("other.bin")
    assert page.get_by_text("No quantized cloud yet.").is_visible()
    assert screen.share(screen.pixels()[:, 402:]) == 0


def test_a_damaged_payload_is_told_and_the_viewer_lives_on(page: Any, screen: Any) -> None:
    page.evaluate("viewer.setPayload(new Uint8Array(40))")
    assert page.get_by_text("not a point cloud payload").is_visible()
    page.evaluate(
        "fetch('pair.bin').then(r => r.arrayBuffer()).then(b => viewer.setPayload(b.slice(0, 5000)))"
    )
    page.get_by_text("cut short").wait_for()
    screen.show()
    assert screen.share(screen.pixels()) > 0.3


def test_dispose_gives_the_context_back(page: Any, screen: Any) -> None:
    screen.show()
    page.evaluate("window.other = document.createElement('div'); document.body.append(other)")
    contexts = page.evaluate(
        """async () => {
          const { mount } = await import('/viewer.js');
          const second = mount(other), same = mount(other);
          const most = viewer.stats().contexts;
          second.dispose();
          return [most, second === same, viewer.stats().contexts];
        }"""
    )
    assert contexts == [2, True, 1]


def test_the_widget_entry_follows_its_traits_and_writes_back(page: Any) -> None:
    seen = page.evaluate(
        """async () => {
          viewer.dispose();
          const bytes = new DataView(await (await fetch('pair.bin')).arrayBuffer());
          const traits = { payload: bytes, mode: 'swipe', theme: 'dark', point_size: 2, confidence: 5, frames: [],
            camera: {}, pick: {}, height: 300 };
          const handlers = {};
          const model = { get: (n) => traits[n], set: (n, v) => (traits[n] = v), save_changes: () => {},
            on: (n, f) => (handlers[n] = f), off: (n) => delete handlers[n] };
          const el = document.body.insertBefore(document.createElement('div'), document.body.firstChild);
          const end = window.render({ model, el });
          const shown = el.firstChild.__quantlabViewer;
          const first = [shown.stats().mode, shown.state.pointSize, shown.stats().points[1]];
          traits.mode = 'error';
          handlers['change:mode']();
          const second = shown.stats().mode;
          shown.root.querySelector('button').click();
          const written = traits.mode;
          await new Promise((done) => requestAnimationFrame(done));
          shown.probe(200, 190);
          const picked = traits.pick.index;
          end();
          return { first, second, written, picked, left: Object.keys(handlers).length, children: el.children.length };
        }"""
    )
    assert seen["first"] == ["swipe", 2, 36864]
    assert (seen["second"], seen["written"]) == ("error", "split")
    assert seen["picked"] >= 0
    assert (seen["left"], seen["children"]) == (0, 0)


def test_the_widget_entry_writes_regions_and_choices_back_and_draws_a_region_it_is_given(page: Any) -> None:
    seen = page.evaluate(
        """async () => {
          viewer.dispose();
          const bytes = new DataView(await (await fetch('grid.bin')).arrayBuffer());
          const traits = { payload: bytes, region: { mask: '' }, background: 'grey', viewpoints: [], height: 300 };
          const handlers = {};
          const model = { get: (n) => traits[n], set: (n, v) => (traits[n] = v), save_changes: () => {},
            on: (n, f) => (handlers[n] = f), off: (n) => delete handlers[n] };
          const el = document.body.insertBefore(document.createElement('div'), document.body.firstChild);
          const end = window.render({ model, el });
          const shown = el.firstChild.__quantlabViewer;
          shown.marked([0, 9], 'replace');
          const mask = traits.region.mask;
          shown.actions.nextBackground();
          shown.actions.saveViewpoint();
          const written = [traits.background, traits.viewpoints.length];
          traits.region = { mask: '' };
          handlers['change:region']();
          const cleared = shown.region.size;
          traits.region = { mask };
          handlers['change:region']();
          const drawn = shown.region.size;
          end();
          return { mask: mask.slice(0, 4), written, cleared, drawn };
        }"""
    )
    assert seen == {"mask": "AQIA", "written": ["dark", 1], "cleared": 0, "drawn": 2}


def test_it_runs_under_the_content_policy_of_an_offline_report(page: Any, site: str) -> None:
    page.goto(f"{site}/strict.html")
    page.wait_for_function("() => document.title !== 'waiting'")
    assert page.title() == "true flex 255,255,255,255"


def test_a_lost_graphics_device_is_told_and_comes_back(page: Any, screen: Any) -> None:
    screen.show()
    before = screen.pixels()
    page.evaluate(
        """() => {
          window.device = viewer.stage.renderer.getContext().getExtension('WEBGL_lose_context');
          device.loseContext();
        }"""
    )
    page.get_by_text("The graphics device was lost").wait_for()
    page.evaluate("device.restoreContext()")
    page.get_by_text("The graphics device was lost").wait_for(state="hidden")
    screen.settle()
    assert np.abs(screen.pixels() - before).mean() < 0.05


def test_the_gradio_entry_follows_its_value_and_triggers_events(page: Any) -> None:
    seen = page.evaluate(
        """async () => {
          const { attachGradio } = await import('/viewer.js');
          viewer.dispose();
          const element = document.body.insertBefore(document.createElement('div'), document.body.firstChild);
          element.innerHTML = '<div class="quantlab-viewer" style="height: 300px"></div>';
          const props = { value: { payload: '/pair.bin', mode: 'error' } };
          const triggered = [];
          let changed;
          const shown = attachGradio(element, { props, watch: (_, f) => (changed = f),
            trigger: (...a) => triggered.push(a) });
          const points = async (count) => {
            while (shown.stats().points[0] !== count) await new Promise((done) => setTimeout(done, 20));
          };
          await points(36864);
          props.value = { message: 'waiting' };
          changed();
          const kept = [shown.stats().points[0], shown.stats().mode, shown.root.textContent.includes('waiting')];
          props.value = { payload: '/missing.bin' };
          await changed();
          const told = shown.root.textContent.includes('could not be loaded: the server answered 404');
          props.value = { payload: '/other.bin' };
          changed();
          await points(3200);
          shown.probe(200, 190);
          document.body.classList.add('dark');
          await new Promise((done) => setTimeout(done, 50));
          return { kept, told, events: triggered.map(([name]) => name), theme: shown.state.theme };
        }"""
    )
    assert seen == {"kept": [36864, "error", True], "told": True, "events": ["pick"], "theme": "dark"}


def test_the_app_s_viewer_remembers_its_look_and_viewpoints_and_survives_a_spoiled_memory(page: Any) -> None:
    script = """async () => {
      const { attachGradio } = await import('/viewer.js');
      viewer.dispose();
      const element = document.body.insertBefore(document.createElement('div'), document.body.firstChild);
      element.innerHTML = '<div class="quantlab-viewer" style="height: 300px"></div>';
      const shown = attachGradio(element, { props: { value: { payload: '/grid.bin' } }, watch() {}, trigger() {} });
      while (!shown.stats().points[0]) await new Promise((done) => setTimeout(done, 20));
      const found = [shown.state.background, shown.state.pictures, shown.state.viewpoints.length];
      shown.actions.nextBackground();
      shown.actions.pictures();
      shown.actions.saveViewpoint();
      return found;
    }"""
    assert page.evaluate(script) == ["theme", None, 0]
    page.reload()
    page.wait_for_function("() => Boolean(window.load)")
    assert page.evaluate(script) == ["light", True, 1]
    for spoiled in ("not json", '"text"', '{"background": 7, "viewpoints": {"a": 1}, "pointSize": "x"}'):
        page.evaluate("text => localStorage.setItem('quantlab-viewer', text)", spoiled)
        page.reload()
        page.wait_for_function("() => Boolean(window.load)")
        assert page.evaluate(script) == ["theme", None, 0]
