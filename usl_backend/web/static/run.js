// Shows one run's progress: polls every two seconds and reloads the page when the state changes.
"use strict";
const live = document.getElementById("live");
const bar = document.getElementById("bar");
const words = document.getElementById("words");
const stages = [...live.querySelectorAll("[data-stage]")];
const WINDOW = 20; // seconds over which the rate is averaged
let past = [];
let doing = "";

function pace(run) {
  const now = performance.now() / 1000;
  if (doing !== `${run.stage} ${run.step}`) past = [];
  doing = `${run.stage} ${run.step}`;
  past = [...past.filter((at) => at.time > now - WINDOW && at.done <= run.done), { time: now, done: run.done }];
  const rate = (run.done - past[0].done) / (now - past[0].time);
  if (!(rate > 0)) return "";
  const left = (run.total - run.done) / rate;
  const time = left < 90 ? `${Math.ceil(left)} s` : left < 5400 ? `${Math.round(left / 60)} min` : `${(left / 3600).toFixed(1)} h`;
  return `, ${rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString()} per second, about ${time} left`;
}

function show(run) {
  const at = stages.findIndex((item) => item.dataset.stage === run.stage);
  stages.forEach((item, i) => {
    item.classList.toggle("now", i === at);
    item.classList.toggle("past", i < at);
  });
  if (run.total > 0) {
    bar.max = run.total;
    bar.value = run.done;
  } else {
    bar.removeAttribute("value");
  }
  if (run.state === "running") {
    const count = run.total > 0 ? `: ${run.done.toLocaleString()} of ${run.total.toLocaleString()}${pace(run)}` : "";
    words.textContent = (run.step || run.stage || "starting") + count;
  }
}

async function poll() {
  try {
    const answer = await fetch(live.dataset.url, { credentials: "same-origin" });
    if (answer.ok) {
      const run = await answer.json();
      if (run.state !== live.dataset.state) {
        location.reload();
        return;
      }
      show(run);
    }
  } catch {
    words.textContent = "the server does not answer; trying again";
  }
  setTimeout(poll, 2000);
}

poll();
