// Charts as SVG: quantile bands, lines, pairs of points and bars over time. Each has a text that says the same.

import { el, utc } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 8, right: 10, bottom: 22, left: 54 };
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 259200, 604800];

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function shape(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** About n ticks from 0 to the largest value: multiples of 1, 2 or 5, or of whole seconds, minutes, hours, days. */
export function ticks(largest, n = 4, steps = null) {
  const wanted = largest / n || 1;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = steps?.find((each) => each >= wanted) ?? [1, 2, 5, 10].find((each) => each * power >= wanted) * power;
  return Array.from({ length: Math.floor(largest / step + 1e-9) + 1 }, (_, place) => place * step);
}

export const durationTicks = (largest) => (largest > 7 * 86400 * 4 ? ticks(largest / 86400).map((day) => day * 86400) : ticks(largest, 4, STEPS_S));

function timeTicks(first, last, n) {
  const step = (STEPS_S.find((each) => each * 1000 >= (last - first) / n) ?? Math.ceil((last - first) / n / 86400e3) * 86400) * 1000;
  const found = [];
  for (let at = Math.ceil(first / step) * step; at <= last; at += step) found.push(at);
  return [found, step];
}

const timeText = (at, step) => {
  const date = new Date(at);
  const text = utc(date.toISOString(), true);
  return step >= 86400e3 ? `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}` : step >= 60e3 ? text.slice(11, 16) : text.slice(11, 19);
};

/**
 * Return a figure that draws itself as wide as its container, and again when that width changes.
 * spec: title, summary (text), times (ms), largest and smallest value, format(value), valueTicks(largest), draw(svg, x, y),
 * readout(index) for the time under the pointer, legend (elements), rows and columns of the table with the same numbers.
 */
export function chart(spec) {
  const place = el("div", { class: "chart" });
  const readout = el("figcaption", {}, spec.summary);
  const legend = spec.legend ? el("ul", { class: "legend" }, spec.legend) : null;
  const draw = () => place.clientWidth && place.replaceChildren(drawn(spec, place.clientWidth, readout));
  new ResizeObserver(draw).observe(place);
  return el("figure", {}, readout, place, legend, spec.table ? el("details", {}, el("summary", {}, "Show as a table"), spec.table) : null);
}

function drawn(spec, width, readout) {
  const total = spec.height ?? 200;
  const [first, last] = [Math.min(...spec.times), Math.max(...spec.times)];
  const inner = { width: width - MARGIN.left - MARGIN.right, height: total - MARGIN.top - MARGIN.bottom };
  const bottom = spec.smallest ?? 0;
  const top = spec.largest > bottom ? spec.largest + (spec.largest - bottom) * 0.04 : bottom + 1;
  const x = (at) => MARGIN.left + (last > first ? ((at - first) / (last - first)) * inner.width : inner.width / 2);
  const y = (value) => MARGIN.top + inner.height - ((Math.min(value, top) - bottom) / (top - bottom)) * inner.height;
  const svg = shape("svg", { role: "img", "aria-label": `${spec.title}. ${spec.summary}`, viewBox: `0 0 ${width} ${total}`, height: total });
  const marks = spec.valueTicks ? spec.valueTicks(top) : ticks(top - bottom).map((each) => each + bottom);
  for (const value of marks) {
    svg.append(shape("line", { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, spec.format(value)));
  }
  const [moments, step] = timeTicks(first, last, Math.max(4, Math.floor(inner.width / 90)));
  for (const at of moments) {
    const isLast = x(at) > width - 24; // in the middle, the end of the text would be cut off
    svg.append(shape("text", { x: isLast ? width : x(at), y: total - 5, "text-anchor": isLast ? "end" : "middle" }, timeText(at, step)));
  }
  spec.draw(svg, x, y);
  if (spec.readout) follow(svg, spec, x, readout, width, total);
  return svg;
}

function follow(svg, spec, x, readout, width, total) {
  const cursor = shape("line", { class: "cursor", y1: MARGIN.top, y2: total - MARGIN.bottom, visibility: "hidden" });
  svg.append(cursor);
  svg.addEventListener("pointermove", (event) => {
    const at = ((event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * width;
    const nearest = spec.times.reduce((best, time, index) => (Math.abs(x(time) - at) < Math.abs(x(spec.times[best]) - at) ? index : best), 0);
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(spec.times[nearest]));
    cursor.setAttribute("visibility", "visible");
    readout.textContent = spec.readout(nearest);
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    readout.textContent = spec.summary;
  });
}

const path = (points) => points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Stretches of values, as arrays of indices. A single missing value does not end one: times and values may beat. */
function stretches(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value === null) return;
    if (found.length && index - found.at(-1).at(-1) <= 2) found.at(-1).push(index);
    else found.push([index]);
  });
  return found;
}

/** Draw bands of five quantiles: 5 to 95 %, 25 to 75 %, and the median. */
export function drawBands(svg, x, y, times, quantiles) {
  for (const part of stretches(quantiles)) {
    for (const [kind, low, high] of [["outer", 0, 4], ["inner", 1, 3]]) {
      const edge = (of) => part.map((index) => [x(times[index]), y(quantiles[index][of])]);
      const points = [...edge(high), ...edge(low).reverse()];
      if (part.length > 1) svg.append(shape("path", { class: kind, d: `${path(points)}Z` }));
      else svg.append(shape("rect", { class: kind, x: points[0][0] - 3, width: 6, y: points[0][1], height: Math.max(points[1][1] - points[0][1], 1) }));
    }
    drawLine(svg, x, y, part.map((index) => times[index]), part.map((index) => quantiles[index][2]), part.length < 3);
  }
}

export function drawLine(svg, x, y, times, values, withMarks = true) {
  const points = values.map((value, index) => [x(times[index]), y(value)]);
  if (points.length > 1) svg.append(shape("path", { class: "line", d: path(points) }));
  if (points.length <= 40 && withMarks) drawMarks(svg, x, y, times, values, "mark", 2.2);
}

export function drawReference(svg, x, y, times, value) {
  svg.append(shape("line", { class: "reference", x1: x(Math.min(...times)), x2: x(Math.max(...times)), y1: y(value), y2: y(value) }));
}

/** Draw a vertical line at each of these moments. All of them are within the times of the chart. */
export function drawMoments(svg, x, moments, kind) {
  const bottom = svg.getAttribute("height") - MARGIN.bottom;
  for (const at of moments) svg.append(shape("line", { class: kind, x1: x(at), x2: x(at), y1: MARGIN.top, y2: bottom }));
}

/** Draw a triangle above each of these moments, so that a line at the same moment is seen too. */
export function drawPointers(svg, x, moments, kind) {
  for (const at of moments) svg.append(shape("path", { class: kind, d: `M${x(at) - 6} 0L${x(at) + 6} 0L${x(at)} ${MARGIN.top + 2}Z` }));
}

export const within = (times, moments) => moments.filter((at) => at >= Math.min(...times) && at <= Math.max(...times));

export function drawMarks(svg, x, y, times, values, kind, radius) {
  values.forEach((value, index) => {
    if (value !== null) svg.append(shape("circle", { class: kind, cx: x(times[index]), cy: y(value), r: radius }));
  });
}

export function drawWhiskers(svg, x, y, times, lows, highs) {
  times.forEach((at, index) => {
    if (lows[index] === null || highs[index] === null) return;
    svg.append(shape("line", { class: "whisker", x1: x(at), x2: x(at), y1: y(lows[index]), y2: y(highs[index]) }));
  });
}

export function drawBars(svg, x, y, times, values) {
  const width = Math.max(1.5, Math.min(10, (x(Math.max(...times)) - x(Math.min(...times))) / times.length / 1.4));
  values.forEach((value, index) => {
    if (value !== null) svg.append(shape("rect", { class: "bar", x: x(times[index]) - width / 2, width, y: y(value), height: Math.max(y(0) - y(value), 1) }));
  });
}
