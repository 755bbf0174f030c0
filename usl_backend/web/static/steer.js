// Lets people pin and exclude tasks, queue those most like one, and queue what a lasso on the map holds.
// It acts on every element with `data-task`, and on the event `usl:lasso`; each action can be undone.
"use strict";
(() => {
  const place = document.getElementById("steer");
  if (!place) return;
  const api = place.dataset.api;
  const status = document.getElementById("steer-status");
  const choice = document.getElementById("steer-choice");
  const undo = document.getElementById("steer-undo");
  const WISHES = {
    pins: { text: "pin", name: (task) => `Pin task ${task}`, on: (task) => `Task ${task} is pinned: every new run picks it.`, off: (task) => `Task ${task} is no longer pinned.` },
    exclusions: { text: "exclude", name: (task) => `Exclude task ${task}`, on: (task) => `Task ${task} is excluded: no new run queues it. The queue in force stays as it is.`, off: (task) => `Task ${task} is no longer excluded.` },
  };
  const LIKE = 20;
  const held = { pins: new Set(), exclusions: new Set(), queue: new Set() };
  let working = false;
  let back = null;

  async function ask(method, path, body) {
    const answer = await fetch(`${api}/${path}`, {
      method,
      credentials: "same-origin",
      headers: body ? { "Content-Type": "application/json" } : {},
      body: body ? JSON.stringify(body) : undefined,
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(told.error ? told.error.message : `the server answered ${answer.status}`);
    return told;
  }

  // One request at a time: what is shown afterwards is what the server holds.
  async function act(work, waiting) {
    if (working) return;
    working = true;
    tell(waiting, null);
    try {
      await work();
    } catch (error) {
      tell(error.message, null);
    } finally {
      working = false;
      show();
    }
  }

  function tell(words, taking) {
    status.textContent = words;
    back = taking;
    undo.hidden = !taking;
  }

  async function wish(kind, task, add) {
    const told = await ask(add ? "POST" : "DELETE", kind, { tasks: [task] });
    held[kind] = new Set(told.tasks);
    const other = kind === "pins" ? "exclusions" : "pins";
    const was = add && held[other].delete(task);
    tell(WISHES[kind][add ? "on" : "off"](task), () => (was ? wish(other, task, true) : wish(kind, task, !add)));
  }

  async function queue(path, body, words) {
    const told = await ask("POST", path, body);
    for (const task of told.new) held.queue.add(task);
    const passed = Object.values(told.passed_over);
    const parts = [`${words(told.new.length)}, behind the picks`];
    const before = told.tasks.length - told.new.length;
    if (before) parts.push(`${before} were queued before`);
    if (passed.length) parts.push(`${passed.length} are passed over (${[...new Set(passed)].join(", ")})`);
    tell(`${parts.join("; ")}.`, told.new.length ? () => unqueue(told.new) : null);
  }

  async function unqueue(tasks) {
    const told = await ask("DELETE", "queue", { tasks });
    for (const task of told.removed) held.queue.delete(task);
    tell(`${count(told.removed.length)} taken out of the queue.`, null);
  }

  function count(number) {
    return number === 1 ? "1 task is" : `${number} tasks are`;
  }

  function button(text, label, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.dataset.act = act;
    return made;
  }

  // The bar of a card lies in it, that of the map's panel behind it: the panel's content is replaced.
  function bars() {
    for (const element of document.querySelectorAll("[data-task]")) bar(element);
  }

  function bar(element) {
    const task = Number(element.dataset.task);
    if (!Number.isSafeInteger(task)) return;
    const inside = element.tagName === "FIGURE";
    let made = inside ? element.querySelector(".steer") : element.nextElementSibling;
    if (!made || !made.classList.contains("steer")) {
      made = document.createElement("div");
      made.className = "steer";
      made.append(...Object.keys(WISHES).map((kind) => button(WISHES[kind].text, "", kind)), button("more like this", "", "like"));
      const mark = document.createElement("span");
      mark.className = "quiet";
      made.append(mark);
      if (inside) element.append(made);
      else element.after(made);
    }
    made.dataset.of = String(task);
    for (const kind of Object.keys(WISHES)) {
      const one = made.querySelector(`[data-act=${kind}]`);
      one.setAttribute("aria-label", WISHES[kind].name(task));
      one.setAttribute("aria-pressed", String(held[kind].has(task)));
    }
    made.querySelector("[data-act=like]").setAttribute("aria-label", `Queue more like task ${task}`);
    made.lastChild.textContent = held.queue.has(task) ? "queued" : "";
  }

  function show() {
    bars();
  }

  document.addEventListener("click", (event) => {
    const pressed = event.target.closest("button[data-act]");
    if (!pressed) return;
    const kind = pressed.dataset.act;
    if (kind === "lasso") {
      const tasks = JSON.parse(choice.dataset.tasks);
      act(() => queue("queue", { tasks }, (number) => `${count(number)} queued`), "Queueing …");
      return;
    }
    const task = Number(pressed.closest(".steer").dataset.of);
    if (kind === "like") {
      act(() => queue("similar", { task, tasks: LIKE }, (number) => `${count(number)} queued that are like task ${task}`), `Looking for tasks like task ${task} …`);
    } else {
      act(() => wish(kind, task, !held[kind].has(task)), "Storing …");
    }
  });

  undo.addEventListener("click", () => {
    if (back) act(back, "Undoing …");
    status.focus();
  });

  document.addEventListener("usl:lasso", (event) => {
    const tasks = Array.from(event.detail.tasks);
    choice.dataset.tasks = JSON.stringify(tasks);
    choice.replaceChildren();
    if (tasks.length) choice.append(button(tasks.length === 1 ? "queue this task" : `queue these ${tasks.length} tasks`, "", "lasso"));
  });

  async function begin() {
    const panel = document.getElementById("seen");
    if (panel) new MutationObserver(() => bars()).observe(panel, { attributes: true, attributeFilter: ["data-task"] });
    bars();
    await Promise.all(
      Object.keys(held).map(async (kind) => {
        // without a queue in force nothing was asked for
        const told = await ask("GET", kind).catch((error) => (kind === "queue" ? { tasks: [] } : Promise.reject(error)));
        held[kind] = new Set(told.tasks);
      }),
    );
    show();
  }

  begin().catch((error) => tell(`What is pinned and excluded cannot be read: ${error.message}`, null));
})();
