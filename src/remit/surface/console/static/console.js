// The console's own script: live decisions by server-sent events. Everything else is plain HTML and htmx.
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
  source.addEventListener("decision", (event) => {
    const row = document.createElement("template");
    row.innerHTML = event.data; // rendered and escaped by the server
    const element = row.content.firstElementChild;
    if (!element || (onlyDenied() && element.dataset.allowed === "1")) return;
    document.querySelector("[data-live-empty]")?.remove();
    element.classList.add("new");
    body.prepend(element);
    setTimeout(() => element.classList.remove("new"), 1500);
    while (body.children.length > keep) body.lastElementChild.remove();
  });
})();
