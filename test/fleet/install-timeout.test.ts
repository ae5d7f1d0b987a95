/** An installation that its own command ends: by --timeout, or by the operator. */
import { expect } from 'chai'
import { type Installation, installAgent } from '../../coordinator/fleet/install/install-agent.ts'
import { HowdahError } from '../../messages/errors.ts'
import { pause } from '../../messages/wait.ts'
import { expectError } from './expect-error.ts'

const VERSION = '9.0.0'

/** Of a host where the version is unpacked, and whose next step does not end. */
function installationEndedBy(reason: Error): Installation {
  const ending = new AbortController()
  const { signal } = ending
  return {
    ...{ host: 'ops@db', signal, onlineMs: 1_000 },
    root: {
      how: 'root',
      async run() {
        ending.abort(reason)
        await pause(60_000, signal)
        throw new Error('it went on')
      },
    },
    facts: { versions: [VERSION], agents: [] } as unknown as Installation['facts'],
    bundle: { version: VERSION } as Installation['bundle'],
    request: { kind: 'target', name: 'db-7', brokers: [], advertise: undefined, repositories: [] },
    fleet: { agent: async () => undefined, certify: () => Promise.reject(new Error('too early')) },
    narrator: { begin: () => undefined, progress: () => undefined, end: () => undefined },
  }
}

describe('An installation that is ended', () => {
  it('says in which step its --timeout was over, and the state of the host', async () => {
    const over = new HowdahError('timeout', 'not done after 5 s (--timeout)')
    await expectError(
      installAgent(installationEndedBy(over)),
      'timeout',
      'setup: not done after 5 s (--timeout). /opt/howdah/9.0.0 is unpacked, and user, directories or service may be incomplete; nothing runs there. The same command goes on from there.',
    )
  })

  it('is an interruption and no failure of a step when the operator ended it', async () => {
    const interruption = new Error('SIGINT')
    const ended = await installAgent(installationEndedBy(interruption)).catch((error: unknown) => error)
    expect(ended).to.equal(interruption)
  })
})
