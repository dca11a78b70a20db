// The console's own script: live rows by server-sent events. Everything else is plain HTML and htmx.
"use strict";
(function () {
  const body = document.querySelector("[data-live]");
  if (!body) return;
  const dot = document.querySelector(".live-dot");
  const state = document.querySelector("[data-live-state]");
  const keep = Number(body.dataset.keep || 200);
  const onlyDenied = () => document.querySelector("[name=denied]")?.checked;
  const source = new EventSource(body.dataset.live);
  source.onopen = () => { dot?.classList.add("on"); if (state) state.textContent = "live"; };
  source.onerror = () => { dot?.classList.remove("on"); if (state) state.textContent = "reconnecting"; };
  source.addEventListener("row", (event) => {
    const row = document.createElement("template");
    row.innerHTML = event.data; // rendered and escaped by the server
    const element = row.content.firstElementChild;
    if (!element || (onlyDenied() && element.dataset.allowed === "1")) return;
    const before = element.id && document.getElementById(element.id);
    if (before) { // a row that is known reads anew in its place; whoever is on a link of it stays there
      const link = before.contains(document.activeElement) && document.activeElement.getAttribute("href");
      before.replaceWith(element);
      if (link) [...element.querySelectorAll("a")].find((each) => each.getAttribute("href") === link)?.focus();
      return;
    }
    const home = document.getElementById(element.dataset.into) || body;
    home.querySelector("[data-live-empty]")?.remove();
    element.classList.add("new");
    home.prepend(element);
    setTimeout(() => element.classList.remove("new"), 1500);
    while (home.children.length > Number(home.dataset.keep || keep)) home.lastElementChild.remove();
  });
})();
