"use strict";
// Sends what a form of the page describes, and shows the answer below it.

function parts(form) {
  const found = { path: form.dataset.path, query: new URLSearchParams(), headers: new Headers(), body: undefined };
  const key = document.getElementById("key").value;
  if (key) found.headers.set("Authorization", "Bearer " + key);
  for (const field of form.querySelectorAll("[data-in]")) {
    const place = field.dataset.in;
    if (place === "path") found.path = found.path.replace("{" + field.name + "}", encodeURIComponent(field.value));
    if (place === "query" && field.value) found.query.append(field.name, field.value);
    if (place === "header" && field.value) found.headers.set(field.name, field.value);
  }
  addBody(form, found);
  return found;
}

function addBody(form, found) {
  const kind = form.querySelector("[data-in=kind]");
  if (!kind) return;
  const file = form.querySelector("[data-in=file]").files[0];
  const text = form.querySelector("[data-in=text]").value;
  if (kind.value === "multipart/form-data") {  // the browser writes the boundary into the content type
    found.body = new FormData();
    found.body.append("image", file || new Blob([text]));
    return;
  }
  if (!file && !text) return;
  found.body = file || text;
  found.headers.set("Content-Type", kind.value.includes("*") ? (file && file.type) || "application/octet-stream" : kind.value);
}

async function show(response, took, output) {
  const kind = response.headers.get("Content-Type") || "";
  const text = /json|text|javascript/.test(kind) ? await response.text() : `${(await response.blob()).size} bytes`;
  let body = text;
  try { body = JSON.stringify(JSON.parse(text), null, 1); } catch { /* not JSON: as it is */ }
  const line = document.createElement("p");
  line.textContent = `${response.status} ${response.statusText}, ${took.toFixed(0)} ms, ${kind || "no body"}`;
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.textContent = body.length > 100000 ? body.slice(0, 100000) + " …" : body;
  output.replaceChildren(line, pre);
}

async function send(event) {
  event.preventDefault();
  const form = event.target;
  const output = form.querySelector("output");
  output.textContent = "…";
  try {
    const { path, query, headers, body } = parts(form);
    const base = location.pathname.replace(/\/docs\/?$/, "");
    const started = performance.now();
    const address = base + path + (query.size ? "?" + query : "");
    const response = await fetch(address, { method: form.dataset.verb, headers, body });
    await show(response, performance.now() - started, output);
  } catch (fault) {
    output.textContent = `The request could not be sent: ${fault.message}`;
  }
}

for (const form of document.forms) form.addEventListener("submit", send);
