/**
 * Mocha's `spec` reporter that also writes how many tests passed and failed to the file of the reporter option
 * `counts`, for `.ci/run`: `{"passed": 12, "failed": 0}`. A failed hook counts as a failed test.
 */
import { writeFileSync } from 'node:fs'
import Mocha from 'mocha'

export default class Reporter extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions & { reporterOption?: { counts?: string } }) {
    super(runner, options)
    const file = options.reporterOption?.counts
    runner.once(Mocha.Runner.constants.EVENT_RUN_END, () => {
      if (file === undefined) return
      const { passes, failures } = this.stats
      writeFileSync(file, `${JSON.stringify({ passed: passes, failed: failures })}\n`)
    })
  }
}
