// @ts-check
// The address of this page: a place, and behind a question mark the filter of the list, which every place keeps.

/** The filter, as it stands in the address. */
export function filterOf() {
  return new URLSearchParams(location.hash.split("?")[1] ?? "");
}

/** The part of the address that holds the filter. */
export function suffix() {
  const query = filterOf();
  return query.size > 0 ? `?${query}` : "";
}
