/**
 * Owns the output of a test run: Mocha's `spec` reporter that also names the file whose lane died or that could not be
 * loaded, lists the files that took longest, and writes how many tests passed and failed to the file of the reporter
 * option `counts`, for `.ci/run`: `{"passed": 12, "failed": 0}`. Each failed hook, and each such file, counts as a
 * failed test.
 */
import { writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import Mocha from 'mocha'
import { createFileTimes } from './file-times.ts'

const { EVENT_HOOK_END, EVENT_TEST_END, EVENT_TEST_FAIL } = Mocha.Runner.constants
const SLOWEST_FILES = 15

export default class Reporter extends Mocha.reporters.Spec {
  readonly #times = createFileTimes()

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions & { reporterOption?: { counts?: string } }) {
    // Before the reporter prints the title.
    runner.on(EVENT_TEST_FAIL, (test, error: Error & { file?: string }) => {
      // Errors of PostgreSQL name a file of its source.
      if (!error.file?.includes('/')) return
      test.title = `${relative('', error.file)} as a whole: ${error.message.split('\n', 1).join()}`
    })
    super(runner, options)
    runner.on(EVENT_TEST_END, ({ file, duration }) => this.#add(file, duration))
    runner.on(EVENT_HOOK_END, ({ file, duration }: Mocha.Hook) => this.#add(file, duration))
    const file = options.reporterOption?.counts
    // Mocha reports a second such file after the end of the run.
    process.once('exit', () => {
      if (file === undefined) return
      const { passes, failures } = this.stats
      writeFileSync(file, `${JSON.stringify({ passed: passes, failed: failures })}\n`)
    })
  }

  override epilogue(): void {
    super.epilogue()
    const slowest = this.#times.slowest(SLOWEST_FILES)
    if (slowest.length > 0) Mocha.reporters.Base.consoleLog(`  Slowest files:\n${slowest.join('\n')}\n`)
  }

  #add(file: string | undefined, duration: number | undefined): void {
    this.#times.add({ file: file === undefined ? undefined : relative('', file), duration })
  }
}
