export function toEs5(code) {
  return code;
}
