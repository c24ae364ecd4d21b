/** The element of the page with this ID. */
export function element<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${kind.name} with the ID ${id}`);
}

/** A new element with text in it. */
export function make(tag: string, text: string, className = ''): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className !== '') made.className = className;
  return made;
}

/** `value` in hexadecimal, at least `digits` digits. */
export function hex(value: number | bigint, digits = 1): string {
  return value.toString(16).padStart(digits, '0');
}
