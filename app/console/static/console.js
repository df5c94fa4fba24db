// What links and forms cannot do alone: keys, focus after a change, times in the reader's zone.
// A key clicks the button or link that names it, which is what acts; so no key does what is not shown.
"use strict";
(() => {
  const KEYS_OFF = "quickstudy-keys-off", NOTE = "quickstudy-note-";
  const sentences = () => document.getElementById("sentences")?.dataset ?? {};
  const page = () => document.getElementById("page");
  let pending = "";
  // Requests that replace the page, until what they bring is there; and a key meanwhile that leads on.
  const arriving = new Set();
  let later = "";

  function announce(text, isSeen = false) {
    const status = document.getElementById("status");
    status.textContent = text;
    status.classList.toggle("seen", isSeen);
    if (isSeen) setTimeout(() => status.classList.remove("seen"), 4000);
  }

  function keysAreOn() {
    return localStorage.getItem(KEYS_OFF) === null;
  }

  function target(key) {
    return [...document.querySelectorAll("[data-key]")].find((element) => element.dataset.key === key);
  }

  function press(key) {
    const found = target(key);
    if (!found) return false;
    if (found.matches("input, textarea, select")) {
      found.closest("details")?.setAttribute("open", "");
      found.focus();
    } else if (arriving.size && found.matches("a")) {
      later = key;
    } else if (arriving.size) {
      // The page is about to show something else than it was meant for.
      announce(sentences().busy, true);
    } else {
      found.click();
    }
    return true;
  }

  // With Shift, j and k go through what can be chosen, and choose it; space takes it back.
  function choose(event) {
    const all = [...document.querySelectorAll("[data-choice]")];
    const key = event.key.toLowerCase();
    if (!all.length || !event.shiftKey || !["j", "k"].includes(key)) return false;
    const at = all.indexOf(document.activeElement);
    const next = all[key === "j" ? at + 1 : at < 0 ? all.length - 1 : at - 1];
    if (!next) return true;
    next.checked = true;
    next.focus();
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
    const isInField = event.target.closest?.("input:not([data-choice]), textarea, select");
    if (event.key === "Escape") {
      if (isInField && !document.querySelector("dialog[open]")) event.target.blur();
      pending = "";
      return;
    }
    if (isInField || document.querySelector("dialog[open]") || !keysAreOn()) return;
    const key = pending ? `${pending} ${event.key}` : event.key;
    if (!pending && event.key === "g") {
      pending = "g";
      return;
    }
    pending = "";
    if (choose(event) || press(key)) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    pending = "";
    const opens = event.target.closest("[data-opens]");
    if (opens) document.getElementById(opens.dataset.opens).showModal();
    const copies = event.target.closest("[data-copies]");
    if (copies) {
      const text = document.getElementById(copies.dataset.copies).textContent;
      navigator.clipboard.writeText(text).then(() => announce(sentences().copied, true));
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.id !== "keys-on") return;
    if (event.target.checked) localStorage.removeItem(KEYS_OFF);
    else localStorage.setItem(KEYS_OFF, "1");
  });

  // A note outlives a session that ends, or a page that is left, until its verdict is stored.
  document.addEventListener("input", (event) => {
    const id = event.target.dataset?.note;
    if (id) sessionStorage.setItem(NOTE + id, event.target.value);
  });

  function localizeTimes(root) {
    for (const time of root.querySelectorAll("time:not([title])")) {
      const moment = new Date(time.dateTime);
      time.title = time.textContent;
      time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    }
  }

  function keepNotes(root) {
    for (const done of root.querySelectorAll("[data-done]")) sessionStorage.removeItem(NOTE + done.dataset.done);
    for (const field of root.querySelectorAll("[data-note]")) {
      const kept = sessionStorage.getItem(NOTE + field.dataset.note);
      if (kept && !field.value) field.value = kept;
    }
  }

  // Two thresholds that are moved, and what they would do: sums of the histogram in the page.
  function tryThresholds(form) {
    const { bins, edges, ends, days } = Object.fromEntries(Object.entries(form.dataset).map(([name, text]) => [name, JSON.parse(text)]));
    const field = (name) => form.elements[name];
    const slider = (name) => form.querySelector(`[data-moves="${name}"]`);
    const nearest = (value) => edges.reduce((best, edge, n) => Math.abs(edge - value) < Math.abs(edges[best] - value) ? n : best, 0);
    const sums = (from) => bins.filter(([edge]) => edge >= from).reduce((sum, one) => sum.map((value, n) => value + one[n + 1]), [0, 0, 0]);
    const share = (part, whole) => whole ? `${(100 * part / whole).toFixed(1)} %` : sentences().nothing;
    const count = (value) => value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1);
    const all = sums(0);
    const places = { review: -1, decline: -1 };
    function follow() {
      for (const name of Object.keys(places)) {
        places[name] = nearest(Number(field(name).value) / 100);
        slider(name).value = places[name];
        slider(name).setAttribute("aria-valuetext", `${field(name).value} %`);
        const edge = edges[places[name]];
        const at = 100 * (Math.log(edge / (1 - edge)) - ends[0]) / (ends[1] - ends[0]);
        for (const line of form.querySelectorAll(`.histogram .${name}`)) ["x1", "x2"].forEach((end) => line.setAttribute(end, `${Math.min(Math.max(at, 0), 100)}%`));
      }
      const held = sums(edges[places.review]), declined = sums(edges[places.decline]);
      const effects = {
        reviews_per_day: days ? count((held[0] - declined[0]) / days) : sentences().nothing,
        declines_per_day: days ? count(declined[0] / days) : sentences().nothing,
        precision: share(held[1], held[1] + held[2]),
        recall: share(held[1], all[1]),
        legitimate_share: share(held[2], all[2]),
      };
      for (const output of form.querySelectorAll("[data-effect]")) output.value = effects[output.dataset.effect];
      if (field("seen")) field("seen").value = `${field("review").value} ${field("decline").value}`;
    }
    function move(event) {
      const name = event.target.dataset.moves;
      if (name) {
        field(name).value = Number((100 * edges[event.target.value]).toPrecision(2));
        // One does not pass the other: it takes it along.
        const other = name === "review" ? "decline" : "review";
        const isPast = name === "review" ? Number(field(name).value) > Number(field(other).value) : Number(field(name).value) < Number(field(other).value);
        if (isPast) field(other).value = field(name).value;
      }
      if (name || event.target.matches("#review, #decline")) follow();
    }
    for (const name of Object.keys(places)) {
      slider(name).min = nearest(1 / (1 + Math.exp(-ends[0])));
      slider(name).hidden = false;
      slider(name).value = nearest(Number(field(name).value) / 100);
    }
    for (const button of form.querySelectorAll("[data-without-script]")) button.hidden = true;
    form.addEventListener("input", move);
  }

  function arrive(root) {
    const trying = document.getElementById("trying");
    if (trying && !trying.dataset.isTried) {
      tryThresholds(trying);
      trying.dataset.isTried = "true";
    }
    page().dataset.ready = "";
    localizeTimes(root);
    keepNotes(root);
    const notices = [...root.querySelectorAll("[data-announces]")].map((element) => element.textContent.trim().replace(/\s+/g, " "));
    if (notices.length) announce(notices.join(" "));
    // Where the list is beside the panel; where it is below, the panel is what is looked at.
    if (matchMedia("(min-width: 60.01rem)").matches) root.querySelector(".row[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  const isWhole = (event) => event.detail.ctx?.target?.id === "page";

  document.addEventListener("htmx:before:request", (event) => {
    if (!isWhole(event)) return;
    arriving.add(event.detail.ctx);
    page().setAttribute("aria-busy", "true");
  });
  function arrived(event) {
    arriving.delete(event.detail.ctx);
    if (!arriving.size) page().removeAttribute("aria-busy");
  }
  document.addEventListener("htmx:finally:request", arrived);
  document.addEventListener("htmx:after:swap", (event) => {
    arrived(event);
    if (isWhole(event)) {
      if (!document.querySelector(".rows")) scrollTo(0, 0);
      arrive(page());
      const first = document.querySelector("[autofocus]") ?? document.querySelector("#panel-title, main h1[tabindex]") ?? document.getElementById("content");
      first.focus({ preventScroll: true });
      const key = later;
      later = "";
      if (key) press(key);
    } else {
      arrive(document);
    }
  });
  document.addEventListener("htmx:error", () => announce(sentences().offline, true));
  document.addEventListener("DOMContentLoaded", () => {
    arrive(document);
    const box = document.getElementById("keys-on");
    if (box) box.checked = keysAreOn();
  });
})();
