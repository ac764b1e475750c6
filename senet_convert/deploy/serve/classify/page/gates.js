// The gates as a picture: for each block a strip with a stripe for each channel, and a histogram, stage by stage.

import { element, percent } from "./results.js";

const SVG = "http://www.w3.org/2000/svg";
const COLUMNS = 512; // of a strip; wider blocks show means of neighbours
const HEIGHT = 36; // of a strip, in pixels
const BINS = 20;

export class GatesPicture {
  constructor(section) {
    this.part = (id) => section.querySelector(`#${id}`);
    this.section = section;
    this.answer = null;
    section.querySelector("#order").addEventListener("change", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(answer) {
    this.answer = answer;
    this.section.hidden = false;
    const blocks = answer.stages.flatMap((stage) => stage.blocks);
    this.part("block-count").textContent = blocks.length;
    this.part("closed-below").textContent = answer.closed_below;
    this.part("rows").replaceChildren(...answer.stages.flatMap(tableRows));
    this.draw();
  }

  hide() {
    this.answer = null;
    this.section.hidden = true;
  }

  draw() {
    if (!this.answer) return;
    const color = scale(getComputedStyle(this.section));
    const sorted = this.section.querySelector("input[name=order]:checked").value === "sorted";
    const ramp = this.part("scale");
    paint(ramp, Array.from({ length: ramp.width }, (_, i) => i / (ramp.width - 1)), color, () => 1);
    const widest = Math.max(...this.answer.stages.flatMap((stage) => stage.blocks.map((block) => block.channels)));
    this.part("averaged").hidden = widest <= COLUMNS;
    this.part("stages").replaceChildren(...this.answer.stages.map((stage) => stageSection(stage, sorted, color)));
  }
}

function stageSection(stage, sorted, color) {
  const size = stage.size ? `maps of ${stage.size.join(" × ")}` : "";
  const title = stage.name[0].toUpperCase() + stage.name.slice(1);
  const heading = element("h3", {}, title, " ", element("span", {}, size));
  return element("section", { className: "stage" }, heading, ...stage.blocks.map((block) => figure(block, sorted, color)));
}

function figure(block, sorted, color) {
  const values = sorted ? [...block.gates].sort((a, b) => a - b) : block.gates;
  const shown = means(values, Math.min(values.length, COLUMNS));
  const strip = element("canvas", { width: shown.length, height: HEIGHT, role: "img", ariaLabel: inWords(block) });
  paint(strip, shown, color, (value) => value);
  const name = element("span", { className: "name", title: block.name }, block.name);
  const across = sorted ? "channels, by gate" : "channel";
  const plot = axes(strip, "gate", ["0", "1"], [sorted ? "lowest" : "1", across, sorted ? "highest" : String(values.length)]);
  const distribution = axes(histogram(block.gates, color), "channels", ["0", String(highest(block.gates))], ["0", "gate", "1"]);
  const figures = element("span", { className: "figures" }, `mean ${block.mean.toFixed(2)}, ${closed(block)}`);
  return element("div", { className: "block" }, name, plot, distribution, figures);
}

function inWords(block) {
  return `Gates of ${block.name}: ${block.channels} channels, from ${block.min.toFixed(2)} to ${block.max.toFixed(2)}, ` +
    `mean ${block.mean.toFixed(2)}, ${closed(block)}.`;
}

function closed(block) {
  return block.closed ? `${percent(block.closed)} closed` : "none closed";
}

function means(values, columns) {
  return Array.from({ length: columns }, (_, column) => {
    const part = values.slice(Math.floor((column * values.length) / columns),
      Math.ceil(((column + 1) * values.length) / columns));
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
}

// A column for each value, filled from below to `share` of the height.
function paint(canvas, values, color, share) {
  const context = canvas.getContext("2d");
  values.forEach((value, x) => {
    const height = Math.max(1, Math.round(share(value) * canvas.height));
    context.fillStyle = `rgb(${color(value).join(" ")})`;
    context.fillRect(x, canvas.height - height, 1, height);
  });
}

function counted(gates) {
  const counts = new Array(BINS).fill(0);
  for (const gate of gates) counts[Math.min(BINS - 1, Math.max(0, Math.floor(gate * BINS)))] += 1;
  return counts;
}

function highest(gates) {
  return Math.max(...counted(gates));
}

// A picture with what its sides mean: upwards from the first to the second, across from the first to the last.
function axes(picture, upwards, [low, high], across) {
  const side = element("span", { className: "up", ariaHidden: "true" }, ...[high, upwards, low].map(word));
  const below = element("span", { className: "across", ariaHidden: "true" }, ...across.map(word));
  return element("span", { className: "axes" }, side, picture, below);
}

function word(text) {
  return element("span", {}, text);
}

function histogram(gates, color) {
  const counts = counted(gates);
  const most = Math.max(...counts);
  const picture = document.createElementNS(SVG, "svg");
  const add = (tag, attributes) => {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    picture.append(made);
  };
  picture.setAttribute("viewBox", `0 0 ${6 * BINS} 36`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  counts.forEach((count, bin) => {
    const height = (34 * count) / most;
    // the palest colours would vanish on the page: the columns begin where the scale can be seen
    const fill = `rgb(${color(0.25 + (0.75 * (bin + 0.5)) / BINS).join(" ")})`;
    if (count) add("rect", { x: 6 * bin + 0.5, y: 35 - height, width: 5, height, fill });
  });
  add("line", { x1: 0, x2: 6 * BINS, y1: 35.5, y2: 35.5 });
  return picture;
}

// A gate -> [red, green, blue], from the three colours of the style sheet.
function scale(style) {
  const stops = ["--gate-closed", "--gate-half", "--gate-open"].map((name) => hex(style.getPropertyValue(name)));
  return (value) => {
    const at = 2 * Math.min(1, Math.max(0, value));
    const [from, to] = at < 1 ? [stops[0], stops[1]] : [stops[1], stops[2]];
    const share = at < 1 ? at : at - 1;
    return from.map((part, i) => Math.round(part + share * (to[i] - part)));
  };
}

function hex(text) {
  const digits = text.trim().slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function tableRows(stage) {
  return stage.blocks.map((block) => element("tr", {}, ...[
    stage.name, block.name, block.channels, block.mean.toFixed(3), block.min.toFixed(3), block.max.toFixed(3),
    percent(block.closed),
  ].map((text) => element("td", {}, String(text)))));
}
