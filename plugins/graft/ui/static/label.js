"use strict";

// Decides on pictures by keyboard: one after the other in a large view, or several that are selected. What is
// decided is sent in the background, in order; a request that got no answer is sent again.
const TRIES = 6;
const AHEAD = 2; // pictures that are loaded before they are looked at
const cards = [...document.querySelectorAll("#cards > [data-picture]")];
const form = document.getElementById("decide");
const large = document.getElementById("large");
const decisions = form && form.getAttribute("action"); // buttons named "action" hide the property of that name
const sent = []; // ids of events, the last one last
let place = -1; // of the card in the large view
let chain = Promise.resolve();
let unsent = 0;

const boxOf = (card) => card.querySelector("input[type=checkbox]");
const selected = () => cards.filter((card) => boxOf(card) && boxOf(card).checked);
const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

function say(text) {
  for (const part of document.querySelectorAll("#decide [data-says], #large [data-says]")) part.textContent = text;
}

function countSelected() {
  const count = selected().length;
  form.querySelector("[data-selected]").textContent = `${count} selected:`;
  for (const button of form.querySelectorAll("button[name=action]")) button.disabled = count === 0;
  form.querySelector("[data-all]").textContent = count === cards.length ? "Select none" : "Select all";
}

async function post(address, fields) {
  const body = new URLSearchParams([["token", form.elements.token.value], ...fields]);
  for (let tries = 1; ; tries += 1) {
    try {
      const answer = await fetch(address, { method: "POST", body, headers: { accept: "application/json" } });
      const isJson = (answer.headers.get("content-type") || "").startsWith("application/json");
      const value = isJson ? await answer.json() : {};
      if (answer.ok && value.texts) return value;
      if (answer.status < 502) throw new Error(value.problem || `The server answers ${answer.status}. Sign in again?`);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // a TypeError is a connection that broke
    }
    if (tries === TRIES) throw new Error("The server does not answer.");
    say(`The server does not answer; trying again (${tries})…`);
    await wait(2 ** tries / 2);
  }
}

function show(texts) {
  for (const card of cards) {
    if (!(card.dataset.picture in texts)) continue;
    const note = card.querySelector("[data-note]"), text = texts[card.dataset.picture];
    note.textContent = text;
    note.hidden = !text;
    card.classList.toggle("gone", Boolean(text));
  }
  if (large.open) showNote();
}

function enqueue(work, undecided) {
  unsent += 1;
  chain = chain.then(work).then(
    () => { unsent -= 1; },
    (error) => {
      unsent -= 1;
      show(Object.fromEntries(undecided.map((card) => [card.dataset.picture, `Not decided: ${error.message}`])));
      for (const card of undecided) card.classList.remove("gone");
      say(error.message);
    },
  );
}

function decide(action, label, chosen) {
  if (!chosen.length) return;
  const ids = chosen.map((card) => ["id", card.dataset.picture]);
  const fields = [["action", action], ["label", label], ["version", form.elements.version.value], ...ids];
  for (const card of chosen) card.classList.add("gone");
  enqueue(async () => {
    const result = await post(decisions, fields);
    sent.push(result.event);
    show(result.texts);
    say(chosen.length === 1 ? result.texts[chosen[0].dataset.picture] : `Decided on ${chosen.length} pictures.`);
  }, chosen);
}

function undo() {
  enqueue(async () => {
    const result = await post(`${decisions}/undo`, [["event", sent.pop() || ""]]);
    show(result.texts);
    const ids = Object.keys(result.texts), index = cards.findIndex((card) => card.dataset.picture === ids[0]);
    if (large.open && index >= 0) look(index);
    const kept = result.kept ? ` ${result.kept} were decided on again since and keep that.` : "";
    say(`Took back ${ids.length} ${ids.length === 1 ? "decision" : "decisions"}.${kept}`);
  }, []);
}

function addressOf(card) {
  return card.querySelector(".look").href;
}

function look(index) {
  place = index;
  const card = cards[place], image = large.querySelector("[data-image]");
  image.src = addressOf(card);
  image.alt = card.querySelector("img").alt;
  large.querySelector("[data-label]").textContent = card.dataset.label;
  large.querySelector("[data-about]").textContent = card.dataset.about;
  large.querySelector("[data-place]").textContent = `${place + 1} of ${cards.length}`;
  const suggestion = large.querySelector("[data-do=suggested]");
  suggestion.hidden = !card.dataset.suggested;
  suggestion.querySelector("[data-suggested]").textContent = card.dataset.suggested || "";
  for (const button of large.querySelectorAll("[data-class]")) {
    button.setAttribute("aria-pressed", String(button.dataset.class === card.dataset.label));
  }
  showNote();
  if (!large.open) large.showModal();
  large.querySelector("[data-stage]").focus();
  for (const next of cards.slice(place + 1, place + 1 + AHEAD)) new Image().src = addressOf(next);
}

function showNote() {
  const here = large.querySelector("[data-note]"), there = cards[place].querySelector("[data-note]");
  here.textContent = there.textContent;
  here.hidden = there.hidden;
}

function move(step) {
  const next = place + step, more = document.querySelector("[data-more]");
  if (cards[next]) look(next);
  else if (step > 0 && more) showMore(more);
  else say(step > 0 ? "That was the last picture." : "That is the first picture.");
}

function showMore(link) {
  const address = new URL(link.href);
  address.hash = "large";
  chain.then(() => {
    if (address.href.split("#")[0] === window.location.href.split("#")[0]) {
      window.history.replaceState(null, "", address);
      window.location.reload();
    } else window.location.assign(address);
  });
}

function act(what) {
  const card = cards[place];
  if (what === "next") move(1);
  else if (what === "previous") move(-1);
  else if (what === "close") large.close();
  else if (what === "undo") undo();
  else if (what === "suggested") judge("relabel", card.dataset.suggested);
  else judge(what, "");
}

// Decides on the picture in the large view and goes on to the next; a click on its own label confirms it.
function judge(action, label) {
  const card = cards[place];
  if (action === "relabel" && !label) return;
  const isRight = action === "relabel" && label === card.dataset.label;
  decide(isRight ? "confirm" : action, isRight ? "" : label, [card]);
  move(1);
}

const NAMED = { ArrowRight: "next", ArrowLeft: "previous", Enter: "confirm", Delete: "delete", Backspace: "delete" };
const isUndo = (event) => event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey;
const isWriting = (target) => target.matches("select, textarea, input:not([type=checkbox])");

function onLargeKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || isWriting(event.target)) return;
  const isPress = event.target.matches("button") && (event.key === "Enter" || event.key === " ");
  const button = large.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  let what = NAMED[event.key];
  if (event.key === " " && cards[place].dataset.suggested) what = "suggested";
  if (isPress || event.repeat && what !== "next" && what !== "previous") return;
  if (button) judge("relabel", button.dataset.class);
  else if (what) act(what);
  else return;
  event.preventDefault();
}

// Keys on the cards themselves: only while the focus is on one of them.
function onCardKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const index = cards.indexOf(event.target.closest("[data-picture]"));
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const button = large.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (step && cards[index + step]) boxOf(cards[index + step]).focus();
  else if (event.key === "Enter" && index >= 0) look(index);
  else if (button && selected().length) decideSelected("relabel", button.dataset.class);
  else if (event.key === "Delete" && selected().length) decideSelected("delete", "");
  else return;
  event.preventDefault();
}

function decideSelected(action, label) {
  const chosen = selected();
  decide(action, label, chosen);
  for (const card of chosen) boxOf(card).checked = false;
  countSelected();
}

let lastClicked = -1;
function onCardClick(event) {
  const card = event.target.closest("[data-picture]"), index = cards.indexOf(card);
  if (event.target.closest(".look") && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    look(index);
  } else if (event.target.matches("input[type=checkbox]")) {
    const [from, to] = [lastClicked, index].sort((one, other) => one - other);
    if (event.shiftKey && from >= 0) for (const each of cards.slice(from, to + 1)) boxOf(each).checked = event.target.checked;
    lastClicked = index;
    countSelected();
  }
}

function onLargeClick(event) {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.class !== undefined) judge("relabel", button.dataset.class);
  else act(button.dataset.do);
  if (event.detail && large.open) large.querySelector("[data-stage]").focus(); // keys go on after a mouse
}

function setUpDecisions() {
  document.getElementById("cards").addEventListener("keydown", onCardKey);
  document.getElementById("cards").addEventListener("click", onCardClick);
  large.addEventListener("keydown", onLargeKey);
  large.addEventListener("click", onLargeClick);
  large.addEventListener("close", () => cards[place].querySelector(".look").focus());
  const other = large.querySelector("[data-other]");
  if (other) other.addEventListener("change", () => { judge("relabel", other.value); other.value = ""; });
  document.addEventListener("keydown", (event) => {
    if (!isUndo(event) || isWriting(event.target)) return;
    event.preventDefault();
    undo();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    decideSelected(event.submitter.value, form.elements.label.value);
  });
  const all = form.querySelector("[data-all]");
  all.hidden = false;
  all.addEventListener("click", () => {
    const isAll = selected().length === cards.length;
    for (const card of cards) boxOf(card).checked = !isAll;
    countSelected();
  });
  window.addEventListener("beforeunload", (event) => { if (unsent) event.preventDefault(); });
  for (const card of cards) card.classList.toggle("gone", !card.querySelector("[data-note]").hidden);
  countSelected();
  if (window.location.hash === "#large") look(0);
}

if (form && cards.length) setUpDecisions();
