// Live parts are fetched again while somebody looks; htmx does that. This is what it leaves open.
"use strict";

const away = () => document.getElementById("away");

// Nobody looks at a hidden tab: it asks for nothing, and asks at once when it is shown again.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && ["live", "found"].includes(event.detail.elt.id)) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  const live = document.getElementById("live");
  if (document.hidden || !live || !live.hasAttribute("hx-get")) return;
  htmx.ajax("GET", live.getAttribute("hx-get"), { source: live, swap: "morph:innerHTML" });
});

// Says that the server does not answer, for as long as it does not.
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(name, () => { away().hidden = false; });
}
document.addEventListener("htmx:afterOnLoad", () => { away().hidden = true; });

// What the reader opened stays open, and what is selected is not taken away under the hand.
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
  !(name === "open" && node.tagName === "DETAILS");
document.addEventListener("htmx:beforeSwap", (event) => {
  const selection = document.getSelection();
  const live = document.getElementById("live");
  if (event.detail.target === live && selection && !selection.isCollapsed
      && live.contains(selection.anchorNode)) event.detail.shouldSwap = false;
});

// "/" goes to the search field; g then q, b, j or w goes to a page.
let afterG = false;
const places = { q: "/queues", b: "/batches", j: "/jobs", w: "/workers" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    const field = document.querySelector("[data-search]");
    if (field) { event.preventDefault(); field.focus(); field.select(); }
  }
  if (afterG && places[event.key] && document.querySelector("nav a")) {
    window.location.assign(places[event.key]);
  }
  afterG = event.key === "g";
});
