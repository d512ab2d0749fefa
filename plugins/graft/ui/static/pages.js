"use strict";

// Airflow shows these pages in a sandboxed frame, which may open no window and not change its top. A link that
// stands in the parent's document may.
function follow(event) {
  const link = event.target.closest("a[data-airflow], a[data-away]");
  if (!link || window.parent === window) return;
  event.preventDefault();
  const outside = window.parent.document.createElement("a");
  outside.href = link.href;
  if (link.matches("[data-away]")) {
    outside.target = "_blank";
    outside.rel = "noopener noreferrer";
  }
  window.parent.document.body.append(outside);
  outside.click();
  outside.remove();
}

function focusSearch(event) {
  const field = document.querySelector("[data-filter], [data-find]");
  const typing = event.target.closest("input, select, textarea");
  if (event.key !== "/" || !field || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  field.focus();
}

function filterRows(event) {
  const wanted = event.target.value.trim().toLowerCase();
  for (const row of document.querySelectorAll(`#${event.target.dataset.filter} tbody tr`)) {
    row.hidden = !row.dataset.text.toLowerCase().includes(wanted);
  }
}

function openFirstRow(event) {
  if (event.key !== "Enter" || event.isComposing || !event.target.value.trim()) return;
  const link = document.querySelector(`#${event.target.dataset.filter} tbody tr:not([hidden]) th a`);
  if (link) link.click();
}

function setUpTrial(form) {
  const input = form.querySelector("input[type=file]");
  const says = form.querySelector("[data-says]");
  const ask = form.querySelector("button:not([type])");
  const send = (file) => {
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    form.requestSubmit();
  };
  form.addEventListener("submit", () => { // however it was sent; a second time would ask twice
    says.textContent = "Asking…";
    ask.disabled = true;
  });
  window.addEventListener("pageshow", () => { // also when somebody comes back
    says.textContent = "";
    ask.disabled = false;
  });
  const firstPicture = (list) => [...(list || [])].find((file) => file.type.startsWith("image/"));
  input.addEventListener("change", () => input.files.length && form.requestSubmit());
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    const file = firstPicture(event.dataTransfer.files);
    if (file) send(file); else says.textContent = "That is no picture file.";
  });
  document.addEventListener("paste", (event) => {
    const file = firstPicture(event.clipboardData && event.clipboardData.files);
    if (file) send(file);
  });
  setUpCamera(form, send, says);
}

function setUpCamera(form, send, says) {
  const start = form.querySelector("[data-camera]");
  const view = form.querySelector("[data-camera-view]");
  const video = view.querySelector("video");
  let stream = null;
  const stop = () => {
    if (stream) for (const track of stream.getTracks()) track.stop();
    stream = null;
    view.hidden = true;
    start.hidden = false;
  };
  start.hidden = !(navigator.mediaDevices && navigator.mediaDevices.getUserMedia);
  start.addEventListener("click", async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      says.textContent = `The camera cannot be used: ${error.message}`;
      return;
    }
    video.srcObject = stream;
    await video.play();
    start.hidden = true;
    view.hidden = false;
    form.querySelector("[data-shoot]").focus();
  });
  form.querySelector("[data-stop]").addEventListener("click", stop);
  form.querySelector("[data-shoot]").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    stop();
    canvas.toBlob((blob) => send(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  });
  window.addEventListener("pagehide", stop);
}

// The server judges the thresholds: what it answers for their present values takes the place of all but them.
function setUpThresholds(form) {
  const sliders = form.elements;
  let newest = 0;
  const judge = async () => {
    const query = new URLSearchParams(new FormData(form));
    const mine = (newest += 1);
    const answer = await fetch(`${form.action.split("?")[0]}?${query}`);
    if (!answer.ok || mine !== newest) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("#all, #write, [data-thresholds-row] > td:not([data-keep])")) {
      const fresh = page.getElementById(part.id);
      if (fresh) part.replaceChildren(...fresh.childNodes);
    }
    window.history.replaceState(null, "", `?${query}`);
  };
  for (const slider of [...sliders].filter((each) => each.type === "range")) {
    slider.addEventListener("input", () => { slider.nextElementSibling.value = slider.value; });
    slider.addEventListener("change", judge);
  }
  for (const button of [...sliders].filter((each) => each.type === "submit")) button.hidden = true;
}

function openMark(event) {
  const id = event.target.closest("[data-id]")?.dataset.id;
  if (id) window.location.assign(event.currentTarget.dataset.map + encodeURIComponent(id));
}

// A form that was sent waits for its answer: a second click would start a second run. One whose answer is a file
// stays on the page and may be sent again.
function sendOnce(event) {
  const form = event.target;
  const isFile = [form, event.submitter].some((part) => part && part.matches("[data-file]"));
  if (event.defaultPrevented || form.getAttribute("method") !== "post" || isFile) return;
  if ("sent" in form.dataset) event.preventDefault();
  form.dataset.sent = "";
}

function allowSending() { // also when somebody comes back
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
}

// The key of a demo page is what follows # in its address: no server and no log is told that part.
function openDemo(form) {
  const key = window.location.hash.slice(1);
  if (!key) return;
  form.elements.key.value = key;
  form.requestSubmit();
}

document.addEventListener("submit", sendOnce);
window.addEventListener("pageshow", allowSending);
document.addEventListener("click", follow);
document.addEventListener("keydown", focusSearch);
for (const field of document.querySelectorAll("[data-filter]")) {
  field.addEventListener("input", filterRows);
  field.addEventListener("keydown", openFirstRow);
}
for (const form of document.querySelectorAll("[data-drop]")) setUpTrial(form);
for (const form of document.querySelectorAll("[data-demo]")) openDemo(form);
for (const drawing of document.querySelectorAll("[data-map]")) drawing.addEventListener("click", openMark);
for (const form of document.querySelectorAll("[data-thresholds]")) setUpThresholds(form);
for (const part of document.querySelectorAll("[data-reload]")) {
  setTimeout(() => window.location.reload(), 1000 * Number(part.dataset.reload));
}
