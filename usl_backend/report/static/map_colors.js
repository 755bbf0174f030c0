// Colors of the map and their legend. Every class has a color of Okabe and Ito's palette, which color-blind readers can
// tell apart, and a shape of its own; a click on an entry of the legend shows that class alone.
"use strict";
const uslColors = (legend, changed) => {
  const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];
  const SHAPES = ["circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down"];
  const PATHS = {
    circle: "M8 2a6 6 0 1 0 .01 0z", square: "M3 3h10v10H3z", diamond: "M8 1l6 7-6 7-6-7z", "triangle-up": "M8 2l7 12H1z",
    cross: "M6 1h4v5h5v4h-5v5H6v-5H1V6h5z", x: "M4 1l4 4 4-4 3 3-4 4 4 4-3 3-4-4-4 4-3-3 4-4-4-4z", "triangle-down": "M8 14l7-12H1z",
  };
  const MOST = 12; // classes with a color of their own; clusters all have one, since neighbors differ
  const SHAPED = 20000; // points up to which shapes can be seen
  const GREY = "#8c8c8c";
  const FAINT = { light: "#d9d9d6", dark: "#3a3a3a" };
  // Cividis, and a blue-to-yellow variant without the dark end for dark mode
  const SCALES = { light: "Cividis", dark: [[0, "#5b82bd"], [0.5, "#a9a78c"], [1, "#fee838"]] };
  let alone = null;

  const colorOf = (place) => (place < 0 ? GREY : PALETTE[place % PALETTE.length]);
  const shapeOf = (place) => (place < 0 ? "circle" : SHAPES[(place + Math.floor(place / PALETTE.length)) % SHAPES.length]);

  // Classes in the order of the legend: {name, count, place, code}; place -1 is grey.
  function classesOf(kind) {
    const counts = new Map();
    for (const code of kind.codes) counts.set(code, (counts.get(code) || 0) + 1);
    const known = [...counts.keys()].filter((code) => code >= 0);
    if (!kind.fixed) known.sort((a, b) => counts.get(b) - counts.get(a) || a - b);
    else known.sort((a, b) => a - b);
    const own = kind.all ? known : known.slice(0, MOST);
    const found = own.map((code, place) => ({ code, name: kind.names[code], count: counts.get(code), place: kind.fixed ? code : place }));
    const others = known.slice(own.length);
    if (others.length) {
      const count = others.reduce((sum, code) => sum + counts.get(code), 0);
      found.push({ code: -2, name: `${others.length} others`, count, place: -1, holds: new Set(others) });
    }
    if (counts.has(-1)) found.push({ code: -1, name: kind.none, count: counts.get(-1), place: -1 });
    return found;
  }

  // The marker of Plotly's trace: one color and one shape for each point shown.
  function marker(kind, shown, size, dark) {
    const scheme = dark ? "dark" : "light";
    if (kind.scale) {
      return { size, opacity: 0.7, symbol: "circle", color: shown.map((i) => kind.codes[i]), cmin: 0, cmax: 100, colorscale: SCALES[scheme], showscale: false };
    }
    const classes = classesOf(kind);
    const place = new Map();
    for (const one of classes) for (const code of one.holds || [one.code]) place.set(code, one);
    const colors = [...PALETTE, GREY, FAINT[scheme]];
    const last = colors.length;
    const number = (one) => (alone !== null && one.code !== alone ? last - 1 : one.place < 0 ? last - 2 : one.place % PALETTE.length);
    const color = shown.map((i) => number(place.get(kind.codes[i])));
    const shaped = shown.length <= SHAPED;
    return {
      size, opacity: 0.75, color, cmin: -0.5, cmax: last - 0.5, showscale: false,
      symbol: shaped ? shown.map((i) => shapeOf(place.get(kind.codes[i]).place)) : "circle",
      colorscale: colors.flatMap((hex, i) => [[i / last, hex], [(i + 1) / last, hex]]),
    };
  }

  function swatch(one, shaped) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", PATHS[shaped ? shapeOf(one.place) : "circle"]);
    path.setAttribute("fill", colorOf(one.place));
    svg.append(path);
    return svg;
  }

  function entry(one, kind, shaped) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(alone === one.code));
    const picture = kind.picture ? kind.picture(one.code) : null;
    button.append(swatch(one, shaped));
    if (picture) {
      const image = document.createElement("img");
      Object.assign(image, { src: picture, alt: "", loading: "lazy" });
      button.append(image);
    }
    const name = document.createElement("span");
    name.textContent = one.name;
    const count = document.createElement("span");
    count.className = "quiet";
    count.textContent = one.count.toLocaleString("en");
    button.append(name, count);
    button.addEventListener("click", () => {
      alone = alone === one.code ? null : one.code;
      for (const other of legend.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button && alone !== null));
      changed();
    });
    item.append(button);
    return item;
  }

  // Fills the legend; called when the kind of color changes.
  function list(kind, points) {
    alone = null;
    if (kind.scale) {
      const bar = document.createElement("p");
      bar.className = "scale";
      bar.textContent = kind.scale;
      legend.replaceChildren(bar);
      return;
    }
    const items = document.createElement("ul");
    items.append(...classesOf(kind).map((one) => entry(one, kind, points <= SHAPED)));
    legend.replaceChildren(items);
  }

  return { marker, list };
};
