// Draws the map of a run with Plotly, shows the task under the pointer, and opens tasks in Label Studio.
// Task texts are inserted as text nodes only, never as HTML.
"use strict";
(() => {
  const place = document.getElementById("map");
  const note = document.getElementById("map-note");
  const legend = document.getElementById("legend");
  const seen = document.getElementById("seen");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(hover: none)");
  const NUMBERED = 200;
  const WITHOUT_WEBGL = 4000;
  // Fetch the points while Plotly, the larger part, is still loading.
  const ready = new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
  const MEMBERS = 4;
  let map = null;
  let cards = null;
  let kinds = {};
  let states = null;
  let current = -1;
  let asked = 0;

  function decode(text, Type) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
    return new Type(bytes.buffer);
  }

  function unpack(packed) {
    const types = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float64: Float64Array };
    const arrays = {};
    for (const [name, part] of Object.entries(packed.arrays)) arrays[name] = decode(part.data, types[part.type]);
    return { ...packed, ...arrays, ends: [ends(arrays.x), ends(arrays.y)] };
  }

  function ends(values) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return [low, high];
  }

  function hasWebGL() {
    try {
      return document.createElement("canvas").getContext("webgl") !== null;
    } catch {
      return false;
    }
  }

  function narrow() {
    return place.clientWidth < 500;
  }

  const colors = uslColors(legend, paint);
  const move = uslMove(place);

  function marker() {
    const size = map.x.length > 20000 ? 3 : map.x.length > 3000 || narrow() ? 6 : 8;
    return colors.marker(kinds[chosenColor()], map.shown, size, dark.matches);
  }

  // Axes stay as they are: a change of color moves nothing.
  function paint() {
    Plotly.restyle(place, { marker: [marker()] }, [0]);
  }

  function enlist() {
    const kind = kinds[chosenColor()];
    colors.list(kind, map.shown.length);
    document.getElementById("legend-title").textContent = document.querySelector("input[name=color]:checked").dataset.title;
  }

  function cluster(code) {
    const { name } = map.clusters[code];
    return `pick ${code + 1}` + (name ? `: ${name}` : "");
  }

  function setKinds() {
    const picture = map.modality === "image" ? (code) => pictureOf(map.ids[map.picks[code]]) : null;
    kinds.density = { scale: "less typical, more typical", codes: map.density };
    kinds.cluster = { names: map.clusters.map((_, code) => cluster(code)), codes: map.cluster, all: true, fixed: true, picture };
    for (const [name, kind] of Object.entries(states ? states.kinds : {})) {
      const types = { int8: Int8Array, int16: Int16Array, int32: Int32Array };
      kinds[name] = { ...kind, codes: decode(kind.codes.data, types[kind.codes.type]) };
    }
    for (const input of document.querySelectorAll("input[name=color]")) {
      input.disabled = !(input.value in kinds);
      if (input.disabled && input.checked) document.querySelector("input[name=color]").checked = true;
    }
    document.getElementById("states-note").textContent = states ? states.note : "";
  }

  function chosenColor() {
    return document.querySelector("input[name=color]:checked").value;
  }

  function look() {
    const ink = dark.matches ? "#e8e8e8" : "#1a1a1a";
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif" },
      margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, hovermode: "closest", newselection: { line: { color: ink } },
    };
  }

  // Ranges of both axes that show every point, with room for the markers.
  function wholeView() {
    const width = place.clientWidth;
    const height = place.clientHeight;
    const [across, up] = map.ends;
    const unit = Math.max((across[1] - across[0]) / (width - 50), (up[1] - up[0]) / (height - 50), 1);
    const around = ([low, high], pixels) => [(low + high - unit * pixels) / 2, (low + high + unit * pixels) / 2];
    return { "xaxis.range": around(across, width), "yaxis.range": around(up, height) };
  }

  function pickMarks() {
    const ink = dark.matches ? "#ffffff" : "#111111";
    const paper = dark.matches ? "#111111" : "#ffffff";
    const many = map.picks.length > 60 || narrow();
    return { marker: { size: many ? 13 : 16, color: ink, line: { width: 1.5, color: paper } }, textfont: { size: many ? 8 : 10, color: paper }, selected: { textfont: { color: paper } }, unselected: { marker: { opacity: 0.5 }, textfont: { color: paper } } };
  }

  async function draw() {
    const webgl = hasWebGL();
    const type = webgl ? "scattergl" : "scatter";
    const n = map.x.length;
    const every = webgl ? 1 : Math.ceil(n / WITHOUT_WEBGL);
    map.shown = Array.from({ length: Math.ceil(n / every) }, (_, i) => i * every);
    const at = (rows, axis) => rows.map((i) => map[axis][i]);
    const picks = Array.from(map.picks);
    const cloud = { type, mode: "markers", x: at(map.shown, "x"), y: at(map.shown, "y"), customdata: map.shown, marker: marker(), hoverinfo: "none" };
    const marks = {
      type, mode: "markers+text", x: at(picks, "x"), y: at(picks, "y"), customdata: picks,
      text: picks.map((_, rank) => (rank < NUMBERED ? String(rank + 1) : "")), hoverinfo: "none", ...pickMarks(),
    };
    const ring = { type: "scatter", mode: "markers", x: [], y: [], hoverinfo: "skip", marker: { size: 28, symbol: "circle-open", line: { width: 3 }, color: "#d55e00" } };
    const axis = { visible: false, zeroline: false };
    const whole = wholeView();
    const layout = { ...look(), dragmode: false, xaxis: { ...axis, range: whole["xaxis.range"] }, yaxis: { ...axis, scaleanchor: "x", range: whole["yaxis.range"] } };
    // without Plotly's own buttons: they cannot be reached by keyboard
    await Plotly.newPlot(place, [cloud, marks, ring], layout, { responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: false });
    place.on("plotly_hover", (event) => {
      if (!move.busy()) show(event.points[0].customdata);
    });
    place.on("plotly_selected", (event) => tellOfLasso(event ? event.points.map((point) => point.customdata) : []));
    place.on("plotly_deselect", () => tellOfLasso([]));
    place.on("plotly_click", (event) => {
      if (move.dragged()) return;
      const row = event.points[0].customdata;
      show(row);
      const address = taskAddress(row);
      // touch screens cannot hover without clicking: use the link next to the map instead
      if (address && !touch.matches) window.open(address, "_blank", "noopener,noreferrer");
    });
    note.textContent = every === 1 ? "" : `This browser has no WebGL: every ${every}th task and all picks are shown.`;
    place.dataset.state = "drawn";
  }

  // Other scripts of the page act on what a lasso or box holds.
  function tellOfLasso(rows) {
    const known = rows.filter((row) => row !== undefined); // the ring around the task shown has no row
    const tasks = [...new Set(known)].map((row) => map.ids[row]);
    document.querySelector("[data-tool=clear]").hidden = tasks.length === 0;
    document.dispatchEvent(new CustomEvent("usl:lasso", { detail: { tasks } }));
  }

  function taskAddress(row) {
    return map.task_url ? map.task_url.replace("{task}", String(map.ids[row])) : null;
  }

  async function cardOf(task) {
    if (cards) return cards[task] || {};
    const answer = await fetch(place.dataset.instance.replace("{task}", String(task)), { credentials: "same-origin" });
    return answer.ok ? answer.json() : {};
  }

  function named(task) {
    return `${place.dataset.noun} ${task}`;
  }

  function pictureOf(task) {
    return cards ? (cards[task] || {}).image : place.dataset.thumbnail.replace("{task}", String(task));
  }

  function element(name, text) {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    return made;
  }

  // What a pick stands for: how many tasks, what they have in common, and a few of them.
  function represented(rank) {
    const { size, name, members } = map.clusters[rank];
    const parts = [element("p", `Stands for ${size.toLocaleString("en")} task${size === 1 ? "" : "s"}${name ? `: ${name}` : ""}.`)];
    const few = map.modality === "image" ? members.filter((task) => pictureOf(task)).slice(0, MEMBERS) : [];
    if (few.length) {
      const row = element("p");
      row.className = "members";
      row.append(...few.map((task) => Object.assign(element("img"), { src: pictureOf(task), alt: `${named(task)}, of the same cluster` })));
      parts.push(row);
    }
    return parts;
  }

  function facts(row) {
    const known = [`more typical than ${map.density[row]} % of the pool`];
    if (map.picks.indexOf(row) < 0) known.unshift(`represented by ${cluster(map.cluster[row])}`);
    for (const name of ["label", "annotator", "status"]) {
      const kind = kinds[name];
      if (kind && kind.codes[row] >= 0 && kind.names[kind.codes[row]]) known.push(`${name}: ${kind.names[kind.codes[row]]}`);
    }
    const made = element("p", known.join("; "));
    made.className = "quiet";
    return made;
  }

  async function show(row) {
    if (row === current) return seen.closest("aside").classList.add("shown"); // where it was hidden meanwhile
    current = row;
    const number = (asked += 1);
    const task = map.ids[row];
    const rank = map.picks.indexOf(row);
    const parts = [];
    const head = element("p");
    const address = taskAddress(row);
    Plotly.restyle(place, { x: [[map.x[row]]], y: [[map.y[row]]] }, [2]);
    const card = await cardOf(task).catch(() => ({}));
    if (number !== asked) return;
    const link = element(address ? "a" : "b", card.name || named(task));
    if (address) Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer" });
    head.append(rank >= 0 ? `Pick ${rank + 1}, ` : "", link);
    if (card.image) {
      const picture = element("img");
      Object.assign(picture, { src: card.image, alt: card.alt || named(task) });
      parts.push(picture);
    } else if (card.text) {
      parts.push(Object.assign(element("blockquote", card.text), { dir: "auto" }));
    }
    seen.dataset.task = String(task);
    seen.replaceChildren(...parts, head, ...(rank >= 0 ? represented(rank) : []), facts(row));
    seen.closest("aside").classList.add("shown");
  }

  function step(by) {
    const rank = map.picks.indexOf(current);
    const count = map.picks.length;
    show(map.picks[rank < 0 ? (by > 0 ? 0 : count - 1) : (rank + by + count) % count]);
  }

  // Tools: move, lasso, box, clear the selection, zoom, whole map.
  function use(tool) {
    if (tool === "in" || tool === "out") return move.zoom(tool === "in" ? 1.5 : 1 / 1.5);
    if (tool === "whole") return move.whole(wholeView());
    if (tool === "clear") {
      tellOfLasso([]);
      return Plotly.update(place, { selectedpoints: [null] }, { selections: [] }, [0, 1]);
    }
    for (const one of document.querySelectorAll("[data-tool][aria-pressed]")) one.setAttribute("aria-pressed", String(one.dataset.tool === tool));
    return Plotly.relayout(place, { dragmode: tool === "move" ? false : tool });
  }

  async function fetched(address) {
    const answer = await fetch(address, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
  }

  async function begin() {
    const inside = document.getElementById("map-data");
    if (inside) {
      map = unpack(JSON.parse(inside.textContent));
      cards = JSON.parse(document.getElementById("map-cards").textContent);
      states = JSON.parse(document.getElementById("map-states").textContent);
    } else {
      map = unpack(await fetched(place.dataset.map));
    }
    setKinds();
    await ready;
    await draw();
    enlist();
    if (narrow()) legend.closest("details").open = false;
    document.getElementById("before").addEventListener("click", () => step(-1));
    document.getElementById("after").addEventListener("click", () => step(1));
    document.getElementById("unshow").addEventListener("click", () => seen.closest("aside").classList.remove("shown"));
    for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => use(button.dataset.tool));
    for (const input of document.querySelectorAll("input[name=color]")) {
      input.addEventListener("change", () => {
        enlist();
        paint();
      });
    }
    dark.addEventListener("change", () => {
      Plotly.relayout(place, look());
      const { marker: mark, textfont } = pickMarks();
      Plotly.restyle(place, { marker: [mark], textfont: [textfont] }, [1]);
      paint();
    });
    let fitting = 0;
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (place.clientWidth === width) return;
      width = place.clientWidth;
      clearTimeout(fitting);
      if (!place.classList.contains("zoomed")) fitting = setTimeout(() => move.whole(wholeView()), 200);
    }).observe(place);
    if (inside) return;
    try {
      states = await fetched(place.dataset.states);
      setKinds();
    } catch (error) {
      document.getElementById("states-note").textContent = `Labels cannot be shown: ${error.message}.`;
    }
  }

  begin().catch((error) => {
    note.textContent = `The map cannot be drawn: ${error.message}. The gallery and the table of picks show the same tasks.`;
    place.dataset.state = "failed";
  });
})();
