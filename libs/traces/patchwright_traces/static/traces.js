// Keeps an open page up to date, says how long ago things were, and lets the arrow
// keys walk through a waterfall. Without it every page still works.
"use strict";

const FAST = 1000;
const SLOW = 5000;
const live = document.getElementById("live");
let tag = live.dataset.tag;
let delay = FAST;

function ago(then) {
  const seconds = Math.max(0, Math.floor((Date.now() - then) / 1000));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return seconds < 2 ? "just now" : `${seconds} s ago`;
}

function tellTimes() {
  for (const time of live.querySelectorAll("time")) time.textContent = ago(Date.parse(time.dateTime));
}

function replace(html) {
  const next = new DOMParser().parseFromString(html, "text/html");
  const open = [...live.querySelectorAll("details[open][id]")].map((each) => each.id);
  const arrived = location.hash && !document.getElementById(location.hash.slice(1));
  const focused = document.activeElement?.closest("details[id]")?.id;
  for (const id of open) next.getElementById(id)?.setAttribute("open", "");
  live.replaceChildren(...next.getElementById("live").childNodes);
  document.title = next.title;
  if (focused) document.getElementById(focused)?.querySelector("summary").focus({ preventScroll: true });
  if (arrived) openTarget();
}

async function look() {
  const reading = !document.getSelection().isCollapsed;
  if (!document.hidden && !reading) {
    try {
      const answer = await fetch(location.href, {
        headers: { "If-None-Match": tag },
        cache: "no-store",
        signal: AbortSignal.timeout(10000),
      });
      if (answer.ok || answer.status === 404) {
        replace(await answer.text());
        tag = answer.headers.get("ETag");
        delay = FAST;
      } else {
        delay = Math.min(delay * 1.3, SLOW);
      }
      document.body.dataset.state = "live";
    } catch {
      document.body.dataset.state = "lost";
      delay = SLOW;
    }
  }
  tellTimes();
  setTimeout(look, delay);
}

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.querySelector("summary").focus({ preventScroll: true });
  }
}

document.addEventListener("keydown", (event) => {
  const row = event.target.closest?.("summary")?.parentElement;
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  if (!row || !step || !(row[step] instanceof HTMLDetailsElement)) return;
  event.preventDefault();
  row[step].querySelector("summary").focus();
});
window.addEventListener("hashchange", openTarget);
openTarget();
setTimeout(look, 0);
