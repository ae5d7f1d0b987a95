/**
 * Owns the output of a test run: Mocha's `spec` reporter that also names the file whose lane died or that could not be
 * loaded, and writes how many tests passed and failed to the file of the reporter option `counts`, for `.ci/run`: `{"passed": 12, "failed": 0}`.
 * Each failed hook, and each such file, counts as a failed test.
 */
import { writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import Mocha from 'mocha'

const { EVENT_TEST_FAIL } = Mocha.Runner.constants

export default class Reporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions & { reporterOption?: { counts?: string } }) {
    // Before the reporter prints the title.
    runner.on(EVENT_TEST_FAIL, (test, error: Error & { file?: string }) => {
      // Errors of PostgreSQL name a file of its source.
      if (!error.file?.includes('/')) return
      test.title = `${relative('', error.file)} as a whole: ${error.message.split('\n', 1).join()}`
    })
    super(runner, options)
    const file = options.reporterOption?.counts
    // Mocha reports a second such file after the end of the run.
    process.once('exit', () => {
      if (file === undefined) return
      const { passes, failures } = this.stats
      writeFileSync(file, `${JSON.stringify({ passed: passes, failed: failures })}\n`)
    })
  }
}
