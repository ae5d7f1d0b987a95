/** Shows the steps of an installation: what is being done, how far it is, what came of it. */
import type { Narrator, StepName } from '../../fleet/install/install-agent.ts'
import { LiveBlock, printable, type Terminal, truncate } from '../terminal.ts'

const WIDTH = 'certificate'.length
const PROGRESS_MS = 100

export function stepLines(terminal: Terminal): Narrator {
  const live = new LiveBlock(terminal)
  let current: StepName = 'upload'
  let shownAt = 0

  function paint(text: string): void {
    if (!terminal.live) return
    const line = `${terminal.marks.waiting} ${current.padEnd(WIDTH)}  ${printable(text)}`
    live.paint([truncate(line, terminal.columns, terminal.marks.ellipsis)])
  }

  return {
    begin(step, text) {
      current = step
      paint(text)
    },
    progress(text) {
      if (Date.now() - shownAt < PROGRESS_MS) return
      shownAt = Date.now()
      paint(text)
    },
    end(text, changed) {
      live.clear()
      const mark = changed
        ? terminal.style('green', terminal.marks.done)
        : terminal.style('dim', terminal.marks.waiting)
      terminal.line(`${mark} ${current.padEnd(WIDTH)}  ${printable(text)}`)
    },
  }
}
