/** Step commands for tests of the runtime. */
import type { StepCommand } from '../../messages/steps.ts'

export function command(session: string, sequence: number, step: StepCommand['step'] = 'mount'): StepCommand {
  return {
    session,
    step,
    sequence,
    input: {
      repository: 'main',
      instance: 'demo',
      backup: 'latest',
      recoverTo: { type: 'latest' },
      target: 'db-7',
      options: {},
    },
  }
}

export const MOUNTED = { mountPoint: '/tmp/howdah/s1', cachePath: '/var/tmp/howdah/s1' }
