// Moves and zooms the map. The drawn picture follows the pointer at once and is drawn anew when the movement ends:
// drawing 100,000 points takes longer than a frame where there is no GPU.
"use strict";
const uslMove = (place) => {
  const REST = 180; // ms without movement until the map is drawn anew
  const CLICK = 4; // px up to which a press is a click
  const KEYS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  let held = null;
  let far = false;
  let x = 0;
  let y = 0;
  let scale = 1;
  let timer = 0;

  const picture = () => place.querySelector(".svg-container");
  const moved = () => x !== 0 || y !== 0 || scale !== 1;

  function follow() {
    picture().style.transform = moved() ? `translate(${x}px, ${y}px) scale(${scale})` : "";
    clearTimeout(timer);
    timer = setTimeout(settle, held ? 2 * REST : REST);
  }

  async function settle() {
    clearTimeout(timer);
    if (!moved()) return;
    const { xaxis, yaxis } = place._fullLayout;
    const [left, right] = xaxis.range;
    const [bottom, top] = yaxis.range;
    const across = (px) => left + ((right - left) * (px - x)) / scale / xaxis._length;
    const down = (px) => top - ((top - bottom) * (px - y)) / scale / yaxis._length;
    const ranges = { "xaxis.range": [across(0), across(xaxis._length)], "yaxis.range": [down(yaxis._length), down(0)] };
    x = y = 0;
    scale = 1;
    await Plotly.relayout(place, ranges);
    picture().style.transform = moved() ? `translate(${x}px, ${y}px) scale(${scale})` : "";
    place.classList.add("zoomed"); // a finger now moves the map instead of the page
  }

  function zoom(factor, cx = place.clientWidth / 2, cy = place.clientHeight / 2) {
    x = cx - factor * (cx - x);
    y = cy - factor * (cy - y);
    scale *= factor;
    follow();
  }

  function whole(from) {
    clearTimeout(timer);
    x = y = 0;
    scale = 1;
    picture().style.transform = "";
    place.classList.remove("zoomed");
    return Plotly.relayout(place, from);
  }

  place.addEventListener("pointerdown", (event) => {
    far = false;
    if (place._fullLayout.dragmode || event.button !== 0) return;
    if (event.pointerType === "touch" && !place.classList.contains("zoomed")) return;
    held = { x: event.clientX, y: event.clientY };
  });
  // on the window: Plotly covers the page while a button is down
  window.addEventListener("pointermove", (event) => {
    if (!held) return;
    const by = [event.clientX - held.x, event.clientY - held.y];
    if (!far && Math.hypot(...by) < CLICK) return;
    far = true;
    held = { x: event.clientX, y: event.clientY };
    x += by[0];
    y += by[1];
    follow();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, () => {
      if (held && far) settle();
      held = null;
    });
  }
  place.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = place.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.x, event.clientY - box.y);
  }, { passive: false });
  place.addEventListener("keydown", (event) => {
    if (event.target !== place || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in KEYS) {
      x += 80 * KEYS[event.key][0];
      y += 80 * KEYS[event.key][1];
      follow();
    } else if (event.key === "+" || event.key === "-") {
      zoom(event.key === "+" ? 1.5 : 1 / 1.5);
    } else return;
    event.preventDefault();
  });
  return { zoom, whole, busy: () => held !== null || moved(), dragged: () => far };
};
