// The answer: the best classes as bars, and the time it took.

const NARROW = "\u202f"; // a space that breaks no line

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function percent(share) {
  if (share > 0.9995 && share < 1) return `> 99.9${NARROW}%`;
  if (share > 0 && share < 0.0005) return `< 0.1${NARROW}%`;
  return `${(100 * share).toFixed(1)}${NARROW}%`;
}

export function showBars(list, top) {
  list.replaceChildren(...top.map(row));
  list.hidden = false;
}

function row({ label, wnid, index, probability }) {
  const named = label === String(index) ? `class ${index}` : label;
  const name = element("span", { className: "name" }, named);
  if (wnid) name.append(element("span", { className: "id" }, wnid));
  const bar = element("div", { className: "bar" });
  bar.style.width = `${100 * probability}%`;
  const track = element("div", { className: "track", ariaHidden: "true" }, bar);
  return element("li", {}, name, element("span", { className: "share" }, percent(probability)), track);
}

export function inWords(model, best) {
  const named = best.label === String(best.index) ? `class ${best.index}` : best.label;
  return `${named}, ${percent(best.probability)}, says ${model}.`;
}

export function timeInWords(milliseconds, roundTrip) {
  const { total, prepare, infer } = milliseconds;
  return `Took ${ms(roundTrip)}, of which ${ms(total)} on the server: ` +
    `${ms(prepare)} to read the picture, ${ms(infer)} in the model.`;
}

function ms(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(1)}${NARROW}s`;
  return `${value.toFixed(value < 10 ? 1 : 0)}${NARROW}ms`;
}
