import { expect } from 'chai'
import {
  agentQueue,
  COORDINATOR_COMMANDS,
  COORDINATOR_EVENTS,
  DEAD_LETTERS,
  EXCHANGES,
  eventRoutingKey,
  type Queue,
} from '../../messages/topology.ts'

const QUEUES: Queue[] = [
  COORDINATOR_COMMANDS,
  COORDINATOR_EVENTS,
  DEAD_LETTERS,
  agentQueue({ kind: 'mount', name: 'backup-1' }),
  agentQueue({ kind: 'target', name: 'db-7' }),
]

describe('the topology', () => {
  it('has the exchanges of the contract', () => {
    expect(EXCHANGES.map(({ name, type }) => `${name} ${type}`)).to.deep.equal([
      'howdah.commands topic',
      'howdah.agents direct',
      'howdah.events topic',
    ])
  })

  it('has the queues of the contract', () => {
    expect(QUEUES.map(({ name }) => name)).to.deep.equal([
      'howdah.coordinator',
      'howdah.coordinator.events',
      'howdah.dead-letters',
      'howdah.mount.backup-1',
      'howdah.target.db-7',
    ])
  })

  it('keeps everything in quorum queues', () => {
    for (const queue of QUEUES) expect(queue.arguments['x-queue-type'], queue.name).to.equal('quorum')
  })

  it('lets one coordinator at a time consume', () => {
    const single = QUEUES.filter((queue) => queue.arguments['x-single-active-consumer'])
    expect(single).to.deep.equal([COORDINATOR_COMMANDS, COORDINATOR_EVENTS])
  })

  it('bounds deliveries, and dead-letters messages beyond the bound', () => {
    for (const queue of QUEUES.filter((one) => one !== DEAD_LETTERS)) {
      expect(queue.arguments, queue.name).to.include({
        'x-delivery-limit': 20,
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': 'howdah.dead-letters',
      })
    }
  })

  it('allows a dead letter to be read any number of times', () => {
    expect(DEAD_LETTERS.arguments['x-delivery-limit']).to.be.a('number').above(10_000)
  })

  it('routes an event of a session by the id of the session', () => {
    const body = { session: 's1', step: 'mount', direction: 'run', sequence: 1, result: {} } as const
    expect(eventRoutingKey('session.step-done', body)).to.equal('session.s1.step-done')
  })

  it('routes an event of an agent by its kind and name', () => {
    expect(eventRoutingKey('agent.offline', { kind: 'mount', name: 'm1' })).to.equal('agent.mount.m1.offline')
  })
})
