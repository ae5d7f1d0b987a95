import { expect } from 'chai'
import { COMMANDS, EVENTS, QUERY_TYPES } from '../../messages/definitions.ts'
import {
  agentQueue,
  COORDINATOR_COMMANDS,
  COORDINATOR_EVENTS,
  COORDINATOR_HEARTBEATS,
  COORDINATOR_OBSERVATIONS,
  COORDINATOR_QUERIES,
  COORDINATOR_QUEUES,
  DEAD_LETTERS,
  EXCHANGES,
  isClientReplyAddress,
  isCoordinatorReplyAddress,
  type Queue,
  reportRoutingKey,
  reportSender,
  sessionEventRoutingKey,
} from '../../messages/topology.ts'

const AGENT_QUEUES = [
  agentQueue({ kind: 'mount', name: 'backup-1' }),
  agentQueue({ kind: 'target', name: 'db-7' }),
]
const QUEUES: Queue[] = [...COORDINATOR_QUEUES, ...AGENT_QUEUES]

const patterns = ({ bindings }: Queue): string[] =>
  bindings.map(({ exchange, pattern }) => `${exchange.name} ${pattern}`.trim()).sort()

describe('the topology', () => {
  it('has the exchanges of the contract', () => {
    expect(EXCHANGES.map(({ name, type }) => `${name} ${type}`)).to.deep.equal([
      'howdah.commands.unknown fanout',
      'howdah.commands topic',
      'howdah.agents direct',
      'howdah.events topic',
      'howdah.replies direct',
      'howdah.dead fanout',
      'howdah.audit topic',
    ])
  })

  it('has the queues of the contract', () => {
    expect(QUEUES.map(({ name }) => name)).to.deep.equal([
      'howdah.dead-letters',
      'howdah.coordinator',
      'howdah.coordinator.queries',
      'howdah.coordinator.events',
      'howdah.coordinator.heartbeats',
      'howdah.coordinator.observations',
      'howdah.mount.backup-1',
      'howdah.target.db-7',
    ])
  })

  it('keeps everything in quorum queues', () => {
    for (const queue of QUEUES) expect(queue.arguments['x-queue-type'], queue.name).to.equal('quorum')
  })

  it('lets one coordinator at a time consume', () => {
    const single = QUEUES.filter((queue) => queue.arguments['x-single-active-consumer'])
    expect(single).to.deep.equal(COORDINATOR_QUEUES.filter((queue) => queue !== DEAD_LETTERS))
  })

  it('dead-letters through the exchange for it, but not what expires: heartbeats, observations and queries', () => {
    const lettered = QUEUES.filter((queue) => queue.arguments['x-dead-letter-exchange'] === 'howdah.dead')
    expect(lettered).to.deep.equal([COORDINATOR_COMMANDS, COORDINATOR_EVENTS, ...AGENT_QUEUES])
  })

  it('bounds the queues that nobody may empty for long', () => {
    for (const queue of [DEAD_LETTERS, COORDINATOR_HEARTBEATS, COORDINATOR_OBSERVATIONS]) {
      expect(queue.arguments['x-max-length'], queue.name).to.be.a('number')
    }
  })

  it('allows a dead letter to be read any number of times', () => {
    expect(DEAD_LETTERS.arguments['x-delivery-limit']).to.be.a('number').above(10_000)
  })

  it('routes each command to one queue, and unknown ones to that of the queries', () => {
    const changing = Object.keys(COMMANDS).filter((type) => !QUERY_TYPES.has(type))
    expect(patterns(COORDINATOR_COMMANDS)).to.deep.equal(
      changing.map((type) => `howdah.commands ${type}`).sort(),
    )
    expect(patterns(COORDINATOR_QUERIES)).to.deep.equal(
      [...[...QUERY_TYPES].map((type) => `howdah.commands ${type}`), 'howdah.commands.unknown'].sort(),
    )
  })

  it('keeps what is outdated soon apart from what happened to sessions', () => {
    expect(patterns(COORDINATOR_HEARTBEATS)).to.deep.equal([
      'howdah.events agent.*.*.enroll',
      'howdah.events agent.*.*.offline',
      'howdah.events agent.*.*.online',
      'howdah.events agent.*.*.renew',
      'howdah.events agent.*.*.revocations-wanted',
    ])
    expect(patterns(COORDINATOR_OBSERVATIONS)).to.deep.equal([
      'howdah.events agent.*.*.changes',
      'howdah.events agent.*.*.lost',
      'howdah.events agent.*.*.reachability',
      'howdah.events agent.*.*.step-progress',
      'howdah.events agent.*.*.usage',
    ])
    expect(patterns(COORDINATOR_EVENTS))
      .to.include('howdah.events agent.*.*.step-done')
      .and.include('howdah.events agent.*.*.damage')
      .and.not.include('howdah.events agent.*.*.online')
  })

  it('routes no two reports alike', () => {
    const keys = Object.keys(EVENTS).map((type) =>
      reportRoutingKey({ kind: 'mount', name: 'm' }, type as 'agent.online'),
    )
    const own = keys.filter((key) => key.endsWith('.damage'))
    // session.damage is published by the coordinator only.
    expect(own).to.have.length(2)
    expect(new Set(keys).size).to.equal(keys.length - 1)
  })

  it('routes what the coordinator publishes by the id of the session', () => {
    expect(sessionEventRoutingKey('session.step-done', 's1')).to.equal('session.s1.step-done')
  })

  it('routes what an agent reports by its kind and name, from which it can be read again', () => {
    const agent = { kind: 'mount', name: 'm1' } as const
    expect(reportRoutingKey(agent, 'agent.offline')).to.equal('agent.mount.m1.offline')
    expect(reportRoutingKey(agent, 'session.step-done')).to.equal('agent.mount.m1.step-done')
    expect(reportSender('agent.mount.m1.step-done')).to.deep.equal(agent)
    expect(reportSender('session.s1.state')).to.equal(undefined)
    expect(reportSender('agent.client.m1.online')).to.equal(undefined)
  })

  it('has addresses for replies to clients and to coordinators that are not each other’s', () => {
    const clients = ['amq.rabbitmq.reply-to.g1hkAA', 'howdah.reply.mine']
    const coordinators = ['howdah.replies.5f0c']
    const nobody = [
      'howdah.target.db-7',
      'howdah.dead-letters',
      'amq.gen-x',
      'orders',
      'amq.rabbitmq.reply-to',
    ]
    for (const address of [...clients, ...coordinators, ...nobody]) {
      expect(isClientReplyAddress(address), address).to.equal(clients.includes(address))
      expect(isCoordinatorReplyAddress(address), address).to.equal(coordinators.includes(address))
    }
  })
})
