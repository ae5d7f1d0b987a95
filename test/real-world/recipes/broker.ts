/** RabbitMQ short of room: reported at once to clients, and over when there is room again. */
import { expect } from 'chai'
import { testBroker } from '../../support/broker.ts'
import type { Fleet } from '../../support/fleet.ts'
import type { Scenario } from '../scenario.ts'

const USUAL_LIMIT = 50_000_000
const MORE_THAN_ANY_DISK = 2 ** 60
/** The verbs' own deadlines are half a minute and more. */
const AT_ONCE_MS = 10_000
/** A role that cannot end in order is ended after 20 s. */
const ROLE_STOP_MS = 17_000
const STOPPED = ['coordinator', 'target-agent'] as const

async function agentsOnline(fleet: Fleet): Promise<number> {
  const { agents } = await fleet.howdahJson<{ agents: { online: boolean }[] }>('agents')
  return agents.filter(({ online }) => online).length
}

export const broker: readonly Scenario[] = [
  {
    name: 'while the broker is out of disk verbs end at once and say why, and what is published works on',
    source: 'https://github.com/rabbitmq/rabbitmq-server/issues/2225',
    share: 'ci',
    async run(bench) {
      const { fleet } = bench
      await bench.basebackup(await bench.cluster())
      const session = await bench.publish()
      const alarm = await testBroker()
      await alarm.setDiskFreeLimit(MORE_THAN_ANY_DISK)
      try {
        const publish = [
          'publish',
          '--repository',
          bench.repository,
          '--instance',
          'main',
          '--target',
          'db-7',
        ]
        for (const verb of [['backups'], ['sessions'], ['agents'], ['show', session.id], publish]) {
          const began = Date.now()
          const { status, stderr } = await fleet.howdah(...verb)
          expect(Date.now() - began).to.be.below(AT_ONCE_MS)
          expect(status).to.equal(1)
          expect(stderr).to.match(/takes no messages.*low on disk/)
        }
        expect(await bench.rows(session, 'DELETE FROM t; SELECT count(*) FROM t')).to.equal('0')
        const began = Date.now()
        await Promise.all(STOPPED.map((role) => fleet.stop(role)))
        expect(Date.now() - began, 'an orderly end').to.be.below(ROLE_STOP_MS)
      } finally {
        await alarm.setDiskFreeLimit(USUAL_LIMIT)
      }
      for (const role of STOPPED) await fleet.start(role)
      await bench.untilTrue(async () => (await agentsOnline(fleet)) === 2, 'both agents are online')
      // What RabbitMQ had begun to read before it stopped may be done now; it is one of this repository's sessions.
      const { sessions } = await fleet.howdahJson<{ sessions: { id: string; repository: string }[] }>(
        'sessions',
      )
      for (const { id, repository } of sessions) {
        if (repository === bench.repository) await fleet.howdah('unpublish', id, '--yes')
      }
    },
  },
]
