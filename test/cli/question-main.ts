/** Asks a question on its terminal, for a test of Ctrl-C. */
import { Interruption } from '../../coordinator/cli/interruption.ts'
import { askYesOrNo } from '../../coordinator/cli/question.ts'

const stop = new AbortController()
process.on('SIGINT', () => stop.abort(new Interruption('SIGINT')))
try {
  await askYesOrNo('Really?', { input: process.stdin, output: process.stderr, signal: stop.signal })
} catch (error) {
  process.exit(error instanceof Interruption ? error.exitStatus : 1)
}
