/** Puts `method` in place of `target[name]`, and returns what puts the old one back. */
export function override<Name extends string, Method>(
  target: Record<Name, Method>,
  name: Name,
  method: Method,
): () => void {
  // v86 has some of its methods on the object and some on the prototype.
  const own = Object.getOwnPropertyDescriptor(target, name);
  target[name] = method;
  return () => {
    if (own === undefined) Reflect.deleteProperty(target, name);
    else Object.defineProperty(target, name, own);
  };
}
