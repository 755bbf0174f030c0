// Draws the map of a run with Plotly, shows the task under the pointer, and opens tasks in Label Studio.
// Task texts are inserted as text nodes only, never as HTML.
"use strict";
(() => {
  const place = document.getElementById("map");
  const note = document.getElementById("map-note");
  const seen = document.getElementById("seen");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(hover: none)");
  // Okabe and Ito's palette, distinguishable with color blindness
  const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8a8a8a"];
  // Cividis, and a blue-to-yellow variant without the dark end for dark mode
  const LIGHT_SCALE = "Cividis";
  const DARK_SCALE = [[0, "#5b82bd"], [0.5, "#a9a78c"], [1, "#fee838"]];
  const NUMBERED = 200;
  const WITHOUT_WEBGL = 4000;
  // Fetch the points while Plotly, the larger part, is still loading.
  const ready = new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve, { once: true }));
  let map = null;
  let cards = null;
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
    return { ...packed, ...arrays };
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

  function marker(color) {
    const size = map.x.length > 20000 ? 3 : map.x.length > 3000 || narrow() ? 5 : 7;
    if (color === "cluster") {
      const steps = PALETTE.flatMap((hex, i) => [[i / 8, hex], [(i + 1) / 8, hex]]);
      return { size, opacity: 0.7, color: map.shown.map((i) => map.cluster[i] % 8), cmin: -0.5, cmax: 7.5, colorscale: steps, showscale: false };
    }
    return {
      size, opacity: 0.7, color: map.shown.map((i) => map.density[i]), cmin: 0, cmax: 100,
      colorscale: dark.matches ? DARK_SCALE : LIGHT_SCALE, showscale: !narrow(), colorbar: { title: { text: "typical" }, thickness: 10, len: 0.5, outlinewidth: 0, ticksuffix: " %" },
    };
  }

  function chosenColor() {
    return document.querySelector("input[name=color]:checked").value;
  }

  function look() {
    const ink = dark.matches ? "#e8e8e8" : "#1a1a1a";
    const axis = { visible: false, zeroline: false };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif" },
      margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, hovermode: "closest", dragmode: touch.matches ? false : "pan",
      xaxis: axis, yaxis: { ...axis, scaleanchor: "x" },
    };
  }

  function pickMarks() {
    const ink = dark.matches ? "#ffffff" : "#111111";
    const paper = dark.matches ? "#111111" : "#ffffff";
    const many = map.picks.length > 60 || narrow();
    return { marker: { size: many ? 13 : 16, color: ink, line: { width: 1.5, color: paper } }, textfont: { size: many ? 8 : 10, color: paper } };
  }

  async function draw() {
    const webgl = hasWebGL();
    const type = webgl ? "scattergl" : "scatter";
    const n = map.x.length;
    const every = webgl ? 1 : Math.ceil(n / WITHOUT_WEBGL);
    map.shown = Array.from({ length: Math.ceil(n / every) }, (_, i) => i * every);
    const at = (rows, axis) => rows.map((i) => map[axis][i]);
    const picks = Array.from(map.picks);
    const cloud = { type, mode: "markers", x: at(map.shown, "x"), y: at(map.shown, "y"), customdata: map.shown, marker: marker(chosenColor()), hoverinfo: "none" };
    const marks = {
      type, mode: "markers+text", x: at(picks, "x"), y: at(picks, "y"), customdata: picks,
      text: picks.map((_, rank) => (rank < NUMBERED ? String(rank + 1) : "")), hoverinfo: "none", ...pickMarks(),
    };
    const ring = { type: "scatter", mode: "markers", x: [], y: [], hoverinfo: "skip", marker: { size: 28, symbol: "circle-open", line: { width: 3 }, color: "#d55e00" } };
    // an explicit list: Plotly's default includes buttons that send data to other sites
    const buttons = [["zoomIn2d", "zoomOut2d", "pan2d", "lasso2d", "select2d", "resetScale2d"]];
    await Plotly.newPlot(place, [cloud, marks, ring], look(), { responsive: true, displaylogo: false, scrollZoom: !touch.matches, modeBarButtons: buttons });
    place.on("plotly_hover", (event) => show(event.points[0].customdata));
    place.on("plotly_selected", (event) => tellOfLasso(event ? event.points.map((point) => point.customdata) : []));
    place.on("plotly_deselect", () => tellOfLasso([]));
    place.on("plotly_click", (event) => {
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
    const tasks = [...new Set(rows)].map((row) => map.ids[row]);
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

  function element(name, text) {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    return made;
  }

  async function show(row) {
    if (row === current) return;
    current = row;
    const number = (asked += 1);
    const task = map.ids[row];
    const rank = map.picks.indexOf(row);
    const parts = [];
    const head = element("p");
    const address = taskAddress(row);
    const link = element(address ? "a" : "b", `task ${task}`);
    if (address) Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer" });
    head.append(rank >= 0 ? `Pick ${rank + 1}, ` : "", link);
    const stands = rank < 0 && map.cluster[row] >= 0 ? `represented by pick ${map.cluster[row] + 1}; ` : "";
    const facts = element("p", `${stands}more typical than ${map.density[row]} % of the pool`);
    facts.className = "quiet";
    Plotly.restyle(place, { x: [[map.x[row]]], y: [[map.y[row]]] }, [2]);
    const card = await cardOf(task).catch(() => ({}));
    if (number !== asked) return;
    if (card.image) {
      const picture = element("img");
      Object.assign(picture, { src: card.image, alt: card.alt || `task ${task}` });
      parts.push(picture);
    } else if (card.text) {
      parts.push(element("blockquote", card.text));
    }
    seen.dataset.task = String(task);
    seen.replaceChildren(...parts, head, facts);
  }

  function step(by) {
    const rank = map.picks.indexOf(current);
    const count = map.picks.length;
    show(map.picks[rank < 0 ? (by > 0 ? 0 : count - 1) : (rank + by + count) % count]);
  }

  async function begin() {
    const inside = document.getElementById("map-data");
    if (inside) {
      map = unpack(JSON.parse(inside.textContent));
      cards = JSON.parse(document.getElementById("map-cards").textContent);
    } else {
      const answer = await fetch(place.dataset.map, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      map = unpack(await answer.json());
    }
    await ready;
    await draw();
    document.getElementById("before").addEventListener("click", () => step(-1));
    document.getElementById("after").addEventListener("click", () => step(1));
    for (const input of document.querySelectorAll("input[name=color]")) {
      input.addEventListener("change", () => Plotly.restyle(place, { marker: [marker(chosenColor())] }, [0]));
    }
    dark.addEventListener("change", () => {
      Plotly.relayout(place, look());
      const { marker: mark, textfont } = pickMarks();
      Plotly.restyle(place, { marker: [mark], textfont: [textfont] }, [1]);
      Plotly.restyle(place, { marker: [marker(chosenColor())] }, [0]);
    });
  }

  begin().catch((error) => {
    note.textContent = `The map cannot be drawn: ${error.message}. The gallery and the table of picks show the same tasks.`;
    place.dataset.state = "failed";
  });
})();
