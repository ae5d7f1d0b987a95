/** Owns reading a Dockerfile: its instructions, in order. Carries none of them out. */

export interface Instruction {
  readonly keyword: string
  readonly argument: string
}

/** @throws Error that shows the line which is no instruction */
export function parseDockerfile(text: string): Instruction[] {
  return text
    .replaceAll(/^\s*#.*\n/gm, '')
    .replaceAll('\\\n', '')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, keyword, argument] = /^([A-Z]+) +(\S.*)$/.exec(line.trim()) ?? []
      if (keyword === undefined || argument === undefined)
        throw new Error(`not an instruction of a Dockerfile: ${line}`)
      return { keyword, argument }
    })
}
