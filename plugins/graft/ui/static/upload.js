"use strict";

// Sends pictures class by class in small requests. What is there already, by its digest, is not sent again, so
// that after an interruption the same files can simply be chosen once more.
const BATCH_FILES = 40;
const BATCH_BYTES = 12e6;
const MAX_CHOSEN = 50000;
const TRIES = 8;
const SHOWN = 200;
const PARTS = /^(train|training|test|testing|val|valid|validation|dev|eval)$/i;
const SYSTEM = /^(\..*|__MACOSX|Thumbs\.db|desktop\.ini)$/i;

async function digestOf(file) {
  const bytes = await file.arrayBuffer();
  if (!window.crypto.subtle) return sha256(new Uint8Array(bytes)); // http:// other than localhost has none
  return toHex(new Uint8Array(await window.crypto.subtle.digest("SHA-256", bytes)));
}

const toHex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function sha256Constants() {
  const part = (value) => ((value - Math.floor(value)) * 4294967296) | 0;
  const roots = [], keys = [];
  for (let number = 2; keys.length < 64; number += 1) {
    let isPrime = true;
    for (let factor = 2; factor * factor <= number; factor += 1) isPrime = isPrime && number % factor !== 0;
    if (!isPrime) continue;
    if (roots.length < 8) roots.push(part(Math.sqrt(number)));
    keys.push(part(Math.cbrt(number)));
  }
  return { roots, keys };
}

function sha256(bytes) {
  const { roots, keys } = sha256Constants();
  const state = Int32Array.from(roots), w = new Int32Array(64);
  const padded = new Uint8Array((((bytes.length + 8) >> 6) + 1) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 536870912));
  view.setUint32(padded.length - 4, (bytes.length << 3) >>> 0);
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  for (let offset = 0; offset < padded.length; offset += 64) {
    for (let i = 0; i < 16; i += 1) w[i] = view.getInt32(offset + 4 * i);
    for (let i = 16; i < 64; i += 1) {
      const a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ (a >>> 3)) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i += 1) {
      const t = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + keys[i] + w[i]) | 0;
      const u = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t) | 0, c, b, a, (t + u) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] += value; });
  }
  return [...state].map((value) => (value >>> 0).toString(16).padStart(8, "0")).join("");
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

async function ask(url, options, says) {
  for (let tries = 1; ; tries += 1) {
    let answer = null;
    try {
      answer = await fetch(url, { ...options, headers: { accept: "application/json" } });
    } catch (error) {
      if (tries === TRIES) throw new Error("The server does not answer. Choose the same files again later.");
    }
    if (answer && answer.ok) return answer;
    if (answer && ![502, 503, 504].includes(answer.status)) {
      const told = await answer.json().catch(() => ({}));
      throw new Error(told.problem || `The server answered ${answer.status}.`);
    }
    if (answer && tries === TRIES) throw new Error(`The server answered ${answer.status}.`);
    says("The server does not answer; trying again…");
    await pause(Math.min(30, 2 ** tries));
  }
}

// Files below what was dropped, with their paths; entries must be taken before the event ends.
async function filesOf(entries, above = "") {
  const files = [];
  for (const entry of entries) {
    if (!entry || SYSTEM.test(entry.name) || files.length > MAX_CHOSEN) continue;
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push({ file, path: above + entry.name });
      continue;
    }
    const reader = entry.createReader();
    for (let more = null; !more || more.length; ) {
      more = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      files.push(...await filesOf(more, `${above}${entry.name}/`));
    }
  }
  return files;
}

const isOwn = ({ path }) => !path.split("/").some((name) => SYSTEM.test(name)); // no system's or tool's

function pickFolder(then) {
  const input = document.createElement("input");
  input.type = "file";
  input.webkitdirectory = true;
  input.addEventListener("change", () => then([...input.files].map((file) => ({ file, path: file.webkitRelativePath })).filter(isOwn)));
  input.click();
}

// The class of each file of a folder: its own name, or that of the folder below the single one around all.
function classesOf(files) {
  const parts = files.map(({ path }) => path.split("/").slice(0, -1));
  const isCommon = new Set(parts.map((names) => names[0])).size === 1 && parts.some((names) => names.length > 1);
  const classes = new Map();
  files.forEach(({ file }, index) => {
    const label = parts[index][isCommon ? 1 : 0];
    if (!label) return;
    classes.set(label, [...(classes.get(label) || []), file]);
  });
  return classes;
}

class Uploads {
  constructor(area) {
    this.area = area;
    this.root = area.dataset.root;
    this.known = null;
    this.chain = Promise.resolve();
    this.waiting = 0;
    window.addEventListener("beforeunload", (event) => this.waiting && event.preventDefault());
    for (const form of area.querySelectorAll("form.class")) this.setUpBox(form);
    this.setUpTree(area.querySelector("[data-tree]"));
    this.setUpArchive(area.querySelector("[data-archive]"));
  }

  setUpBox(form) {
    const input = form.querySelector("input[type=file]");
    const says = (text) => { form.querySelector("[data-says]").textContent = text; };
    const take = (files) => {
      const name = form.querySelector("input[name=label]");
      if (!name.reportValidity() || !name.value.trim()) return;
      this.send(this.boxOf(name.value.trim().normalize("NFC")), files);
    };
    form.querySelector("button:not([type])").hidden = true; // choosing sends
    input.removeAttribute("required");
    input.addEventListener("change", () => { take([...input.files]); input.value = ""; });
    form.addEventListener("submit", (event) => { event.preventDefault(); says("Choose pictures, or drop them here."); });
    const folder = form.querySelector("[data-folder]");
    folder.hidden = false;
    folder.addEventListener("click", () => pickFolder((files) => take(files.map(({ file }) => file))));
    this.onDrop(form, async (entries) => take((await filesOf(entries)).map(({ file }) => file)), says);
    setUpCamera(form, (file) => take([file]), form.querySelector("[data-says]"));
  }

  // The box of a class; a new one if there is none yet.
  boxOf(label) {
    const same = [...this.area.querySelectorAll("form.class[data-label]")].find((form) => form.dataset.label === label);
    if (same) return same;
    const form = this.area.querySelector("template").content.firstElementChild.cloneNode(true);
    form.dataset.label = label;
    form.querySelector("input[name=label]").value = label;
    form.querySelector("h3").firstChild.textContent = `${label} `;
    const newest = this.area.querySelector("form.class[data-label='']");
    newest.before(form);
    newest.querySelector("input[name=label]").value = "";
    this.setUpBox(form);
    return form;
  }

  onDrop(element, take, says) {
    for (const name of ["dragenter", "dragover"]) {
      element.addEventListener(name, (event) => { event.preventDefault(); element.classList.add("over"); });
    }
    element.addEventListener("dragleave", () => element.classList.remove("over"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("over");
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
      take(entries).catch((error) => says(error.message));
    });
  }

  setUpTree(tree) {
    const says = (text) => { tree.querySelector("[data-says]").textContent = text; };
    const take = (files) => {
      const classes = classesOf(files);
      if ([...classes.keys()].some((label) => PARTS.test(label))) {
        says("These folders are parts of a split, not classes. Name the folder or archive as a source: that keeps the split.");
        return;
      }
      if (!classes.size) says("There is no folder with files in it. Drop single pictures on their class.");
      for (const [label, chosen] of [...classes].sort()) this.send(this.boxOf(label.normalize("NFC")), chosen);
    };
    tree.hidden = false;
    tree.querySelector("button").addEventListener("click", () => pickFolder(take));
    this.onDrop(tree, async (entries) => take(await filesOf(entries)), says);
  }

  send(form, files) {
    const says = (text) => { form.querySelector("[data-says]").textContent = text; };
    if (files.length > MAX_CHOSEN) {
      says(`${files.length} files are too many at once; ${MAX_CHOSEN} is the most. Name the folder as a source instead.`);
      return;
    }
    this.waiting += 1;
    says(`${files.length} waiting…`);
    this.chain = this.chain.then(() => this.sendAll(form, files, says)).catch((error) => says(error.message)).finally(() => { this.waiting -= 1; });
  }

  async sendAll(form, files, says) {
    this.known = this.known || await (await ask(`${this.root}/known`, {}, says)).json();
    const label = form.dataset.label;
    const known = new Set(this.known[label] || []);
    const total = { added: 0, known: 0, refused: 0 };
    let batch = [], size = 0;
    const tell = () => says(`${total.added + total.known + total.refused} of ${files.length}: ${total.added} added, ${total.known} already there, ${total.refused} refused`);
    const flush = async () => {
      if (batch.length) await this.sendBatch(form, label, batch, total, says);
      for (const { digest } of batch) known.add(digest);
      this.known[label] = [...known];
      [batch, size] = [[], 0];
      tell();
    };
    for (const file of files) {
      let digest = "";
      try {
        digest = await digestOf(file);
      } catch (error) { // it was moved or is a folder
        total.refused += 1;
        this.refuse([{ name: file.name, text: `it cannot be read: ${error.message}` }]);
        continue;
      }
      if (known.has(digest)) {
        total.known += 1;
      } else {
        batch.push({ file, digest });
        size += file.size;
      }
      if (batch.length === BATCH_FILES || size > BATCH_BYTES) await flush();
    }
    await flush();
  }

  async sendBatch(form, label, batch, total, says) {
    const body = new FormData();
    body.append("token", this.area.dataset.token);
    body.append("label", label);
    for (const { file } of batch) body.append("pictures", file, file.name);
    const result = await (await ask(this.root, { method: "POST", body }, says)).json();
    total.added += result.added;
    total.known += result.known;
    total.refused += result.refused.length;
    this.refuse(result.refused);
    if (result.problem) this.refuse([{ name: "The YAML", text: result.problem }]);
    const count = form.querySelector("[data-count]");
    count.dataset.count = Number(count.dataset.count) + result.added;
    count.textContent = `${count.dataset.count} uploaded`;
  }

  refuse(refused) {
    const list = this.area.querySelector("[data-refused]");
    for (const each of refused) {
      list.hidden = false;
      if (list.querySelectorAll("li").length === SHOWN) return;
      const item = document.createElement("li");
      item.textContent = `${each.name}: ${each.text}`.replaceAll("`", "");
      list.querySelector("ul").append(item);
    }
  }

  setUpArchive(form) {
    const says = (text) => { form.querySelector("[data-says]").textContent = text; };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      this.waiting += 1;
      says("Sending…");
      try {
        await this.followArchive(await ask(form.action, { method: "POST", body: new FormData(form) }, says), says);
      } catch (error) {
        says(error.message);
      }
      this.waiting -= 1;
    });
  }

  async followArchive(answer, says) {
    const total = { added: 0, known: 0, refused: 0 };
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", end = "It was cut short. Send it again: what is there is not doubled.";
    const tell = (more) => says(`${total.added} added, ${total.known} already there, ${total.refused} refused. ${more}`);
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.map((text) => JSON.parse(text))) {
        if ("problem" in line) { end = line.problem; continue; }
        total.added += line.added;
        total.known += line.known;
        total.refused += line.refused.length;
        this.refuse(line.refused);
        this.refuse(line.statements.map((text) => ({ name: "Note", text })));
      }
      tell("Unpacking…");
    }
    tell(end || "Load the page again to see the classes.");
  }
}

for (const area of document.querySelectorAll("#uploads")) new Uploads(area);
