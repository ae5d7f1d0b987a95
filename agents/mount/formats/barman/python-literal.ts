/** Parses Python literals as `repr` writes them: Barman stores lists and strings in its files that way (barman/infofile.py). */

export type PythonValue = string | number | boolean | null | PythonValue[]

const MAX_DEPTH = 8
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  "'": "'",
  '"': '"',
  '\\': '\\',
}

/** A string, number, `None`, `True`, `False`, or a list or tuple of these. @throws SyntaxError */
export function parsePython(text: string): PythonValue {
  let at = 0

  function fail(): never {
    throw new SyntaxError(`not a value of Python's at character ${at}`)
  }

  function spaces(): void {
    while (text[at] === ' ') at += 1
  }

  function string(quote: string): string {
    let out = ''
    for (at += 1; text[at] !== quote; ) {
      const piece = text[at] ?? fail()
      at += 1
      if (piece !== '\\') {
        out += piece
        continue
      }
      const kind = text[at] ?? fail()
      at += 1
      const digits = { x: 2, u: 4, U: 8 }[kind]
      if (digits === undefined) {
        out += ESCAPES[kind] ?? fail()
        continue
      }
      const code = Number.parseInt(text.slice(at, at + digits), 16)
      if (!/^[0-9a-f]+$/i.test(text.slice(at, at + digits)) || code > 0x10ffff) fail()
      out += String.fromCodePoint(code)
      at += digits
    }
    at += 1
    return out
  }

  function list(end: string, depth: number): PythonValue[] {
    const items: PythonValue[] = []
    at += 1
    for (;;) {
      spaces()
      if (text[at] === end) break
      items.push(value(depth + 1))
      spaces()
      if (text[at] === ',') at += 1
      else if (text[at] !== end) fail()
    }
    at += 1
    return items
  }

  function value(depth: number): PythonValue {
    spaces()
    if (depth > MAX_DEPTH) fail()
    const first = text[at] ?? fail()
    if (first === "'" || first === '"') return string(first)
    if (first === '[') return list(']', depth)
    if (first === '(') return list(')', depth)
    const [word = ''] = /^[\w.+-]+/.exec(text.slice(at, at + 64)) ?? []
    at += word.length
    if (word === 'None') return null
    if (word === 'True' || word === 'False') return word === 'True'
    if (/^-?\d+(\.\d+)?$/.test(word)) return Number(word)
    return fail()
  }

  const found = value(0)
  spaces()
  if (at !== text.length) fail()
  return found
}
