// @ts-check
// A dozen shapes, drawn in one style.

const NAMESPACE = "http://www.w3.org/2000/svg";

/** Paths in a square of 16. @type {Record<string, string>} */
const PATHS = {
  queued: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Z",
  running: "M8 2a6 6 0 0 1 6 6M8 14a6 6 0 0 1-6-6",
  input_required: "M8 14h.01M5.5 5.5A2.5 2.5 0 1 1 8 8.2V10.5",
  succeeded: "M3 8.5 6.5 12 13 4.5",
  failed: "M4 4l8 8M12 4l-8 8",
  cancelled: "M3.5 8h9",
  declined: "M3.5 8h9",
  interrupted: "M9 1.5 4 9h4l-1 5.5L12 7H8l1-5.5Z",
  text: "M3 4h10M3 8h10M3 12h6",
  call: "M5 3 2 8l3 5M11 3l3 5-3 5",
  note: "M8 5.5v5M8 3h.01",
};

/**
 * @param {string} name
 * @param {string} [className]
 */
export function icon(name, className) {
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  if (className) svg.setAttribute("class", className);
  const path = document.createElementNS(NAMESPACE, "path");
  path.setAttribute("d", PATHS[name] ?? PATHS.note ?? "");
  for (const [key, value] of [["fill", "none"], ["stroke", "currentColor"], ["stroke-width", "2"], ["stroke-linecap", "round"], ["stroke-linejoin", "round"]]) {
    path.setAttribute(key ?? "", value ?? "");
  }
  svg.append(path);
  return svg;
}
