// The page: a picture comes in by one of four ways, is asked about, and the answer is shown.

import { GatesPicture } from "./gates.js";
import { element, inWords, showBars, timeInWords } from "./results.js";
import { Server } from "./server.js";

const SMALL = 160; // pixels; smaller pictures are shown larger, each pixel as a square
const STILL_LOADING = 1500; // milliseconds until the server is asked again for its models
const part = (id) => document.getElementById(id);

const server = new Server(askForKey);
const gates = new GatesPicture(part("gates"));
let models = [];
let picture = null;
let running = null;

start();

async function start() {
  for (const id of ["drop", "another"]) part(id).addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", () => take([...part("file").files]));
  part("model").addEventListener("change", () => { offerVersions(); ask(); });
  part("version").addEventListener("change", ask);
  part("chooser").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
  document.addEventListener("dragover", (event) => { event.preventDefault(); part("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) part("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    part("drop").classList.remove("over");
    take([...event.dataTransfer.files]);
  });
  await loadModels();
}

async function loadModels() {
  try {
    const answer = await server.models();
    if (!answer.ready) setTimeout(loadModels, STILL_LOADING);
    models = answer.models.filter((model) => model.classifies);
    if (!models.length) return answer.ready ? fail(noModel(answer.models)) : say("The models are being loaded …");
    const before = part("model").value;
    part("model").replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
    part("model").value = models.some(({ name }) => name === before) ? before : answer.default;
    offerVersions();
  } catch (fault) {
    fail(fault.message);
  }
}

function noModel(others) {
  return others.length ? `No model here classifies pictures: ${others[0].reason}` : "No model is served yet.";
}

function chosenModel() {
  return models.find((model) => model.name === part("model").value);
}

function offerVersions() {
  const { versions } = chosenModel();
  const options = versions.toReversed().map((version) => element("option", { value: version }, version));
  part("version").replaceChildren(...options);
  part("version-label").hidden = versions.length < 2;
  part("chooser").hidden = models.length < 2 && versions.length < 2;
}

function take(files) {
  if (!files.length) return;
  picture = files.find((file) => file.type.startsWith("image/")) ?? files[0];
  const more = files.length > 1 ? `, one of ${files.length} that came` : "";
  part("about").textContent = `${picture.name || "Picture from the clipboard"}${more}`;
  part("file").value = "";
  preview(picture);
  ask();
}

function preview(file) {
  const image = part("preview");
  URL.revokeObjectURL(image.src);
  image.onload = () => {
    image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) < SMALL);
    setPreview(true);
  };
  image.onerror = () => setPreview(false); // a format that the browser lacks; the server may know it
  image.alt = `The picture to classify, ${file.name || "from the clipboard"}`;
  image.src = URL.createObjectURL(file);
}

function setPreview(shown) {
  part("preview").hidden = !shown;
  part("invitation").hidden = shown;
  part("drop").classList.toggle("filled", shown);
}

async function ask() {
  if (!picture) return;
  if (!models.length) await loadModels();
  if (!models.length) return;
  running?.abort();
  const mine = (running = new AbortController());
  const model = chosenModel();
  const choice = { model: model.name, version: part("version-label").hidden ? "" : part("version").value };
  document.body.classList.add("waiting");
  part("error").hidden = true;
  say("Looking …");
  try {
    const started = performance.now();
    const answer = await server.classify(picture, choice, mine.signal);
    showAnswer(answer, performance.now() - started);
    await askForGates(model, choice, mine.signal);
  } catch (fault) {
    if (fault.name === "AbortError") return;
    fail(fault.message);
  }
  if (running === mine) document.body.classList.remove("waiting");
}

function showAnswer(answer, roundTrip) {
  const [{ top }] = answer.images;
  showBars(part("bars"), top);
  say(inWords(answer.model, top[0]), true);
  part("another").hidden = false;
  tellAssumed(answer.assumed);
  part("time").textContent = timeInWords(answer.milliseconds, roundTrip);
  part("time").hidden = false;
}

// What nothing states of how the network wants its pictures: an answer may be worse than the network is.
function tellAssumed(values) {
  part("assumed").textContent = values?.length
    ? `How pictures are prepared is partly assumed for this model: ${values.join(", ")}.` : "";
  part("assumed").hidden = !values?.length;
}

async function askForGates(model, choice, signal) {
  part("no-gates").hidden = true;
  if (!model.gates) {
    gates.hide();
    return tellNoGates(`${model.name} has no squeeze-and-excitation gates that could be shown.`);
  }
  try {
    gates.show(await server.gates(picture, choice, signal));
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    gates.hide();
    tellNoGates(`The gates cannot be shown: ${fault.message}`);
  }
}

function tellNoGates(words) {
  part("no-gates").textContent = words;
  part("no-gates").hidden = false;
}

// Words for everyone, or only for those who do not see the bars.
function say(words, unseen = false) {
  part("status").textContent = words;
  part("status").classList.toggle("unseen", unseen);
}

function fail(words) {
  say("");
  for (const id of ["bars", "time", "no-gates"]) part(id).hidden = true;
  gates.hide();
  part("error").textContent = words;
  part("error").hidden = false;
}

function askForKey(wrong) {
  const dialog = part("key-dialog");
  part("key-wrong").hidden = !wrong;
  part("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  part("key-cancel").onclick = () => dialog.close("");
  return new Promise((resolve) => {
    part("key-form").onsubmit = () => { dialog.returnValue = "given"; };
    dialog.onclose = () => resolve(dialog.returnValue === "given" ? part("key").value : null);
  });
}
