// What a page does beyond plain HTML: it fills in a one-time link, and draws its parts anew when the case moves.
// Nothing here is needed to read a page or to send a form.
"use strict";

const PAUSE_MS = 3000;
const BREATH_MS = 300;
const HIDDEN_MS = 15000;

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

function fillLogin() {
  const form = document.querySelector("form[data-login]");
  const code = location.hash.slice(1);
  if (!form || !code) return;
  form.elements.secret.value = code;
  // The code leaves the address at once: it would stay in the history, and on the screen.
  history.replaceState(null, "", location.pathname + location.search);
  form.querySelector("button").focus();
}

// A part that somebody types in is left alone: what they wrote is theirs until they send it.
function isTypedIn(part) {
  if (part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) return true;
  return [...part.querySelectorAll("input:not([type=hidden]), textarea")].some((field) =>
    field.type === "radio" ? field.checked !== field.defaultChecked : field.type === "file" ? field.value : field.value !== field.defaultValue,
  );
}

const POPOVERS = CSS.supports("selector(:popover-open)");

function isInUse(part) {
  const focused = part.contains(document.activeElement) && !document.activeElement.id;
  return focused || isTypedIn(part) || (POPOVERS && part.querySelector(":popover-open") !== null);
}

// What a part says, without what is another one each time it is drawn.
function markOf(part) {
  const copy = part.cloneNode(true);
  for (const field of copy.querySelectorAll("input[type=hidden]")) field.remove();
  return copy.innerHTML;
}

const marks = new Map();

function redraw(part, fresh) {
  const opened = [...part.querySelectorAll("details[open][id]")].map((each) => each.id);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.replaceChildren(...fresh.childNodes);
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus();
}

function grow(list, fresh) {
  const known = new Set([...list.children].map((each) => each.id));
  for (const item of [...fresh.children]) {
    if (known.has(item.id)) continue;
    item.classList.add("fresh");
    list.append(item);
  }
}

function take(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh) continue;
    if (part.dataset.part === "grow") {
      grow(part, fresh);
      continue;
    }
    const mark = markOf(fresh);
    if (marks.get(part.id) === mark || isInUse(part)) continue;
    marks.set(part.id, mark);
    redraw(part, fresh);
  }
  return page.querySelector("[data-live]")?.dataset.live;
}

// The service answers when the case has moved, or after a while with nothing.
async function look(version) {
  const address = new URL(location.href);
  address.hash = "";
  address.searchParams.set("moved", version);
  const answer = await fetch(address, { redirect: "error" });
  return answer.status === 200 ? take(await answer.text()) : undefined;
}

async function follow(live) {
  for (const part of document.querySelectorAll("[data-part=draw]")) marks.set(part.id, markOf(part));
  let version = live.dataset.live;
  for (;;) {
    const begun = performance.now();
    const before = version;
    try {
      version = (await look(version)) ?? version;
    } catch {
      await wait(PAUSE_MS); // the service or the network is away: what is shown stays
    }
    // An answer that neither waited nor brought anything (a list, a busy service) is not asked for again at once.
    const idle = version === before && performance.now() - begun < PAUSE_MS;
    await wait(document.hidden ? HIDDEN_MS : idle ? PAUSE_MS : BREATH_MS);
  }
}

fillLogin();
const live = document.querySelector("[data-live]");
if (live) follow(live);
